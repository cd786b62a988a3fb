"""Bad frees of the tuned heap: none is taken for a good one, and each is called what it is."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Iterator

import pytest
from granule_heap import Bench, bench_on, in_run, marks, run_of
from hypothesis import given, settings
from hypothesis import strategies as st

from kernmem.language import KernelPanic
from kernmem.machine.port import Machine


@pytest.fixture(scope="module", params=["flat", "host"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Both in turn."""
    with bench_on(request.param) as found:
        yield found


def everything(machine: Machine) -> tuple[object, ...]:
    """The arena with its shadow, and what the heap says of itself but for its statistics."""
    info, arena = machine.kernel_heap_info, machine.arena_info
    start = int(arena.segment_start)
    counters = (info.live_buffers, info.live_bytes, info.gaps, info.gap_bytes, info.overhead_bytes)
    return counters, machine.read_virtual(start, int(arena.shadow_end) - start)


def refused(machine: Machine, address: int, message: str) -> None:
    """kfree panics with exactly this message, and changes nothing."""
    before = everything(machine)
    with pytest.raises(KernelPanic) as caught:
        machine.kfree(address)
    assert caught.value.message == f"kfree: {address:#x} {message}"
    assert everything(machine) == before


def slots(machine: Machine, length: int, count: int = 300) -> list[int]:
    """The addresses of slots of ``length`` bytes, in order, of the run with the most of them."""
    runs: dict[int, list[int]] = {}
    for _ in range(count):
        address = int(machine.kmalloc(length))
        if in_run(machine, address):
            runs.setdefault(run_of(machine, address), []).append(address)
    return sorted(max(runs.values(), key=len))


# Each kind of bad free --------------------------------------------------------------------------


def test_nothing_is_freed_for_none(bench: Bench) -> None:
    machine = bench.begin()
    machine.kmalloc(100)
    before = everything(machine)
    machine.kfree(None)
    assert everything(machine) == before


def test_an_address_outside_the_heap(bench: Bench) -> None:
    machine = bench.begin()
    machine.kmalloc(100)
    info = machine.kernel_heap_info
    start, end = int(info.heap_start), int(info.heap_end)
    for address in (1, 8, start - 8, start - 1, end, end + 8, 2**63, 2**64 - 8):
        refused(machine, address, f"was never in the heap, {start:#x} to {end:#x}")


def test_the_gap_at_the_end(bench: Bench) -> None:
    machine = bench.begin()
    top = int(machine.kmalloc(100)) + 104
    end = int(machine.kernel_heap_info.heap_end)
    for address in (top, top + 1, top + 8, top + 1000, end - 8, end - 1):
        refused(machine, address, f"is inside the gap {top:#x} to {end:#x}")


