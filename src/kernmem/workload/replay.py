"""Replay of a trace on a machine, through kmalloc and kfree.

A reallocation is replayed as a free and an allocation.  What the heap could not give is not
freed later.  On the host machine the loop is compiled too, see :mod:`native_replay`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator

from kernmem.language import address_of
from kernmem.machine.port import Machine
from kernmem.memory.gap import Buffer
from kernmem.workload.result import Allocation, CorruptBuffer, OverlappingBuffer, ReplayResult
from kernmem.workload.trace import Op, Trace

PROGRESS_EVERY = 2000


def replay(
    machine: Machine,
    trace: Trace,
    *,
    limit: int | None = None,
    check: bool = False,
    progress: Callable[[int], None] | None = None,
    on_allocation: Callable[[Allocation], None] | None = None,
) -> ReplayResult:
    """Replay a trace on a booted machine, whose heap should be empty.

    Args:
        limit: replay no more than the first ``limit`` records.
        check: verify that no two live buffers overlap, and that they keep what is in them until
            they are freed: the first and last byte, on the host all.
        progress: hears now and then how many records are done.
        on_allocation: hears of every allocation.
    """
    if machine.name == "host":
        from kernmem.workload.native_replay import replay_on_host

        return replay_on_host(machine, trace, limit, check, on_allocation)
    return _Replay(machine, check, on_allocation).run(trace, limit, progress)


class _Replay:
    """The objects that are live, and what was measured so far."""

    def __init__(
        self,
        machine: Machine,
        check: bool,
        on_allocation: Callable[[Allocation], None] | None,
    ) -> None:
        self._machine = machine
        self._check = check
        self._on_allocation = on_allocation
        self._info = machine.static("kernel_heap_info")
        self._start = int(self._info.heap_start)
        self._live: dict[int, tuple[Buffer, int]] = {}
        self._ends: list[tuple[int, int]] = []  # and starts of live buffers, if they are checked
        self._calls = 0
        self._failed = 0
        self._live_bytes = 0
        self._peak_live = 0
        self._peak_heap = 0
        self._pages = machine.static("physical_mem_info")
        self._peak_pages = self._taken_pages()

    def run(
        self, trace: Trace, limit: int | None, progress: Callable[[int], None] | None
    ) -> ReplayResult:
        for record, (op, object_id, size) in enumerate(_records(trace, limit)):
            if op != Op.ALLOCATE:
                self._free(object_id)
            if op != Op.FREE:
                self._allocate(object_id, size)
            if progress is not None and record % PROGRESS_EVERY == 0:
                progress(record)
        return ReplayResult(
            calls=self._calls,
            failed=self._failed,
            peak_live_bytes=self._peak_live,
            peak_heap_bytes=self._peak_heap,
            peak_pages=self._peak_pages,
            end_gaps=int(self._info.gaps),
            end_live_bytes=self._live_bytes,
        )

    def _allocate(self, object_id: int, size: int) -> None:
        buffer = self._machine.kmalloc(size)
        self._calls += 1
        if buffer is None:
            self._failed += 1
        else:
            self._live[object_id] = buffer, size
            self._live_bytes += size
            self._peak_live = max(self._peak_live, self._live_bytes)
            if (heap := int(self._info.heap_end) - self._start) > self._peak_heap:
                self._peak_heap = heap
                self._peak_pages = max(self._peak_pages, self._taken_pages())
            if self._check:
                self._claim(object_id, int(address_of(buffer)), size)
                for address, mark in _marks(object_id, buffer, size):
                    self._machine.store(address, mark, 1)
        if self._on_allocation is not None:
            offset = None if buffer is None else int(address_of(buffer)) - self._start
            self._on_allocation(Allocation(object_id, offset))

    def _taken_pages(self) -> int:
        return int(self._pages.page_quantity) - int(self._pages.free_pages_count)

    def _claim(self, object_id: int, start: int, size: int) -> None:
        """Note a buffer as live; none that is may have a byte of it."""
        place = bisect_left(self._ends, (start + 1, 0))
        if place < len(self._ends) and self._ends[place][1] < start + size:
            raise OverlappingBuffer(object_id, start)
        self._ends.insert(place, (start + size, start))

    def _free(self, object_id: int) -> None:
        buffer, size = self._live.pop(object_id, (None, 0))
        if buffer is None:
            return
        if self._check:
            for address, mark in _marks(object_id, buffer, size):
                found = self._machine.load(address, 1)
                if found != mark:
                    raise CorruptBuffer(object_id, address, found, mark)
            del self._ends[bisect_left(self._ends, (int(address_of(buffer)) + size, 0))]
        self._machine.kfree(buffer)
        self._calls += 1
        self._live_bytes -= size


def _records(trace: Trace, limit: int | None) -> Iterator[tuple[int, int, int]]:
    """The records as plain integers, which Python is faster with."""
    columns = (column[:limit].tolist() for column in (trace.op, trace.id, trace.size))
    return zip(*columns, strict=True)


def _marks(object_id: int, buffer: Buffer, size: int) -> tuple[tuple[int, int], ...]:
    """The addresses that are marked in a buffer, and the marks.

    Two odd factors make the marks of neighbours in id, and the two of one buffer, differ.
    """
    first = int(address_of(buffer))
    if size == 1:
        return ((first, object_id * 167 % 256),)
    return (first, object_id * 167 % 256), (first + size - 1, (object_id * 89 + 1) % 256)
