"""The row of elements that the tuned heap is: buffers, runs of slots, and the gaps between them.

Where each begins and ends is in the map of granules; the gaps are found by length.  A space is
taken from the shortest gap that is long enough, and merged with the gaps on both sides when it
comes back.

Two things keep large buffers from breaking the heap up.  The gap at the end of the heap, the
**top**, is used only when no other gap will do.  And a large buffer that would follow the one
taken before it goes to the far end of its gap: whoever lets an array grow frees the old one next,
which then leaves one gap with what is between them, not two with the new one in the middle.
"""

from __future__ import annotations

from kernmem.language import Component, Image, Struct, VirtualAddress, kernel, rare, struct, usize
from kernmem.memory.gaps import Gaps
from kernmem.memory.granules import CHUNK, GRANULE, GranuleMap
from kernmem.memory.heap_info import KernelHeapInfo, Segment

LARGE = 64 * 1024
TRIM = 256 * 1024  # bytes of top above which pages go back,
TRIM_STEP = 64 * 1024  # so many in a call


@struct("kernel_heap_space_t")
class Space(Struct):
    """What is known of the heap beside its gaps."""

    top: VirtualAddress  # where the gap at the end of the heap starts; heap_end: there is none
    behind_large: VirtualAddress  # the end of the large space taken last


