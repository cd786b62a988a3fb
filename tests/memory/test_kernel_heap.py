"""Kernel heap: kmalloc and kfree, rule by rule.  Random runs are in ``test_heap_placement.py``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from flat import PAGE, SEGMENT, Layout, flat
from machines import booted as booted_machine
from machines import elements, gaps_in_tree, state, take_all_pages

from kernmem.language import KernelPanic, layout
from kernmem.machine.port import Machine
from kernmem.memory.architecture import Region
from kernmem.memory.gap import Gap, Superbuffer, Void
from kernmem.memory.profile import Placement, Profile, aligned, spec

VOID = spec(no_void=False)
START = SEGMENT.start


def ready(
    profile: Profile | None = None,
    pages: int = 64,
    *,
    pointer_bytes: int = 8,
    limit: int | None = None,
    counting: bool = False,
) -> Machine:
    """A flat machine, booted."""
    where = Layout(segment=Region(START, limit)) if limit else None
    machine = flat(pages, profile, pointer_bytes=pointer_bytes, layout=where, counting=counting)
    machine.init_memory()
    return machine


def everything(machine: Machine) -> tuple[Any, ...]:
    """All registries, tables, free pages, and every byte of the segment."""
    start = int(machine.kernel_segment_info.segment_start)
    length = int(machine.kernel_segment_info.segment_end) - start
    return state(machine), machine.read_virtual(start, length) if length else b""


def kinds(machine: Machine) -> str:
    """The kinds of the elements in order, e.g. ``"SGS"``."""
    return "".join(kind for _, _, kind in elements(machine))


def taken(machine: Machine, *lengths: int) -> list[int]:
    """A buffer of each length."""
    return [int(machine.kmalloc(length)) for length in lengths]


# The layout, to the byte ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pointer_bytes", "gap", "superbuffer"), [(8, 60, 16), (4, 32, 8)], ids=["64-bit", "32-bit"]
)
def test_records_have_the_sizes_of_the_specification(
    pointer_bytes: int, gap: int, superbuffer: int
) -> None:
    machine = ready(pointer_bytes=pointer_bytes)
    target = machine.hardware.target
    assert layout(Gap, target).size == gap
    assert layout(Superbuffer, target).size == superbuffer
    assert layout(Void, target).size == 1
    offsets = {field.name: field.offset for field in layout(Gap, target).fields}
    assert list(offsets.values())[:8] == [pointer_bytes * n for n in range(8)]
    assert (offsets["reach"], offsets["balances"], offsets["magic"]) == (gap - 4, gap - 2, gap - 1)


@pytest.mark.parametrize(("pointer_bytes", "gap", "header"), [(8, 60, 16), (4, 32, 8)])
def test_no_void_superbuffers_are_multiples_of_the_gap(
    pointer_bytes: int, gap: int, header: int
) -> None:
    """The specification's NO_VOID; the first lies at the start of the segment."""
    machine = ready(pointer_bytes=pointer_bytes)
    lengths = [1, gap - header, gap - header + 1, 2 * gap - header, 3 * gap]
    buffers = taken(machine, *lengths)
    assert [buffer - START for buffer in buffers] == [
        header + gap * before for before in (0, 1, 2, 4, 6)
    ]
    found = [end - start for start, end, kind in elements(machine) if kind == "S"]
    assert found == [gap, gap, 2 * gap, 2 * gap, 4 * gap]


def test_a_superbuffer_says_where_it_ends(booted: Machine) -> None:
    """Its header: the magic number, and the end; the first byte is above every void's length."""
    buffer = int(booted.kmalloc(100))
    start = int(booted.kernel_heap_info.heap_start)
    assert buffer == start + 16
    assert booted.load(start) == 0x4655_4252_4550_55B5
    assert booted.load(start + 8) == start + 120
    assert booted.load(start, 1) > 60


# What a call gives ------------------------------------------------------------------------------


def test_kmalloc_0_gives_none_and_changes_nothing(booted: Machine) -> None:
    booted.kmalloc(10)
    before = everything(booted)
    assert booted.kmalloc(0) is None
    assert everything(booted) == before
    assert booted.kernel_heap_info.failed_calls == 0


def test_kfree_none_does_nothing(booted: Machine) -> None:
    booted.kmalloc(10)
    before = everything(booted)
    booted.kfree(None)
    assert everything(booted) == before


