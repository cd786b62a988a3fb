"""The map of granules: where the elements of a heap begin and end, out of band.

The tuned heap has no headers.  Its segment is divided into granules of 8 bytes, and each has a
bit in a map, which lies in the segment's shadow:

    a buffer (2 granules or more)    0 0 ... 0 1    1 on its last
    a gap                            1 0 ... 0 0    1 on its first
    a run of slots (whole chunks)    a byte a chunk of 8 granules: 111ddddd

So the end of a buffer is the first 1 from its start on.  Behind it a 1 says that a gap follows;
before a buffer a 0 says that a gap precedes.  Three 1s side by side, within a byte, are a run's:
ddddd leads from any chunk of it to its first in two steps, or less.

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
    wrap_subtract,
)

GRANULE = 8
WORD_BYTES = 64 * GRANULE
"""Bytes of the heap that one word of the map tells of."""
CHUNK = 8 * GRANULE
"""Bytes of the heap that one byte of the map tells of."""
SHADOW = CHUNK
"""Bytes of the segment for one of its shadow, which is the map."""

IN_RUN = 0xE0
NEAR = 24  # ddddd below it is chunks back; NEAR and more are one, two, ... times FAR chunks
FAR = 16
LONG = 7  # the five highest bits of a word that holds the length of a long buffer
LOW_LENGTH = 0x1F1F1F1F  # a length in granules, in a word whose every byte is below IN_RUN:
HIGH_LENGTH = 0x07070707  # five bits of each byte in the low half, three in the high
LONGEST = ((1 << 32) - 1) * GRANULE

BEFORE_THE_HEAP = 1 << 63


@struct("kernel_heap_map_t")
class MapPlace(Struct):
    """Where the map is, and of what."""

    heap_start: VirtualAddress  # a multiple of CHUNK
    length: usize  # of the heap, whole chunks
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
        self.place.length = usize(0)
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
        self.place.length = new_end - self.place.heap_start

    @kernel
    def shorten(self, new_end: VirtualAddress) -> None:
        """Tell of a heap that ends earlier; what was behind ``new_end`` has no marks."""
        self.place.length = new_end - self.place.heap_start

    @kernel
    def offset(self, address: VirtualAddress) -> usize:
        """How far into the heap ``address`` lies; no less than its length if it does not."""
        return usize(wrap_subtract(address, self.place.heap_start))

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
    def begins_gap(self, address: VirtualAddress) -> bool:
        """Whether a gap begins at ``address``, or the top: a mark behind the mark of an end."""
        granule = self.granule(address)
        word = self._words()[(granule >> 6) + 1]
        if word >> u64(granule & 63) & 1 == 0 or not self.marked_before(address, usize(1)):
            return False
        # Two marks side by side, unless both are a run's or of a length.
        return word >> u64(granule & 56) & 0xFF < IN_RUN and word >> 59 != LONG

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
        count = (end - start) // CHUNK
        near = count if count < NEAR else usize(NEAR)
        for index in span(usize(0), near):
            chunks[first + index] = truncate(u8, IN_RUN + index)
        for index in span(near, count):
            chunks[first + index] = truncate(u8, IN_RUN + NEAR + (index - NEAR) // FAR)

    @kernel
    def run_code(self, index: usize) -> u8:
        """The byte of the chunk of a run that ``index`` others lie before."""
        steps = index if index < NEAR else NEAR + (index - NEAR) // FAR
        return truncate(u8, IN_RUN + steps)

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
        return self.chunk_at(address - self.place.heap_start)

    @kernel
    def chunk_at(self, offset: usize) -> u8:
        """The same, ``offset`` bytes into the heap."""
        return self._chunks()[offset // CHUNK]

    @kernel
    def run_start(self, offset: usize, code: u8) -> VirtualAddress:
        """Where the run begins that holds this ``offset``, whose chunk's byte is ``code``."""
        index = offset // CHUNK
        steps = usize(code) - IN_RUN
        if steps >= NEAR:
            index -= (steps - (NEAR - 1)) * FAR
            steps = usize(self._chunks()[index]) - IN_RUN
        return self.place.heap_start + (index - steps) * CHUNK

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
