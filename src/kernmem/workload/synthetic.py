"""Traces that nobody recorded: by name and seed, the same on every computer.

They stand beside the recorded ones to show what those do not: one habit of programs alone, or a
program that means harm.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from kernmem.language import KernmemError
from kernmem.workload.trace import Trace, TraceBuilder, read_trace

EVENTS = 20_000
"""How long a synthetic trace is, about, if nothing else is asked for."""


class NoSuchTrace(KernmemError, ValueError):
    """There is no synthetic trace of that name."""


@dataclass(frozen=True)
class Synthetic:
    """A kind of trace.

    Attributes:
        summary: what it is, in a line.
        make: adds the events, about as many as it is told, by chance of the generator.
    """

    summary: str
    make: Callable[[TraceBuilder, Random, int], None]


def generate(name: str, seed: int = 1, events: int = EVENTS) -> Trace:
    """The synthetic trace of a name, of about ``events`` events; NoSuchTrace if there is none."""
    if name not in SYNTHETIC:
        raise NoSuchTrace(f"a synthetic trace must be one of {', '.join(SYNTHETIC)}, not {name!r}")
    builder = TraceBuilder()
    SYNTHETIC[name].make(builder, Random(seed), events)
    return builder.build(name, f"synthetic: {name}, seed {seed}, {events} events asked for")


def open_trace(text: str) -> Trace:
    """The trace that ``text`` names: a synthetic one, ``NAME`` or ``NAME:SEED``, or a file."""
    name, _, seed = text.partition(":")
    if name not in SYNTHETIC:
        return read_trace(text)
    if seed and not seed.isdecimal():
        raise NoSuchTrace(f"the seed of {text!r} must be an integer, not {seed!r}")
    return generate(name, int(seed or 1))


def _below(chance: Random, limit: int) -> int:
    """An integer from 0 to limit - 1; of all of Random, random() alone never changes."""
    return int(chance.random() * limit)


def churn(trace: TraceBuilder, chance: Random, events: int) -> None:
    """Objects of one size; one at random dies when another is born."""
    live = [trace.allocate(96) for _ in range(min(1_000, events))]
    while len(trace) < events:
        place = _below(chance, len(live))
        trace.free(live[place])
        live[place] = trace.allocate(96)


def merge_storm(trace: TraceBuilder, chance: Random, events: int) -> None:
    """Every second buffer is freed, and then the rest: each of those merges on both sides.

    In between there is one buffer that fits nowhere but in what was merged.
    """
    while len(trace) < events:
        sizes = [16 + _below(chance, 240) for _ in range(512)]
        row = [trace.allocate(size) for size in sizes]
        for start in (0, 1):
            for each in row[start::2]:
                trace.free(each)
        trace.free(trace.allocate(sum(sizes) // 2))


def zephyr(trace: TraceBuilder, chance: Random, events: int) -> None:
    """The stress test of Zephyr's heaps: sizes whose logarithm is spread evenly, at random times.

    From lib/heap/heap_stress.c: a size has as many bits as remain after 4 and a count of leading
    zeros; allocating and freeing are in balance when 3/4 of 1 MiB are live.
    """
    target = 3 * (1 << 20) // 4
    live: list[tuple[int, int]] = []
    live_bytes = 0
    while len(trace) < events:
        if not live or chance.random() > live_bytes / target / 2:
            zeros = 0
            while zeros < 12 and chance.random() < 0.5:
                zeros += 1
            size = 1 + _below(chance, 1 << (16 - zeros))
            live.append((trace.allocate(size), size))
            live_bytes += size
        else:
            place = _below(chance, len(live))
            live[place], live[-1] = live[-1], live[place]
            victim, size = live.pop()
            trace.free(victim)
            live_bytes -= size


def producer_consumer(trace: TraceBuilder, chance: Random, events: int) -> None:
    """A queue of messages: they die in the order of their birth, in bursts."""
    queue: deque[int] = deque()
    while len(trace) < events:
        for _ in range(1 + _below(chance, 200)):
            queue.append(trace.allocate(32 + _below(chance, 1_500)))
        for _ in range(min(len(queue), 1 + _below(chance, 200))):
            trace.free(queue.popleft())


def best_fit_killer(trace: TraceBuilder, chance: Random, events: int) -> None:
    """Knuth's example against best fit, The Art of Computer Programming, volume 1, section 2.5.

    Of holes of 1300 and 1200, requests of 1000, 1100 and 250 all find room by first fit.  Best fit
    leaves two of 200, and cuts the 250 from a hole of the next and larger group, which fails then
    too, and so on through all groups.
    """
    units = [1.09**group for group in range(60)]
    while len(trace) < events:
        holes = []
        live = []
        for unit in units:
            for size in (1_300, 1_200):
                holes.append(trace.allocate(int(size * unit)))
                live.append(trace.allocate(16 + _below(chance, 32)))
        for hole in holes:
            trace.free(hole)
        for unit in units:
            live += [trace.allocate(int(size * unit)) for size in (1_000, 1_100, 250)]
        for each in live:
            trace.free(each)


SYNTHETIC = {
    "best-fit-killer": Synthetic("holes that best fit spoils one after the other", best_fit_killer),
    "churn": Synthetic("one size; one at random dies when another is born", churn),
    "merge-storm": Synthetic("every second buffer freed, then the rest", merge_storm),
    "producer-consumer": Synthetic("a queue of messages, in bursts", producer_consumer),
    "zephyr": Synthetic("sizes spread evenly by their logarithm, as Zephyr's test", zephyr),
}
