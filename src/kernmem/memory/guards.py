"""Guards: the records that lie in front of buffers when the heap finds every mistake it can.

Each buffer of a caller lies in a longer one of the heap's layout:

    start                     address              address + length          end
    | fence |     record      | the caller's bytes | fence, 8 bytes or more  |

A record ends with four bytes of fence, so the byte before the buffer is one too.  Fences never
change; a freed buffer is filled with poison, and waits in the quarantine.  The records of live
buffers are a queue, those in quarantine another.
"""

from __future__ import annotations

from kernmem.language import (
    Array,
    Component,
    Image,
    Struct,
    VirtualAddress,
    address_of,
    array,
    kernel,
    panic,
    rare,
    span,
    struct,
    truncate,
    u8,
    u32,
    u64,
    usize,
    wrap_multiply,
)
from kernmem.memory.heap_info import KernelHeapInfo
from kernmem.memory.profile import Profile

FENCE = 0xCC
POISON = 0x6B
FENCE_BYTES = 8
"""The least behind a buffer."""
FENCE_WORD = FENCE * 0x0101_0101
EVERY_BYTE = 0x0101_0101_0101_0101
SEED = 0x811C_9DC5
FACTOR = 0x0100_0193  # FNV: odd, so no single word can change without the result


@struct("kernel_heap_guard_t", packed=True)
class Guard(Struct):
    """The record before a buffer.  64 bytes, or 40; the two last fields are always the last."""

    next: Guard | None  # younger, in the same queue
    previous: Guard | None
    start: VirtualAddress  # of the layout's buffer
    length: usize  # that was asked for
    site: usize  # of the call that allocated it, as the caller says
    freed_site: usize
    call: u32  # the number of the call that allocated it
    freed: u32  # of the call that freed it; 0: it is live
    check: u32  # of all fields before, and of where they are
    fence: u32  # FENCE_WORD


@struct("kernel_heap_guard_words_t", packed=True)
class GuardWords(Struct):
    """The same record as words.  With 4-byte pointers it has but the first ten."""

    words: Array[u32] = array(u32, 16)


@struct("kernel_heap_guard_queue_t")
class GuardQueue(Struct):
    """Records in the order in which they came."""

    first: Guard | None
    last: Guard | None
    count: usize


class GuardRecords(Component):
    """Seals records and queues them.  What is overwritten is never followed: that is a panic."""

    def __init__(self, image: Image, info: KernelHeapInfo, profile: Profile) -> None:
        super().__init__(image)
        self.info = info
        if not profile.packed:
            image.lay_out_naturally(Guard)
            image.lay_out_naturally(GuardWords)
        self.size = self.sizeof(Guard)
        self.sealed_words = self.size // 4 - 2
        self.alignment = profile.alignment

    # Places ---------------------------------------------------------------------------------

    @kernel
    def of(self, address: VirtualAddress) -> Guard:
        """The record of the buffer at ``address``."""
        return self.at(Guard, address - self.size)

    @kernel
    def buffer(self, guard: Guard) -> VirtualAddress:
        """The buffer of a record."""
        return address_of(guard) + self.size

    @kernel
    def is_place(self, address: VirtualAddress) -> bool:
        """Whether a buffer with a record before it can begin at ``address``."""
        info = self.info
        if address < info.heap_start + self.size or address >= info.heap_end:
            return False
        return address % self.alignment == 0

    # Seals ----------------------------------------------------------------------------------

    @kernel
    def seal(self, guard: Guard) -> None:
        """Make the check word that of the fields."""
        guard.check = self.check_word(guard)

    @kernel
    def is_sealed(self, guard: Guard) -> bool:
        """Whether the fields are those that were sealed; ``guard`` is at a place for a record."""
        return guard.check == self.check_word(guard)

    @kernel
    def check_word(self, guard: Guard) -> u32:
        """What the check word must be."""
        record = self.at(GuardWords, address_of(guard))
        check = u32(SEED) ^ truncate(u32, address_of(guard) - self.info.heap_start)
        for index in span(usize(0), usize(self.sealed_words)):
            check = wrap_multiply(check ^ record.words[index], u32(FACTOR))
        return check

    @kernel
    def require_sealed(self, guard: Guard) -> None:
        """Panic if the record was overwritten."""
        if not self.is_sealed(guard):
            self.refuse_record(guard)

    @rare
    def refuse_record(self, guard: Guard) -> None:
        """Panic with what an overwritten record says now."""
        panic(
            f"heap: the record before the buffer {self.buffer(guard)} was overwritten: it says "
            f"length {guard.length}, call {guard.call}, site {guard.site:#x}"
        )

    # Queues ---------------------------------------------------------------------------------

    @kernel
    def clear(self, queue: GuardQueue) -> None:
        """Make a queue empty."""
        queue.first = None
        queue.last = None
        queue.count = usize(0)

    @kernel
    def append(self, queue: GuardQueue, guard: Guard) -> None:
        """Make a record the last of a queue, and seal it."""
        last = queue.last
        if last is None:
            queue.first = guard
        else:
            self.require_sealed(last)
            last.next = guard
            self.seal(last)
        guard.previous = last
        guard.next = None
        self.seal(guard)
        queue.last = guard
        queue.count += 1

    @kernel
    def remove(self, queue: GuardQueue, guard: Guard) -> None:
        """Take a sealed record out of its queue; its seal is broken then."""
        before = guard.previous
        after = guard.next
        if before is None:
            queue.first = after
        else:
            self.require_sealed(before)
            before.next = after
            self.seal(before)
        if after is None:
            queue.last = before
        else:
            self.require_sealed(after)
            after.previous = before
            self.seal(after)
        guard.check = ~guard.check
        queue.count -= 1

    # Bytes ----------------------------------------------------------------------------------

    @kernel
    def fill(self, start: VirtualAddress, end: VirtualAddress, value: u8) -> None:
        """Store ``value`` into every byte."""
        word = u64(value) * EVERY_BYTE
        place = start
        while place < end:
            if place % 8 == 0 and end - place >= 8:
                self.array_at(u64, place)[0] = word
                place += 8
            else:
                self.array_at(u8, place)[0] = value
                place += 1

    @kernel
    def first_other(
        self, start: VirtualAddress, end: VirtualAddress, value: u8
    ) -> VirtualAddress | None:
        """The first byte that is not ``value``; None if all are."""
        word = u64(value) * EVERY_BYTE
        place = start
        while place < end:
            if place % 8 == 0 and end - place >= 8 and self.array_at(u64, place)[0] == word:
                place += 8
            elif self.array_at(u8, place)[0] == value:
                place += 1
            else:
                return place
        return None
