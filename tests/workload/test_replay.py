"""Replays: what they measure, on every machine the same."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import kernmem
from kernmem.language import VirtualAddress
from kernmem.machine.native import shared_object
from kernmem.machine.port import Machine
from kernmem.machine.symbols import Symbol
from kernmem.memory.gap import SUPERBUFFER_MAGIC, Buffer
from kernmem.workload.replay import replay
from kernmem.workload.result import Allocation, CorruptBuffer, OverlappingBuffer, ReplayResult
from kernmem.workload.trace import read_trace

from .traces import ALLOCATE, ARM64, FREE, REALLOCATE, X86, save

HEADER = 16
PAGE = 0x1_0000
RAM = 256 << 20
TABLES = 6  # pages of the tables of the linear space and of the kernel's
SEGMENT_TABLE = 1  # and of the segment's first page


@pytest.fixture(params=["model", "host", "unicorn"])
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A machine of each kind, on the lab; where its heap puts buffers can be told in advance."""
    booted = kernmem.boot("lab", request.param, profile="aligned")
    yield booted
    if request.param != "model":
        booted.close()


def untimed(result: ReplayResult) -> ReplayResult:
    """A result without what depends on the computer."""
    return replace(result, ns_per_call=None)


def test_what_is_measured(machine: Machine, tmp_path: Path) -> None:
    events = (
        (ALLOCATE, 0, 100),
        (ALLOCATE, 1, PAGE),  # the heap grows
        (REALLOCATE, 0, 50),
        (FREE, 1, 0),
        (ALLOCATE, 2, 10),
    )
    trace = read_trace(save(tmp_path / "small.npz", *events))
    result = replay(machine, trace)
    assert untimed(result) == ReplayResult(
        calls=6,
        failed=0,
        peak_live_bytes=PAGE + 100,
        peak_heap_bytes=2 * PAGE,
        peak_pages=TABLES + SEGMENT_TABLE + 2,
        end_gaps=1,
        end_live_bytes=60,
    )
    assert (result.ns_per_call is None) == (machine.name != "host")
    assert machine.kernel_heap_info.live_buffers == 2
    assert machine.validate_kernel_heap()


def test_what_the_heap_cannot_give(machine: Machine, tmp_path: Path) -> None:
    events = (
        (ALLOCATE, 0, 8),
        (ALLOCATE, 1, RAM),  # fails
        (FREE, 1, 0),  # is not called
        (REALLOCATE, 0, RAM),  # frees, and fails
        (REALLOCATE, 0, 24),  # only allocates
        (ALLOCATE, 2, 0),
        (FREE, 0, 0),
    )
    trace = read_trace(save(tmp_path / "greedy.npz", *events))
    heard: list[Allocation] = []
    result = replay(machine, trace, on_allocation=heard.append)
    assert untimed(result) == ReplayResult(
        calls=7,
        failed=3,
        peak_live_bytes=24,
        peak_heap_bytes=PAGE,
        peak_pages=TABLES + SEGMENT_TABLE + 1,
        end_gaps=1,
        end_live_bytes=0,
    )
    assert heard == [
        Allocation(0, HEADER),
        Allocation(1, None),
        Allocation(0, None),
        Allocation(0, HEADER),
        Allocation(2, None),
    ]


def test_an_empty_trace(machine: Machine, tmp_path: Path) -> None:
    result = replay(machine, read_trace(save(tmp_path / "empty.npz")))
    assert result == ReplayResult(0, 0, 0, 0, TABLES, 0, 0)


def test_addresses_and_limit(machine: Machine) -> None:
    heard: list[Allocation] = []
    result = replay(machine, read_trace(X86), limit=500, on_allocation=heard.append)
    assert result.calls == 500
    trace = read_trace(X86)
    assert [each.id for each in heard] == trace.id[:500][trace.op[:500] == ALLOCATE].tolist()
    assert heard[0].offset == HEADER
    live = machine.kernel_heap_info.live_buffers
    assert live == 2 * len(heard) - 500
    start = int(machine.kernel_heap_info.heap_start)
    for each in heard:
        assert each.offset is not None
        assert each.offset % 16 == 0
    last = heard[-1].offset
    assert last is not None
    assert machine.load(start + last - HEADER) == SUPERBUFFER_MAGIC


