"""The budget of the heap: figures that are exact, and that a change must not make worse unseen.

The file is JSON: for a trace and a heap the smallest arena, the pages and the instructions.  A
figure that is more than TOLERANCE above what the file allows fails; one that is below is a
reason to write the file anew.  Times are not in it: they differ from run to run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from kernmem.hardware import find
from kernmem.language import KernmemError
from kernmem.machine.unicorn import UnicornMachine
from kernmem.memory.manager import MemoryManager
from kernmem.memory.profile import Profile
from kernmem.workload.allocators import kernel_allocator
from kernmem.workload.bench import Bench
from kernmem.workload.replay import replay
from kernmem.workload.synthetic import SYNTHETIC, open_trace
from kernmem.workload.trace import Trace

TOLERANCE = 0.01


class BudgetError(KernmemError):
    """A file is not a budget."""


@dataclass(frozen=True)
class Figures:
    """What a heap costs on a trace.

    Attributes:
        arena_ratio: the smallest arena that completes the trace, over the peak of live bytes.
        physical_pages: the most pages of 64 KiB that the kernel takes, tables included.
        instructions: of a call of kmalloc or kfree, the mean, on AArch64.
    """

    arena_ratio: float
    physical_pages: int
    instructions: float


@dataclass(frozen=True)
class Item:
    """A line of the budget: a trace (a file beside the budget, or a name), a heap, figures."""

    trace: str
    heap: str
    allowed: Figures


@dataclass(frozen=True)
class Verdict:
    """A line of the budget, and what was found."""

    item: Item
    found: Figures

    def excesses(self) -> list[str]:
        """A sentence for each figure that is too high."""
        allowed, found = asdict(self.item.allowed), asdict(self.found)
        return [
            f"{name} of {self.item.heap} on {self.item.trace} is {found[name]:g}, "
            f"{found[name] / allowed[name] - 1:.1%} over the {allowed[name]:g} of its budget"
            for name in found
            if found[name] > allowed[name] * (1 + TOLERANCE)
        ]


def measure(profile: Profile, trace: Trace) -> Figures:
    """The figures of a heap; the same on every computer."""
    with Bench(trace) as bench:
        arena = bench.fit(kernel_allocator(profile)).arena_bytes / bench.peak_live_bytes
    with UnicornMachine(find("lab"), lambda i, parts: MemoryManager(i, parts, profile)) as machine:
        machine.call("init_memory")
        machine.calls.clear()
        result = replay(machine, trace)
        spent = sum(each.instructions for each in machine.calls.values())
    return Figures(round(arena, 4), result.peak_pages, round(spent / max(result.calls, 1), 2))


def verdicts(
    path: Path, profiles: Mapping[str, Profile], told: Callable[[int, int], None]
) -> list[Verdict]:
    """Measure all that is in a budget; ``told`` hears how many lines are done, and of how many."""
    items = read_budget(path)
    found = []
    for number, item in enumerate(items):
        told(number, len(items))
        if item.heap not in profiles:
            raise BudgetError(
                f"{path}: a heap must be one of {', '.join(profiles)}, not {item.heap!r}"
            )
        is_name = item.trace.partition(":")[0] in SYNTHETIC
        trace = open_trace(item.trace if is_name else str(path.parent / item.trace))
        found.append(Verdict(item, measure(profiles[item.heap], trace)))
    return found


def read_budget(path: Path) -> list[Item]:
    """Read a budget; BudgetError if it is none."""
    try:
        return [_item(each) for each in json.loads(path.read_text())["budget"]]
    except (ValueError, KeyError, TypeError) as error:
        raise BudgetError(f"{path}: not a budget: {type(error).__name__}: {error}") from error


def _item(held: dict[str, Any]) -> Item:
    figures = Figures(**{field.name: held[field.name] for field in fields(Figures)})
    return Item(held["trace"], held["heap"], figures)


def write_budget(path: Path, found: list[Verdict]) -> None:
    """Allow what was found."""
    lines = [
        json.dumps({"trace": each.item.trace, "heap": each.item.heap, **asdict(each.found)})
        for each in found
    ]
    path.write_text('{"budget": [\n  ' + ",\n  ".join(lines) + "\n]}\n")
