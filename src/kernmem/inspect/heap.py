"""The kernel heap: its elements in order, a map of them, its trees drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kernmem.inspect.granules import GranuleReader
from kernmem.inspect.heap_reader import Element, HeapReader, Kind
from kernmem.inspect.superbuffers import SuperbufferReader
from kernmem.machine.port import Machine, components
from kernmem.memory.granule_buffers import GranuleBuffers
from kernmem.memory.kernel_heap import KernelHeap

MARKS: dict[Kind, str] = {
    "superbuffer": "#",
    "buffer": "#",
    "slot": "#",
    "kept": "-",
    "free slot": "-",
    "run": "=",
    "gap": ".",
    "void": "v",
}
LEGEND = "# in use  - kept  = run  . gap  v void  + several"
MIXED = "+"


@dataclass(frozen=True)
class Heap:
    """The heap as it was read.

    Attributes:
        elements: in order, as far as they could be followed.
        problems: what is damaged, with addresses.
    """

    start: int
    end: int
    elements: tuple[Element, ...]
    problems: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"heap {self.start:#x} to {self.end:#x}: {len(self.elements)} elements"]
        if self.elements:
            lines.append(f"{'start':14}  {'end':14}  {'length':>9}  kind")
        lines += [str(each) for each in self.elements]
        lines += [f"PROBLEM: {problem}" for problem in self.problems]
        return "\n".join(lines)


def read_heap(machine: Machine) -> Heap:
    """Read every element, from the start; the space in use must map the segment."""
    reader = _reader(machine)
    elements = reader.up_to_damage(reader.elements())
    return Heap(reader.start, reader.end, elements, tuple(reader.problems))


def _reader(machine: Machine) -> HeapReader:
    """The reader of the layout that the heap has."""
    heap = next(each for each in components(machine.kernel) if isinstance(each, KernelHeap))
    if isinstance(heap.layout, GranuleBuffers):
        return GranuleReader(machine, heap.layout)
    return SuperbufferReader(machine, heap.layout)


def heap_map(machine: Machine, width: int = 64, rows: int = 16) -> str:
    """The heap drawn to scale: ``#`` what callers have, ``.`` gaps, and the rest, see LEGEND."""
    heap = read_heap(machine)
    if not heap.elements:
        return "\n".join(["the heap is empty", *heap.problems])
    covered = heap.elements[-1].end - heap.start
    cell = max(1, -(-covered // (width * rows)))
    marks = [""] * -(-covered // cell)
    for element in heap.elements:
        mark = MARKS[element.kind]
        for at in range(
            (element.start - heap.start) // cell, -(-(element.end - heap.start) // cell)
        ):
            marks[at] = mark if marks[at] in ("", mark) else MIXED
    text = "".join(marks)
    lines = [f"{cell} bytes a character: {LEGEND}"]
    for at in range(0, len(text), width):
        lines.append(f"{heap.start + at * cell:#014x}  {text[at : at + width]}")
    return "\n".join([*lines, *heap.problems])


def draw_gap_tree(machine: Machine, tree: Literal["length", "addr"] = "length") -> str:
    """A tree of gaps lying on its side: the root at the left, the first in order at the top.

    Without headers only long gaps stand in a tree, that by length; else all gaps, in both.
    """
    reader = _reader(machine)
    if tree not in reader.trees:
        raise ValueError(f"the tree must be one of {', '.join(reader.trees)}, not {tree!r}")
    lines = []
    for gap in reader.up_to_damage(reader.gaps(tree)):
        branch = {0: "──", -1: "┌─", 1: "└─"}[gap.side]
        lines.append(f"{'    ' * gap.depth}{branch} {gap.start:#x} ({gap.end - gap.start})")
    return "\n".join([*(lines or ["the tree is empty"]), *reader.problems])
