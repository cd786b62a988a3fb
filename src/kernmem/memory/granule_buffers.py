"""The layout of the tuned heap: buffers without headers, in the way that is cheapest for each.

A short length that is asked for again and again comes from a run of slots.  Any other buffer comes
from a gap, and when it is freed it may be kept as it is for the next call of its length.

Slots and kept buffers that wait for a caller are **idle**.  What they take away from other lengths
is bounded, by shares of the heap and of its gaps that the profile chooses; and before the heap
reaches for its top, some of the kept buffers become gaps.
"""

from __future__ import annotations

from kernmem.language import (
    Component,
    Image,
    VirtualAddress,
    kernel,
    rare,
    usize,
)
from kernmem.memory.buffer_cache import LONGEST_KEPT, BufferCache
from kernmem.memory.granule_frees import BadFrees
from kernmem.memory.granule_space import GranuleSpace
from kernmem.memory.granules import GRANULE, IN_RUN, LONGEST
from kernmem.memory.heap_info import KernelHeapInfo, Segment
from kernmem.memory.profile import SOME, Checks, Profile
from kernmem.memory.slot_runs import LONGEST_SLOT, SlotRuns

SHORTEST = 2 * GRANULE
"""Bytes of the shortest buffer that is no slot."""
ALIGNED = 4096
"""A power of two up to here is the alignment of the buffers of that length."""
# Before a call takes from the top, a round makes gaps of some kept buffers, and so does another
# for each BYTES_A_ROUND that it wants, up to MOST_ROUNDS in all.
GIVEN_BACK = 4
BYTES_A_ROUND = 16 * 1024
MOST_ROUNDS = 4