def test_a_length_that_cannot_be_met_gives_none_and_changes_nothing(booted: Machine) -> None:
    """Up to the largest that the type holds; only the count of failed calls goes up."""
    booted.kmalloc(10)
    info = booted.kernel_segment_info
    room = int(info.segment_limit - info.segment_start)
    before = everything(booted)
    lengths = [room, room + 1, 2**40, 2**63, *(2**64 - less for less in (1, 2, 16, 17, 60, 77))]
    for count, length in enumerate(lengths, 1):
        assert booted.kmalloc(length) is None
        assert everything(booted) == before
        assert booted.kernel_heap_info.failed_calls == count


def test_huge_lengths_on_32_bits() -> None:
    machine = ready(pointer_bytes=4)
    before = everything(machine)
    for length in (2**31, *(2**32 - less for less in (1, 2, 8, 9, 32, 41, 256))):
        assert machine.kmalloc(length) is None
    assert everything(machine) == before


def test_buffers_are_their_owners_alone(booted: Machine) -> None:
    """Every byte of each can be written; no two overlap; nothing else changes them."""
    lengths = [1, 7, 60, 44, 45, 1000, 5000, 2048, 10_000, 3]
    buffers = taken(booted, *lengths)
    for mark, (buffer, length) in enumerate(zip(buffers, lengths, strict=True), 1):
        booted.write_virtual(buffer, bytes([mark]) * length)
    for mark in range(2, len(lengths), 2):
        booted.kfree(buffers[mark - 1])
    assert booted.validate_kernel_heap()
    for mark in range(1, len(lengths), 2):
        buffer, length = buffers[mark - 1], lengths[mark - 1]
        assert booted.read_virtual(buffer, length) == bytes([mark]) * length


@pytest.mark.parametrize("pointer_bytes", [8, 4])
def test_buffers_of_the_aligned_profile_are_aligned_to_16(pointer_bytes: int) -> None:
    """Also where a header is 8 bytes long."""
    machine = ready(aligned(), pointer_bytes=pointer_bytes)
    buffers = taken(machine, *range(1, 90, 3))
    assert all(buffer % 16 == 0 for buffer in buffers)
    for buffer in buffers[::2]:
        machine.kfree(buffer)
    assert all(int(machine.kmalloc(length)) % 16 == 0 for length in range(1, 90, 7))
    assert machine.validate_kernel_heap()


@pytest.mark.parametrize("profile", [spec(), aligned()], ids=["spec", "aligned"])
def test_the_alignment_of_the_profile_holds(profile: Profile) -> None:
    machine = ready(profile)
    buffers = taken(machine, *range(1, 200, 7))
    assert all(buffer % profile.alignment == 0 for buffer in buffers)


# Placement --------------------------------------------------------------------------------------


def holes(placement: Placement) -> tuple[Machine, list[int]]:
    """A heap with gaps of 3, 2, 5, 2 and 4 grains in order, and one of 30 at the end."""
    machine = ready(spec(placement))
    lengths = [60 * grains - 16 for grains in (3, 1, 2, 1, 5, 1, 2, 1, 4, 1, 30)]
    buffers = taken(machine, *lengths)
    for buffer in buffers[::2]:
        machine.kfree(buffer)
    return machine, buffers[::2]


@pytest.mark.parametrize(
    ("placement", "grains", "hole"),
    [
        (Placement.BEST, 2, 1),  # the shortest that fits, the lowest of two
        (Placement.BEST, 1, 1),
        (Placement.BEST, 3, 0),
        (Placement.BEST, 4, 4),
        (Placement.BEST, 6, 5),
        (Placement.FIRST, 1, 0),  # the lowest that fits
        (Placement.FIRST, 4, 2),
        (Placement.FIRST, 6, 5),
        (Placement.LARGEST, 1, 5),  # the longest of all
        (Placement.LARGEST, 30, 5),
    ],
)
def test_a_buffer_is_placed_by_the_placement(placement: Placement, grains: int, hole: int) -> None:
    machine, gaps = holes(placement)
    assert machine.kmalloc(60 * grains - 16) == gaps[hole]


