"""Guarded buffers: a layout whose callers' mistakes are found, at a price.

It stands between the calls of the heap and either layout, see :mod:`guards` for what lies where.
What is found is a panic that names the buffer, the calls that allocated and freed it with their
numbers and sites, and the byte that was overwritten.
"""

from __future__ import annotations

from kernmem.language import (
    Component,
    Image,
    Struct,
    VirtualAddress,
    address_of,
    kernel,
    panic,
    rare,
    struct,
    u8,
    u32,
    usize,
)
from kernmem.memory.granule_buffers import GranuleBuffers
from kernmem.memory.guards import (
    FENCE,
    FENCE_BYTES,
    FENCE_WORD,
    POISON,
    Guard,
    GuardQueue,
    GuardRecords,
)
from kernmem.memory.heap_info import KernelHeapInfo
from kernmem.memory.profile import Profile
from kernmem.memory.superbuffers import Superbuffers

LEAD = 64
"""Bytes from the layout's buffer to the caller's, if no alignment asks for more: a power of two."""


@struct("kernel_heap_guards_t")
class GuardState(Struct):
    """What the next record will say."""

    site: usize
    calls: u32  # so far: of allocating and of freeing
    quarantined_bytes: usize  # of the layout


class GuardedBuffers(Component):
    """The calls of a layout, with guards around every buffer and a quarantine for freed ones."""

    def __init__(
        self,
        image: Image,
        layout: GranuleBuffers | Superbuffers,
        info: KernelHeapInfo,
        profile: Profile,
    ) -> None:
        super().__init__(image)
        self.layout = layout
        self.info = info
        self.records = GuardRecords(image, info, profile)
        assert self.records.size <= LEAD
        self.longest_request = layout.longest_request
        self.most_quarantined = profile.quarantine
        self.state = self.static(GuardState, "kernel_heap_guards")
        self.live = self.static(GuardQueue, "kernel_heap_guarded")
        self.quarantine = self.static(GuardQueue, "kernel_heap_quarantine")

    @kernel
    def begin(self) -> None:
        """Begin without a buffer, over the pages that the segment has already."""
        self.layout.begin()
        self.state.site = usize(0)
        self.state.calls = u32(0)
        self.state.quarantined_bytes = usize(0)
        self.records.clear(self.live)
        self.records.clear(self.quarantine)

    @kernel
    def _count_call(self) -> u32:
        """The number of this call; from 1 on, and again after 2^32 - 1."""
        calls = self.state.calls
        calls = u32(1) if calls == 0xFFFF_FFFF else calls + 1
        self.state.calls = calls
        return calls

    # Allocating -----------------------------------------------------------------------------

    @kernel
    def allocate(self, length: usize) -> VirtualAddress | None:
        """A buffer of ``length`` bytes; None for 0, and if it cannot be had: a failed call."""
        return self.allocate_aligned(length, usize(1))

    @kernel
    def allocate_aligned(self, length: usize, alignment: usize) -> VirtualAddress | None:
        """The same, at a multiple of ``alignment``, a power of two.

        Before it fails, every freed buffer has left the quarantine.
        """
        if length == 0:
            return None
        longest = usize(self.longest_request)
        if length > longest:
            self.info.failed_calls += 1
            return None
        natural = self.layout.natural_alignment(length)
        if alignment < natural:
            alignment = natural
        lead = alignment if alignment > LEAD else usize(LEAD)
        if lead > longest - length or longest - length - lead < FENCE_BYTES:
            self.info.failed_calls += 1
            return None
        start = self._take(lead + length + FENCE_BYTES, alignment)
        if start is None:
            return None
        address = start + lead
        guard = self.records.of(address)
        guard.start = start
        guard.length = length
        guard.site = self.state.site
        guard.freed_site = usize(0)
        guard.call = self._count_call()
        guard.freed = u32(0)
        guard.fence = u32(FENCE_WORD)
        self.records.append(self.live, guard)
        self.records.fill(start, address_of(guard), u8(FENCE))
        self.records.fill(address + length, self._end(guard), u8(FENCE))
        return address

    @kernel
    def _take(self, length: usize, alignment: usize) -> VirtualAddress | None:
        """A buffer of the layout, whatever has to leave the quarantine for it."""
        failed = self.info.failed_calls
        start = self.layout.allocate_aligned(length, alignment)
        while start is None and self._give_back_oldest():
            self.info.failed_calls = failed
            start = self.layout.allocate_aligned(length, alignment)
        return start

    # Resizing -------------------------------------------------------------------------------

    @kernel
    def resize(self, address: VirtualAddress, length: usize) -> bool:
        """Let the live buffer at ``address`` have ``length`` bytes where it is.

        False, with nothing changed, for more than it has: a buffer that grows always moves, so
        that who still uses the old one is found.
        """
        guard = self.records.of(address)
        self._require_intact(guard)
        if length > guard.length or address & (self.layout.natural_alignment(length) - 1) != 0:
            return False
        self.layout.resize(guard.start, address - guard.start + length + FENCE_BYTES)
        guard.length = length
        self.records.seal(guard)
        self.records.fill(address + length, self._end(guard), u8(FENCE))
        return True

    # Freeing --------------------------------------------------------------------------------

    @kernel
    def release(self, address: VirtualAddress) -> None:
        """Free the buffer at ``address``; nothing for 0, a panic if it is none or overwritten."""
        if address == VirtualAddress(0):
            return
        if not self.holds(address):
            self.refuse(address)
            return
        guard = self.records.of(address)
        self._require_intact(guard)
        self.records.remove(self.live, guard)
        guard.freed = self._count_call()
        guard.freed_site = self.state.site
        self.records.fill(address, address + guard.length, u8(POISON))
        self.records.append(self.quarantine, guard)
        self.state.quarantined_bytes += self.layout.length(guard.start)
        if self.quarantine.count > self.most_quarantined:
            self._give_back_oldest()

    @kernel
    def _give_back_oldest(self) -> bool:
        """Let the buffer leave the quarantine that came first; whether there was one."""
        guard = self.quarantine.first
        if guard is None:
            return False
        self.records.require_sealed(guard)
        self._require_intact(guard)
        self.records.remove(self.quarantine, guard)
        self.state.quarantined_bytes -= self.layout.length(guard.start)
        self.layout.release(guard.start)
        return True

    @kernel
    def trim(self) -> None:
        """Give back all that waits, and the whole pages at the end of the heap."""
        while self._give_back_oldest():
            pass
        self.layout.trim()

    # Asking ---------------------------------------------------------------------------------

    @kernel
    def holds(self, address: VirtualAddress) -> bool:
        """Whether ``address`` is the start of a live buffer, whose record is as it was sealed."""
        return self.has_record(address) and self.records.of(address).freed == 0

    @kernel
    def has_record(self, address: VirtualAddress) -> bool:
        """Whether a buffer, live or in quarantine, begins at ``address``, by its record."""
        if not self.records.is_place(address):
            return False
        guard = self.records.of(address)
        return self.records.is_sealed(guard) and self.layout.holds(guard.start)

    @kernel
    def length(self, address: VirtualAddress) -> usize:
        """The bytes that the live buffer at ``address`` was asked to have."""
        return self.records.of(address).length

    @kernel
    def natural_alignment(self, length: usize) -> usize:
        """What buffers of ``length`` bytes are aligned to."""
        return self.layout.natural_alignment(length)

    @kernel
    def largest_gap(self) -> usize:
        """The length of the longest gap; 0 if there is none.  O(log gaps)."""
        return self.layout.largest_gap()

    @kernel
    def _end(self, guard: Guard) -> VirtualAddress:
        """Where the layout's buffer ends."""
        return guard.start + self.layout.length(guard.start)

    # What was overwritten -------------------------------------------------------------------

    @kernel
    def first_overwritten(self, guard: Guard) -> VirtualAddress | None:
        """The first byte of the fences, and of the poison, that is not as it was left.

        The record is sealed, and its start is that of a live buffer of the layout.
        """
        buffer = self.records.buffer(guard)
        behind = buffer + guard.length
        place = self.records.first_other(guard.start, address_of(guard), u8(FENCE))
        if place is None:
            place = self.records.first_other(buffer - 4, buffer, u8(FENCE))
        if place is None and guard.freed != 0:
            place = self.records.first_other(buffer, behind, u8(POISON))
        if place is None:
            place = self.records.first_other(behind, self._end(guard), u8(FENCE))
        return place

    @kernel
    def _require_intact(self, guard: Guard) -> None:
        """Panic if a byte around the buffer, or in a freed one, was overwritten."""
        place = self.first_overwritten(guard)
        if place is not None:
            self._refuse_overwritten(guard, place)

    @rare
    def _refuse_overwritten(self, guard: Guard, place: VirtualAddress) -> None:
        """Panic with what the byte at ``place`` is, and whose it is."""
        value = self.array_at(u8, place)[0]
        buffer = self.records.buffer(guard)
        if guard.freed != 0:
            panic(
                f"heap: {place} was overwritten with {value:#x}, at the free buffer {buffer}, "
                f"length {guard.length}, call {guard.call}, site {guard.site:#x}, "
                f"freed by call {guard.freed}, site {guard.freed_site:#x}"
            )
        if place < buffer:
            panic(
                f"heap: {place} was overwritten with {value:#x}, before the buffer {buffer}, "
                f"length {guard.length}, call {guard.call}, site {guard.site:#x}"
            )
        panic(
            f"heap: {place} was overwritten with {value:#x}, behind the buffer {buffer}, "
            f"length {guard.length}, call {guard.call}, site {guard.site:#x}"
        )

    # Bad frees ------------------------------------------------------------------------------

    @rare
    def refuse(self, address: VirtualAddress) -> None:
        """Panic with what ``address``, given to kfree, really is.  O(buffers)."""
        guard = self._around(self.live, address)
        if guard is not None:
            panic(
                f"kfree: {address} is inside the buffer {self.records.buffer(guard)} or its "
                f"guards, length {guard.length}, call {guard.call}, site {guard.site:#x}"
            )
        guard = self._around(self.quarantine, address)
        if guard is not None:
            panic(
                f"kfree: {address} is in the free buffer {self.records.buffer(guard)}, "
                f"length {guard.length}, call {guard.call}, site {guard.site:#x}, "
                f"freed by call {guard.freed}, site {guard.freed_site:#x}"
            )
        self.layout.refuse(address)

    @kernel
    def _around(self, queue: GuardQueue, address: VirtualAddress) -> Guard | None:
        """The record of the buffer of a queue that ``address`` is in, or in its guards.

        Panics at the first record that was overwritten.
        """
        guard = queue.first
        while guard is not None:
            self.records.require_sealed(guard)
            if address >= guard.start and address < self._end(guard):
                return guard
            guard = guard.next
        return None
