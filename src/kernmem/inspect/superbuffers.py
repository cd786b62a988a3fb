"""The heap with headers, element by element: superbuffers, gaps and voids."""

from __future__ import annotations

from collections.abc import Iterator

from kernmem.inspect.heap_reader import Damage, Element, HeapReader, Kind
from kernmem.machine.port import Machine
from kernmem.memory.gap import GAP_MAGIC, Gap, Superbuffer
from kernmem.memory.superbuffers import Superbuffers


class SuperbufferReader(HeapReader):
    """Follows headers; what the trees say is a gap is one."""

    trees = ("addr", "length")
    record = 0

    def __init__(self, machine: Machine, heap: Superbuffers) -> None:
        super().__init__(machine)
        self.heap = heap

    def elements(self) -> Iterator[Element]:
        """The row; raises Damage."""
        gaps = {gap.start: gap.end for gap in self.gaps("addr")}
        place = self.start
        while place < self.end:
            kind, end = self._element(place, gaps)
            if not place < end <= self.end:
                raise Damage(f"the {kind} at {place:#x} would end at {end:#x}")
            yield Element(kind, place, end)
            gaps.pop(place, None)
            place = end
        self.problems += [f"the gap at {gap:#x} is inside another element" for gap in gaps]

    def is_record(self, node: int) -> bool:
        """Whether it has the mark of one."""
        return self.field(Gap, node, "magic") == GAP_MAGIC

    def _element(self, place: int, gaps: dict[int, int]) -> tuple[Kind, int]:
        if place in gaps:
            return "gap", gaps[place]
        first = self.machine.load(place, 1)
        if self.heap.voids and first < self.heap.gap_size:
            return "void", place + first
        if self.end - place < self.heap.header_size:
            return "superbuffer", place
        if self.field(Superbuffer, place, "magic") != self.heap.magic:
            return "superbuffer", place
        return "superbuffer", self.field(Superbuffer, place, "end")