class GranuleBuffers(Component):
    """Buffers of multiples of GRANULE, aligned to 16 if their length is, else to 8."""

    def __init__(
        self, image: Image, segment: Segment, info: KernelHeapInfo, profile: Profile
    ) -> None:
        super().__init__(image)
        self.info = info
        self.space = GranuleSpace(image, segment, info)
        self.map = self.space.map
        self.checked = profile.checks is not Checks.NONE
        self.has_idle = profile.idle is not None
        idle = profile.idle or SOME
        self.idle_share = idle.share
        self.idle_share_of_gaps = idle.share_of_gaps
        self.kept_share = idle.kept_share
        self.runs = SlotRuns(image, self.space, idle, checked=self.checked)
        self.cache = BufferCache(image, info)
        self.bad_frees = BadFrees(image, self.space, self.runs, self.cache)
        self.longest_request = min(segment.segment_limit - segment.segment_start, LONGEST)
        # No address of the segment overflows when it is aligned.
        above = (1 << 8 * self.target.pointer_bytes) - segment.segment_limit
        self.greatest_alignment = min(self.longest_request, above)

    @kernel
    def begin(self) -> None:
        """Begin without a buffer, over the pages that the segment has already."""
        self.runs.begin()
        self.cache.begin()
        self.space.begin()

    # Allocating -----------------------------------------------------------------------------

    @kernel
    def allocate(self, length: usize) -> VirtualAddress | None:
        """A buffer of ``length`` bytes; None for 0, and if it cannot be had: a failed call."""
        if self.has_idle and length <= LONGEST_SLOT:
            granules = (length + (GRANULE - 1)) // GRANULE
            number = self.runs.heads[granules]
            if number != 0:
                run = self.runs.run(number)
                if run.free != 0:
                    return self.runs.take(run, granules)
        return self._allocate_kept(length)

    @kernel
    def allocate_aligned(self, length: usize, alignment: usize) -> VirtualAddress | None:
        """The same, at a multiple of ``alignment``, a power of two."""
        if length == 0:
            return None
        if (
            length > self.longest_request
            or alignment > self.greatest_alignment
            or alignment > self.longest_request - length
        ):
            self.info.failed_calls += 1
            return None
        if alignment <= SHORTEST:
            return self.allocate(self._multiple(length, alignment))
        if alignment <= self.natural_alignment(length):
            return self.allocate(length)
        return self._allocate_new(self._whole(length), alignment)

    @rare
    def _allocate_kept(self, length: usize) -> VirtualAddress | None:
        """A buffer that was kept; else one from elsewhere."""
        if length == 0:
            return None
        if length > self.longest_request:
            self.info.failed_calls += 1
            return None
        whole = self._whole(length)
        if self.has_idle:
            kept = self.cache.take(whole)
            if kept is not None:
                self.info.live_buffers += 1
                self.info.live_bytes += whole
                return kept
        if not self.has_idle or length > LONGEST_SLOT:
            return self._allocate_new(whole, self._natural(whole))
        # A slot for up to 8 bytes has 8; a buffer of its own has 16.
        granules = (length + (GRANULE - 1)) // GRANULE
        if self.runs.heads[granules] != 0:
            return self._allocate_next(granules, whole)
        return self._allocate_more(granules, whole)

    @rare
    def _allocate_next(self, granules: usize, whole: usize) -> VirtualAddress | None:
        """A slot of the run after the first, which is full; else one of a new run, or a buffer."""
        slot = self.runs.take_from_next(granules)
        if slot is not None:
            return slot
        return self._allocate_more(granules, whole)

    @rare
    def _allocate_more(self, granules: usize, whole: usize) -> VirtualAddress | None:
        """A slot of a new run, if that is worth it; else a new buffer."""
        if self.runs.is_wanted(whole // GRANULE):
            most = self._spare()
            if self.runs.is_enough(most, granules):
                slot = self.runs.open(granules, most)
                if slot is not None:
                    return slot
        return self._allocate_new(whole, self._natural(whole))

    @rare
    def _allocate_new(self, whole: usize, alignment: usize) -> VirtualAddress | None:
        """A buffer from a gap; from the top if no kept buffer will make a gap for it."""
        if self.has_idle:
            stale = self.cache.take_stale()
            if stale is not None:
                self._give_back(stale, self.map.end_of_buffer(stale))
        start = self.space.take(whole, alignment, usize(0))
        rounds = whole // BYTES_A_ROUND
        rounds = rounds + 1 if rounds < MOST_ROUNDS else usize(MOST_ROUNDS)
        while start is None and rounds != 0 and self._give_back_idle():
            start = self.space.take(whole, alignment, usize(0))
            rounds -= 1
        if start is None:
            start = self.space.take_from_top(whole, alignment, usize(0))
        while start is None:
            if not self._give_back_idle():
                self.info.failed_calls += 1
                return None
            start = self.space.take(whole, alignment, usize(0))
            if start is None:
                start = self.space.take_from_top(whole, alignment, usize(0))
        self._mark(start, start + whole)
        self.info.live_buffers += 1
        self.info.live_bytes += whole
        return start

    @kernel
    def _whole(self, length: usize) -> usize:
        """The bytes of a buffer for ``length``."""
        whole = self._multiple(length, usize(GRANULE))
        return whole if whole > SHORTEST else usize(SHORTEST)

    @kernel
    def _multiple(self, length: usize, unit: usize) -> usize:
        """``length`` up to a whole number of units, whose length is a power of two."""
        return (length + (unit - 1)) & ~(unit - 1)

    @kernel
    def natural_alignment(self, length: usize) -> usize:
        """What buffers of ``length`` bytes are aligned to."""
        return self._natural(self._multiple(length, usize(GRANULE)))

    @kernel
    def _natural(self, whole: usize) -> usize:
        """What buffers of ``whole`` bytes are aligned to."""
        if whole & (whole - 1) == 0 and whole <= ALIGNED:
            return whole
        return usize(16) if whole & 15 == 0 else usize(GRANULE)

    # Resizing -------------------------------------------------------------------------------

    @kernel
    def resize(self, address: VirtualAddress, length: usize) -> bool:
        """Give the live buffer at ``address`` room for ``length`` bytes where it is.

        False, with nothing changed, if it is a slot that is too short or would be half empty,
        there is no room behind it, or it is not as aligned as buffers of ``length`` are.
        """
        if length > self.longest_request:
            return False
        if self.map.chunk(address) >= IN_RUN:
            used = self._multiple(length, usize(GRANULE))
            slot = self.runs.length(address)
            is_aligned = address & (self._natural(used) - 1) == 0
            return is_aligned and used <= slot and used >= slot // 2
        needed = self._whole(length)
        if address & (self._natural(needed) - 1) != 0:
            return False
        end = self.map.end_of_buffer(address)
        whole = end - address
        if needed > whole:
            if not self.space.take_behind(end, needed - whole):
                return False
            self._move_end(address, end, address + needed)
        elif whole - needed >= SHORTEST:
            self._move_end(address, end, address + needed)
            self.space.give_back(address + needed, end)
        return True

    @rare
    def _move_end(
        self, start: VirtualAddress, end: VirtualAddress, new_end: VirtualAddress
    ) -> None:
        """Let the live buffer end at ``new_end``; a space that it gains has no marks."""
        info = self.info
        if info.live_bytes > info.peak_live_bytes:
            info.peak_live_bytes = info.live_bytes
        info.live_bytes -= end - start
        info.live_bytes += new_end - start
        self._unmark(start, end)
        self._mark(start, new_end)

    # Freeing --------------------------------------------------------------------------------

    @kernel
    def release(self, address: VirtualAddress) -> None:
        """Free the buffer at ``address``; nothing for 0, a panic if it is none."""
        info = self.info
        offset = self.map.offset(address)
        if self.checked:
            if offset >= self.map.place.length:
                self.refuse(address)
                return
        elif address == VirtualAddress(0):
            return
        if info.live_bytes > info.peak_live_bytes:
            info.peak_live_bytes = info.live_bytes
        code = self.map.chunk_at(offset)
        if not self.has_idle or code < IN_RUN:
            if not self.checked or (offset % GRANULE == 0 and self.map.follows_buffer(address)):
                self._release_buffer(address)
            else:
                self._release_if_buffer(address)
        elif not self.checked:
            self.runs.give_back(address, offset, code)
        elif not self.runs.give_back(address, offset, code):
            self.refuse(address)

    @rare
    def _release_if_buffer(self, address: VirtualAddress) -> None:
        """The same where the map does not say at once that a buffer begins."""
        if self.space.begins_behind(address):
            self._release_buffer(address)
        else:
            self.refuse(address)

    @rare
    def _release_buffer(self, address: VirtualAddress) -> None:
        """Keep the buffer, or make a gap of it."""
        end = self.map.end_of_buffer(address)
        whole = end - address
        if self.has_idle and self.checked and self.cache.holds(address, whole):
            self.refuse(address)
            return
        self.info.live_buffers -= 1
        self.info.live_bytes -= whole
        if not self._keep(address, whole):
            self._give_back(address, end)

    @kernel
    def _keep(self, address: VirtualAddress, whole: usize) -> bool:
        """Keep the buffer as it is, if there is a place for it and it is worth one.

        It is as aligned as the next caller expects: every buffer is, by its length.
        """
        if not self.has_idle or whole > LONGEST_KEPT:
            return False
        extent = self.space.space.top - self.info.heap_start
        if self.cache.kept.bytes + whole > extent >> self.kept_share and whole > self._spare():
            return False
        return self.cache.keep(address, whole)

    @rare
    def _give_back(self, address: VirtualAddress, end: VirtualAddress) -> None:
        """Make a gap of a buffer."""
        self._unmark(address, end)
        self.space.give_back(address, end)

    # The map --------------------------------------------------------------------------------

    @kernel
    def _mark(self, start: VirtualAddress, end: VirtualAddress) -> None:
        """Make a buffer of a space without marks, one more of its length."""
        self.map.mark_buffer(start, end)
        whole = end - start
        if whole <= LONGEST_SLOT:
            self.runs.buffers[whole // GRANULE] += 1

    @kernel
    def _unmark(self, start: VirtualAddress, end: VirtualAddress) -> None:
        """Make a space without marks of a buffer, one less of its length."""
        self.map.unmark_buffer(start, end)
        whole = end - start
        if whole <= LONGEST_SLOT:
            self.runs.buffers[whole // GRANULE] -= 1

    # What waits -----------------------------------------------------------------------------

    @kernel
    def _spare(self) -> usize:
        """How many bytes more may be idle."""
        info = self.info
        extent = self.space.space.top - info.heap_start
        gaps = info.gap_bytes - (info.heap_end - self.space.space.top)
        idle = extent - gaps - info.overhead_bytes - info.live_bytes
        most = (extent >> self.idle_share) + (gaps >> self.idle_share_of_gaps)
        return most - idle if most > idle else usize(0)

    @rare
    def _give_back_idle(self) -> bool:
        """Make gaps of a few kept buffers, or of the empty runs; whether there was one."""
        if not self.has_idle:
            return False
        kept = self.cache.take_any()
        if kept is None:
            return self.runs.close_empty()
        self._give_back(kept, self.map.end_of_buffer(kept))
        for _ in range(GIVEN_BACK - 1):
            kept = self.cache.take_any()
            if kept is not None:
                self._give_back(kept, self.map.end_of_buffer(kept))
        return True

    @rare
    def trim(self) -> None:
        """Make gaps of all that can be one, and give the whole pages of the top back."""
        while self._give_back_idle():
            pass
        self.space.trim()

    # Asking ---------------------------------------------------------------------------------

    @kernel
    def holds(self, address: VirtualAddress) -> bool:
        """Whether ``address`` is the start of a live buffer."""
        info = self.info
        if address < info.heap_start or address >= info.heap_end:
            return False
        if self.map.chunk(address) >= IN_RUN:
            return self.runs.holds(address)
        if not self.space.begins_buffer(address):
            return False
        return not self.cache.holds(address, self.map.end_of_buffer(address) - address)

    @kernel
    def length(self, address: VirtualAddress) -> usize:
        """The bytes that the live buffer at ``address`` has room for."""
        if self.map.chunk(address) >= IN_RUN:
            return self.runs.length(address)
        return self.map.end_of_buffer(address) - address

    @kernel
    def largest_gap(self) -> usize:
        """The length of the longest gap; 0 if there is none.  O(log gaps)."""
        return self.space.largest_gap()

    @rare
    def refuse(self, address: VirtualAddress) -> None:
        """Panic with what ``address``, given to kfree, really is, unless it is 0.  O(buffers)."""
        if address == VirtualAddress(0):
            return
        self.bad_frees.refuse(address)
