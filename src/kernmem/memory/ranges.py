"""The ranges of a memory map: RAM, and what of it is not to be touched.

A board hands over what its firmware says, range by range, in any order, overlapping and aligned
to nothing.  What it asks for are the stretches of RAM in which nothing is reserved, ascending.
There are few ranges and they are asked for once, so they are not sorted but searched.
"""

from __future__ import annotations

from kernmem.language import (
    Array,
    Component,
    Image,
    Struct,
    kernel,
    panic,
    span,
    struct,
    u64,
    usize,
)

MAX_RANGES = 64  # of RAM, and of what is reserved
NOWHERE = (1 << 64) - 1  # past every range


@struct("memory_ranges_info_t")
class MemoryRangesInfo(Struct):
    """What became of the memory map: usable = page_quantity x page_length + overhead + outside."""

    ram_count: usize  # ranges in memory_ranges_ram, each its first byte and the byte after it
    reserved_count: usize  # in memory_ranges_reserved
    broken_count: usize  # ranges of RAM left out because they do not end after they start
    refused_count: usize  # ranges of RAM left out because there are MAX_RANGES already
    refused_bytes: u64  # what these said
    usable_bytes: u64  # of RAM that is not reserved
    outside_bytes: u64  # of these, where the linear space does not reach
    overhead_bytes: u64  # of these, parts of pages, and what the page regions keep their map in


class MemoryRanges(Component):
    """Collects ranges, and tells what is usable of them.  Addresses are of 64 bits everywhere."""

    c_module = "physical"

    def __init__(self, image: Image) -> None:
        super().__init__(image)
        self.info = self.static(MemoryRangesInfo, "memory_ranges_info")
        self.ram = self.static_array(u64, 2 * MAX_RANGES, "memory_ranges_ram")
        self.reserved = self.static_array(u64, 2 * MAX_RANGES, "memory_ranges_reserved")

    @kernel
    def clear(self) -> None:
        """Forget all ranges and counts."""
        info = self.info
        info.ram_count = usize(0)
        info.reserved_count = usize(0)
        info.broken_count = usize(0)
        info.refused_count = usize(0)
        info.refused_bytes = u64(0)
        info.usable_bytes = u64(0)
        info.outside_bytes = u64(0)
        info.overhead_bytes = u64(0)

    @kernel
    def add_ram(self, start: u64, end: u64) -> None:
        """Note RAM from ``start`` to ``end``; where that cannot be, it is left out and counted."""
        info = self.info
        if end <= start:
            info.broken_count += 1
        elif info.ram_count == MAX_RANGES:
            info.refused_count += 1
            info.refused_bytes += end - start
        else:
            self.ram[info.ram_count * 2] = start
            self.ram[info.ram_count * 2 + 1] = end
            info.ram_count += 1

    @kernel
    def reserve(self, start: u64, end: u64) -> None:
        """Note that nothing from ``start`` to ``end`` is to be touched, RAM or not.

        An ``end`` before ``start`` has wrapped around: all from ``start`` on is reserved then.
        Panics when there are too many, as none can be left out.
        """
        info = self.info
        if end == start:
            return
        if info.reserved_count == MAX_RANGES:
            panic(f"the memory map has more than {MAX_RANGES} reserved ranges: raise MAX_RANGES")
        self.reserved[info.reserved_count * 2] = start
        self.reserved[info.reserved_count * 2 + 1] = end if end > start else u64(NOWHERE)
        info.reserved_count += 1

    @kernel
    def first(self, place: u64, usable: bool) -> u64:
        """The lowest address from ``place`` on that is usable, or is not; NOWHERE if none is.

        It is ``place``, or one where a range starts or ends.  O(ranges^2).
        """
        info = self.info
        while place != NOWHERE:
            found = self._holds(self.ram, info.ram_count, place)
            if found and self._holds(self.reserved, info.reserved_count, place):
                found = False
            if found == usable:
                break
            border = self._border(self.ram, info.ram_count, place, u64(NOWHERE))
            place = self._border(self.reserved, info.reserved_count, place, border)
        return place

    @kernel
    def ram_end(self) -> u64:
        """The first address after all RAM; 0 if there is none."""
        end = u64(0)
        for index in span(usize(0), self.info.ram_count):
            if self.ram[index * 2 + 1] > end:
                end = self.ram[index * 2 + 1]
        return end

    @kernel
    def _holds(self, ranges: Array[u64], count: usize, place: u64) -> bool:
        """Whether one of the ranges holds ``place``."""
        for index in span(usize(0), count):
            if ranges[index * 2] <= place and place < ranges[index * 2 + 1]:
                return True
        return False

    @kernel
    def _border(self, ranges: Array[u64], count: usize, place: u64, border: u64) -> u64:
        """Where above ``place`` a range starts or ends first, if that is below ``border``."""
        for index in span(usize(0), count * 2):
            if ranges[index] > place and ranges[index] < border:
                border = ranges[index]
        return border