def test_the_lowest_of_the_longest() -> None:
    """Largest placement, two gaps of the same length."""
    machine = ready(spec(Placement.LARGEST), limit=START + 4 * PAGE)
    low, _, high, _ = taken(machine, 300, 1, 300, 1)
    machine.kfree(high)
    machine.kfree(low)
    assert machine.kmalloc(1) == low
    assert machine.kmalloc(1) == high


def test_the_rest_of_a_gap_stays_a_gap(booted: Machine) -> None:
    buffer = int(booted.kmalloc(1000))
    booted.kmalloc(1)
    booted.kfree(buffer)
    assert booted.kmalloc(500) == buffer
    assert kinds(booted) == "SGSG"
    assert booted.validate_kernel_heap()


# Merging ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("freed", "last", "expected"),
    [
        ([], 1, "SGSSS"),
        ([0], 1, "GSSS"),
        ([2], 1, "SGSS"),
        ([0, 2], 1, "GSS"),
        ([0, 1, 2], 3, "GS"),
        ([3], 2, "SSGS"),
        ([3, 2, 0], 1, "GS"),
    ],
)
def test_a_free_merges_at_once_with_its_neighbours(
    booted: Machine, freed: list[int], last: int, expected: str
) -> None:
    """Four buffers, and one behind: none is free already, the one before, the one after, both."""
    buffers = taken(booted, 100, 100, 100, 100, 44)
    for number in freed:
        booted.kfree(buffers[number])
    booted.kfree(buffers[last])
    assert kinds(booted)[: len(expected)] == expected
    assert booted.validate_kernel_heap(), booted.console


def test_a_merged_gap_is_found_by_its_new_length(booted: Machine) -> None:
    """The known trap: the length tree is re-keyed."""
    buffers = taken(booted, *[44] * 6)
    for number in (1, 3, 2):
        booted.kfree(buffers[number])
    assert booted.kmalloc(3 * 60 - 16) == buffers[1]
    assert booted.validate_kernel_heap()


def test_voids_come_and_go() -> None:
    """A free space under 60 bytes is a void; the free that puts gaps around it takes it in."""
    machine = ready(VOID)
    a, b, c = taken(machine, 84, 4, 84)  # superbuffers of 100, 20 and 100 bytes, then a void of 36
    assert kinds(machine) == "SSSV"
    machine.kfree(b)
    assert kinds(machine) == "SVSV"
    info = machine.kernel_heap_info
    assert (info.voids, info.void_bytes) == (2, 56)
    machine.kfree(a)  # takes in the void behind it
    assert kinds(machine) == "GSV"
    machine.kfree(c)
    assert kinds(machine) == "G"
    assert (info.voids, info.void_bytes, info.gap_bytes) == (0, 0, PAGE)


def test_a_void_between_two_gaps_joins_them() -> None:
    """As the specification says; the gap before it was there first."""
    machine = ready(VOID)
    a, b, c, _ = taken(machine, 84, 4, 4, 44)
    machine.kfree(b)  # a void: live buffers on both sides
    machine.kfree(a)  # a gap, with the void
    machine.kfree(c)
    assert kinds(machine).startswith("GS")
    assert machine.validate_kernel_heap()


def test_a_void_has_room_for_its_length_alone() -> None:
    """One byte too many in a gap makes a void of one byte."""
    machine = ready(VOID)
    assert machine.kmalloc(PAGE - 16 - 1) is not None
    assert list(elements(machine)) == [
        (START, START + PAGE - 1, "S"),
        (START + PAGE - 1, START + PAGE, "V"),
    ]
    assert machine.load(START + PAGE - 1, 1) == 1


def test_many_voids_in_a_row_are_merged_in_bounded_time() -> None:
    """A free looks at 16 voids; those behind them are taken in by a later one."""
    machine = ready(VOID)
    machine.kfree(machine.kmalloc(6 * PAGE - 16))
    first = int(machine.kmalloc(100))
    small = taken(machine, *[1] * 40)
    taken(machine, 100)
    for buffer in small:
        machine.kfree(buffer)
    assert kinds(machine)[:41] == "S" + "V" * 40
    machine.kfree(first)
    assert kinds(machine)[:25] == "G" + "V" * 24
    assert machine.validate_kernel_heap()


# Growth -----------------------------------------------------------------------------------------


