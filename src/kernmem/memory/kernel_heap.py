"""Kernel Heap: buffers of any length for the kernel's own use.

The heap is the kernel segment, a row of elements without space between them:

* a **superbuffer** is allocated: a header, and the buffer that the caller uses;
* a **gap** is free, and stands in two trees, by length and by address;
* a **void** is free but too short to be a gap.

A gap never touches another gap, nor a void that could be merged into it.
"""

from __future__ import annotations

from typing import Protocol

from kernmem.language import (
    Component,
    Image,
    Struct,
    VirtualAddress,
    address_of,
    api,
    kernel,
    panic,
    span,
    struct,
    u8,
    u16,
    u32,
    usize,
)
from kernmem.memory.gap import (
    GAP_MAGIC,
    SUPERBUFFER_MAGIC,
    Buffer,
    Gap,
    Superbuffer,
    Void,
)
from kernmem.memory.gap_orders import AddrTree, LengthTree, gap_length
from kernmem.memory.gap_tree import LEFT, RIGHT
from kernmem.memory.kernel_segment import KernelSegmentInfo
from kernmem.memory.profile import Placement, Profile

MOST_VOIDS = 16  # voids that one merge looks at, on each side


class Segment(Protocol):
    """What a heap lies in: it starts somewhere from ``segment_start`` on, and may grow."""

    segment_start: int
    segment_limit: int
    shadow: int  # so many bytes have a byte of shadow; 0: none, see KernelSegmentInfo
    info: KernelSegmentInfo

    def extend_kernel_segment_to(self, end: VirtualAddress) -> bool:
        """Grow until ``end`` is within; False, with nothing changed, if that cannot be."""

    def shrink_kernel_segment_to(self, end: VirtualAddress) -> None:
        """Give back what can be given back from ``end`` on."""


@struct("kernel_heap_info_t")
class KernelHeapInfo(Struct):
    """What the heap holds.  Lengths are of whole superbuffers, gaps and voids.

    heap_end - heap_start == live_bytes + gap_bytes + void_bytes, always.
    """

    heap_start: VirtualAddress  # the start of the segment, or where buffers become aligned
    heap_end: VirtualAddress  # the end of the segment, down to a whole grain
    live_buffers: usize
    live_bytes: usize
    peak_live_bytes: usize
    gaps: usize
    gap_bytes: usize
    voids: usize
    void_bytes: usize
    failed_calls: usize  # of kmalloc, for want of memory


