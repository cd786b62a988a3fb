"""From a log that names addresses to a trace that names objects."""

from __future__ import annotations

from kernmem.workload.trace import Trace, TraceBuilder


class AddressLog:
    """Allocations and frees as they were logged, and the trace that they make.

    A log seldom begins with the program, and may have holes.

    Attributes:
        unknown_frees: frees of what was allocated before the log began; they are left out.
        missed_frees: addresses that were allocated again without a free in between: there it is
            put in.
    """

    def __init__(self) -> None:
        self._builder = TraceBuilder()
        self._live: dict[int, int] = {}
        self.unknown_frees = 0
        self.missed_frees = 0

    def __len__(self) -> int:
        return len(self._builder)

    def is_live(self, address: int) -> bool:
        """Whether something was allocated there, and not freed."""
        return address in self._live

    def allocate(self, address: int, size: int) -> None:
        """Something of ``size`` bytes was allocated."""
        earlier = self._live.pop(address, None)
        if earlier is not None:
            self.missed_frees += 1
            self._builder.free(earlier)
        self._live[address] = self._builder.allocate(size)

    def free(self, address: int) -> None:
        """What is at an address was freed."""
        name = self._live.pop(address, None)
        if name is None:
            self.unknown_frees += 1
        else:
            self._builder.free(name)

    def reallocate(self, before: int, address: int, size: int) -> None:
        """What was at ``before`` has another size now, and perhaps another address."""
        name = self._live.pop(before, None)
        if name is None:
            self.unknown_frees += 1
            self.allocate(address, size)
            return
        self._builder.reallocate(name, size)
        self._live[address] = name

    def trace(self, name: str, source: str) -> Trace:
        """The trace; ``source`` says where the log is from."""
        notes = [source]
        if self.unknown_frees:
            notes.append(f"left out: {self.unknown_frees} frees of older objects")
        if self.missed_frees:
            notes.append(f"put in: {self.missed_frees} frees that the log has not")
        return self._builder.build(name, "; ".join(notes))
