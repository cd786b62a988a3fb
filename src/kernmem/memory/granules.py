"""The map of granules: where the elements of a heap begin and end, out of band.

The tuned heap has no headers.  Its segment is divided into granules of 8 bytes, and each has a
bit in a map, which lies in the segment's shadow:

    a buffer (2 granules or more)    0 0 ... 0 1    1 on its last
    a gap                            1 0 ... 0 0    1 on its first
    a run of slots (whole chunks)    a byte a chunk of 8 granules: 111ddddd

So the end of a buffer is the first 1 from its start on.  Behind it a 1 says that a gap follows;
before a buffer a 0 says that a gap precedes.  Three 1s side by side, within a byte, are a run's:
ddddd is how many chunks back the run begins.

A buffer that covers the whole word after the one it begins in, and ends beyond it, has its length
there, in a pattern with three 1s where no run has them.  So no search reads more than two words.

The first word of the shadow is the end of a buffer before the heap; after the last word that the
heap needs comes one of zeros: a buffer beyond the end.
"""

from __future__ import annotations

from kernmem.language import (
    Array,
    Component,
    Image,
    Struct,
    VirtualAddress,
    kernel,
    lowest_bit,
    span,
    struct,
    truncate,
    u8,
    u64,
    usize,
)

GRANULE = 8
WORD_BYTES = 64 * GRANULE
"""Bytes of the heap that one word of the map tells of."""
CHUNK = 8 * GRANULE
"""Bytes of the heap that one byte of the map tells of."""
SHADOW = CHUNK
"""Bytes of the segment for one of its shadow, which is the map."""

IN_RUN = 0xE0
FARTHEST = 31  # chunks back that a byte can say; from there the next byte says how far it is
LONG = 7  # the five highest bits of a word that holds the length of a long buffer
LOW_LENGTH = 0x1F1F1F1F  # a length in granules, in a word whose every byte is below IN_RUN:
HIGH_LENGTH = 0x07070707  # five bits of each byte in the low half, three in the high
LONGEST = ((1 << 32) - 1) * GRANULE

BEFORE_THE_HEAP = 1 << 63


@struct("kernel_heap_map_t")
class MapPlace(Struct):
    """Where the map is, and of what."""

    heap_start: VirtualAddress  # a multiple of CHUNK
    words: VirtualAddress  # the word before the heap; granule 0 is in the next one


