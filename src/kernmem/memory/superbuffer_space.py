"""The row of elements that a heap of superbuffers is: those, gaps, and voids.

The heap is the kernel segment, without space between its elements:

* a **superbuffer** is allocated, see :mod:`superbuffers`;
* a **gap** is free, and stands in two trees, by length and by address;
* a **void** is free but too short to be a gap.

A gap never touches another gap, nor a void that could be merged into it.
"""

from __future__ import annotations

from kernmem.language import (
    Component,
    Image,
    VirtualAddress,
    address_of,
    kernel,
    span,
    u8,
    u16,
    u32,
    usize,
)
from kernmem.memory.gap import GAP_MAGIC, Gap, Void
from kernmem.memory.gap_orders import AddrTree, LengthTree, gap_length
from kernmem.memory.gap_tree import LEFT, RIGHT
from kernmem.memory.heap_info import KernelHeapInfo, Segment
from kernmem.memory.profile import Placement, Profile

MOST_VOIDS = 16  # voids that one merge looks at, on each side


class SuperbufferSpace(Component):
    """Takes spaces from the gaps, and gives them back.  Lengths are multiples of the grain."""

    def __init__(
        self, image: Image, segment: Segment, info: KernelHeapInfo, profile: Profile
    ) -> None:
        super().__init__(image)
        self.segment = segment
        self.info = info
        if not profile.packed:
            image.lay_out_naturally(Gap)
        self.gap_size = self.sizeof(Gap)
        self.grain = profile.grain or self.gap_size
        self.voids = profile.voids
        self.first_fit = profile.placement is Placement.FIRST
        self.largest_fit = profile.placement is Placement.LARGEST
        self.by_length = LengthTree(image, "kernel_heap_length_tree")
        self.by_addr = AddrTree(image, "kernel_heap_addr_tree", with_reach=self.first_fit)

    @kernel
    def begin(self, heap_start: VirtualAddress) -> None:
        """Begin with the pages that the segment has from ``heap_start`` on as one gap."""
        self.info.heap_start = heap_start
        self.info.heap_end = heap_start
        self.by_length.tree.root = None
        self.by_addr.tree.root = None
        self._take_in_segment()

    @kernel
    def largest_gap(self) -> usize:
        """The length of the longest gap; 0 if there is none.  O(log gaps)."""
        gap = self.by_length.edge(RIGHT)
        if gap is None:
            return usize(0)
        return gap_length(gap)

    # Taking ---------------------------------------------------------------------------------

    @kernel
    def find(self, length: usize) -> Gap | None:
        """The gap that a space of ``length`` bytes is placed in; the segment grows for it."""
        gap = self.choose(length)
        if gap is None and self.extend(length):
            gap = self.choose(length)
            assert gap is not None, f"the heap grew by {length} bytes and has no gap for them"
        return gap

    @kernel
    def choose(self, length: usize) -> Gap | None:
        """The gap that the placement takes ``length`` bytes from; None if none is long enough."""
        if self.first_fit:
            return self.by_addr.first_from(length)
        if self.largest_fit:
            longest = self.largest_gap()
            return self.by_length.shortest_from(longest) if longest >= length else None
        return self.by_length.shortest_from(length)

    @kernel
    def take(self, gap: Gap, length: usize) -> VirtualAddress:
        """Take ``length`` bytes from the start of ``gap``; where the space taken ends.

        The rest stays a gap.  One that cannot be a gap becomes a void, or is taken too.
        """
        gap_end = gap.end
        end = address_of(gap) + length
        if gap_end - end >= self.gap_size:
            self._reshape(gap, end, gap_end, LEFT)
            return end
        self._remove(gap)
        if not self.voids:
            return gap_end
        if end < gap_end:
            self._make_void(end, gap_end)
        return end

    @kernel
    def take_behind(self, end: VirtualAddress, length: usize) -> VirtualAddress | None:
        """The same from the gap behind the superbuffer that ends at ``end``, voids included.

        The last gap grows.  None, with nothing changed, if there is none or it is too short.
        """
        after = self._gap_from(end)
        following = self.info.heap_end if after is None else address_of(after)
        behind = self._skip_voids(end, following)
        if behind != following:
            return None
        # What is there must do as a gap, however little of it is wanted.
        wanted = length if length > self.gap_size else usize(self.gap_size)
        present = behind - end if after is None else after.end - end
        if present < wanted and (
            self.last_start() != behind or not self.extend(wanted - (behind - end))
        ):
            return None
        if behind != end:
            self._forget_voids(end, behind)
            self.give_back(end, behind)
        gap = self._gap_from(end)
        assert gap is not None, f"the heap grew by {length} bytes and has no gap at {end}"
        return self.take(gap, length)

    @kernel
    def _gap_from(self, start: VirtualAddress) -> Gap | None:
        """The first gap that starts there or later."""
        before = self.by_addr.last_before(start)
        return self.by_addr.edge(LEFT) if before is None else self.by_addr.neighbour(before, RIGHT)

    # Giving back ----------------------------------------------------------------------------

    @kernel
    def give_back(self, start: VirtualAddress, end: VirtualAddress) -> None:
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
        need not move.  The new record may overlap the old one; then the gap leaves the length
        tree first, so that no field is written before it was read.
        """
        moved = self.at(Gap, start)
        self.info.gap_bytes -= gap_length(gap)
        self.info.gap_bytes += end - start
        distance = start - address_of(gap) if start > address_of(gap) else address_of(gap) - start
        overlaps = distance != 0 and distance < self.gap_size
        stays = not overlaps and self.by_length.may_stay(gap, side, end - start, start)
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
    def last_start(self) -> VirtualAddress:
        """Where the gap at the end of the heap starts; the end of the heap if there is none."""
        last = self.by_addr.edge(RIGHT)
        if last is not None and last.end == self.info.heap_end:
            return address_of(last)
        return self.info.heap_end

    @kernel
    def extend(self, length: usize) -> bool:
        """Extend the segment until its last gap has ``length`` bytes; else change nothing."""
        start = self.last_start()
        segment = self.segment.info
        if length > segment.segment_limit - start:
            return False
        # Whole grains from the start of the heap on, so this is where the last one must end.
        end = start + length
        if end > segment.segment_end and not self.segment.extend_kernel_segment_to(end):
            return False
        self._take_in_segment()
        return True

    @kernel
    def _take_in_segment(self) -> None:
        """Make free what the segment has beyond the heap, down to a whole grain.

        Unless it could be neither a gap nor a void: after the last pages went back.
        """
        end = self.info.heap_end
        if self.segment.info.segment_end <= end:
            return
        length = self.segment.info.segment_end - self.info.heap_start
        whole = self.info.heap_start + (length - length % self.grain)
        if whole > end and (self.voids or whole - end >= self.gap_size):
            self.info.heap_end = whole
            self.give_back(end, whole)

    @kernel
    def trim(self) -> None:
        """Give the whole pages of the last gap back, and what then is too short for a gap."""
        last = self.by_addr.edge(RIGHT)
        if last is None or last.end != self.info.heap_end:
            return
        self._remove(last)
        self.info.heap_end = address_of(last)
        self.segment.shrink_kernel_segment_to(self.info.heap_end)
        self._take_in_segment()