def test_growth_merges_with_the_last_gap() -> None:
    """It takes only the pages that the last gap is short of."""
    machine = ready()
    machine.kmalloc(100)
    assert machine.kernel_segment_info.segment_end == START + PAGE
    assert machine.kmalloc(3 * PAGE - 48 - 120 - 16) == START + 120 + 16
    assert machine.kernel_segment_info.segment_end == START + 3 * PAGE


def test_the_end_of_the_heap_is_a_whole_grain() -> None:
    """What the segment has beyond is less than a grain, and used when it grows."""
    machine = ready()
    info = machine.kernel_heap_info
    for _ in range(60):
        machine.kmalloc(100)
        assert (info.heap_end - info.heap_start) % 60 == 0
        assert machine.kernel_segment_info.segment_end - info.heap_end < 60
    assert info.gap_bytes < PAGE + 60


def test_the_heap_begins_over_the_pages_that_the_segment_has() -> None:
    """As the self-test leaves it."""
    machine = ready()
    for _ in range(3):
        machine.extend_kernel_segment()
    machine.init_kernel_heap()
    assert machine.kernel_heap_info.gap_bytes == 3 * PAGE // 60 * 60
    assert machine.validate_kernel_heap()


def test_pages_that_the_kernel_added_are_taken_in_at_the_next_growth() -> None:
    machine = ready()
    machine.kmalloc(100)
    for _ in range(3):
        machine.extend_kernel_segment()
    assert machine.kmalloc(4 * PAGE) is not None
    assert machine.validate_kernel_heap(), machine.console


GROWTH = 5 * PAGE


@pytest.mark.parametrize("profile", [spec(), VOID, aligned()], ids=["spec", "void", "aligned"])
@pytest.mark.parametrize("live", [0, 1, 5], ids=["empty", "one", "five"])
def test_growth_out_of_memory_at_every_page(profile: Profile, live: int) -> None:
    """With n pages of those that it takes, kmalloc gives None and all bytes are as before."""
    failures = 0
    for pages in range(12):
        machine = ready(profile)
        taken(machine, *[100] * live)
        machine.enter_linear_space()
        take_all_pages(machine, leave=pages)
        machine.leave_linear_space()
        before = everything(machine)
        if machine.kmalloc(GROWTH) is not None:
            break
        failures += 1
        assert everything(machine) == before
        assert machine.kernel_heap_info.failed_calls == failures or failures == pages + 1
    assert 5 <= failures <= 8
    assert machine.validate_kernel_heap()


def test_growth_stops_at_the_limit_of_the_segment() -> None:
    machine = ready(limit=START + 5 * PAGE)
    assert machine.kmalloc(3 * PAGE) is not None
    before = everything(machine)
    assert machine.kmalloc(3 * PAGE) is None
    assert everything(machine) == before
    assert machine.kmalloc(PAGE) is not None


def test_the_last_byte_can_be_had() -> None:
    """All of a limited segment in one buffer, and not one byte more."""
    machine = ready(VOID, limit=START + 4 * PAGE)
    assert machine.kmalloc(4 * PAGE - 15) is None
    buffer = machine.kmalloc(4 * PAGE - 16)
    assert buffer == START + 16
    assert machine.kmalloc(1) is None
    machine.kfree(buffer)
    assert machine.kmalloc(4 * PAGE - 16) == buffer


# Counters ---------------------------------------------------------------------------------------


def test_counters(booted: Machine) -> None:
    info = booted.kernel_heap_info
    a, b, c = taken(booted, 100, 200, 500)
    assert (info.live_buffers, info.live_bytes) == (3, 120 + 240 + 540)
    booted.kfree(b)
    assert (info.live_buffers, info.live_bytes, info.gaps) == (2, 660, 2)
    assert info.peak_live_bytes == 900
    assert info.heap_end - info.heap_start == info.live_bytes + info.gap_bytes + info.void_bytes
    booted.kfree(a)
    booted.kfree(c)
    assert (info.live_buffers, info.live_bytes, info.gaps) == (0, 0, 1)
    assert info.peak_live_bytes == 900
    assert booted.kernel_heap_largest_gap() == info.gap_bytes == info.heap_end - info.heap_start


def test_largest_gap_of_an_empty_heap(booted: Machine) -> None:
    assert booted.kernel_heap_largest_gap() == 0


# Bad frees --------------------------------------------------------------------------------------


