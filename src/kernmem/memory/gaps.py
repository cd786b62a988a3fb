"""The gaps of the tuned heap, by length: short ones in lists, long ones in the length tree."""

from __future__ import annotations

from kernmem.language import (
    Component,
    Image,
    Struct,
    VirtualAddress,
    address_of,
    highest_bit,
    kernel,
    lowest_bit,
    span,
    struct,
    truncate,
    u32,
    u64,
    usize,
    wrap_multiply,
)
from kernmem.memory.gap import Gap
from kernmem.memory.gap_orders import LengthTree
from kernmem.memory.gap_tree import RIGHT
from kernmem.memory.granules import GRANULE

WORDS = 2
LISTS = 64 * WORDS  # gaps of 2 to 127 granules: one list for each length, and a bit in a word
SHORTEST_LONG = LISTS * GRANULE
RECORD = GRANULE  # a long gap's record lies this far into the gap


@struct("kernel_heap_short_gap_t")
class ShortGap(Struct):
    """What every gap begins with; one of a single granule has only its length.

    The last four bytes of a gap are its length again.
    """

    length: u32  # in granules
    next: u32  # of the same length, as a granule number + 1; 0: none
    previous: u32


@struct("kernel_heap_gap_end_t")
class GapEnd(Struct):
    """The last bytes of a gap."""

    length: u32  # in granules


@struct("kernel_heap_gaps_t")
class GapLists(Struct):
    """Where the heap starts."""

    before: VirtualAddress  # the granule before the heap: what number 0 stands for


class Gaps(Component):
    """Every gap of the heap, to be found by length."""

    def __init__(self, image: Image) -> None:
        super().__init__(image)
        self.lists = self.static(GapLists, "kernel_heap_gaps")
        self.heads = self.static_array(u32, LISTS, "kernel_heap_short_gaps")
        self.occupied = self.static_array(u64, WORDS, "kernel_heap_occupied")  # a bit a list
        image.lay_out_naturally(Gap)  # as every record here, it begins at a whole granule
        self.by_length = LengthTree(image, "kernel_heap_length_tree")

    @kernel
    def begin(self, heap_start: VirtualAddress) -> None:
        """Begin without a gap."""
        self.lists.before = heap_start - GRANULE
        for word in range(WORDS):
            self.occupied[word] = u64(0)
        for index in span(usize(0), usize(LISTS)):
            self.heads[index] = u32(0)
        self.by_length.tree.root = None

    @kernel
    def length(self, start: VirtualAddress) -> usize:
        """The bytes of the gap at ``start``; anything if there is none."""
        return wrap_multiply(usize(self.at(ShortGap, start).length), usize(GRANULE))

    @kernel
    def length_before(self, end: VirtualAddress) -> usize:
        """The bytes of the gap that ends at ``end``; anything if none does."""
        return wrap_multiply(
            usize(self.at(GapEnd, end - self.sizeof(GapEnd)).length), usize(GRANULE)
        )

    @kernel
    def shortest_from(self, length: usize) -> VirtualAddress | None:
        """A shortest gap of at least ``length`` bytes; O(log gaps)."""
        if length < SHORTEST_LONG:
            granules = length // GRANULE
            enough = self.occupied[granules >> 6] >> u64(granules & 63)
            if enough == 0 and granules < 64:
                granules = usize(64)
                enough = self.occupied[1]
            if enough != 0:
                return self._at_number(self.heads[granules + usize(lowest_bit(enough))])
        gap = self.by_length.shortest_from(length - RECORD)
        if gap is None:
            return None
        return address_of(gap) - RECORD

    @kernel
    def longest(self) -> usize:
        """The bytes of the longest gap; 0 if none has two granules."""
        gap = self.by_length.edge(RIGHT)
        if gap is not None:
            return gap.end - address_of(gap) + RECORD
        granules = usize(0)
        for word in range(WORDS):
            occupied = self.occupied[word]
            if occupied != 0:
                granules = 64 * word + usize(highest_bit(occupied))
        return granules * GRANULE

    @kernel
    def insert(self, start: VirtualAddress, length: usize) -> None:
        """Add a gap."""
        granules = truncate(u32, length // GRANULE)
        short = self.at(ShortGap, start)
        short.length = granules
        self.at(GapEnd, start + length - self.sizeof(GapEnd)).length = granules
        if length >= SHORTEST_LONG:
            gap = self.at(Gap, start + RECORD)
            gap.end = start + length
            self.by_length.insert(gap)
            return
        if length == GRANULE:
            return
        head = self.heads[granules]
        number = self._number(start)
        short.next = head
        short.previous = u32(0)
        self.heads[granules] = number
        if head != 0:
            self.at(ShortGap, self._at_number(head)).previous = number
        else:
            self.occupied[usize(granules >> 6)] |= u64(1) << u64(granules & 63)

    @kernel
    def remove(self, start: VirtualAddress, length: usize) -> None:
        """Take a gap out."""
        if length >= SHORTEST_LONG:
            self.by_length.unlink(self.at(Gap, start + RECORD))
            return
        if length == GRANULE:
            return
        short = self.at(ShortGap, start)
        after = short.next
        before = short.previous
        if after != 0:
            self.at(ShortGap, self._at_number(after)).previous = before
        if before != 0:
            self.at(ShortGap, self._at_number(before)).next = after
            return
        granules = length // GRANULE
        self.heads[granules] = after
        if after == 0:
            self.occupied[granules >> 6] &= ~(u64(1) << u64(granules & 63))

    @kernel
    def _number(self, start: VirtualAddress) -> u32:
        return truncate(u32, (start - self.lists.before) // GRANULE)

    @kernel
    def _at_number(self, number: u32) -> VirtualAddress:
        return self.lists.before + usize(number) * GRANULE
