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
    """The links, the order and the balance of one tree."""

    def __init__(self, image: Image, tree: GapTree) -> None:
        super().__init__(image)
        self.tree = tree

    @kernel
    def is_sound(self, gaps: usize) -> bool:
        """Whether the tree holds ``gaps`` gaps, ordered, linked both ways and balanced."""
        count = usize(0)
        before: Gap | None = None
        gap = self.tree.edge(LEFT)
        while gap is not None:
            count += 1
            if count > gaps:
                self.print(f"tree: more than {gaps} gaps, or a cycle at {address_of(gap)}")
                return False
            if not self._is_linked(gap) or not self._is_balanced(gap):
                return False
            if before is not None and not self.tree.precedes(before, gap):
                self.print(f"tree: {address_of(before)} must not stand before {address_of(gap)}")
                return False
            before = gap
            gap = self.tree.neighbour(gap, RIGHT)
        if count != gaps:
            self.print(f"tree: {count} gaps, not {gaps}")
        return count == gaps

    @kernel
    def _is_linked(self, gap: Gap) -> bool:
        """Whether the nodes around ``gap`` lead to it as it leads to them."""
        parent = self.tree.parent(gap)
        left = self.tree.child(gap, LEFT)
        right = self.tree.child(gap, RIGHT)
        sound = True
        if parent is None:
            sound = self.tree.tree.root == gap
        elif self.tree.child(parent, LEFT) != gap:
            sound = self.tree.child(parent, RIGHT) == gap
        if left is not None and self.tree.parent(left) != gap:
            sound = False
        if right is not None and self.tree.parent(right) != gap:
            sound = False
        if not sound:
            self.print(f"tree: the links around {address_of(gap)} do not agree")
        return sound

    @kernel
    def _is_balanced(self, gap: Gap) -> bool:
        """Whether ``gap`` leans as the depths of its two sides say."""
        left = self._depth(self.tree.child(gap, LEFT))
        right = self._depth(self.tree.child(gap, RIGHT))
        lean = self.tree.lean(gap)
        if left + u32(lean) == right + EVEN:
            return True
        self.print(f"tree: {address_of(gap)} leans {lean} between depths {left} and {right}")
        return False

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
        self.by_length = TreeCheck(image, heap.by_length)
        self.by_addr = TreeCheck(image, heap.by_addr)

    @api
    def validate_kernel_heap(self) -> bool:
        """Whether the heap is sound.  What is wrong is printed, with its address."""
        gaps = self.heap.info.gaps
        if not self.by_length.is_sound(gaps) or not self.by_addr.is_sound(gaps):
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
    def _walk_elements(self, count: HeapCount) -> bool:
        """Go along the heap, element by element, and count them; False at the first bad one."""
        place = self.heap.info.heap_start
        gap = self.heap.by_addr.edge(LEFT)
        while place < self.heap.info.heap_end:
            following = self._element_end(place, gap)
            if following <= place or following > self.heap.info.heap_end:
                self.print(f"heap: the element at {place} is damaged: it would end at {following}")
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
