"""Freed buffers that are kept as they are, for the next call that wants one of their length.

A table of 64 entries, one place for each length: so whether a buffer is kept is known at once,
which is what makes the check for a double free exact.

A hand goes round the table, an entry further with each call that takes from a gap.  A buffer that
it meets for the second time was not wanted for a while, and becomes a gap.
"""

from __future__ import annotations

from kernmem.language import (
    Component,
    Image,
    Struct,
    VirtualAddress,
    kernel,
    lowest_bit,
    span,
    struct,
    u64,
    usize,
)
from kernmem.memory.granules import GRANULE
from kernmem.memory.heap_info import KernelHeapInfo

ENTRIES = 64
LONGEST_KEPT = 8192

# An entry is the number of the buffer's first granule, above 32 bits that are these, or 0.
MET = 1 << 31  # the hand has met it
GRANULES = MET - 1  # how many it has


@struct("kernel_heap_kept_t")
class Kept(Struct):
    """What is known of the table."""

    occupied: u64  # the entries with a buffer: a bit for each
    hand: usize  # the entry that it met last
    bytes: usize  # of all buffers in the table


class BufferCache(Component):
    """The table.  A buffer in it looks like a live one to the map."""

    def __init__(self, image: Image, info: KernelHeapInfo) -> None:
        super().__init__(image)
        self.info = info
        self.kept = self.static(Kept, "kernel_heap_kept")
        self.entries = self.static_array(u64, ENTRIES, "kernel_heap_kept_buffers")

    @kernel
    def begin(self) -> None:
        """Begin with an empty table."""
        self.kept.occupied = u64(0)
        self.kept.hand = usize(0)
        self.kept.bytes = usize(0)
        for index in span(usize(0), usize(ENTRIES)):
            self.entries[index] = u64(0)

    @kernel
    def take(self, length: usize) -> VirtualAddress | None:
        """A kept buffer of ``length`` bytes."""
        index = self.index(length)
        entry = self.entries[index]
        if entry & GRANULES != u64(length // GRANULE):
            return None
        return self._remove(index, entry)

    @kernel
    def keep(self, address: VirtualAddress, length: usize) -> bool:
        """Keep a buffer; False if the place for its length is taken."""
        index = self.index(length)
        if self.entries[index] != 0:
            return False
        self.entries[index] = self._entry(address, length)
        self.kept.occupied |= u64(1) << u64(index)
        self.kept.bytes += length
        return True

    @kernel
    def holds(self, address: VirtualAddress, length: usize) -> bool:
        """Whether the buffer at ``address``, of ``length`` bytes, is kept."""
        return self.entries[self.index(length)] & ~u64(MET) == self._entry(address, length)

    @kernel
    def take_any(self) -> VirtualAddress | None:
        """One of the buffers, to be given back."""
        if self.kept.occupied == 0:
            return None
        index = usize(lowest_bit(self.kept.occupied))
        return self._remove(index, self.entries[index])

    @kernel
    def take_stale(self) -> VirtualAddress | None:
        """A buffer that no call wanted for a while, to be given back."""
        hand = (self.kept.hand + 1) & (ENTRIES - 1)
        self.kept.hand = hand
        entry = self.entries[hand]
        if entry & MET != 0:
            return self._remove(hand, entry)
        if entry != 0:
            self.entries[hand] = entry | MET
        return None

    @kernel
    def _remove(self, index: usize, entry: u64) -> VirtualAddress:
        self.entries[index] = u64(0)
        self.kept.occupied &= ~(u64(1) << u64(index))
        self.kept.bytes -= self.length(entry)
        return self.address(entry)

    # Entries --------------------------------------------------------------------------------

    @kernel
    def index(self, length: usize) -> usize:
        """The place for a length: powers of two do not share theirs."""
        granules = length // GRANULE
        return (granules ^ granules >> 6) & (ENTRIES - 1)

    @kernel
    def _entry(self, address: VirtualAddress, length: usize) -> u64:
        """That of a buffer which the hand has not met."""
        return u64(address - self.info.heap_start) // GRANULE << 32 | u64(length // GRANULE)

    @kernel
    def address(self, entry: u64) -> VirtualAddress:
        """Where the buffer of an entry begins."""
        return self.info.heap_start + usize(entry >> 32) * GRANULE

    @kernel
    def length(self, entry: u64) -> usize:
        """How many bytes it has."""
        return usize(entry & GRANULES) * GRANULE
