"""Allocators side by side on traces: what each costs in time and in space, in one run.

Repetitions are interleaved, so that what disturbs the computer for a while disturbs all alike.
Allocators with an arena are timed in one that is a tenth larger than the smallest that serves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np

from kernmem.hardware import find
from kernmem.language import KernmemError
from kernmem.machine.host import HostMachine
from kernmem.memory.manager import MemoryManager
from kernmem.memory.profile import Profile
from kernmem.workload.allocators import Allocator
from kernmem.workload.attack import Attack
from kernmem.workload.bench import PAGE, Bench, Timing
from kernmem.workload.replay import replay
from kernmem.workload.trace import Trace

SLACK = 1.1
REPETITIONS = 5

Told = Callable[[str], None]


@dataclass(frozen=True)
class Measurement:
    """One allocator on one trace.

    Attributes:
        trace, allocator: their names.
        calls: of allocate and free in the trace.
        ns: nanoseconds a call, the median of the repetitions' means.
        ns_low, ns_high: the quartiles of these means.
        ns_p999, ns_worst: of the calls' own times, each the least of all repetitions.
        space_bytes: the smallest arena that completes the trace, all metadata counted; of malloc,
            which has none, the most pages that it made resident in its process.
        has_arena: which of the two that is.
        space_ratio: space_bytes over the peak of live bytes.
        largest_free: the longest buffer that can be had at the end, over the bytes of the arena
            that are not live; None of malloc.
        physical_pages: the most pages that kernmem's page allocator has given away, when the
            heap is on top of it (pages of 64 KiB, tables included); None of others, and if the
            trace does not complete in 256 MiB.
        instructions: of a call, the mean, exact; None where nothing counts them.
        error: why there are no figures; then they are all 0 or None.
    """

    trace: str
    allocator: str
    calls: int = 0
    ns: float = 0.0
    ns_low: float = 0.0
    ns_high: float = 0.0
    ns_p999: float = 0.0
    ns_worst: float = 0.0
    space_bytes: int = 0
    has_arena: bool = False
    space_ratio: float = 0.0
    largest_free: float | None = None
    physical_pages: int | None = None
    instructions: float | None = None
    error: str | None = None


def compare(
    traces: Sequence[Trace | Attack],
    allocators: Sequence[Allocator],
    *,
    repetitions: int = REPETITIONS,
    check: bool = True,
    told: Told = lambda text: None,
) -> list[Measurement]:
    """Measure every allocator on every trace.

    An allocator that fails on a trace has a measurement that says why.

    Args:
        check: whether every buffer is verified, once, before any measurement.
        told: hears of each step before it is done; there are ``steps()`` of them.
    """
    found = []
    for trace in traces:
        with ExitStack() as stack:
            told(f"{trace.name}: {len(allocators)} allocators")
            rows = _rows(trace, allocators, stack)
            for row in rows:
                told(f"{trace.name}: space of {row.allocator.name}")
                row.attempt(row.measure_space)
                if check:
                    row.attempt(row.check)
            for repetition in range(repetitions):
                told(f"{trace.name}: time, {repetition + 1} of {repetitions}")
                for row in rows[repetition % len(rows) :] + rows[: repetition % len(rows)]:
                    row.attempt(row.measure_time)
            for row in rows:
                told(f"{trace.name}: instructions of {row.allocator.name}")
                row.attempt(row.count_instructions)
            found += [row.measurement() for row in rows]
    return found


def _rows(trace: Trace | Attack, allocators: Sequence[Allocator], stack: ExitStack) -> list[_Row]:
    """A row for each allocator: of a trace all share the bench, an attack differs for each."""
    if isinstance(trace, Trace):
        bench = stack.enter_context(Bench(trace))
        return [_Row(bench, allocator) for allocator in allocators]
    return [
        _Row(stack.enter_context(Bench(trace.make(allocator))), allocator)
        for allocator in allocators
    ]


def steps(traces: int, allocators: int, repetitions: int) -> int:
    """How often ``compare`` tells what it does."""
    return traces * (1 + 2 * allocators + repetitions)


def physical_pages(profile: Profile, trace: Trace) -> int | None:
    """The most pages of 64 KiB that a kernel with this heap takes; None if 256 MiB are too few."""
    machine = HostMachine(find("lab"), lambda image, parts: MemoryManager(image, parts, profile))
    with machine:
        machine.call("init_memory")
        result = replay(machine, replace(trace, size=np.maximum(trace.size, 1)))
        return None if result.failed else result.peak_pages


class _Row:
    """What is known of one allocator on one trace."""

    def __init__(self, bench: Bench, allocator: Allocator) -> None:
        self.bench = bench
        self.allocator = allocator
        self.error: str | None = None
        self._space_bytes = 0
        self._arena_bytes = 0
        self._largest_free: float | None = None
        self._physical_pages: int | None = None
        self._instructions: float | None = None
        self._timings: list[Timing] = []

    def attempt(self, step: Callable[[], None]) -> None:
        """Do a step, unless an earlier one failed."""
        if self.error is None:
            try:
                step()
            except KernmemError as error:
                self.error = str(error)

    def measure_space(self) -> None:
        bench, allocator = self.bench, self.allocator
        if not allocator.has_arena:
            self._space_bytes = bench.resident_bytes(allocator)
            return
        fit = bench.fit(allocator)
        self._space_bytes = fit.arena_bytes
        self._arena_bytes = -(-int(fit.arena_bytes * SLACK) // PAGE) * PAGE
        end_live = int(bench.trace.live_bytes()[-1]) if len(bench.trace) else 0
        self._largest_free = fit.largest_buffer / max(fit.arena_bytes - end_live, 1)
        if allocator.profile is not None:
            self._physical_pages = physical_pages(allocator.profile, bench.trace)

    def check(self) -> None:
        self.bench.check(self.allocator, self._arena_bytes)

    def measure_time(self) -> None:
        self._timings.append(self.bench.time(self.allocator, self._arena_bytes))

    def count_instructions(self) -> None:
        self._instructions = self.bench.instructions(self.allocator, self._arena_bytes)

    def measurement(self) -> Measurement:
        trace, allocator = self.bench.trace.name, self.allocator.name
        if self.error is not None:
            return Measurement(trace, allocator, error=self.error)
        calls = max(self.bench.calls, 1)
        means = [timing.nanoseconds / calls for timing in self._timings]
        each = np.min([timing.each for timing in self._timings], axis=0)
        return Measurement(
            trace,
            allocator,
            calls=self.bench.calls,
            ns=round(float(np.median(means)), 2),
            ns_low=round(float(np.quantile(means, 0.25)), 2),
            ns_high=round(float(np.quantile(means, 0.75)), 2),
            ns_p999=float(np.quantile(each, 0.999, method="higher")) if len(each) else 0.0,
            ns_worst=float(each.max(initial=0)),
            space_bytes=self._space_bytes,
            has_arena=self.allocator.has_arena,
            space_ratio=round(self._space_bytes / self.bench.peak_live_bytes, 4),
            largest_free=None if self._largest_free is None else round(self._largest_free, 4),
            physical_pages=self._physical_pages,
            instructions=None if self._instructions is None else round(self._instructions, 2),
        )
