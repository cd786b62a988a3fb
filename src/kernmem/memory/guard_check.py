"""The checker of guards: it walks the records of both queues, and all bytes that they answer for.

It runs after the checker of the layout, which then says what is a buffer.
"""

from __future__ import annotations

from kernmem.language import Component, Image, address_of, kernel, span, u8, usize
from kernmem.memory.guarded_buffers import GuardedBuffers
from kernmem.memory.guards import Guard, GuardQueue


class GuardCheck(Component):
    """Every record and fence, and the poison in what was freed."""

    def __init__(self, image: Image, guards: GuardedBuffers) -> None:
        super().__init__(image)
        self.guards = guards
        self.records = guards.records
        self.layout = guards.layout

    @kernel
    def is_sound(self) -> bool:
        """Whether nothing was overwritten.  What was is printed, with its address."""
        return self._is_queue_sound(self.guards.live, False) and self._is_queue_sound(
            self.guards.quarantine, True
        )

    @kernel
    def _is_queue_sound(self, queue: GuardQueue, free: bool) -> bool:
        previous: Guard | None = None
        guard = queue.first
        bytes_of_layout = usize(0)
        for _ in span(usize(0), queue.count):
            if guard is None:
                self.print(f"guards: a queue of {queue.count} records is shorter")
                return False
            if not self._is_sound(guard):
                return False
            if guard.previous != previous or (guard.freed != 0) != free:
                self.print(f"guards: the record {guard} does not belong where it is queued")
                return False
            bytes_of_layout += self.layout.length(guard.start)
            previous = guard
            guard = guard.next
        if guard is not None or queue.last != previous:
            self.print(f"guards: a queue of {queue.count} records is longer")
            return False
        if free and bytes_of_layout != self.guards.state.quarantined_bytes:
            self.print(f"guards: {bytes_of_layout} bytes are in quarantine")
            return False
        return True

    @kernel
    def _is_sound(self, guard: Guard) -> bool:
        """Whether ``guard``, wherever a link led, is a record, and its buffer is intact."""
        buffer = address_of(guard) + self.records.size
        if not self.guards.has_record(buffer):
            self.print(f"guards: the record before the buffer {buffer} was overwritten")
            return False
        place = self.guards.first_overwritten(guard)
        if place is None:
            return True
        value = self.array_at(u8, place)[0]
        self.print(f"guards: {place} was overwritten with {value:#x}, at the buffer {buffer}")
        return False
