"""A walk along the tuned heap that proves the map of granules, and counts what lies there.

It believes nothing but where the heap, its top and the map are, and reads only there.
"""

from __future__ import annotations

from kernmem.language import (
    Array,
    Component,
    Image,
    Struct,
    VirtualAddress,
    array,
    kernel,
    lowest_bit,
    span,
    struct,
    truncate,
    u32,
    u64,
    usize,
)
from kernmem.memory.gaps import LISTS, GapEnd, ShortGap
from kernmem.memory.granule_buffers import GranuleBuffers
from kernmem.memory.granules import (
    BEFORE_THE_HEAP,
    CHUNK,
    GRANULE,
    HIGH_LENGTH,
    IN_RUN,
    LONG,
    LOW_LENGTH,
    WORD_BYTES,
)
from kernmem.memory.slot_runs import CLASSES, LONGEST_SLOT, MOST_SLOTS, Run

LENGTH_BITS = LOW_LENGTH | HIGH_LENGTH << 32
"""Where a word that holds the length of a long buffer may have any bit."""
CHUNK_GRANULES = CHUNK // GRANULE


@struct("kernel_heap_found_t")
class Found(Struct):
    """What a walk along the heap found."""

    live_buffers: usize
    live_bytes: usize
    gaps: usize  # the top included
    gap_bytes: usize
    overhead_bytes: usize
    short_gaps: usize  # that a list must hold
    long_gaps: usize  # that the length tree must hold
    open_runs: usize  # with a free slot: that a list must hold
    kept: u64  # a bit for each entry of the cache whose buffer was met
    buffers: Array[u32] = array(u32, CLASSES)  # and slots, of each length in granules


