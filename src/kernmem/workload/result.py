"""What a replay tells."""

from __future__ import annotations

from dataclasses import dataclass

from kernmem.language import KernmemError


@dataclass(frozen=True)
class ReplayResult:
    """What a replay measured.

    Attributes:
        calls: of kmalloc and kfree.
        failed: calls of kmalloc that gave NULL.
        peak_live_bytes: the most that was live at once, in bytes asked for.
        peak_heap_bytes: the most that the heap spanned, from its start to its end.
        peak_pages: the most pages of physical memory that were taken, those of tables included.
        end_gaps: gaps that the heap has at the end.
        end_live_bytes: bytes asked for that are live at the end.
        ns_per_call: the mean time of a call, on the host, where taking a page or giving it back is
            a system call; None elsewhere.
    """

    calls: int
    failed: int
    peak_live_bytes: int
    peak_heap_bytes: int
    peak_pages: int
    end_gaps: int
    end_live_bytes: int
    ns_per_call: float | None = None


@dataclass(frozen=True)
class Allocation:
    """One kmalloc of a replay.

    Attributes:
        id: the object of the trace.
        offset: of its buffer from the start of the heap; None if the heap gave none.
    """

    id: int
    offset: int | None


class CorruptBuffer(KernmemError):
    """A buffer does not hold what was written to it.

    Attributes:
        id: the object of the trace.
        address: of the byte that changed.
    """

    def __init__(self, object_id: int, address: int, found: int, written: int) -> None:
        super().__init__(
            f"the buffer of id {object_id} was overwritten: {found:#04x} at {address:#x}, "
            f"not {written:#04x}"
        )
        self.id = object_id
        self.address = address


class OverlappingBuffer(KernmemError):
    """A heap gave a buffer that has bytes of a live one.

    Attributes:
        id: the object of the trace that was given the buffer.
        address: of the buffer.
    """

    def __init__(self, object_id: int, address: int) -> None:
        super().__init__(
            f"the buffer at {address:#x}, given for id {object_id}, overlaps a live one"
        )
        self.id = object_id
        self.address = address
