"""The layout of the specification: superbuffers, each a header and the buffer behind it.

They lie in a row of elements with the gaps and voids between them, see :mod:`superbuffer_space`.
"""

from __future__ import annotations

from kernmem.language import (
    Component,
    Image,
    VirtualAddress,
    address_of,
    kernel,
    panic,
    rare,
    usize,
)
from kernmem.memory.gap import SUPERBUFFER_MAGIC, Gap, Superbuffer, Void
from kernmem.memory.gap_orders import gap_length
from kernmem.memory.gap_tree import RIGHT
from kernmem.memory.heap_info import KernelHeapInfo, Segment
from kernmem.memory.profile import Checks, Profile
from kernmem.memory.superbuffer_space import SuperbufferSpace


class Superbuffers(Component):
    """Buffers behind headers, in the segment.

    Every call is O(log gaps), apart from the pages that it takes or gives back.
    """

    def __init__(
        self, image: Image, segment: Segment, info: KernelHeapInfo, profile: Profile
    ) -> None:
        super().__init__(image)
        self.segment = segment
        self.info = info
        self.space = SuperbufferSpace(image, segment, info, profile)
        self.by_length = self.space.by_length
        self.by_addr = self.space.by_addr
        self.first_fit = self.space.first_fit
        self.voids = self.space.voids
        self.gap_size = self.space.gap_size
        self.grain = self.space.grain
        self.header_size = self.sizeof(Superbuffer)
        self.alignment = profile.alignment
        self.checked = profile.checks is not Checks.NONE
        self.lead = -self.header_size % profile.alignment  # before the first superbuffer
        # A freed superbuffer must have room for a gap's record, unless voids are allowed.
        least = self.header_size + 1 if self.voids else self.gap_size
        self.least_length = -(-least // self.grain) * self.grain
        self.least_rest = 1 if self.voids else self.gap_size
        self.magic = SUPERBUFFER_MAGIC & ((1 << 8 * self.target.pointer_bytes) - 1)
        self.longest_request = segment.segment_limit - segment.segment_start
        # What multiples of the grain can be aligned to: 4, of the one of 60 bytes.
        self.grain_alignment = self.grain & -self.grain
        # How many grains may lie before an aligned one, so that no address overflows.
        above = (1 << 8 * self.target.pointer_bytes) - segment.segment_limit - 2 * self.gap_size
        self.most_grains = max(0, min(self.longest_request, above)) // self.grain

    @kernel
    def begin(self) -> None:
        """Begin without a buffer, over the pages that the segment has already."""
        self.space.begin(self.segment.info.segment_start + self.lead)

    @kernel
    def largest_gap(self) -> usize:
        """The length of the longest gap; 0 if there is none.  O(log gaps)."""
        return self.space.largest_gap()

    # Allocating -----------------------------------------------------------------------------

    @kernel
    def allocate(self, length: usize) -> VirtualAddress | None:
        """A buffer of ``length`` bytes; None for 0, and if it cannot be had: a failed call."""
        if length == 0:
            return None
        if length > self.longest_request:
            self.info.failed_calls += 1
            return None
        needed = self._superbuffer_length(length)
        gap = self.space.find(needed)
        if gap is None:
            self.info.failed_calls += 1
            return None
        start = address_of(gap)
        return self._make(start, self.space.take(gap, needed))

    @kernel
    def allocate_aligned(self, length: usize, alignment: usize) -> VirtualAddress | None:
        """The same, at a multiple of ``alignment``, a power of two.

        Superbuffers begin whole grains from the start of the heap, so in the specification's
        profile up to alignment / 4 times 60 bytes lie before an aligned one; they stay free.
        With 4-byte pointers, where that grain is 32, no buffer is aligned to more than 8.
        """
        if alignment <= self.alignment:
            return self.allocate(length)
        if length == 0:
            return None
        gap: Gap | None = None
        needed = usize(0)
        if length <= self.longest_request and self._can_align(length, alignment):
            needed = self._superbuffer_length(length)
            gap = self._find_aligned(needed, alignment)
        if gap is None:
            self.info.failed_calls += 1
            return None
        start = address_of(gap)
        place = self._aligned_from(start, alignment)
        buffer = self._make(place, self.space.take(gap, place - start + needed))
        if place != start:
            self.space.give_back(start, place)
        return buffer

    @kernel
    def natural_alignment(self, length: usize) -> usize:
        """What buffers of ``length`` bytes are aligned to: all alike."""
        return usize(self.alignment)

    @kernel
    def _can_align(self, length: usize, alignment: usize) -> bool:
        """Whether a superbuffer can begin where its buffer has ``alignment``, and has room."""
        grain_alignment = usize(self.grain_alignment)
        if alignment // grain_alignment > self.most_grains:
            return False
        if self._period(alignment) > self.longest_request - length:
            return False
        bits = (alignment if alignment < grain_alignment else grain_alignment) - 1
        return (self.info.heap_start + self.header_size) & bits == 0

    @kernel
    def _find_aligned(self, needed: usize, alignment: usize) -> Gap | None:
        """A gap with room for ``needed`` bytes from an aligned place on; the segment may grow."""
        gap = self.space.choose(needed)
        if gap is not None:
            start = address_of(gap)
            if self._aligned_from(start, alignment) - start + needed <= gap_length(gap):
                return gap
        gap = self.space.choose(needed + self._period(alignment) + self.gap_size)
        if gap is not None:
            return gap
        start = self.space.last_start()
        if not self.space.extend(self._aligned_from(start, alignment) - start + needed):
            return None
        return self.by_addr.edge(RIGHT)

    @kernel
    def _aligned_from(self, start: VirtualAddress, alignment: usize) -> VirtualAddress:
        """The first place from ``start`` on for a superbuffer whose buffer is aligned.

        The grains that it takes are found bit by bit, from the lowest: O(log alignment).
        """
        place = start
        bit = usize(self.grain_alignment)
        step = usize(self.grain)
        while bit < alignment:
            if (place + self.header_size) & bit != 0:
                place += step
            bit += bit
            step += step
        if not self.voids:
            while place != start and place - start < self.gap_size:
                place += self._period(alignment)
        return place

    @kernel
    def _period(self, alignment: usize) -> usize:
        """The bytes from one place for an aligned buffer to the next."""
        return alignment // self.grain_alignment * self.grain

    @kernel
    def _superbuffer_length(self, length: usize) -> usize:
        """The whole length of a superbuffer for a buffer of ``length``."""
        whole = (length + (self.header_size + self.grain - 1)) // self.grain * self.grain
        return whole if whole > self.least_length else usize(self.least_length)

    @kernel
    def _make(self, start: VirtualAddress, end: VirtualAddress) -> VirtualAddress:
        """Make a superbuffer of a space that was taken; its buffer."""
        header = self.at(Superbuffer, start)
        header.magic = usize(self.magic)
        header.end = end
        self.info.live_buffers += 1
        self._count_live(end - start)
        return start + self.header_size

    @kernel
    def _count_live(self, length: usize) -> None:
        """Count ``length`` bytes more as live."""
        info = self.info
        info.live_bytes += length
        if info.live_bytes > info.peak_live_bytes:
            info.peak_live_bytes = info.live_bytes

    # Resizing -------------------------------------------------------------------------------

    @kernel
    def resize(self, address: VirtualAddress, length: usize) -> bool:
        """Give the live buffer at ``address`` room for ``length`` bytes where it is.

        What becomes free is merged with the gap behind it.  False, with nothing changed, if the
        free space behind the buffer is too short, and the segment cannot grow there.
        """
        if length > self.longest_request:
            return False
        start = address - self.header_size
        header = self.at(Superbuffer, start)
        end = header.end
        needed = self._superbuffer_length(length)
        whole = end - start
        if needed > whole:
            new_end = self.space.take_behind(end, needed - whole)
            if new_end is None:
                return False
            header.end = new_end
            self._count_live(new_end - end)
        elif whole - needed >= self.least_rest:
            header.end = start + needed
            self.info.live_bytes -= whole - needed
            self.space.give_back(start + needed, end)
        return True

    # Freeing --------------------------------------------------------------------------------

    @kernel
    def holds(self, address: VirtualAddress) -> bool:
        """Whether ``address`` is the start of a live buffer."""
        info = self.info
        if address < info.heap_start + self.header_size or address >= info.heap_end:
            return False
        start = address - self.header_size
        if (start - info.heap_start) % self.grain != 0:
            return False
        header = self.at(Superbuffer, start)
        return header.magic == self.magic and header.end > address and header.end <= info.heap_end

    @kernel
    def length(self, address: VirtualAddress) -> usize:
        """The bytes that the live buffer at ``address`` has room for."""
        return self.at(Superbuffer, address - self.header_size).end - address

    @kernel
    def release(self, address: VirtualAddress) -> None:
        """Free the buffer at ``address``; nothing for 0, a panic if it is none."""
        if self.checked:
            if not self.holds(address):
                self.refuse(address)
                return
        elif address == VirtualAddress(0):
            return
        start = address - self.header_size
        header = self.at(Superbuffer, start)
        end = header.end
        header.magic = usize(0)
        self.info.live_buffers -= 1
        self.info.live_bytes -= end - start
        self.space.give_back(start, end)

    @kernel
    def trim(self) -> None:
        """Give the whole pages of the gap at the end of the heap back to the segment."""
        self.space.trim()

    # Bad frees ------------------------------------------------------------------------------

    @rare
    def refuse(self, address: VirtualAddress) -> None:
        """Panic with what ``address``, given to kfree, really is, unless it is 0.  O(buffers)."""
        if address == VirtualAddress(0):
            return
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
