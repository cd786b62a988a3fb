"""The checker of the tuned heap: it walks everything, and compares it with what the heap says.

Nothing is trusted but the segment's record of the pages that it has.  The walk from element to
element proves the map, and the map then says what is at the end of a link before it is followed.
"""

from __future__ import annotations

from kernmem.language import (
    Component,
    Image,
    address_of,
    kernel,
    lowest_bit,
    span,
    u32,
    u64,
    usize,
)
from kernmem.memory.buffer_cache import ENTRIES, GRANULES, LONGEST_KEPT
from kernmem.memory.gap import Gap
from kernmem.memory.gaps import LISTS, RECORD, SHORTEST_LONG, ShortGap
from kernmem.memory.granule_buffers import GranuleBuffers
from kernmem.memory.granule_walk import Found, GranuleWalk
from kernmem.memory.granules import CHUNK, GRANULE, IN_RUN
from kernmem.memory.slot_runs import CLASSES, EMPTIES, Run
from kernmem.memory.tree_check import TreeCheck

SHORTEST_LISTED = 2  # granules


class LongGapCheck(TreeCheck):
    """The checker of the length tree, after the walk."""

    def __init__(self, image: Image, heap: GranuleBuffers, walk: GranuleWalk) -> None:
        super().__init__(image, heap.space.gaps.by_length)
        self.gaps = heap.space.gaps
        self.walk = walk
        self.info = heap.info

    @kernel
    def is_record(self, gap: Gap) -> bool:
        """Whether ``gap``, wherever a link led, is the record of a gap; says so if it is not."""
        record = address_of(gap)
        if record < self.info.heap_start + RECORD or not self.walk.begins_gap(record - RECORD):
            self.print(f"tree: a link leads to {record}, which is no gap's record")
            return False
        start = record - RECORD
        length = self.gaps.length(start)
        if length < SHORTEST_LONG:
            self.print(f"tree: a link leads to {record}, in a gap of {length} bytes")
            return False
        if gap.end != start + length:
            self.print(f"tree: the gap {start} to {start + length} would end at {gap.end}")
            return False
        return True


