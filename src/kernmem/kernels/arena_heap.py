"""A heap over one arena, given once: no pages, no MMU, nothing that grows.

It is how a host runs the heap beside any other allocator, see ``workload/allocator.h``.
"""

from __future__ import annotations

from kernmem.language import Component, Image, VirtualAddress, api, kernel, usize
from kernmem.memory.kernel_heap import KernelHeap
from kernmem.memory.kernel_segment import KernelSegmentInfo
from kernmem.memory.profile import Profile

LONGEST = 1 << 46
"""Bytes of the longest arena: as many as a process can have, and no sum of lengths overflows."""


class Arena(Component):
    """The segment of a heap that is given all its memory at once."""

    c_module = "arena"
    segment_start = 0
    segment_limit = LONGEST

    def __init__(self, image: Image) -> None:
        super().__init__(image)
        self.info = self.static(KernelSegmentInfo, "arena_info")

    @kernel
    def extend_kernel_segment_to(self, end: VirtualAddress) -> bool:
        """There is no more."""
        return False


class ArenaHeap(Component):
    """The kernel heap over an arena: kmalloc and kfree are its calls."""

    c_module = "arenaheap"

    def __init__(self, image: Image, profile: Profile) -> None:
        super().__init__(image)
        self.arena = Arena(image)
        self.heap = KernelHeap(image, self.arena, profile)

    @api
    def init_arena_heap(self, arena: VirtualAddress, length: usize) -> None:
        """Begin anew with an empty heap over ``length`` bytes from ``arena`` on.

        ``arena`` must be a multiple of 16.  An arena that is too short has no gap.
        """
        self.arena.info.segment_start = arena
        self.arena.info.segment_end = arena + length
        self.heap.init_kernel_heap()