def refused(machine: Machine, address: int, message: str) -> None:
    """kfree panics with exactly this message, and changes nothing."""
    before = everything(machine)
    with pytest.raises(KernelPanic) as caught:
        machine.kfree(address)
    assert caught.value.message == f"kfree: {address:#x} {message}"
    assert everything(machine) == before


def test_free_of_what_was_never_in_the_heap(booted: Machine) -> None:
    """Before it, at its end, after it, and in other memory altogether."""
    booted.kmalloc(100)
    info = booted.kernel_heap_info
    start, end = int(info.heap_start), int(info.heap_end)
    for address in (1, 16, start - 1, start - 16, end, end + 16, 2**64 - 1):
        refused(booted, address, f"was never in the heap, {start:#x} to {end:#x}")


def test_free_inside_a_buffer(booted: Machine) -> None:
    """Also where a superbuffer could begin: at a grain."""
    buffer = int(booted.kmalloc(300))
    booted.write_virtual(buffer, b"\xb5" * 300)
    for offset in (1, 8, 16, 60, 120, 300 - 1):
        refused(
            booted, buffer + offset, f"is inside the buffer {buffer:#x} to {buffer - 16 + 360:#x}"
        )


def test_free_of_a_header(booted: Machine) -> None:
    """The first of the heap, and another."""
    for buffer in taken(booted, 100, 100):
        for offset in (16, 8, 1):
            refused(booted, buffer - offset, f"is in the header of the buffer {buffer:#x}")


def test_second_free(booted: Machine) -> None:
    """What was a buffer is now in a gap, merged or not."""
    a, b, c = taken(booted, 100, 100, 100)
    booted.kfree(a)
    refused(booted, a, f"is inside the gap {a - 16:#x} to {a - 16 + 120:#x}")
    booted.kfree(c)
    booted.kfree(b)
    end = int(booted.kernel_heap_info.heap_end)
    for buffer in (a, b, c):
        refused(booted, buffer, f"is inside the gap {a - 16:#x} to {end:#x}")


def test_free_inside_a_gap(booted: Machine) -> None:
    buffer, _ = taken(booted, 300, 100)
    booted.kfree(buffer)
    start = buffer - 16
    for address in (start, start + 1, start + 60 + 16, start + 359):
        refused(booted, address, f"is inside the gap {start:#x} to {start + 360:#x}")


def test_free_inside_a_void() -> None:
    """The void it is in, not those beside it, and not the gap behind it."""
    machine = ready(VOID)
    a, b, c, _ = taken(machine, 1, 1, 84, 138)
    machine.kfree(a)
    machine.kfree(b)
    machine.kfree(c)
    # The gap's first byte is that of a pointer to the gap behind, and looks like a void's length.
    assert kinds(machine) == "VVGSG"
    assert machine.load(START + 34, 1) == 0x20
    refused(machine, START + 16, f"is inside the void {START:#x} to {START + 17:#x}")
    for offset in (17, 18, 33):
        address = START + offset
        refused(machine, address, f"is inside the void {START + 17:#x} to {START + 34:#x}")


def test_second_free_of_what_became_a_void() -> None:
    machine = ready(VOID)
    _, buffer, _ = taken(machine, 100, 1, 100)
    machine.kfree(buffer)
    refused(machine, buffer, f"is inside the void {buffer - 16:#x} to {buffer + 1:#x}")


def test_free_after_an_overrun(booted: Machine) -> None:
    """The header before the buffer is overwritten: its address is named."""
    a, b, c = taken(booted, 44, 44, 44)
    booted.write_virtual(a, b"\xee" * 50)
    refused(booted, b, f"lies after a damaged superbuffer header at {b - 16:#x}")
    refused(booted, c + 1, f"lies after a damaged superbuffer header at {b - 16:#x}")


@pytest.mark.parametrize("end", [0, -1, 0x10, 0x1000_0000])
def test_free_of_a_buffer_whose_end_is_damaged(booted: Machine, end: int) -> None:
    """The magic number is right, but the end is before the buffer or past the heap."""
    buffer = int(booted.kmalloc(100))
    heap_end = int(booted.kernel_heap_info.heap_end)
    wrong = {0: 0, -1: 2**64 - 1, 0x10: buffer, 0x1000_0000: heap_end + 4}[end]
    booted.store(buffer - 8, wrong)
    refused(booted, buffer, f"lies after a damaged superbuffer header at {buffer - 16:#x}")


