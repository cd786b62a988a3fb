"""The kernel heap once more, as simply as it can be written: a list of elements.

Every superbuffer, gap and void of the real heap must be where this one has it.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernmem.memory.architecture import Region
from kernmem.memory.profile import Placement, Profile

MOST_VOIDS = 16


@dataclass
class Element:
    """One element of the row."""

    start: int
    end: int
    kind: str  # "S", "G" or "V"

    @property
    def length(self) -> int:
        """Its bytes."""
        return self.end - self.start


class ReferenceHeap:
    """What kmalloc and kfree do, in O(elements)."""

    def __init__(self, segment: Region, start: int, profile: Profile, gap: int, header: int):
        self.start = self.heap_end = start
        self.segment_end = segment.start
        self.elements: list[Element] = []
        self.placement = profile.placement
        self.voids = profile.voids
        self.gap, self.header, self.limit = gap, header, segment.end
        self.grain = profile.grain or gap
        self.least = -(-(header + 1 if profile.voids else gap) // self.grain) * self.grain

    def needed(self, length: int) -> int:
        """The length of a superbuffer for ``length`` bytes."""
        return max(-(-(length + self.header) // self.grain) * self.grain, self.least)

    def choose(self, needed: int) -> Element | None:
        """The gap that a superbuffer is placed in."""
        fitting = [each for each in self.elements if each.kind == "G" and each.length >= needed]
        if not fitting:
            return None
        return {
            Placement.BEST: min(fitting, key=lambda each: (each.length, each.start)),
            Placement.FIRST: min(fitting, key=lambda each: each.start),
            Placement.LARGEST: min(fitting, key=lambda each: (-each.length, each.start)),
        }[self.placement]

    def wanted_end(self, needed: int) -> int:
        """Where the segment must end to have a last gap of ``needed`` bytes."""
        last = self.elements[-1] if self.elements else None
        return (last.start if last and last.kind == "G" else self.heap_end) + needed

    def grow(self, segment_end: int) -> None:
        """Take in what the segment has now."""
        self.segment_end = segment_end
        end = self.start + (segment_end - self.start) // self.grain * self.grain
        if end > self.heap_end:
            fresh = Element(self.heap_end, end, "S")
            self.elements.append(fresh)
            self.heap_end = end
            self.release(fresh)

    def allocate(self, gap: Element, needed: int) -> int:
        """Place a superbuffer at the start of ``gap``; the address of its buffer."""
        at = self.elements.index(gap)
        end = gap.start + needed
        rest = gap.end - end
        parts = [Element(gap.start, end, "S")]
        if rest >= self.gap:
            parts.append(Element(end, gap.end, "G"))
        elif not self.voids:
            parts[0].end = gap.end
        elif rest:
            parts.append(Element(end, gap.end, "V"))
        self.elements[at : at + 1] = parts
        return gap.start + self.header

    def free(self, buffer: int) -> None:
        """Free the buffer at an address."""
        starts = {each.start: each for each in self.elements if each.kind == "S"}
        self.release(starts[buffer - self.header])

    def release(self, element: Element) -> None:
        """Make an element free; merge it with the gaps around it, over up to 16 voids a side."""
        at = self.elements.index(element)
        first = last = at
        while first > 0 and self.elements[first - 1].kind == "V":
            first -= 1
        joins_before = (
            first > 0 and self.elements[first - 1].kind == "G" and at - first <= MOST_VOIDS
        )
        first = first - 1 if joins_before else at
        while (
            last + 1 < len(self.elements)
            and self.elements[last + 1].kind == "V"
            and last - at < MOST_VOIDS
        ):
            last += 1
        if last + 1 < len(self.elements) and self.elements[last + 1].kind == "G":
            last += 1
        start, end = self.elements[first].start, self.elements[last].end
        kind = "G" if end - start >= self.gap else "V"
        self.elements[first : last + 1] = [Element(start, end, kind)]
