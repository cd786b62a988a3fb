"""The checker of superbuffers: it walks everything, and compares it with what the heap says."""

from __future__ import annotations

from kernmem.language import (
    Component,
    Image,
    Struct,
    VirtualAddress,
    address_of,
    kernel,
    struct,
    usize,
)
from kernmem.memory.gap import GAP_MAGIC, Gap, Superbuffer, Void
from kernmem.memory.gap_tree import LEFT, RIGHT, GapTree
from kernmem.memory.superbuffers import Superbuffers
from kernmem.memory.tree_check import TreeCheck


@struct("kernel_heap_count_t")
class HeapCount(Struct):
    """What a walk along the heap found."""

    live_buffers: usize
    live_bytes: usize
    gaps: usize
    gap_bytes: usize
    voids: usize
    void_bytes: usize


class SuperbufferTreeCheck(TreeCheck):
    """The checker of one of the trees of superbuffers."""

    def __init__(self, image: Image, tree: GapTree, heap: Superbuffers) -> None:
        super().__init__(image, tree)
        self.info = heap.info
        self.gap_size = heap.gap_size

    @kernel
    def is_record(self, gap: Gap) -> bool:
        """Whether ``gap``, wherever a link led, is the record of a gap; says so if it is not."""
        info = self.info
        start = address_of(gap)
        if start < info.heap_start or start >= info.heap_end:
            self.print(f"tree: a link leads out of the heap, to {start}")
            return False
        if info.heap_end - start < self.gap_size or gap.magic != GAP_MAGIC:
            self.print(f"tree: a link leads to {start}, which is no gap")
            return False
        if gap.end < start + self.gap_size or gap.end > info.heap_end:
            self.print(f"tree: the gap at {start} would end at {gap.end}")
            return False
        return True


class SuperbufferCheck(Component):
    """Every invariant of the layout, in O(n log n)."""

    def __init__(self, image: Image, heap: Superbuffers) -> None:
        super().__init__(image)
        self.heap = heap
        self.gap_size = heap.gap_size
        self.header_size = heap.header_size
        self.by_length = SuperbufferTreeCheck(image, heap.by_length, heap)
        self.by_addr = SuperbufferTreeCheck(image, heap.by_addr, heap)

    @kernel
    def is_sound(self) -> bool:
        """Whether the heap is sound.  What is wrong is printed, with its address."""
        info = self.heap.info
        segment = self.heap.segment.info
        start = segment.segment_start + self.heap.lead
        empty = info.heap_end == start
        if info.heap_start != start or (info.heap_end > segment.segment_end and not empty):
            self.print(f"heap: {info.heap_start} to {info.heap_end} is not all in the segment")
            return False
        gaps = info.gaps
        if not self.by_length.is_sound(gaps) or not self.by_addr.is_sound(gaps):
            return False
        if not self._trees_agree() or not self._reaches_agree():
            return False
        with self.local(HeapCount) as count:
            count.live_buffers = usize(0)
            count.live_bytes = usize(0)
            count.gaps = usize(0)
            count.gap_bytes = usize(0)
            count.voids = usize(0)
            count.void_bytes = usize(0)
            return self._walk_elements(count) and self._agrees(count)

    @kernel
    def _trees_agree(self) -> bool:
        """Whether every gap of the length tree is one of the addr tree."""
        gap = self.heap.by_length.edge(LEFT)
        while gap is not None:
            if self.heap.by_addr.last_before(address_of(gap) + 1) != gap:
                self.print(f"tree: {address_of(gap)} is in the length tree only")
                return False
            gap = self.heap.by_length.neighbour(gap, RIGHT)
        return True

    @kernel
    def _reaches_agree(self) -> bool:
        """Whether every node of the addr tree knows the class of the longest gap under it."""
        if self.heap.first_fit:
            gap = self.heap.by_addr.edge(LEFT)
            while gap is not None:
                if gap.reach != self.heap.by_addr.reach_of(gap):
                    self.print(f"tree: {address_of(gap)} has a wrong reach, {gap.reach}")
                    return False
                gap = self.heap.by_addr.neighbour(gap, RIGHT)
        return True

    @kernel
    def _walk_elements(self, count: HeapCount) -> bool:
        """Go along the heap, element by element, and count them; False at the first bad one."""
        place = self.heap.info.heap_start
        gap = self.heap.by_addr.edge(LEFT)
        while place < self.heap.info.heap_end:
            following = self._element_end(place, gap)
            if following <= place or following > self.heap.info.heap_end:
                self.print(f"heap: the element at {place} is damaged: it would end at {following}")
                return False
            if gap is not None and place < address_of(gap) and following > address_of(gap):
                self.print(f"heap: the element at {place} runs into the gap at {address_of(gap)}")
                return False
            length = following - place
            if gap is not None and place == address_of(gap):
                count.gaps += 1
                count.gap_bytes += length
                gap = self.heap.by_addr.neighbour(gap, RIGHT)
                if gap is not None and following == address_of(gap):
                    self.print(f"heap: the gaps {place} and {following} should be one")
                    return False
            elif self._is_void(place):
                count.voids += 1
                count.void_bytes += length
            else:
                count.live_buffers += 1
                count.live_bytes += length
            place = following
        return True

    @kernel
    def _element_end(self, place: VirtualAddress, gap: Gap | None) -> VirtualAddress:
        """Where the element at ``place`` says that it ends; ``place`` itself if it is none."""
        if gap is not None and place == address_of(gap):
            return gap.end if gap.magic == GAP_MAGIC else place
        if self._is_void(place):
            return place + usize(self.at(Void, place).length)
        if self.heap.info.heap_end - place < self.header_size:
            return place
        header = self.at(Superbuffer, place)
        return header.end if header.magic == self.heap.magic else place

    @kernel
    def _is_void(self, place: VirtualAddress) -> bool:
        """Whether the element at ``place``, no gap, is a void."""
        if self.heap.voids:
            return self.at(Void, place).length < self.gap_size
        return False

    @kernel
    def _agrees(self, count: HeapCount) -> bool:
        """Whether the heap's registry says what the walk found."""
        info = self.heap.info
        if (
            count.live_buffers == info.live_buffers
            and count.live_bytes == info.live_bytes
            and count.gaps == info.gaps
            and count.gap_bytes == info.gap_bytes
            and count.voids == info.voids
            and count.void_bytes == info.void_bytes
        ):
            return True
        self.print(f"heap: found {count.live_buffers} buffers of {count.live_bytes} bytes,")
        self.print(f"  {count.gaps} gaps of {count.gap_bytes}, {count.voids} voids of")
        self.print(f"  {count.void_bytes}; the registry says otherwise")
        return False