# Cost -------------------------------------------------------------------------------------------


def comb(gaps: int, profile: Profile) -> tuple[Machine, list[int]]:
    """A heap with ``gaps`` gaps of many lengths, and buffers between them; counts accesses."""
    pages, most = (gaps * 3 + 64, 480) if gaps <= 1000 else (gaps * 5 // 4 + 64, 100)
    machine = flat(
        pages,
        profile,
        layout=Layout(linear_end=START, segment=Region(START, START + 0x40_0000)),
        counting=True,
    )
    machine.init_memory()
    buffers = taken(machine, *[30 + 37 * n % most for n in range(2 * gaps)])
    for buffer in buffers[1:-1:2]:
        machine.kfree(buffer)
    return machine, buffers[::2]


def depth(machine: Machine, tree: str, side: str) -> int:
    """The levels of a tree."""
    level, deepest = [getattr(machine, f"kernel_heap_{tree}_tree").root], 0
    while level := [gap for gap in level if gap is not None]:
        deepest += 1
        level = [getattr(gap, f"{side}_{child}") for gap in level for child in ("left", "right")]
    return deepest


def accesses(machine: Machine, call: Callable[[], Any]) -> int:
    """Loads and stores of one call."""
    mmu: Any = machine.memory.mmu  # type: ignore[attr-defined]
    before = mmu.accesses
    call()
    return int(mmu.accesses - before)


def worst(machine: Machine, buffers: list[int]) -> tuple[int, int]:
    """The most accesses of kmalloc and of kfree, over some that need no page."""
    machine.kfree(machine.kmalloc(20_000))
    pages = machine.physical_mem_info.free_pages_count
    most_kmalloc = most_kfree = 0
    for number, length in enumerate(range(20, 500, 12)):
        taken_now: list[Any] = []
        cost = accesses(machine, lambda n=length, t=taken_now: t.append(machine.kmalloc(n)))
        most_kmalloc = max(most_kmalloc, cost)
        most_kfree = max(most_kfree, accesses(machine, lambda t=taken_now: machine.kfree(t[0])))
        # A free between two gaps, the costliest: one is taken out of both trees.
        buffer = buffers[1 + (number * 7) % (len(buffers) - 2)]
        if machine.load(buffer - 16) == 0x4655_4252_4550_55B5:
            most_kfree = max(most_kfree, accesses(machine, lambda b=buffer: machine.kfree(b)))
    assert machine.physical_mem_info.free_pages_count == pages
    return most_kmalloc, most_kfree


def check_cost(counts: tuple[int, ...], placement: Placement) -> None:
    """Both trees are balanced, and no call costs more than its share of log2(gaps)."""
    for count in counts:
        machine, buffers = comb(count, spec(placement))
        assert len(gaps_in_tree(machine)) >= count - 1
        bound = 1.44 * math.log2(machine.kernel_heap_info.gaps + 2)
        assert depth(machine, "length", "length") <= bound
        assert depth(machine, "addr", "addr") <= bound
        most_kmalloc, most_kfree = worst(machine, buffers)
        # Loads and stores for each level of the trees, and a fixed number besides.
        assert most_kmalloc <= 60 + 25 * bound, (count, most_kmalloc)
        assert most_kfree <= 120 + 45 * bound, (count, most_kfree)


@pytest.mark.parametrize("placement", Placement)
def test_the_cost_of_a_call_grows_like_a_logarithm(placement: Placement) -> None:
    """10, 100 and 1,000 gaps: loads and stores of the worst call."""
    check_cost((10, 100, 1000), placement)


@pytest.mark.slow
def test_the_cost_of_a_call_with_10_000_gaps() -> None:
    check_cost((10_000,), Placement.BEST)


# Whole runs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model"])
def test_a_heap_given_back_whole_is_one_gap(name: str) -> None:
    """In any order of frees."""
    for step in (1, 3, 7, 11):
        machine = booted_machine(name)
        buffers = taken(machine, *[1 + 53 * n % 700 for n in range(100)])
        for number in range(100):
            machine.kfree(buffers[number * step % 100])
        assert kinds(machine) == "G"
        assert machine.validate_kernel_heap()
