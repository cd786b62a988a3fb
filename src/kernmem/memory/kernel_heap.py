"""Kernel Heap: buffers of any length for the kernel's own use.

The calls that other modules make.  How buffers lie in the kernel segment is the profile's choice:
behind headers, as the specification says (:mod:`superbuffers`), or without any
(:mod:`granule_buffers`); and so is whether guards lie around them (:mod:`guarded_buffers`).
"""

from __future__ import annotations

from kernmem.language import (
    Component,
    Image,
    VirtualAddress,
    address_of,
    api,
    kernel,
    lowest_bit,
    panic,
    span,
    u8,
    u64,
    usize,
)
from kernmem.memory.gap import Buffer
from kernmem.memory.granule_buffers import GranuleBuffers
from kernmem.memory.guarded_buffers import GuardedBuffers
from kernmem.memory.heap_info import KernelHeapInfo, KernelHeapStatistics, Segment
from kernmem.memory.profile import Checks, Profile
from kernmem.memory.superbuffers import Superbuffers

PAGE = 4096
"""An alignment up to here is kept when a buffer moves."""
PRECISE = 1 << 22  # a thousand times that is still within 32 bits


class KernelHeap(Component):
    """kmalloc, kfree and their kin."""

    c_module = "kernelheap"

    def __init__(self, image: Image, segment: Segment, profile: Profile) -> None:
        super().__init__(image)
        self.segment = segment
        self.info = self.static(KernelHeapInfo, "kernel_heap_info")
        layout = GranuleBuffers if profile.headerless else Superbuffers
        self.layout = layout(image, segment, self.info, profile)
        self.guards: GuardedBuffers | None = None
        if profile.checks is Checks.FULL:
            self.guards = GuardedBuffers(image, self.layout, self.info, profile)
        self.buffers = self.guards or self.layout
        self.checked = profile.checks is not Checks.NONE
        self.longest = (1 << 8 * self.target.pointer_bytes) - 1

    @api
    def init_kernel_heap(self) -> None:
        """Begin with an empty heap, over the pages that the segment has already."""
        info = self.info
        info.live_buffers = usize(0)
        info.live_bytes = usize(0)
        info.peak_live_bytes = usize(0)
        info.gaps = usize(0)
        info.gap_bytes = usize(0)
        info.voids = usize(0)
        info.void_bytes = usize(0)
        info.overhead_bytes = usize(0)
        info.failed_calls = usize(0)
        self.buffers.begin()

    @api
    def kmalloc(self, length: usize) -> Buffer | None:
        """A buffer of ``length`` bytes, not zeroed.

        None for length 0, and when the memory cannot be had: then no buffer changed, failed_calls
        is one more, and what was kept for the next calls has become gaps.
        """
        address = self.buffers.allocate(length)
        if address is None:
            return None
        return self.at(Buffer, address)

    @api
    def kfree(self, buffer: Buffer | None) -> None:
        """Give back a buffer of kmalloc; does nothing for None.

        Panics, saying what the address is, if it is not the start of a live buffer, or with
        guards if a byte was overwritten; a kernel built without checks believes its callers.
        """
        self.buffers.release(VirtualAddress(0) if buffer is None else address_of(buffer))

    @api
    def kmalloc_aligned(self, length: usize, alignment: usize) -> Buffer | None:
        """The same as kmalloc, at a multiple of ``alignment``.

        Any power of two will do, a page and far beyond; panics if it is none.  None also if
        ``length`` and ``alignment`` together are longer than the segment can ever be.
        """
        if alignment == 0 or alignment & (alignment - 1) != 0:
            panic(f"kmalloc_aligned: the alignment must be a power of two, not {alignment}")
        address = self.buffers.allocate_aligned(length, alignment)
        if address is None:
            return None
        return self.at(Buffer, address)

    @api
    def kcalloc(self, count: usize, size: usize) -> Buffer | None:
        """A buffer for ``count`` things of ``size`` bytes, all of them 0.

        None as from kmalloc, and if the product is more than a length can say.
        """
        if size != 0 and count > self.longest // size:
            self.info.failed_calls += 1
            return None
        length = count * size
        address = self.buffers.allocate(length)
        if address is None:
            return None
        self._clear(address, length)
        return self.at(Buffer, address)

    @api
    def krealloc(self, buffer: Buffer | None, length: usize) -> Buffer | None:
        """Let a buffer have ``length`` bytes, here or elsewhere; what both have room for stays.

        A buffer that moves is at least as aligned as it was, up to a page, and as one from
        kmalloc.  None as from kmalloc; then the old buffer is as it was.  With None for
        ``buffer`` it is kmalloc, with 0 for ``length`` kfree.  Panics for anything else that is
        not the start of a live buffer.
        """
        if buffer is None:
            return self.kmalloc(length)
        address = address_of(buffer)
        if self.checked and not self.buffers.holds(address):
            panic(f"krealloc: {address} is not the start of a live buffer")
        if length == 0:
            self.buffers.release(address)
            return None
        if self.buffers.resize(address, length):
            return buffer
        alignment = usize(1) << usize(lowest_bit(address % PAGE | PAGE))
        new = self.buffers.allocate_aligned(length, alignment)
        if new is None:
            return None
        used = self.buffers.length(address)
        self._copy(address, new, used if used < length else length)
        self.buffers.release(address)
        return self.at(Buffer, new)

    @api
    def kernel_heap_site(self, site: usize) -> None:
        """Say where the calls that follow come from, in any number: a line, a return address.

        Guards remember it for what they panic with; without them this does nothing.
        """
        if self.guards is not None:
            self.guards.state.site = site

    @api
    def kmalloc_usable_size(self, buffer: Buffer | None) -> usize:
        """The bytes of a buffer that may be used, at least what was asked for; 0 for None.

        Panics if it is not the start of a live buffer.
        """
        if buffer is None:
            return usize(0)
        address = address_of(buffer)
        if self.checked and not self.buffers.holds(address):
            panic(f"kmalloc_usable_size: {address} is not the start of a live buffer")
        return self.buffers.length(address)

    # The heap as a whole --------------------------------------------------------------------

    @api
    def kernel_heap_trim(self) -> usize:
        """Give back what waits for the next calls, and the pages at the end of the heap.

        Returns how many bytes the segment is shorter.  O(what waits, and pages).
        """
        before = self.segment.info.segment_end
        self.buffers.trim()
        return before - self.segment.info.segment_end

    @api
    def kernel_heap_largest_gap(self) -> usize:
        """The length of the longest gap; 0 if there is none.  O(log gaps)."""
        return self.buffers.largest_gap()

    @api
    def kernel_heap_statistics(self, statistics: KernelHeapStatistics) -> None:
        """Fill ``statistics`` with what the heap is like now.  O(log gaps)."""
        info = self.info
        live = info.live_bytes
        gaps = info.gap_bytes
        largest = self.buffers.largest_gap()
        statistics.live_buffers = info.live_buffers
        if self.guards is not None:
            statistics.live_buffers -= self.guards.quarantine.count
            live -= self.guards.state.quarantined_bytes
        statistics.live_bytes = live
        statistics.peak_live_bytes = live if live > info.peak_live_bytes else info.peak_live_bytes
        idle = info.heap_end - info.heap_start - live - gaps - info.void_bytes
        statistics.idle_bytes = idle - info.overhead_bytes
        statistics.overhead_bytes = info.overhead_bytes
        statistics.gaps = info.gaps
        statistics.gap_bytes = gaps
        statistics.largest_gap = largest
        statistics.failed_calls = info.failed_calls
        while gaps >= PRECISE:
            gaps >>= 1
            largest >>= 1
        statistics.fragmentation = usize(0) if gaps == 0 else (gaps - largest) * 1000 // gaps

    # Contents -------------------------------------------------------------------------------

    @kernel
    def _clear(self, start: VirtualAddress, length: usize) -> None:
        """Store zeros, by words if the profile aligns buffers to those."""
        words = usize(0)
        if start % 8 == 0:
            words = length // 8 * 8
            self.zero(start, words)
        bytes_of_it = self.array_at(u8, start)
        for index in span(words, length):
            bytes_of_it[index] = u8(0)

    @kernel
    def _copy(self, source: VirtualAddress, target: VirtualAddress, length: usize) -> None:
        """Copy a buffer to another, by words if both are aligned to those."""
        words = usize(0)
        if source % 8 == 0 and target % 8 == 0:
            words = length // 8
            from_words = self.array_at(u64, source)
            to_words = self.array_at(u64, target)
            for index in span(usize(0), words):
                to_words[index] = from_words[index]
        from_bytes = self.array_at(u8, source)
        to_bytes = self.array_at(u8, target)
        for index in span(words * 8, length):
            to_bytes[index] = from_bytes[index]
