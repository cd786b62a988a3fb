"""The kernel heap: its elements in order, a map of them, its trees drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from kernmem.language import PageFault
from kernmem.machine.port import Machine, components
from kernmem.memory.gap import GAP_MAGIC, Gap
from kernmem.memory.kernel_heap import KernelHeap

Kind = Literal["superbuffer", "gap", "void"]
MARKS = {"superbuffer": "#", "gap": ".", "void": "v"}
MIXED = "+"


@dataclass(frozen=True)
class Element:
    """One element of the row that the heap is."""

    kind: Kind
    start: int
    end: int

    @property
    def length(self) -> int:
        """Its bytes, header or record included."""
        return self.end - self.start

    def __str__(self) -> str:
        return f"{self.start:#014x}  {self.end:#014x}  {self.length:>9}  {self.kind}"


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
    reader = _Reader(machine)
    try:
        elements = tuple(reader.elements())
    except PageFault as fault:
        elements = ()
        reader.problems.append(f"{fault.address:#x} cannot be read here: {fault.reason}")
    return Heap(reader.start, reader.end, elements, tuple(reader.problems))


class _Reader:
    """Reads gaps and elements, and notes what is wrong with them."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        info = machine.kernel_heap_info
        self.start, self.end = int(info.heap_start), int(info.heap_end)
        self.problems: list[str] = []
        self.heap = next(
            each for each in components(machine.kernel) if isinstance(each, KernelHeap)
        )
        self.pointer = machine.hardware.target.pointer_bytes
        gap: Any = machine.image.bound[Gap]
        self.fields = {field.name: field for field in gap.layout.fields}

    def field(self, gap: int, name: str) -> int:
        """A field of the gap at an address, as a number."""
        field = self.fields[name]
        return self.machine.load(gap + field.offset, field.size)

    def gaps(self, tree: str) -> Iterator[tuple[int, int, int]]:
        """(address, depth, side) of each gap of a tree in order; side -1 is left, 1 right, 0 root.

        A link is followed once, and only to the record of a gap.
        """
        seen: set[int] = set()
        root = int(getattr(self.machine, f"kernel_heap_{tree}_tree").root or 0)
        waiting: list[tuple[int, int, int, bool]] = [(root, 0, 0, False)]
        while waiting:
            gap, depth, side, ready = waiting.pop()
            if ready:
                yield gap, depth, side
            elif gap and self._is_gap(gap, tree, seen):
                waiting.append((self.field(gap, f"{tree}_right"), depth + 1, 1, False))
                waiting.append((gap, depth, side, True))
                waiting.append((self.field(gap, f"{tree}_left"), depth + 1, -1, False))

    def _is_gap(self, gap: int, tree: str, seen: set[int]) -> bool:
        if gap in seen:
            self.problems.append(f"the {tree} tree leads to {gap:#x} twice")
        elif not self.start <= gap <= self.end - self.heap.gap_size:
            self.problems.append(f"the {tree} tree leads to {gap:#x}, outside the heap")
        elif self.field(gap, "magic") != GAP_MAGIC:
            self.problems.append(f"the {tree} tree leads to {gap:#x}, which is no gap")
        else:
            seen.add(gap)
            return True
        return False

    def elements(self) -> Iterator[Element]:
        """The row, up to the first element that is damaged."""
        ends = {gap: self.field(gap, "end") for gap, _, _ in self.gaps("addr")}
        place = self.start
        while place < self.end:
            kind, end = self._element(place, ends)
            if not place < end <= self.end:
                self.problems.append(f"the {kind} at {place:#x} would end at {end:#x}")
                return
            yield Element(kind, place, end)
            place = end
        missed = [gap for gap in ends if not self.start <= gap < place]
        self.problems += [f"the gap at {gap:#x} is in no element" for gap in missed]

    def _element(self, place: int, ends: dict[int, int]) -> tuple[Kind, int]:
        if place in ends:
            return "gap", ends[place]
        first = self.machine.load(place, 1)
        if self.heap.voids and first < self.heap.gap_size:
            return "void", place + first
        if self.end - place < self.heap.header_size:
            return "superbuffer", place
        magic = self.machine.load(place, self.pointer)
        end = self.machine.load(place + self.pointer, self.pointer)
        return "superbuffer", end if magic == self.heap.magic else place


def heap_map(machine: Machine, width: int = 64, rows: int = 16) -> str:
    """The heap drawn to scale: ``#`` superbuffers, ``.`` gaps, ``v`` voids, ``+`` several kinds."""
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
    lines = [f"{cell} bytes a character: # superbuffer  . gap  v void  + several"]
    for at in range(0, len(text), width):
        lines.append(f"{heap.start + at * cell:#014x}  {text[at : at + width]}")
    return "\n".join([*lines, *heap.problems])


def draw_gap_tree(machine: Machine, tree: Literal["length", "addr"] = "addr") -> str:
    """A tree of gaps lying on its side: the root at the left, the first in order at the top."""
    reader = _Reader(machine)
    lines = []
    for gap, depth, side in reader.gaps(tree):
        branch = {0: "──", -1: "┌─", 1: "└─"}[side]
        length = reader.field(gap, "end") - gap
        lines.append(f"{'    ' * depth}{branch} {gap:#x} ({length})")
    return "\n".join([*(lines or ["the tree is empty"]), *reader.problems])