@pytest.mark.parametrize(
    "length", [16, 24, 104, 512, 1016, 1024, 1032, 1600, 9000, 65_544, 400_000]
)
def test_the_inside_of_a_buffer(bench: Bench, length: int) -> None:
    """Wherever it begins in a word of the map, and whatever it holds."""
    for lead in (0, 16, 400, 504):
        machine = bench.begin()
        if lead:
            machine.kmalloc(lead)
        buffer = int(machine.kmalloc(length))
        machine.kmalloc(100)
        inside = {1, 4, 8, 12, length // 2, length // 2 & -8, length - 16, length - 8, length - 1}
        inside |= {at for at in (64, 504, 512, 520, 1016, 1024) if at < length}
        for content in (b"\0", b"\xff", b"\xe0\1\0\0\0\0\0\0"):
            machine.write_virtual(buffer, (content * length)[:length])
            for offset in inside - {0}:
                end = f"{buffer + length:#x}"
                refused(machine, buffer + offset, f"is inside the buffer {buffer:#x} to {end}")
        machine.kfree(buffer)


@pytest.mark.parametrize("length", [16, 104, 504, 1600, 40_000])
def test_a_gap(bench: Bench, length: int) -> None:
    """Freed buffers are not kept while the heap is small."""
    machine = bench.begin()
    before, buffer, _ = (int(machine.kmalloc(each)) for each in (length, length, 24))
    machine.kfree(buffer)
    for offset in {0, 1, 8, length - 8, length - 1}:
        refused(machine, buffer + offset, f"is inside the gap {buffer:#x} to {buffer + length:#x}")
    machine.kfree(before)
    for address in (before, buffer, buffer + 8):
        refused(machine, address, f"is inside the gap {before:#x} to {buffer + length:#x}")


@pytest.mark.parametrize("length", [16, 104, 504, 1600, 8192])
def test_a_buffer_that_is_kept(bench: Bench, length: int) -> None:
    """As many bytes as a small part of the heap are kept for the next call of their length."""
    machine = bench.begin()
    machine.kmalloc(600_000)
    buffer = int(machine.kmalloc(length))
    machine.kmalloc(24)
    end = f"{buffer + length:#x}"
    gaps = int(machine.kernel_heap_info.gaps)
    machine.kfree(buffer)
    assert machine.kernel_heap_info.gaps == gaps, "it was not kept"
    refused(machine, buffer, f"is free already, the buffer up to {end}")
    for offset in (1, 8, length - 8, length - 1):
        refused(machine, buffer + offset, f"is inside the free buffer {buffer:#x} to {end}")
    assert machine.kmalloc(length) == buffer
    refused(machine, buffer + 8, f"is inside the buffer {buffer:#x} to {end}")


@pytest.mark.parametrize("length", [16, 24, 40, 48, 64, 96, 128, 200, 256, 512])
def test_a_run_of_slots(bench: Bench, length: int) -> None:
    """Its header, slots in use and free ones; also farther back than one byte of the map says."""
    machine = bench.begin()
    machine.kmalloc(300_000)
    every = slots(machine, length)
    run = run_of(machine, every[0])
    for address in (run, run + 1, run + 8, every[0] - 8, every[0] - 1):
        refused(machine, address, f"is in the header of the run {run:#x} to {every[0]:#x}")
    for address in (every[0], every[len(every) // 2], every[-1]):
        end = f"{address + length:#x}"
        inside = f"{address:#x} to {end}"
        refused(machine, address + 1, f"is inside the buffer {inside}")
        refused(machine, address + 8, f"is inside the buffer {inside}")
        refused(machine, address + length - 1, f"is inside the buffer {inside}")
        machine.kfree(address)
        refused(machine, address, f"is free already, the buffer up to {end}")
        refused(machine, address + length - 8, f"is inside the free buffer {inside}")


def test_a_run_of_more_than_two_kib(bench: Bench) -> None:
    """There the map must be followed back in steps."""
    machine = bench.begin()
    machine.kmalloc(300_000)
    every = slots(machine, 96)
    assert every[-1] - run_of(machine, every[0]) > 2 * 31 * 64
    machine.kfree(every[-1])
    refused(machine, every[-1], f"is free already, the buffer up to {every[-1] + 96:#x}")


# Damage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("granules", [0, 2**30])
def test_a_gap_whose_length_was_overwritten(bench: Bench, granules: int) -> None:
    """Then what lies behind it cannot be told."""
    machine = bench.begin()
    gap, behind, _ = (int(machine.kmalloc(100)) for _ in range(3))
    machine.kfree(gap)
    machine.store(gap, granules, 4)
    with pytest.raises(KernelPanic) as caught:
        machine.kfree(behind + 8)
    end = gap + 8 * granules
    expected = f"kfree: the element at {gap:#x} is damaged: it would end at {end:#x}"
    assert caught.value.message == expected


# Exactness --------------------------------------------------------------------------------------

LENGTHS = st.one_of(
    st.integers(1, 64),
    st.integers(1, 1100),
    st.integers(1000, 9000),
    st.sampled_from([16, 24, 48, 64, 504, 512, 520, 1016, 1024, 1032]),
)


def forged(random_: random.Random, length: int) -> bytes:
    """What a buffer may hold: lengths at every place where a gap has them, and parts of the map."""
    most = random_.choice([2, 4, 70, 2000])
    words = (
        random_.choice([0, 1, random_.randrange(most), 0xFFFFFFFF, 0xE0E0E0E0, 0x38000000])
        for _ in range(length // 4 + 1)
    )
    return b"".join(word.to_bytes(4, "little") for word in words)[:length]


def lead_back(machine: Machine, live: dict[int, int]) -> None:
    """Let every granule of the buffers seem to be the end of a gap, which begins at a mark."""
    marked = marks(machine)
    inside = {at for buffer, length in live.items() for at in range(buffer, buffer + length - 7, 8)}
    for place in sorted(inside):
        for mark in marked[max(0, bisect_left(marked, place) - 2) : bisect_left(marked, place)]:
            granules = (place + 8 - mark) // 8
            machine.store(place + 4, granules, 4)
            if mark in inside:
                machine.store(mark, granules, 4)


def check_every_address(machine: Machine, live: dict[int, int]) -> None:
    """Of all addresses, kfree takes those of live buffers only; the middle of one is none."""
    start, end = min(live), int(machine.arena_info.shadow_end)
    assert {at for at in range(start, end, 8) if machine.is_buffer(at)} == set(live)
    assert not any(machine.is_buffer(at + odd) for at in live for odd in (1, 2, 4, 7))
    before = machine.kernel_heap_info.live_buffers
    for address in range(start, end, 8):
        if address not in live:
            with pytest.raises(KernelPanic):
                machine.kfree(address)
    assert machine.kernel_heap_info.live_buffers == before
    assert machine.validate_kernel_heap(), machine.console


def random_heap(
    bench: Bench, length: int, calls: list[tuple[int, int]], seed: int
) -> dict[int, int]:
    """The live buffers, with their lengths, after buffers were taken, filled and given back.

    They are in the last ``length`` bytes of an arena that is large enough for many to be kept.
    """
    machine = bench.begin(300_000 + length)
    for _ in range(5):
        machine.kmalloc(60_000)
    random_ = random.Random(seed)
    live: dict[int, int] = {}
    for length, count in calls:
        for _ in range(count):
            buffer = machine.kmalloc(length)
            if buffer is not None:
                live[int(buffer)] = length
                machine.write_virtual(buffer, forged(random_, length))
        for address in random_.sample(sorted(live), len(live) // 3):
            del live[address]
            machine.kfree(address)
    return live


@pytest.mark.parametrize("bench", ["host"], indirect=True)
@settings(max_examples=12, deadline=None)
@given(
    calls=st.lists(st.tuples(LENGTHS, st.sampled_from([1, 2, 5, 40])), min_size=1, max_size=20),
    seed=st.integers(0, 1000),
)
def test_only_live_buffers_are_taken(bench: Bench, calls: list[tuple[int, int]], seed: int) -> None:
    live = random_heap(bench, 20_000, calls, seed)
    check_every_address(bench.machine, live)
    lead_back(bench.machine, live)
    check_every_address(bench.machine, live)


def test_only_live_buffers_are_taken_from_one_heap(bench: Bench) -> None:
    """The same of a heap with all that there can be."""
    calls = [(24, 80), (64, 40), (700, 2), (520, 3), (1200, 1)]
    live = random_heap(bench, 1000, calls, seed=1)
    assert any(in_run(bench.machine, address) for address in live)
    lead_back(bench.machine, live)
    check_every_address(bench.machine, live)