class GranuleCheck(Component):
    """Every invariant of the layout, in O(n log n)."""

    def __init__(self, image: Image, heap: GranuleBuffers) -> None:
        super().__init__(image)
        self.info = heap.info
        self.segment = heap.space.segment
        self.map = heap.map
        self.space = heap.space.space
        self.gaps = heap.space.gaps
        self.runs = heap.runs
        self.cache = heap.cache
        self.walk = GranuleWalk(image, heap)
        self.long_gaps = LongGapCheck(image, heap, self.walk)

    @kernel
    def is_sound(self) -> bool:
        """Whether the heap is sound.  What is wrong is printed, with its address."""
        if not self._is_in_place() or not self._is_cache_sound():
            return False
        with self.local(Found) as found:
            self.zero(address_of(found), usize(self.sizeof(Found)))
            return (
                self.walk.is_sound(found)
                and self._are_kept(found)
                and self._are_lists_sound(found)
                and self.long_gaps.is_sound(found.long_gaps)
                and self._are_runs_listed(found)
                and self._are_empties_runs()
                and self._agrees(found)
            )

    @kernel
    def _is_in_place(self) -> bool:
        """Whether the heap and its map are where the segment and its shadow are."""
        start = self.segment.info.segment_start
        end = self.info.heap_end
        if (
            self.info.heap_start != start
            or end < start
            or end > self.segment.info.segment_end
            or (end - start) % CHUNK != 0
        ):
            self.print(f"heap: {self.info.heap_start} to {end} is not what the segment has")
            return False
        top = self.space.top
        if top < start or top > end or (top - start) % GRANULE != 0:
            self.print(f"heap: the top cannot be at {top}")
            return False
        if self.map.place.heap_start != start or self.gaps.lists.before != start - GRANULE:
            self.print(f"heap: it starts at {start}, but not to its map and its lists")
            return False
        if self.map.place.length != end - start:
            self.print(f"heap: the map is of {self.map.place.length} bytes, not {end - start}")
            return False
        if self.map.place.words != self.segment.info.shadow_start:
            self.print(f"heap: the map is not at {self.map.place.words}")
            return False
        return True

    # Kept buffers ---------------------------------------------------------------------------

    @kernel
    def _is_cache_sound(self) -> bool:
        """Whether each entry is empty, or may be a buffer of a length that belongs there."""
        kept_bytes = usize(0)
        granules_of_heap = (self.info.heap_end - self.info.heap_start) // GRANULE
        for index in span(usize(0), usize(ENTRIES)):
            entry = self.cache.entries[index]
            occupied = self.cache.kept.occupied >> u64(index) & 1 != 0
            if occupied != (entry != 0):
                self.print(f"cache: entry {index} is {entry:#x}, against its bit")
                return False
            if occupied:
                granules = usize(entry & GRANULES)
                if (
                    granules == 0
                    or granules > LONGEST_KEPT // GRANULE
                    or self.cache.index(granules * GRANULE) != index
                ):
                    self.print(f"cache: entry {index} is not for {granules} granules")
                    return False
                if usize(entry >> 32) >= granules_of_heap:
                    self.print(f"cache: entry {index} is granule {entry >> 32}")
                    return False
                kept_bytes += granules * GRANULE
        if self.cache.kept.bytes != kept_bytes:
            self.print(f"cache: {kept_bytes} bytes are kept, not {self.cache.kept.bytes}")
        return self.cache.kept.bytes == kept_bytes

    @kernel
    def _are_kept(self, found: Found) -> bool:
        """Whether the walk met the buffer of every entry."""
        missing = self.cache.kept.occupied & ~found.kept
        if missing == 0:
            return True
        entry = self.cache.entries[usize(lowest_bit(missing))]
        address = self.cache.address(entry)
        length = self.cache.length(entry)
        self.print(f"cache: {address} is kept as a buffer of {length} bytes, and is none")
        return False

    # Lists of short gaps --------------------------------------------------------------------

    @kernel
    def _are_lists_sound(self, found: Found) -> bool:
        """Whether the lists hold the short gaps that the walk met.

        A list ends: its members are gaps of its length, each of which has one predecessor.
        """
        listed = usize(0)
        for granules in span(u32(0), u32(LISTS)):
            number = self.gaps.heads[granules]
            occupied = self.gaps.occupied[usize(granules >> 6)] >> u64(granules & 63) & 1 != 0
            if occupied != (number != 0):
                self.print(f"list: that of {granules} granules is not as its bit says")
                return False
            before = u32(0)
            while number != 0:
                if not self._is_listed(number, granules, before):
                    return False
                listed += 1
                before = number
                number = self._short_gap(number).next
        if listed != found.short_gaps:
            self.print(f"list: {listed} gaps are in lists, not {found.short_gaps}")
        return listed == found.short_gaps

    @kernel
    def _is_listed(self, number: u32, granules: u32, before: u32) -> bool:
        """Whether the gap ``number`` may follow ``before`` in the list of ``granules``."""
        if usize(number) > (self.space.top - self.info.heap_start) // GRANULE:
            self.print(f"list: that of {granules} granules leads above the top, to {number}")
            return False
        gap = self._short_gap(number)
        if (
            not self.walk.begins_gap(address_of(gap))
            or gap.length != granules
            or granules < SHORTEST_LISTED
        ):
            self.print(f"list: {address_of(gap)} is no gap of {granules} granules")
            return False
        if gap.previous != before:
            self.print(f"list: the gap at {address_of(gap)} does not link back")
            return False
        return True

    @kernel
    def _short_gap(self, number: u32) -> ShortGap:
        return self.at(ShortGap, self.info.heap_start + (usize(number) - 1) * GRANULE)

    # Lists of runs --------------------------------------------------------------------------

    @kernel
    def _are_runs_listed(self, found: Found) -> bool:
        """Whether the lists hold the runs with a free slot that the walk met.

        The first of a list may be full: it leaves the list when a call finds it so.
        """
        listed = usize(0)
        for granules in span(u32(0), u32(CLASSES)):
            number = self.runs.heads[granules]
            before = u32(0)
            while number != 0:
                if not self._is_open(number, granules, before):
                    return False
                if self._run(number).free != 0:
                    listed += 1
                before = number
                number = self._run(number).next
        if listed != found.open_runs:
            self.print(f"run: {listed} with a free slot are in lists, not {found.open_runs}")
        return listed == found.open_runs

    @kernel
    def _is_open(self, number: u32, granules: u32, before: u32) -> bool:
        """Whether the run ``number`` may follow ``before`` in the list of ``granules``."""
        if not self._begins_run(number):
            self.print(f"run: the list of {granules} granules leads to {number}, where none begins")
            return False
        run = self._run(number)
        if u32(run.granules) != granules or (run.free == 0 and before != 0):
            self.print(f"run: {address_of(run)} has no free slot of {granules} granules")
            return False
        if run.previous != before:
            self.print(f"run: {address_of(run)} does not link back")
            return False
        return True

    @kernel
    def _are_empties_runs(self) -> bool:
        """Whether what is remembered as an empty run is a run, though it need not be empty now."""
        for place in span(usize(0), usize(EMPTIES)):
            number = self.runs.empties[place]
            if number != 0:
                if not self._begins_run(number):
                    self.print(f"run: {number} is remembered as empty, where none begins")
                    return False
                granules = usize(self._run(number).granules)
                if granules % EMPTIES != place:
                    self.print(f"run: {number} has {granules} granules, and is empty run {place}")
                    return False
        return True

    @kernel
    def _begins_run(self, number: u32) -> bool:
        """Whether the run ``number`` is one."""
        if usize(number) > (self.info.heap_end - self.info.heap_start) // CHUNK:
            return False
        return self.map.chunk(address_of(self._run(number))) == IN_RUN

    @kernel
    def _run(self, number: u32) -> Run:
        return self.at(Run, self.info.heap_start + (usize(number) - 1) * CHUNK)

    # Counters -------------------------------------------------------------------------------

    @kernel
    def _agrees(self, found: Found) -> bool:
        """Whether the counters of the heap say what the walk found."""
        for granules in span(usize(0), usize(CLASSES)):
            buffers = self.runs.buffers[granules]
            if buffers != found.buffers[granules]:
                self.print(f"heap: found {found.buffers[granules]} buffers of {granules} granules")
                self.print(f"  and slots, not {buffers}")
                return False
        info = self.info
        if (
            found.live_buffers == info.live_buffers
            and found.live_bytes == info.live_bytes
            and found.gaps == info.gaps
            and found.gap_bytes == info.gap_bytes
            and found.overhead_bytes == info.overhead_bytes
            and info.voids == 0
            and info.void_bytes == 0
        ):
            return True
        self.print(f"heap: found {found.live_buffers} buffers of {found.live_bytes} bytes,")
        self.print(
            f"  {found.gaps} gaps of {found.gap_bytes}, no voids, and {found.overhead_bytes}"
        )
        self.print("  beside slots; the registry says otherwise")
        return False