class GranuleSpace(Component):
    """Takes spaces from the gaps, and gives them back.  Lengths are multiples of GRANULE."""

    def __init__(self, image: Image, segment: Segment, info: KernelHeapInfo) -> None:
        super().__init__(image)
        self.segment = segment
        self.info = info
        self.map = GranuleMap(image)
        self.gaps = Gaps(image)
        self.space = self.static(Space, "kernel_heap_space")

    @kernel
    def begin(self) -> None:
        """Begin with all that the segment has as the top."""
        start = self.segment.info.segment_start
        assert start % CHUNK == 0, f"a heap must start at a multiple of {CHUNK}, not {start}"
        self.info.heap_start = start
        self.info.heap_end = start
        self.space.top = start
        self.space.behind_large = VirtualAddress(0)
        self.map.begin(start, self.segment.info.shadow_start)
        self.gaps.begin(start)
        self._take_in_segment()

    # Taking ---------------------------------------------------------------------------------

    @kernel
    def take(self, length: usize, alignment: usize, lead: usize) -> VirtualAddress | None:
        """A space without marks, ``lead`` bytes before a multiple of ``alignment``.

        From a gap that is not the top; None, with nothing changed, if there is none.  O(log gaps).
        """
        gap = self.gaps.shortest_from(length)
        if gap is None:
            return None
        whole = self.gaps.length(gap)
        start = self._aligned(gap, alignment, lead)
        if start - gap + length > whole:
            gap = self.gaps.shortest_from(length + (alignment - GRANULE))
            if gap is None:
                return None
            whole = self.gaps.length(gap)
            start = self._aligned(gap, alignment, lead)
        if length >= LARGE:
            start = self._far_from_large(gap, start, gap + (whole - length), alignment)
            self.space.behind_large = start + length
        info = self.info
        info.gap_bytes -= length
        end = start + length
        self.gaps.remove(gap, whole)
        if start == gap:
            self.map.unmark(gap)
        else:
            self.gaps.insert(gap, start - gap)
            info.gaps += 1
        if end == gap + whole:
            info.gaps -= 1
        else:
            self.map.mark(end)
            self.gaps.insert(end, gap + whole - end)
        return start

    @kernel
    def take_from_top(self, length: usize, alignment: usize, lead: usize) -> VirtualAddress | None:
        """The same from the top; the heap grows by what is missing, if it can."""
        info = self.info
        top = self.space.top
        start = self._aligned(top, alignment, lead)
        if not self._reaches(start, length):
            return None
        if length >= LARGE:
            start = self._far_from_large(top, start, info.heap_end - length, alignment)
            self.space.behind_large = start + length
        end = start + length
        info.gap_bytes -= length
        if start == top:
            self.map.unmark(top)
            info.gaps -= 1
        else:
            self.gaps.insert(top, start - top)
        self.space.top = end
        if end != info.heap_end:
            self.map.mark(end)
            info.gaps += 1
        return start

    @kernel
    def _aligned(self, address: VirtualAddress, alignment: usize, lead: usize) -> VirtualAddress:
        """The first address from ``address`` on that is ``lead`` before a multiple."""
        beyond = (address + lead) & (alignment - 1)
        return address + ((alignment - beyond) & (alignment - 1))

    @kernel
    def _far_from_large(
        self, gap: VirtualAddress, first: VirtualAddress, last: VirtualAddress, alignment: usize
    ) -> VirtualAddress:
        """Where in ``gap`` a large space goes that may start from ``first`` to ``last``."""
        if gap != self.space.behind_large:
            return first
        return last - (last & (alignment - 1))

    # Giving back ----------------------------------------------------------------------------

    @kernel
    def give_back(self, start: VirtualAddress, end: VirtualAddress) -> None:
        """Make a gap of a space without marks, merged with the gaps on both sides."""
        info = self.info
        info.gap_bytes += end - start
        if self.map.ends_gap(start):
            length = self.gaps.length_before(start)
            start -= length
            self.gaps.remove(start, length)
            info.gaps -= 1
        else:
            self.map.mark(start)
        if end == self.space.top:
            if end != info.heap_end:
                self.map.unmark(end)
                info.gaps -= 1
            info.gaps += 1
            self.space.top = start
            if info.heap_end - start >= TRIM:
                self._trim(info.heap_end - TRIM_STEP)
            return
        if self.map.has_mark(end):
            length = self.gaps.length(end)
            self.gaps.remove(end, length)
            self.map.unmark(end)
            end += length
        else:
            info.gaps += 1
        self.gaps.insert(start, end - start)

    # Growing in place -----------------------------------------------------------------------

    @kernel
    def take_behind(self, end: VirtualAddress, length: usize) -> bool:
        """Take the first ``length`` bytes of the gap at ``end``; False if there are not so many."""
        info = self.info
        if end == self.space.top:
            if not self._reaches(end, length):
                return False
            behind = end + length
            self.map.unmark(end)
            self.space.top = behind
            if behind == info.heap_end:
                info.gaps -= 1
            else:
                self.map.mark(behind)
        else:
            if not self.map.has_mark(end):
                return False
            whole = self.gaps.length(end)
            if whole < length:
                return False
            behind = end + length
            self.gaps.remove(end, whole)
            self.map.unmark(end)
            if whole == length:
                info.gaps -= 1
            else:
                self.map.mark(behind)
                self.gaps.insert(behind, whole - length)
        info.gap_bytes -= length
        if self.space.behind_large == end:
            self.space.behind_large = behind
        return True

    # The segment ----------------------------------------------------------------------------

    @kernel
    def _reaches(self, start: VirtualAddress, length: usize) -> bool:
        """Whether the heap has ``length`` bytes from ``start`` on; it grows for them if it can."""
        end = self.info.heap_end
        if start <= end and length <= end - start:
            return True
        limit = self.segment.info.segment_limit
        if start > limit or length > limit - start:  # the sum might be 2^32 and more
            return False
        return self._grow(start + length)

    @rare
    def _grow(self, end: VirtualAddress) -> bool:
        """Let the heap reach ``end``; False, with nothing changed, if the segment cannot."""
        has_it = self.segment.info.segment_end >= end
        if not has_it and not self.segment.extend_kernel_segment_to(end):
            return False
        self._take_in_segment()
        return True

    @kernel
    def _take_in_segment(self) -> None:
        """Make what the segment has beyond the heap part of the top, down to a whole chunk."""
        info = self.info
        end = info.heap_end
        whole = (self.segment.info.segment_end - info.heap_start) // CHUNK * CHUNK
        new_end = info.heap_start + whole
        if new_end <= end:
            return
        self.map.extend(end, new_end)
        if self.space.top == end:
            self.map.mark(end)
            info.gaps += 1
        info.heap_end = new_end
        info.gap_bytes += new_end - end

    @rare
    def trim(self) -> None:
        """Give the whole pages of the top back."""
        top = self.space.top
        if top == self.info.heap_end:
            return
        self._trim(top)
        if top == self.info.heap_end:
            self.map.unmark(top)
            self.info.gaps -= 1

    @rare
    def _trim(self, end: VirtualAddress) -> None:
        """Let the heap end at ``end``, within the top, or where the segment then does."""
        info = self.info
        self.segment.shrink_kernel_segment_to(end)
        whole = (self.segment.info.segment_end - info.heap_start) // CHUNK * CHUNK
        new_end = info.heap_start + whole
        if new_end < info.heap_end:
            info.gap_bytes -= info.heap_end - new_end
            info.heap_end = new_end
            self.map.shorten(new_end)

    # Asking ---------------------------------------------------------------------------------

    @kernel
    def largest_gap(self) -> usize:
        """The length of the longest gap; 0 if there is none."""
        top = self.info.heap_end - self.space.top
        longest = self.gaps.longest()
        return longest if longest > top else top

    @kernel
    def begins_buffer(self, address: VirtualAddress) -> bool:
        """Whether a buffer, live or kept, begins at ``address``, which lies in no run.

        Exact: of the contents of buffers nothing is believed.
        """
        if address % GRANULE == 0 and self.map.follows_buffer(address):
            return True
        return self.begins_behind(address)

    @kernel
    def begins_behind(self, address: VirtualAddress) -> bool:
        """The same behind a gap, a run, or a border of words of the map."""
        if address >= self.space.top or address % GRANULE != 0:
            return False
        if not self.map.marked_before(address, usize(1)):
            return self._follows_gap(address)
        if self.map.has_mark(address) or self.map.follows_long_word(address):
            return False
        if not self.map.marked_before(address, usize(2)) or self.map.follows_run(address):
            return True
        # Behind the first granule of a gap, which may be all of it.
        return self.gaps.length(address - GRANULE) == GRANULE

    @kernel
    def _follows_gap(self, address: VirtualAddress) -> bool:
        """Whether a gap of two granules or more ends there: what it says at both ends agrees."""
        length = self.gaps.length_before(address)
        if length < 2 * GRANULE or length > address - self.info.heap_start:
            return False
        gap = address - length
        return self.gaps.length(gap) == length and self.map.begins_gap(gap)
