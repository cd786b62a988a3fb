"""Freed buffers that are kept as they are, for the next call that wants one of their length.

A table of 64 entries, one place for each length: so whether a buffer is kept is known at once,
which is what makes the check for a double free exact.
"""

from __future__ import annotations

from kernmem.language import (
    Component,
    Image,
    Struct,
    VirtualAddress,
    kernel,
    lowest_bit,
    struct,
    truncate,
    u32,
    u64,
    usize,
)
from kernmem.memory.granules import GRANULE
from kernmem.memory.heap_info import KernelHeapInfo

ENTRIES = 64
LONGEST_KEPT = 8192
STALE_AFTER = 8
"""Calls that take from gaps, after which, or after twice as many, a kept buffer is given back."""


@struct("kernel_heap_kept_t")
class Kept(Struct):
    """What the table holds; the words have a bit an entry."""

    occupied: u64  # entries with a buffer
    fresh: u64  # of these, the ones put there since the misses were counted last
    misses: usize  # calls that found no buffer here, up to STALE_AFTER
    bytes: usize  # of all buffers in it


class BufferCache(Component):
    """The table.  A buffer in it looks like a live one to the map."""

    def __init__(self, image: Image, info: KernelHeapInfo) -> None:
        super().__init__(image)
        self.info = info
        self.kept = self.static(Kept, "kernel_heap_kept")
        self.places = self.static_array(u32, ENTRIES, "kernel_heap_kept_places")  # granule numbers
        self.lengths = self.static_array(u32, ENTRIES, "kernel_heap_kept_lengths")  # in granules

    @kernel
    def begin(self) -> None:
        """Begin with an empty table."""
        self.kept.occupied = u64(0)
        self.kept.fresh = u64(0)
        self.kept.misses = usize(0)
        self.kept.bytes = usize(0)
        for entry in range(ENTRIES):
            self.lengths[entry] = u32(0)

    @kernel
    def take(self, length: usize) -> VirtualAddress | None:
        """A kept buffer of ``length`` bytes."""
        entry = self.entry(length)
        if usize(self.lengths[entry]) * GRANULE != length:
            return None
        return self._remove(entry)

    @kernel
    def keep(self, address: VirtualAddress, length: usize) -> bool:
        """Keep a buffer; False if the place for its length is taken."""
        entry = self.entry(length)
        if self.lengths[entry] != 0:
            return False
        self.places[entry] = truncate(u32, (address - self.info.heap_start) // GRANULE)
        self.lengths[entry] = truncate(u32, length // GRANULE)
        self.kept.occupied |= u64(1) << u64(entry)
        self.kept.fresh |= u64(1) << u64(entry)
        self.kept.bytes += length
        return True

    @kernel
    def holds(self, address: VirtualAddress, length: usize) -> bool:
        """Whether the buffer at ``address``, of ``length`` bytes, is kept."""
        entry = self.entry(length)
        if usize(self.lengths[entry]) * GRANULE != length:
            return False
        return self.address(entry) == address

    @kernel
    def take_any(self) -> VirtualAddress | None:
        """One of the buffers, to be given back."""
        if self.kept.occupied == 0:
            return None
        return self._remove(usize(lowest_bit(self.kept.occupied)))

    @kernel
    def take_stale(self) -> VirtualAddress | None:
        """A buffer that no call wanted for a while, to be given back; one more miss."""
        self.kept.misses += 1
        if self.kept.misses >= STALE_AFTER:
            self.kept.misses = usize(0)
            self.kept.fresh = u64(0)
        stale = self.kept.occupied & ~self.kept.fresh
        if stale == 0:
            return None
        return self._remove(usize(lowest_bit(stale)))

    @kernel
    def _remove(self, entry: usize) -> VirtualAddress:
        self.kept.bytes -= usize(self.lengths[entry]) * GRANULE
        self.lengths[entry] = u32(0)
        self.kept.occupied &= ~(u64(1) << u64(entry))
        return self.address(entry)

    @kernel
    def entry(self, length: usize) -> usize:
        """The place for a length: powers of two do not share theirs."""
        granules = length // GRANULE
        return (granules ^ granules >> 6) & (ENTRIES - 1)

    @kernel
    def address(self, entry: usize) -> VirtualAddress:
        """Where the buffer of ``entry`` begins."""
        return self.info.heap_start + usize(self.places[entry]) * GRANULE
