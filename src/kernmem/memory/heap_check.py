"""The checker of the kernel heap: it walks everything, and compares it with what the heap says.

Apart from the heap, so that a kernel can leave it out.
"""

from __future__ import annotations

from kernmem.language import (
    Component,
    Image,
    Struct,
    VirtualAddress,
    address_of,
    api,
    kernel,
    struct,
    u32,
    usize,
)
from kernmem.memory.gap import GAP_MAGIC, Gap, Superbuffer, Void
from kernmem.memory.gap_tree import EVEN, LEANS_RIGHT, LEFT, RIGHT, GapTree
from kernmem.memory.kernel_heap import KernelHeap


@struct("kernel_heap_count_t")
class HeapCount(Struct):
    """What a walk along the heap found."""

    live_buffers: usize
    live_bytes: usize
    gaps: usize
    gap_bytes: usize
    voids: usize
    void_bytes: usize


class TreeCheck(Component):
    """The links, the order and the balance of one tree.

    Nothing is trusted: a link is followed only to a gap's record within the heap that links back.
    So no gap is reached twice on the way down, and the walk ends however the tree is damaged.
    """

    def __init__(self, image: Image, tree: GapTree, heap: KernelHeap) -> None:
        super().__init__(image)
        self.tree = tree
        self.heap = heap
        self.gap_size = heap.gap_size

    @kernel
    def is_sound(self, gaps: usize) -> bool:
        """Whether the tree holds ``gaps`` gaps, linked both ways, ordered and balanced."""
        return self._is_linked(gaps) and self._is_balanced()

    @kernel
    def _is_linked(self, gaps: usize) -> bool:
        """Walk the tree in order, along checked links only."""
        gap = self.tree.tree.root
        if gap is not None and not self._may_follow(None, gap):
            return False
        before: Gap | None = None
        count = usize(0)
        descending = True
        while gap is not None:
            if descending:
                count += 1
                if count > gaps:
                    self.print(f"tree: more than {gaps} gaps, with {address_of(gap)}")
                    return False
                left = self.tree.child(gap, LEFT)
                if left is not None:
                    if not self._may_follow(gap, left):
                        return False
                    gap = left
                    continue
            if before is not None and not self.tree.precedes(before, gap):
                self.print(f"tree: {address_of(before)} must not stand before {address_of(gap)}")
                return False
            before = gap
            right = self.tree.child(gap, RIGHT)
            if right is not None:
                if not self._may_follow(gap, right):
                    return False
                gap = right
                descending = True
                continue
            parent = self.tree.parent(gap)
            while parent is not None and self.tree.child(parent, LEFT) != gap:
                gap = parent
                parent = self.tree.parent(gap)
            gap = parent
            descending = False
        if count != gaps:
            self.print(f"tree: {count} gaps, not {gaps}")
        return count == gaps

    @kernel
    def _may_follow(self, parent: Gap | None, gap: Gap) -> bool:
        """Whether ``gap`` is the record of a gap within the heap, and links back to ``parent``."""
        info = self.heap.info
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
        if self.tree.parent(gap) != parent:
            self.print(f"tree: {start} does not link back to the node above it")
            return False
        return True

    @kernel
    def _is_balanced(self) -> bool:
        """Whether every node leans as the depths of its two sides say; the links are sound."""
        gap = self.tree.edge(LEFT)
        while gap is not None:
            left = self._depth(self.tree.child(gap, LEFT))
            right = self._depth(self.tree.child(gap, RIGHT))
            lean = self.tree.lean(gap)
            if lean > LEANS_RIGHT or left + u32(lean) != right + EVEN:
                self.print(
                    f"tree: {address_of(gap)} leans {lean} between depths {left} and {right}"
                )
                return False
            gap = self.tree.neighbour(gap, RIGHT)
        return True

    @kernel
    def _depth(self, gap: Gap | None) -> u32:
        """The levels under ``gap``, counted down the side that it leans to."""
        depth = u32(0)
        while gap is not None:
            depth += 1
            gap = self.tree.child(gap, self.tree.lean(gap) != LEANS_RIGHT)
        return depth


class HeapCheck(Component):
    """``validate_kernel_heap``: every invariant of the heap, in O(n log n)."""

    c_module = "kernelheapcheck"

    def __init__(self, image: Image, heap: KernelHeap) -> None:
        super().__init__(image)
        self.heap = heap
        self.gap_size = heap.gap_size
        self.header_size = heap.header_size
        self.by_length = TreeCheck(image, heap.by_length, heap)
        self.by_addr = TreeCheck(image, heap.by_addr, heap)

    @api
    def validate_kernel_heap(self) -> bool:
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
