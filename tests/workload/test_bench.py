"""The bench: what it measures of an allocator is right, and a bad allocator is found out."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kernmem.memory.profile import Checks, Placement, aligned, spec, tuned
from kernmem.workload.allocators import (
    Allocator,
    NoSuchAllocator,
    installed,
    kernel_allocator,
    plugin,
)
from kernmem.workload.bench import Bench, BenchError
from kernmem.workload.result import CorruptBuffer, OverlappingBuffer
from kernmem.workload.trace import Trace, TraceBuilder, read_trace

from .plugins import bump, compiled
from .traces import ARM64

KERNEL = {
    "tuned": tuned(),
    "tuned-unchecked": replace(tuned(), checks=Checks.NONE),
    "tuned-guarded": replace(tuned(), checks=Checks.FULL),
    "aligned-best": aligned(),
    "aligned-first": aligned(Placement.FIRST),
    "aligned-largest": aligned(Placement.LARGEST),
    "spec-best": spec(),
    "spec-best-void": spec(no_void=False),
    "spec-best-guarded": replace(spec(), checks=Checks.FULL),
}
MallocNames = tuple(each.name for each in installed())


def trace_of(*sizes: int) -> Trace:
    """Buffers of these sizes, of which every second one is freed, and one of 0 bytes."""
    builder = TraceBuilder()
    names = [builder.allocate(size) for size in sizes]
    for name in names[::2]:
        builder.free(name)
    builder.allocate(0)
    return builder.build("made", "")


@pytest.fixture
def small() -> Iterator[Bench]:
    with Bench(trace_of(100, 200, 300, 33)) as bench:
        yield bench


def test_the_smallest_arena_is_exact(small: Bench) -> None:
    found = small.fit(bump())
    # 100, 200, 300, 33 and 1 bytes, in units of 16, of which none is used again.
    assert found.arena_bytes == 112 + 208 + 304 + 48 + 16
    assert found.largest_buffer == 0


def test_an_arena_is_no_smaller_than_what_is_live() -> None:
    with Bench(trace_of(16, 16, 16, 1600)) as bench:
        assert bench.fit(bump()).arena_bytes == 3 * 16 + 1600 + 16


def test_the_largest_buffer_that_is_left() -> None:
    """A heap that merges has one gap in the end, less a header and what is live."""
    with Bench(trace_of(*[1_000] * 20, 16)) as bench:
        found = bench.fit(kernel_allocator(aligned()))
        # Ten buffers of 1008 + 16 bytes were freed, alone; the last of 1 byte took part of one.
        assert found.largest_buffer == 1_008


def test_buffers_are_where_the_allocator_put_them(small: Bench) -> None:
    offsets = small.check(bump(), 4096).tolist()
    assert offsets == [0, 112, 320, 624, -1, -1, 672]


def test_time_of_all_calls_and_of_each(small: Bench) -> None:
    timing = small.time(bump(), 4096)
    assert small.calls == len(timing.each) == 7
    assert timing.nanoseconds > 0


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind")
def test_instructions_are_counted_exactly() -> None:
    """A call of a function that is one instruction longer costs one instruction more."""
    counts = []
    for extra in (0, 5):
        text = "int x; int allocator_init(void *a, unsigned long n) { return 0; }\n"
        text += "void *allocator_allocate(unsigned long n) {"
        text += f'__asm__ volatile(".rept {extra}; nop; .endr"); return (void *)0x200000000000; }}'
        text += "\nvoid allocator_free(void *p, unsigned long n) { }"
        with Bench(trace_of(*[64] * 1_000)) as bench:
            counts.append(bench.instructions(compiled("nops", text), 4096))
            assert bench.calls == 1_501
    assert counts[0] is not None and counts[1] is not None
    assert (counts[1] - counts[0]) * 1_501 == pytest.approx(5 * 1_001)


@pytest.mark.parametrize("name", KERNEL)
def test_every_profile_on_a_recorded_trace(name: str) -> None:
    allocator = kernel_allocator(KERNEL[name])
    assert allocator.name == name
    with Bench(read_trace(ARM64)) as bench:
        arena = bench.fit(allocator).arena_bytes
        assert 1.0 < arena / bench.peak_live_bytes < 4
        bench.check(allocator, arena)
        with pytest.raises(BenchError, match="does not complete in the arena"):
            bench.check(allocator, bench.peak_live_bytes)


@pytest.mark.parametrize("name", MallocNames)
def test_every_malloc_on_a_recorded_trace(name: str) -> None:
    allocator = next(each for each in installed() if each.name == name)
    with Bench(read_trace(ARM64)) as bench:
        bench.check(allocator)
        assert 1.0 < bench.resident_bytes(allocator) / bench.peak_live_bytes < 4
        assert bench.time(allocator).nanoseconds > 0


def test_pages_of_large_buffers_are_counted_whole() -> None:
    builder = TraceBuilder()
    first = builder.allocate(8 << 20)
    builder.free(first)
    builder.allocate(1 << 20)
    with Bench(builder.build("large", "")) as bench:
        found = bench.resident_bytes(Allocator("malloc"))
        assert 8 << 20 <= found < 9 << 20


BAD: dict[str, tuple[Callable[[], Allocator], type[Exception], str]] = {
    "overlaps": (lambda: bump(overlap=16), OverlappingBuffer, "given for id 1, overlaps"),
    "writes": (
        lambda: bump(free="((char *)pointer)[bytes + 12] = 7"),
        CorruptBuffer,
        "the buffer of id 1 was overwritten: 0x07",
    ),
    "crashes": (lambda: bump(free="__builtin_trap()"), BenchError, "bump on made: check: .*SIGILL"),
    "loses": (
        lambda: compiled("none", "int allocator_init(void *a, unsigned long n) { return 0; }"),
        BenchError,
        "it must export allocator_init, allocator_allocate and allocator_free",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_allocator_is_found_out(small: Bench, name: str) -> None:
    make, error, text = BAD[name]
    with pytest.raises(error, match=text):
        small.check(make(), 4096)


def test_an_allocator_that_never_completes(small: Bench) -> None:
    never = compiled(
        "never",
        "int allocator_init(void *a, unsigned long n) { return 1; }\n"
        "void *allocator_allocate(unsigned long n) { return 0; }\n"
        "void allocator_free(void *p, unsigned long n) { }",
    )
    with pytest.raises(BenchError, match="does not complete in an arena of 64 times"):
        small.fit(never)


def test_a_plugin_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NoSuchAllocator, match=r"none\.so: there is no such file"):
        plugin(tmp_path / "none.so")


def test_an_empty_trace() -> None:
    with Bench(TraceBuilder().build("empty", "")) as bench:
        assert bench.calls == 0
        assert bench.check(bump(), 4096).tolist() == []
        assert np.sum(bench.time(bump(), 4096).each) == 0
