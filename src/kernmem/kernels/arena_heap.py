"""A heap over one arena, given once: no pages, no MMU, nothing that grows.

It is how a host runs the heap beside any other allocator, see ``workload/allocator.h``.
"""

from __future__ import annotations

from kernmem.language import Component, Image, VirtualAddress, api, kernel, panic, usize
from kernmem.memory.kernel_heap import KernelHeap
from kernmem.memory.kernel_segment import SHADOW_MARGIN, KernelSegmentInfo
from kernmem.memory.profile import Profile

LONGEST = 1 << 46
"""Bytes of the longest arena: as many as a process can have, and no sum of lengths overflows."""


class Arena(Component):
    """The segment of a heap that is given all its memory at once, and its shadow, if it has one.

    ``shadow`` bytes of the segment have a byte of shadow; 0: there is none.
    """

    c_module = "arena"
    segment_start = 0
    segment_limit = LONGEST

    def __init__(self, image: Image, shadow: int = 0) -> None:
        super().__init__(image)
        self.shadow = shadow
        self.info = self.static(KernelSegmentInfo, "arena_info")

    @kernel
    def divide(self, start: VirtualAddress, length: usize) -> None:
        """Begin anew with the arena from ``start`` on: the segment, and above it the shadow.

        All of the arena is one or the other.  The segment is a multiple of ``shadow`` bytes.
        Panics if not even the shadow of an empty segment fits.
        """
        info = self.info
        if self.shadow != 0:
            if length < SHADOW_MARGIN:
                panic(f"an arena must have at least {SHADOW_MARGIN} bytes, not {length}")
            info.shadow_end = start + length
            length = (length - SHADOW_MARGIN) // (self.shadow + 1) * self.shadow
            info.shadow_start = start + length
        info.segment_start = start
        info.segment_end = start + length
        info.segment_limit = info.segment_end

    @kernel
    def extend_kernel_segment_to(self, end: VirtualAddress) -> bool:
        """There is no more."""
        return False

    @kernel
    def shrink_kernel_segment_to(self, end: VirtualAddress) -> None:
        """Nobody else would use what is given back."""


class ArenaHeap(Component):
    """The kernel heap over an arena: kmalloc and kfree are its calls."""

    c_module = "arenaheap"

    def __init__(self, image: Image, profile: Profile) -> None:
        super().__init__(image)
        self.arena = Arena(image, profile.shadow)
        self.heap = KernelHeap(image, self.arena, profile)

    @api
    def init_arena_heap(self, arena: VirtualAddress, length: usize) -> None:
        """Begin anew with an empty heap over ``length`` bytes from ``arena`` on.

        ``arena`` must be a multiple of 64.  An arena that is too short has no gap.
        """
        self.arena.divide(arena, length)
        self.heap.init_kernel_heap()