@pytest.mark.parametrize("kind", ["model", "host", "unicorn"])
def test_a_checked_replay_of_a_recorded_trace(kind: str) -> None:
    machine = kernmem.boot("lab", kind)
    result = replay(machine, read_trace(ARM64), limit=3000, check=True)
    assert result.failed == 0
    assert machine.validate_kernel_heap()
    if kind != "model":
        machine.close()


def test_a_checked_replay_finds_what_was_overwritten(tmp_path: Path) -> None:
    machine = kernmem.boot("lab", profile="aligned")
    start = int(machine.kernel_heap_info.heap_start)

    def write_past_the_end(each: Allocation) -> None:
        if each.id == 5:
            machine.store(start + HEADER + 15, 0xEE, 1)

    events = ((ALLOCATE, 4, 16), (ALLOCATE, 5, 8), (FREE, 5, 0), (FREE, 4, 0))
    trace = read_trace(save(tmp_path / "overwritten.npz", *events))
    with pytest.raises(CorruptBuffer) as caught:
        replay(machine, trace, check=True, on_allocation=write_past_the_end)
    assert caught.value.id == 4
    assert str(caught.value).startswith("the buffer of id 4 was overwritten: 0xee at 0x")


def test_a_checked_replay_finds_what_overlaps(tmp_path: Path) -> None:
    events = ((ALLOCATE, 1, 100), (ALLOCATE, 2, 100), (ALLOCATE, 3, 100))
    trace = read_trace(save(tmp_path / "overlapping.npz", *events))
    machine = kernmem.boot("lab")
    start = int(machine.kernel_heap_info.heap_start)
    given = [machine.kmalloc(100), machine.kmalloc(100)]
    again = machine.kernel.at(Buffer, VirtualAddress(start + HEADER + 99))
    buffers = iter([*given, again])
    machine.kmalloc = lambda length: next(buffers)
    with pytest.raises(OverlappingBuffer) as caught:
        replay(machine, trace, check=True)
    assert (caught.value.id, caught.value.address) == (3, start + HEADER + 99)


STUCK = """
#include <stdint.h>
void *stuck_kmalloc(uint64_t length);
void *stuck_kmalloc(uint64_t length) { static uint8_t only[64]; return length ? only : 0; }
"""


def test_the_host_finds_a_buffer_that_was_given_twice(tmp_path: Path) -> None:
    library = ctypes.CDLL(str(shared_object({"stuck.c": STUCK})))
    address = ctypes.cast(library.stuck_kmalloc, ctypes.c_void_p).value or 0
    events = ((ALLOCATE, 40, 8), (ALLOCATE, 50, 8), (FREE, 40, 0))
    trace = read_trace(save(tmp_path / "twice.npz", *events))
    with kernmem.boot("lab", "host") as machine:  # type: ignore[attr-defined]
        machine.library.symbols["kmalloc"] = Symbol("kmalloc", address, 0, "function")
        with pytest.raises(OverlappingBuffer) as caught:
            replay(machine, trace, check=True)
        assert caught.value.id == 50
        assert "given for id 50, overlaps a live one" in str(caught.value)


def test_the_host_measures_time_and_leaves_the_heap_as_it_was() -> None:
    with kernmem.boot("lab", "host") as machine:  # type: ignore[attr-defined]
        result = replay(machine, read_trace(ARM64))
        assert result.ns_per_call is not None
        assert 1 < result.ns_per_call < 10_000
        assert machine.kernel_heap_info.live_buffers == 6601
        assert machine.kernel_heap_info.gaps == result.end_gaps
        assert machine.validate_kernel_heap()


def test_progress_is_told() -> None:
    told: list[int] = []
    replay(kernmem.boot("lab"), read_trace(ARM64), limit=4500, progress=told.append)
    assert told == [0, 2000, 4000]


@pytest.mark.parametrize(
    ("profile", "placement", "no_void"),
    [
        ("tuned", "best", True),
        ("aligned", "best", True),
        ("aligned", "first", True),
        ("spec", "best", True),
        ("spec", "first", False),
    ],
)
def test_model_and_host_place_alike(profile: str, placement: str, no_void: bool) -> None:
    trace = read_trace(ARM64)
    seen = []
    for name in ("model", "host"):
        heard: list[Allocation] = []
        booted = kernmem.boot("lab", name, profile=profile, placement=placement, no_void=no_void)
        result = replay(booted, trace, limit=1500, on_allocation=heard.append)
        seen.append((untimed(result), heard))
        if name == "host":
            booted.close()
    assert seen[0] == seen[1]