class GranuleMap(Component):
    """The bits, and what they say.  All addresses are multiples of GRANULE, within the heap."""

    def __init__(self, image: Image) -> None:
        super().__init__(image)
        self.place = self.static(MapPlace, "kernel_heap_map")

    @kernel
    def begin(self, heap_start: VirtualAddress, shadow: VirtualAddress) -> None:
        """Begin with a heap without a granule."""
        self.place.heap_start = heap_start
        self.place.words = shadow
        words = self._words()
        words[0] = u64(BEFORE_THE_HEAP)
        words[1] = u64(0)
        words[2] = u64(0)  # as `extend` leaves the one behind

    @kernel
    def extend(self, old_end: VirtualAddress, new_end: VirtualAddress) -> None:
        """Clear the words of what is added to the heap, and the one behind them."""
        words = self._words()
        first = (old_end - self.place.heap_start) // WORD_BYTES + 2
        behind = (new_end - self.place.heap_start) // WORD_BYTES + 3
        for index in span(first, behind):
            words[index] = u64(0)

    # Single bits ----------------------------------------------------------------------------

    @kernel
    def has_mark(self, address: VirtualAddress) -> bool:
        """Whether the granule at ``address`` is marked: at the end of an element, a gap follows."""
        granule = self.granule(address)
        return (self._words()[(granule >> 6) + 1] >> u64(granule & 63)) & 1 != 0

    @kernel
    def mark(self, address: VirtualAddress) -> None:
        """Mark the granule at ``address``, which is not marked."""
        granule = self.granule(address)
        self._words()[(granule >> 6) + 1] |= u64(1) << u64(granule & 63)

    @kernel
    def unmark(self, address: VirtualAddress) -> None:
        """Take the mark off the granule at ``address``."""
        granule = self.granule(address)
        self._words()[(granule >> 6) + 1] &= ~(u64(1) << u64(granule & 63))

    # Buffers --------------------------------------------------------------------------------

    @kernel
    def mark_buffer(self, start: VirtualAddress, end: VirtualAddress) -> None:
        """Make a buffer of a space without marks."""
        self.mark(end - GRANULE)
        first = self.granule(start)
        last = self.granule(end - GRANULE)
        if last >> 6 > (first >> 6) + 1:
            length = u64(last - first + 1)
            low = length & LOW_LENGTH
            high = (length >> 5) & HIGH_LENGTH
            self._words()[(first >> 6) + 2] = low | high << 32 | LONG << 59

    @kernel
    def unmark_buffer(self, start: VirtualAddress, end: VirtualAddress) -> None:
        """Take the marks off a buffer."""
        self.unmark(end - GRANULE)
        first = self.granule(start)
        if self.granule(end - GRANULE) >> 6 > (first >> 6) + 1:
            self._words()[(first >> 6) + 2] = u64(0)

    @kernel
    def end_of_buffer(self, start: VirtualAddress) -> VirtualAddress:
        """Where the buffer at ``start`` ends."""
        words = self._words()
        first = self.granule(start)
        word = words[(first >> 6) + 1] >> u64(first & 63)
        if word != 0:
            return start + (usize(lowest_bit(word)) + 1) * GRANULE
        word = words[(first >> 6) + 2]
        if word >> 59 == LONG:
            return start + self.long_length(word)
        return start + (64 - (first & 63) + usize(lowest_bit(word)) + 1) * GRANULE

    @kernel
    def long_length(self, word: u64) -> usize:
        """The bytes of a long buffer, from the word that holds its length."""
        low = word & LOW_LENGTH
        high = (word >> 32) & HIGH_LENGTH
        return usize(low | high << 5) * GRANULE

    @kernel
    def is_long_word(self, address: VirtualAddress) -> bool:
        """Whether the word of ``address`` holds the length of a long buffer around it."""
        return self._words()[(self.granule(address) >> 6) + 1] >> 59 == LONG

    @kernel
    def follows_long_word(self, address: VirtualAddress) -> bool:
        """The same of the granule before ``address``."""
        return self._words()[(self.granule(address) + 63) >> 6] >> 59 == LONG

    # Gaps -----------------------------------------------------------------------------------

    @kernel
    def marked_before(self, address: VirtualAddress, granules: usize) -> bool:
        """Whether the granule is marked that lies 1 or 2 before ``address``."""
        bit = self.granule(address) + (64 - granules)
        return (self._words()[bit >> 6] >> u64(bit & 63)) & 1 != 0

    @kernel
    def follows_buffer(self, address: VirtualAddress) -> bool:
        """Whether a buffer ends at ``address`` and another begins, as three bits of a word say.

        False also where the three bits are not in one word.
        """
        granule = self.granule(address)
        word = self._words()[(granule >> 6) + 1]
        if granule & 63 < 2 or word >> 59 == LONG:
            return False
        return (word >> u64((granule & 63) - 2)) & 7 == 2

    @kernel
    def ends_gap(self, address: VirtualAddress) -> bool:
        """Whether a gap ends at ``address``, where an element begins."""
        if not self.marked_before(address, usize(1)):
            return True
        # Two marks: a gap of one granule behind the end of an element, or the end of a run.
        return self.marked_before(address, usize(2)) and not self.follows_run(address)

    @kernel
    def follows_run(self, address: VirtualAddress) -> bool:
        """Whether a run ends at ``address``, before which two granules are marked."""
        return self.granule(address) & 7 == 0 and self.chunk(address - GRANULE) >= IN_RUN

    # Runs -----------------------------------------------------------------------------------

    @kernel
    def mark_run(self, start: VirtualAddress, end: VirtualAddress) -> None:
        """Make a run of a space without marks, of whole chunks."""
        chunks = self._chunks()
        first = (start - self.place.heap_start) // CHUNK
        for index in span(usize(0), (end - start) // CHUNK):
            back = index if index < FARTHEST else usize(FARTHEST)
            chunks[first + index] = truncate(u8, IN_RUN + back)

    @kernel
    def unmark_run(self, start: VirtualAddress, end: VirtualAddress) -> None:
        """Take the marks off a run."""
        chunks = self._chunks()
        first = (start - self.place.heap_start) // CHUNK
        for index in span(usize(0), (end - start) // CHUNK):
            chunks[first + index] = u8(0)

    @kernel
    def chunk(self, address: VirtualAddress) -> u8:
        """The byte of the map for the chunk of ``address``."""
        return self._chunks()[(address - self.place.heap_start) // CHUNK]

    @kernel
    def run_start(self, address: VirtualAddress, code: u8) -> VirtualAddress:
        """Where the run begins that holds ``address``, whose chunk's byte is ``code``."""
        index = (address - self.place.heap_start) // CHUNK
        while code == IN_RUN + FARTHEST:
            index -= FARTHEST
            code = self._chunks()[index]
        return self.place.heap_start + (index - usize(code - IN_RUN)) * CHUNK

    # Places ---------------------------------------------------------------------------------

    @kernel
    def granule(self, address: VirtualAddress) -> usize:
        """The number of the granule at ``address``."""
        return (address - self.place.heap_start) // GRANULE

    @kernel
    def _words(self) -> Array[u64]:
        return self.array_at(u64, self.place.words)

    @kernel
    def _chunks(self) -> Array[u8]:
        """The map by bytes: processors of this manager are little-endian."""
        return self.array_at(u8, self.place.words + 8)
