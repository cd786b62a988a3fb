"""What a kernel heap lies in, and what it says of itself."""

from __future__ import annotations

from typing import Protocol

from kernmem.language import Struct, VirtualAddress, struct, usize
from kernmem.memory.kernel_segment import KernelSegmentInfo


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
    """What the heap holds, in bytes of whole superbuffers, buffers, slots, gaps and voids.

    The heap is heap_end - heap_start == live_bytes + idle + gap_bytes + void_bytes +
    overhead_bytes, always; idle are the bytes of freed buffers and slots that are kept for the
    next call.  Without slots and kept buffers, as in the spec profile, idle and overhead are 0.
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
    overhead_bytes: usize  # what runs have beside their slots
    failed_calls: usize  # that wanted memory and got none


@struct("kernel_heap_statistics_t")
class KernelHeapStatistics(Struct):
    """What kernel_heap_statistics says; lengths in bytes."""

    live_buffers: usize
    live_bytes: usize  # as long as the buffers really are
    peak_live_bytes: usize
    idle_bytes: usize  # kept for the next calls: freed buffers, and free slots of runs
    overhead_bytes: usize  # headers of runs; those of superbuffers count as live
    gaps: usize
    gap_bytes: usize
    largest_gap: usize
    fragmentation: usize  # thousandths of gap_bytes that are not in the largest gap
    failed_calls: usize