class GranuleWalk(Component):
    """The walk, and what may be asked of any address once it found the map sound."""

    def __init__(self, image: Image, heap: GranuleBuffers) -> None:
        super().__init__(image)
        self.info = heap.info
        self.segment = heap.space.segment
        self.map = heap.map
        self.space = heap.space.space
        self.cache = heap.cache
        self.runs = heap.runs
        self.header_granules = self.sizeof(Run) // GRANULE

    @kernel
    def begins_gap(self, address: VirtualAddress) -> bool:
        """Whether a gap, not the top, begins at ``address``, no less than the heap's start."""
        offset = address - self.info.heap_start
        if address >= self.space.top or offset % GRANULE != 0:
            return False
        return self.map.begins_gap(address)

    @kernel
    def is_sound(self, found: Found) -> bool:
        """Whether the elements fill the heap, and the map is theirs; counts them in ``found``."""
        words = self._words()
        if words[0] != BEFORE_THE_HEAP:
            self.print(
                f"map: the word before the heap, at {self.map.place.words}, is {words[0]:#x}"
            )
            return False
        place = self.info.heap_start
        after_gap = False
        while place < self.space.top:
            following: VirtualAddress | None = None
            is_gap = False
            if (place - self.info.heap_start) % CHUNK == 0 and self.map.chunk(place) >= IN_RUN:
                following = self._end_of_run(place, found)
            elif not self.map.has_mark(place):
                following = self._end_of_buffer(place, found)
            elif after_gap:
                self.print(f"heap: two gaps meet at {place}")
            else:
                is_gap = True
                following = self._end_of_gap(place, found)
            if following is None:
                return False
            place = following
            after_gap = is_gap
        if after_gap:
            self.print(f"heap: a gap meets the top at {place}")
            return False
        return self._is_top_sound(found)

    @kernel
    def _is_top_sound(self, found: Found) -> bool:
        """Whether the top is marked, and nothing else from there to the end of the map."""
        top = self.space.top
        end = self.info.heap_end
        place = top
        if top < end:
            if not self.map.has_mark(top):
                self.print(f"map: the top at {top} is not marked")
                return False
            found.gaps += 1
            found.gap_bytes += end - top
            place = top + GRANULE
        words = (end - self.info.heap_start) // WORD_BYTES + 2  # those of the heap, and one more
        behind = self.info.heap_start + words * WORD_BYTES
        mark = self._next_mark(place, behind)
        if mark != behind:
            self.print(f"map: {mark} is marked, above the top at {top}")
        return mark == behind

    # Elements: each method says where its element ends; None, and why, if it is damaged --------

    @kernel
    def _end_of_gap(self, start: VirtualAddress, found: Found) -> VirtualAddress | None:
        granules = usize(self.at(ShortGap, start).length)
        if granules == 0 or granules > (self.space.top - start) // GRANULE:
            self.print(f"heap: the gap at {start} says that it has {granules} granules")
            return None
        length = granules * GRANULE
        end = start + length
        at_end = usize(self.at(GapEnd, end - self.sizeof(GapEnd)).length)
        if at_end != granules:
            self.print(f"heap: the gap {start} to {end} says {at_end} granules at its end")
            return None
        mark = self._next_mark(start + GRANULE, end)
        if mark != end:
            self.print(f"map: {mark} is marked, inside the gap {start} to {end}")
            return None
        found.gaps += 1
        found.gap_bytes += length
        if granules >= LISTS:
            found.long_gaps += 1
        elif granules > 1:
            found.short_gaps += 1
        return end

    @kernel
    def _end_of_buffer(self, start: VirtualAddress, found: Found) -> VirtualAddress | None:
        top = self.space.top
        word_end = start + (WORD_BYTES - (start - self.info.heap_start) % WORD_BYTES)
        last = self._next_mark(start, word_end)
        if last == word_end:
            if self.map.is_long_word(word_end):
                return self._end_of_long_buffer(start, word_end, found)
            last = self._next_mark(word_end, word_end + WORD_BYTES)
        if last >= top or last == word_end + WORD_BYTES:
            self.print(f"map: the buffer at {start} has no end")
            return None
        self._count_buffer(start, last + GRANULE - start, found)
        return last + GRANULE

    @kernel
    def _end_of_long_buffer(
        self, start: VirtualAddress, second: VirtualAddress, found: Found
    ) -> VirtualAddress | None:
        """The same of a buffer whose second word, at ``second``, holds its length."""
        word = self._words()[(second - self.info.heap_start) // WORD_BYTES + 1]
        granules = usize(word & LOW_LENGTH | (word >> 32 & HIGH_LENGTH) << 5)
        rest = (self.space.top - start) // GRANULE
        if word & ~u64(LENGTH_BITS) != LONG << 59 or granules > rest:
            self.print(f"map: the buffer at {start} has a wrong word of length, {word:#x}")
            return None
        end = start + granules * GRANULE
        third = second + WORD_BYTES
        if end <= third:
            self.print(f"map: the buffer {start} to {end} is too short for a word of length")
            return None
        mark = self._next_mark(third, end)
        if mark != end - GRANULE:
            self.print(f"map: the buffer {start} to {end} has its mark at {mark}")
            return None
        self._count_buffer(start, end - start, found)
        return end

    @kernel
    def _count_buffer(self, start: VirtualAddress, length: usize, found: Found) -> None:
        if length <= LONGEST_SLOT:
            found.buffers[length // GRANULE] += 1
        if self.cache.holds(start, length):
            found.kept |= u64(1) << u64(self.cache.index(length))
        else:
            found.live_buffers += 1
            found.live_bytes += length

    @kernel
    def _end_of_run(self, start: VirtualAddress, found: Found) -> VirtualAddress | None:
        run = self.at(Run, start)
        granules = usize(run.granules)
        slots = usize(run.slots)
        if granules == 0 or granules >= CLASSES or slots == 0 or slots > MOST_SLOTS:
            self.print(f"run: {start} says that it has {slots} slots of {granules} granules")
            return None
        if run.reciprocal != self.runs.reciprocal(granules):
            self.print(f"run: {start} has a wrong reciprocal, {run.reciprocal}")
            return None
        used = self._before_slots(granules) + slots * granules
        chunks = (used + (CHUNK_GRANULES - 1)) // CHUNK_GRANULES
        whole = chunks * CHUNK_GRANULES
        if usize(run.first) != whole - slots * granules:
            self.print(f"run: the slots of {start} cannot begin {run.first} granules in")
            return None
        if whole > (self.space.top - start) // GRANULE:
            self.print(f"run: {start} would have {whole} granules, and end above the top")
            return None
        for chunk in span(usize(0), chunks):
            code = self.map.chunk(start + chunk * CHUNK)
            if code != self.map.run_code(chunk):
                self.print(f"map: chunk {chunk} of the run at {start} is {code:#x}")
                return None
        free = run.free
        if free > ~u64(0) >> u64(MOST_SLOTS - slots):
            self.print(f"run: {start} has {slots} slots, and {free:#x} are free")
            return None
        if free != 0:
            found.open_runs += 1
        found.overhead_bytes += (whole - slots * granules) * GRANULE
        found.buffers[granules] += truncate(u32, slots)
        while free != 0:
            free &= free - 1
            slots -= 1
        found.live_buffers += slots
        found.live_bytes += slots * granules * GRANULE
        return start + whole * GRANULE

    @kernel
    def _before_slots(self, granules: usize) -> usize:
        """The least that lies before the slots of a run, if they are to be aligned."""
        if granules >= CHUNK_GRANULES and granules & (granules - 1) == 0:
            return usize(CHUNK_GRANULES)
        header = usize(self.header_granules)
        return header if granules & 1 != 0 else (header + 1) // 2 * 2

    # The map --------------------------------------------------------------------------------

    @kernel
    def _next_mark(self, start: VirtualAddress, end: VirtualAddress) -> VirtualAddress:
        """The first granule from ``start`` on that is marked; ``end`` if none before it is."""
        words = self._words()
        place = start
        while place < end:
            granule = (place - self.info.heap_start) // GRANULE
            marks = words[(granule >> 6) + 1] >> u64(granule & 63)
            if marks != 0:
                mark = place + usize(lowest_bit(marks)) * GRANULE
                return mark if mark < end else end
            place += (64 - (granule & 63)) * GRANULE
        return end

    @kernel
    def _words(self) -> Array[u64]:
        return self.array_at(u64, self.segment.info.shadow_start)
