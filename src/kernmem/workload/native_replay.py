"""Replay on the host machine: the loop is C, so that the time measured is the heap's."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from kernmem.language import Struct, layout
from kernmem.machine.errors import MachineError
from kernmem.machine.host import HostMachine
from kernmem.machine.native import shared_object
from kernmem.machine.port import Machine
from kernmem.machine.symbols import Symbol
from kernmem.memory.heap_info import KernelHeapInfo
from kernmem.memory.physical import PhysicalMemInfo
from kernmem.workload.result import Allocation, CorruptBuffer, OverlappingBuffer, ReplayResult
from kernmem.workload.trace import Op, Trace

HERE = Path(__file__).parent
SOURCES = ("native_replay.c", "replay.h")
FUNCTIONS = ("kernmem_replay_measure", "kernmem_replay_time")
NO_SHADOW = "a checked replay needs 16 TiB of address space: see ulimit -v, or do not check"
REPEATS = 7
"""The time of a replay is the least of so many: what disturbs a process only ever adds."""


class NativeReplay(ctypes.Structure):
    """``struct replay`` of ``replay.h``."""

    _fields_: ClassVar = [
        ("allocate", ctypes.c_void_p),
        ("free", ctypes.c_void_p),
        ("heap_start", ctypes.c_uint64),
        ("heap_end", ctypes.c_void_p),
        ("free_pages", ctypes.c_void_p),
        ("records", ctypes.c_uint64),
        ("op", ctypes.c_void_p),
        ("id", ctypes.c_void_p),
        ("size", ctypes.c_void_p),
        ("objects", ctypes.c_void_p),
        ("names", ctypes.c_uint64),
        ("offsets", ctypes.c_void_p),
        ("check", ctypes.c_uint64),
        ("calls", ctypes.c_uint64),
        ("failed", ctypes.c_uint64),
        ("live_bytes", ctypes.c_uint64),
        ("peak_live_bytes", ctypes.c_uint64),
        ("peak_heap_bytes", ctypes.c_uint64),
        ("least_free_pages", ctypes.c_uint64),
        ("nanoseconds", ctypes.c_uint64),
        ("bad_address", ctypes.c_uint64),
        ("found", ctypes.c_uint64),
        ("written", ctypes.c_uint64),
        ("overlapping", ctypes.c_uint64),
        ("bad_id", ctypes.c_uint64),
        ("shadow", ctypes.c_void_p),
    ]


def replay_on_host(
    machine: Machine,
    trace: Trace,
    limit: int | None,
    check: bool,
    on_allocation: Callable[[Allocation], None] | None,
) -> ReplayResult:
    """Replay a trace once to measure all but time, then some times more for the time.

    The machine is left as the first replay left it.
    """
    assert isinstance(machine, HostMachine)
    native = _HostReplay(machine, trace, limit)
    return native.run(check, on_allocation)


class _HostReplay:
    """A trace laid out for the C loop, beside the machine that it runs on."""

    def __init__(self, machine: HostMachine, trace: Trace, limit: int | None) -> None:
        self._machine = machine
        self._library = _load(machine)
        # The arrays are C's to use for as long as this object lives.
        self._op = np.ascontiguousarray(trace.op[:limit], np.uint8)
        self._names, ids = np.unique(trace.id[:limit], return_inverse=True)
        self._id = np.ascontiguousarray(ids, np.uint32)
        self._size = np.ascontiguousarray(trace.size[:limit], np.uint64)
        self._offsets = np.full(len(self._op), -1, np.int64)
        self._objects = np.zeros((len(self._names), 2), np.uint64)
        self._info = machine.static("kernel_heap_info")
        self._pages = machine.static("physical_mem_info")
        symbols = machine.library.symbols
        self._native = NativeReplay(
            allocate=symbols["kmalloc"].address,
            free=symbols["kfree"].address,
            heap_start=int(self._info.heap_start),
            heap_end=_field(machine, "kernel_heap_info", KernelHeapInfo, "heap_end"),
            free_pages=_field(machine, "physical_mem_info", PhysicalMemInfo, "free_pages_count"),
            least_free_pages=int(self._pages.free_pages_count),
            records=len(self._op),
            op=_pointer(self._op),
            id=_pointer(self._id),
            size=_pointer(self._size),
            objects=_pointer(self._objects),
            names=len(self._names),
            offsets=_pointer(self._offsets),
        )

    def run(self, check: bool, on_allocation: Callable[[Allocation], None] | None) -> ReplayResult:
        native = self._native
        native.check = check
        if self._call("kernmem_replay_measure"):
            raise MachineError(NO_SHADOW)
        name = int(self._names[native.bad_id]) if native.records else 0
        if native.overlapping:
            raise OverlappingBuffer(name, native.overlapping)
        if native.bad_address:
            raise CorruptBuffer(name, native.bad_address, native.found, native.written)
        if on_allocation is not None:
            self._tell(on_allocation)
        end_gaps = int(self._info.gaps)
        return ReplayResult(
            calls=native.calls,
            failed=native.failed,
            peak_live_bytes=native.peak_live_bytes,
            peak_heap_bytes=native.peak_heap_bytes,
            peak_pages=int(self._pages.page_quantity) - int(native.least_free_pages),
            end_gaps=end_gaps,
            end_live_bytes=native.live_bytes,
            ns_per_call=round(self._time() / native.calls, 2) if native.calls else None,
        )

    def _tell(self, on_allocation: Callable[[Allocation], None]) -> None:
        allocating = np.flatnonzero(self._op != Op.FREE)
        names = self._names[self._id[allocating]].tolist()
        for name, offset in zip(names, self._offsets[allocating].tolist(), strict=True):
            on_allocation(Allocation(name, None if offset < 0 else offset))

    def _time(self) -> int:
        """Nanoseconds of a replay over the pages that the heap has taken already."""
        state = self._machine.snapshot()
        least = None
        for _ in range(REPEATS):
            self._machine.call("init_kernel_heap")
            self._objects.fill(0)
            self._call("kernmem_replay_time")
            spent = int(self._native.nanoseconds)
            least = spent if least is None else min(least, spent)
        self._machine.restore(state)
        return least or 0

    def _call(self, name: str) -> int:
        return self._machine.library.call(name, ctypes.addressof(self._native))


def _load(machine: HostMachine) -> ctypes.CDLL:
    """Load the loop, and make its functions ones that the machine can call."""
    library = ctypes.CDLL(str(shared_object({name: (HERE / name).read_text() for name in SOURCES})))
    for name in FUNCTIONS:
        address = ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0
        machine.library.symbols[name] = Symbol(name, address, 0, "function")
    return library


def _field(machine: HostMachine, static: str, struct: type[Struct], name: str) -> int:
    """The address of a field of a registry."""
    fields = layout(struct, machine.hardware.target).fields
    offset = next(field.offset for field in fields if field.name == name)
    return int(machine.static(static)) + offset


def _pointer(array: npt.NDArray[Any]) -> int:
    return int(array.ctypes.data)