class KernelHeap(Component):
    """kmalloc and kfree over the gaps of the kernel segment.

    Every call is O(log gaps), apart from the pages that it takes or gives back.
    """

    c_module = "kernelheap"

    def __init__(self, image: Image, segment: Segment, profile: Profile) -> None:
        super().__init__(image)
        self.segment = segment
        if not profile.packed:
            image.lay_out_naturally(Gap)
        self.gap_size = self.sizeof(Gap)
        self.header_size = self.sizeof(Superbuffer)
        self.grain = profile.grain or self.gap_size
        self.lead = -self.header_size % profile.alignment  # before the first superbuffer
        self.voids = profile.voids
        # A freed superbuffer must have room for a gap's record, unless voids are allowed.
        least = self.header_size + 1 if self.voids else self.gap_size
        self.least_length = -(-least // self.grain) * self.grain
        self.magic = SUPERBUFFER_MAGIC & ((1 << 8 * self.target.pointer_bytes) - 1)
        self.longest_request = segment.segment_limit - segment.segment_start
        self.first_fit = profile.placement is Placement.FIRST
        self.largest_fit = profile.placement is Placement.LARGEST
        self.by_length = LengthTree(image, "kernel_heap_length_tree")
        self.by_addr = AddrTree(image, "kernel_heap_addr_tree", with_reach=self.first_fit)
        self.info = self.static(KernelHeapInfo, "kernel_heap_info")

    @api
    def init_kernel_heap(self) -> None:
        """Begin with an empty heap, over the pages that the segment has already."""
        info = self.info
        info.heap_start = self.segment.info.segment_start + self.lead
        info.heap_end = info.heap_start
        self.by_length.tree.root = None
        self.by_addr.tree.root = None
        info.live_buffers = usize(0)
        info.live_bytes = usize(0)
        info.peak_live_bytes = usize(0)
        info.gaps = usize(0)
        info.gap_bytes = usize(0)
        info.voids = usize(0)
        info.void_bytes = usize(0)
        info.failed_calls = usize(0)
        self._take_in_segment()

    @api
    def kmalloc(self, length: usize) -> Buffer | None:
        """A buffer of ``length`` bytes, not zeroed.

        None for length 0, and when the memory cannot be had: then only failed_calls changes.
        """
        if length == 0:
            return None
        if length > self.longest_request:
            self.info.failed_calls += 1
            return None
        needed = self._superbuffer_length(length)
        gap = self._choose(needed)
        if gap is None:
            if not self._extend(needed):
                self.info.failed_calls += 1
                return None
            gap = self._choose(needed)
        assert gap is not None, f"the heap was extended by {needed} bytes and has no gap for them"
        return self._allocate(gap, needed)

    @api
    def kfree(self, buffer: Buffer | None) -> None:
        """Give back a buffer of kmalloc; does nothing for None.

        Panics, saying what the address is, if it is not the start of a live buffer.
        """
        if buffer is None:
            return
        address = address_of(buffer)
        info = self.info
        if address < info.heap_start + self.header_size or address >= info.heap_end:
            self._refuse(address)
        start = address - self.header_size
        if (start - info.heap_start) % self.grain != 0:
            self._refuse(address)
        header = self.at(Superbuffer, start)
        if header.magic != self.magic or header.end <= address or header.end > info.heap_end:
            self._refuse(address)
        end = header.end
        header.magic = usize(0)
        info.live_buffers -= 1
        info.live_bytes -= end - start
        self._release(start, end)

    @api
    def kernel_heap_largest_gap(self) -> usize:
        """The length of the longest gap; 0 if there is none.  O(log gaps)."""
        gap = self.by_length.edge(RIGHT)
        if gap is None:
            return usize(0)
        return gap_length(gap)

    # Allocating -----------------------------------------------------------------------------

    @kernel
    def _superbuffer_length(self, length: usize) -> usize:
        """The whole length of a superbuffer for a buffer of ``length``."""
        whole = (length + (self.header_size + self.grain - 1)) // self.grain * self.grain
        return whole if whole > self.least_length else usize(self.least_length)

    @kernel
    def _choose(self, needed: usize) -> Gap | None:
        """The gap that the placement takes ``needed`` bytes from; None if none is long enough."""
        if self.first_fit:
            return self.by_addr.first_from(needed)
        if self.largest_fit:
            length = self.kernel_heap_largest_gap()
            return self.by_length.shortest_from(length) if length >= needed else None
        return self.by_length.shortest_from(needed)

    @kernel
    def _allocate(self, gap: Gap, needed: usize) -> Buffer:
        """Make the start of ``gap`` a superbuffer; the rest stays a gap, if it can be one."""
        info = self.info
        start = address_of(gap)
        gap_end = gap.end
        end = start + needed
        if gap_end - end >= self.gap_size:
            self._reshape(gap, end, gap_end, LEFT)
        else:
            self._remove(gap)
            if not self.voids:
                end = gap_end
            elif end < gap_end:
                self._make_void(end, gap_end)
        header = self.at(Superbuffer, start)
        header.magic = usize(self.magic)
        header.end = end
        info.live_buffers += 1
        info.live_bytes += end - start
        if info.live_bytes > info.peak_live_bytes:
            info.peak_live_bytes = info.live_bytes
        return self.at(Buffer, start + self.header_size)

    # Freeing --------------------------------------------------------------------------------

    @kernel
    def _release(self, start: VirtualAddress, end: VirtualAddress) -> None:
        """Make a space free, merged with the gaps on both sides and the voids in between."""
        before = self.by_addr.last_before(start)
        if before is None:
            after = self.by_addr.edge(LEFT)
        else:
            after = self.by_addr.neighbour(before, RIGHT)
            if self._skip_voids(before.end, start) == start:
                self._forget_voids(before.end, start)
                start = address_of(before)
        following = self.info.heap_end if after is None else address_of(after)
        voids_end = self._skip_voids(end, following)
        self._forget_voids(end, voids_end)
        end = voids_end
        joins_before = before is not None and address_of(before) == start
        if after is not None and end == address_of(after):
            end = after.end
            if not joins_before:
                self._reshape(after, start, end, RIGHT)
                return
            self._remove(after)
        if before is not None and joins_before:
            self._reshape(before, start, end, RIGHT)
        elif end - start < self.gap_size:
            self._make_void(start, end)
        else:
            self._insert(start, end, before)

    # Gaps -----------------------------------------------------------------------------------

    @kernel
    def _insert(self, start: VirtualAddress, end: VirtualAddress, before: Gap | None) -> None:
        """Make a new gap, after ``before`` in the order of addresses."""
        gap = self.at(Gap, start)
        self._describe(gap, end)
        self.by_addr.insert_after(gap, before)
        self.by_length.insert(gap)
        self.info.gaps += 1
        self.info.gap_bytes += end - start

    @kernel
    def _remove(self, gap: Gap) -> None:
        """Make a gap none."""
        self.by_length.unlink(gap)
        self.by_addr.unlink(gap)
        self.info.gaps -= 1
        self.info.gap_bytes -= gap_length(gap)

    @kernel
    def _reshape(self, gap: Gap, start: VirtualAddress, end: VirtualAddress, side: bool) -> None:
        """Make ``gap`` the space from ``start`` to ``end``, between the same gaps as before.

        ``side`` is where it moves in the order of lengths: LEFT if it becomes shorter.  Often it
        need not move.  With voids allowed the new record may overlap the old one; then it leaves
        the length tree first, so that no field is written before it was read.
        """
        moved = self.at(Gap, start)
        self.info.gap_bytes -= gap_length(gap)
        self.info.gap_bytes += end - start
        stays = not self.voids and self.by_length.may_stay(gap, side, end - start, start)
        if not stays:
            self.by_length.unlink(gap)
        if moved != gap:
            if stays:
                self.by_length.replace(gap, moved)
            self.by_addr.replace(gap, moved)
        self._describe(moved, end)
        self.by_addr.refresh_path(moved)
        if not stays:
            self.by_length.insert(moved)

    @kernel
    def _describe(self, gap: Gap, end: VirtualAddress) -> None:
        """Fill in what the record of a gap holds beside its links."""
        gap.magic = u8(GAP_MAGIC)
        gap.reach = u16(0)
        gap.end = end

    # Voids ----------------------------------------------------------------------------------

    @kernel
    def _make_void(self, start: VirtualAddress, end: VirtualAddress) -> None:
        """Note a free space that is too short for a gap's record."""
        self.at(Void, start).length = u8(end - start)
        self.info.voids += 1
        self.info.void_bytes += end - start

    @kernel
    def _skip_voids(self, start: VirtualAddress, limit: VirtualAddress) -> VirtualAddress:
        """Where the voids that lie side by side from ``start`` end, at ``limit`` at the latest.

        Looks at no more than MOST_VOIDS of them, so that the time is bounded.
        """
        if self.voids:
            for _ in span(u32(0), u32(MOST_VOIDS)):
                if start == limit:
                    break
                length = self.at(Void, start).length
                if length >= self.gap_size:
                    break
                start += usize(length)
        return start

    @kernel
    def _forget_voids(self, start: VirtualAddress, end: VirtualAddress) -> None:
        """Count the voids from ``start`` to ``end`` no more: they become part of a gap."""
        if self.voids:
            self.info.void_bytes -= end - start
            while start < end:
                start += usize(self.at(Void, start).length)
                self.info.voids -= 1

    # The segment ----------------------------------------------------------------------------

    @kernel
    def _extend(self, needed: usize) -> bool:
        """Extend the segment until its last gap has ``needed`` bytes; else change nothing."""
        start = self.info.heap_end
        last = self.by_addr.edge(RIGHT)
        if last is not None and last.end == start:
            start = address_of(last)
        # Whole grains from the start of the heap on, so this is where the last one must end.
        if not self.segment.extend_kernel_segment_to(start + needed):
            return False
        self._take_in_segment()
        return True

    @kernel
    def _take_in_segment(self) -> None:
        """Make free what the segment has beyond the heap, down to a whole grain."""
        end = self.info.heap_end
        if self.segment.info.segment_end <= end:
            return
        length = self.segment.info.segment_end - self.info.heap_start
        whole = self.info.heap_start + (length - length % self.grain)
        if whole > end:
            self.info.heap_end = whole
            self._release(end, whole)

    # Bad frees ------------------------------------------------------------------------------

    @kernel
    def _refuse(self, address: VirtualAddress) -> None:
        """Panic with what ``address``, given to kfree, really is.  O(buffers)."""
        info = self.info
        if address < info.heap_start or address >= info.heap_end:
            panic(f"kfree: {address} was never in the heap, {info.heap_start} to {info.heap_end}")
        place = info.heap_start
        gap = self.by_addr.last_before(address + 1)
        if gap is not None:
            if address < gap.end:
                panic(f"kfree: {address} is inside the gap {address_of(gap)} to {gap.end}")
            place = gap.end
        while True:
            following = place
            if self.voids:
                length = self.at(Void, place).length
                if length < self.gap_size:
                    following = place + usize(length)
                    if address < following:
                        panic(f"kfree: {address} is inside the void {place} to {following}")
            if following == place:
                header = self.at(Superbuffer, place)
                following = header.end
                start = place + self.header_size
                if header.magic != self.magic or following <= start or following > info.heap_end:
                    panic(f"kfree: {address} lies after a damaged superbuffer header at {place}")
                if address < following:
                    if address < start:
                        panic(f"kfree: {address} is in the header of the buffer {start}")
                    panic(f"kfree: {address} is inside the buffer {start} to {following}")
            place = following
