"""The memory map: ranges of RAM and reserved ones, against sets of bytes and of pages."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from flat import DEVICES, PAGE, PROGRAM, Layout, flat
from hypothesis import example, given, settings
from hypothesis import strategies as st
from machines import free_list, heap_pages, regions, state, take_all_pages

from kernmem.language import KernelPanic, u64
from kernmem.machine.model import Model
from kernmem.memory.ranges import MAX_RANGES, NOWHERE, MemoryRanges

Ranges = Sequence[tuple[int, int]]
TOP = (1 << 64) - 1

small = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=8)
"""Ranges of a few bytes: empty, backward, touching and overlapping ones among them."""


def ranges_of(model: Model) -> MemoryRanges:
    """The component that a machine's memory map reports to."""
    found = model.kernel.physical.ranges  # type: ignore[attr-defined]
    assert isinstance(found, MemoryRanges)
    return found


def fill(ranges: MemoryRanges, ram: Ranges, reserved: Ranges) -> None:
    """Say all ranges."""
    ranges.clear()
    for start, end in ram:
        ranges.add_ram(u64(start), u64(end))
    for start, end in reserved:
        ranges.reserve(u64(start), u64(end))


def stretches(ranges: MemoryRanges) -> list[tuple[int, int]]:
    """What is usable, from start to end."""
    found: list[tuple[int, int]] = []
    start = ranges.first(u64(0), True)
    while start != NOWHERE:
        end = ranges.first(start, False)
        found.append((int(start), int(end)))
        start = ranges.first(end, True)
    return found


EMPTY = ranges_of(flat())


@given(ram=small, reserved=small)
@example(ram=[(10, 20), (20, 30), (5, 10)], reserved=[(12, 12), (30, 31), (7, 8)])
@example(ram=[(0, 40)], reserved=[(20, 10)])
@settings(max_examples=500, deadline=None)
def test_usable_is_what_is_ram_and_not_reserved(ram: Ranges, reserved: Ranges) -> None:
    """Byte for byte, in stretches that are as long as can be, ascending."""
    fill(EMPTY, ram, reserved)
    usable = {byte for start, end in ram for byte in range(start, end)}
    for start, end in reserved:
        usable -= set(range(start, end if end >= start else 100))
    found = stretches(EMPTY)
    assert {byte for start, end in found for byte in range(start, end)} == usable
    assert all(start < end for start, end in found)
    assert all(left[1] < right[0] for left, right in pairwise(found))


def test_ranges_reach_the_end_of_all_addresses() -> None:
    """What wraps around is left out if it is RAM, and reserves all above if it is not."""
    fill(EMPTY, [(TOP - 10, TOP), (TOP - 20, 5), (0, 100)], [(50, 20), (TOP - 5, 3)])
    assert stretches(EMPTY) == [(0, 50)]
    assert EMPTY.info.broken_count == 1
    assert EMPTY.ram_end() == TOP


def test_ram_beyond_the_room_for_ranges_is_left_out_and_counted() -> None:
    """Unlike what is reserved: there must be room for all."""
    ram = [(10 * number, 10 * number + 7) for number in range(MAX_RANGES + 3)]
    fill(EMPTY, ram, [])
    assert stretches(EMPTY) == ram[:MAX_RANGES]
    assert (EMPTY.info.refused_count, EMPTY.info.refused_bytes) == (3, 21)
    fill(EMPTY, [], ram[:MAX_RANGES])
    with pytest.raises(KernelPanic, match=f"more than {MAX_RANGES} reserved ranges"):
        EMPTY.reserve(u64(0), u64(1))
    EMPTY.reserve(u64(5), u64(5))


# The heap that becomes of them --------------------------------------------------------------


def machine_with(
    ram: Ranges, reserved: Ranges = (), pointer_bytes: int = 8, layout: Layout | None = None
) -> Model:
    """A machine with such a memory map, besides the window of its program."""
    machine = flat(pointer_bytes=pointer_bytes, layout=layout, ram=ram, reserved=reserved)
    machine.init_physical_memory_manager()
    return machine


def page_ranges() -> st.SearchStrategy[list[tuple[int, int]]]:
    """Ranges of some pages around the program, mostly not whole."""
    edge = st.builds(
        lambda page, offset: page * PAGE + offset,
        st.integers(0x1C0, 0x240),
        st.sampled_from([0, 1, 40, 128, 255]),
    )
    return st.lists(st.tuples(edge, edge).map(lambda pair: (min(pair), max(pair))), max_size=6)


@given(ram=page_ranges(), reserved=page_ranges())
@settings(max_examples=200, deadline=None)
def test_pages_are_whole_usable_and_the_counts_add_up(ram: Ranges, reserved: Ranges) -> None:
    """Every page lies in RAM that nothing reserves; what is no page is counted."""
    reserved = [pair for pair in reserved if pair[1] <= PROGRAM.start or pair[0] >= PROGRAM.end]
    machine = machine_with(ram, reserved)
    usable = {byte for start, end in ram for byte in range(start, end)}
    usable -= {byte for start, end in reserved for byte in range(start, end)}
    usable -= set(range(PROGRAM.start, PROGRAM.end))
    pages = heap_pages(machine)
    assert all(usable.issuperset(range(page, page + PAGE)) for page in pages)
    info, counts = machine.physical_mem_info, machine.memory_ranges_info
    assert len(pages) == info.page_quantity == info.free_pages_count
    assert counts.usable_bytes == len(usable)
    assert counts.overhead_bytes == len(usable) - len(pages) * PAGE
    assert counts.outside_bytes == counts.broken_count - sum(low == high for low, high in ram) == 0
    # A stretch loses less than a page at each end, and a page to its record and map.
    for start, end in stretches(ranges_of(machine)):
        inside = [page for page in pages if start <= page < end]
        assert len(inside) > (end - start) // PAGE - 3
    assert free_list(machine) == pages
    assert take_all_pages(machine) == pages
    for page in pages:
        machine.free_physical_page(page)
    assert sorted(free_list(machine)) == pages


HOLES = (
    [(0x2_0000, 0x2_1000), (0x3_0000, 0x3_4010), (0x2_8000, 0x2_8100)],
    [(0x3_2000, 0x3_2010)],
)
HOLES_HEAP = [(0x2_0100, 0x2_1000), (0x3_0100, 0x3_2000), (0x3_2100, 0x3_4000)]


@pytest.mark.parametrize("pointer_bytes", [4, 8])
def test_several_regions(pointer_bytes: int) -> None:
    """The registry encloses them; the pages are those there really are; one was too short."""
    machine = machine_with(*HOLES, pointer_bytes)
    assert [(start, end) for start, end, _ in regions(machine)] == HOLES_HEAP
    info = machine.physical_mem_info
    assert (info.physical_heap_start, info.physical_heap_end) == (0x2_0100, 0x3_4000)
    assert info.physical_heap_length == 0x1_3F00
    assert info.page_quantity == 15 + 31 + 31
    assert info.physical_end == 0x3_4010
    assert machine.memory_ranges_info.overhead_bytes == 0x100 + 0x100 + 0x100 + 0xF0 + 0x10
    assert take_all_pages(machine) == heap_pages(machine)


def test_runs_do_not_go_across_a_hole() -> None:
    machine = machine_with(*HOLES)
    assert machine.alloc_physical_pages(16, 0, 0) == 0x3_0100
    assert machine.alloc_physical_pages(16, 0, 0) == 0x3_2100
    assert machine.alloc_physical_pages(16, 0, 0) is None
    assert machine.alloc_physical_pages(15, 0, 0) == 0x2_0100
    assert machine.alloc_physical_page() == 0x3_1100
    assert machine.alloc_physical_pages(1, 0x1000, 0x3_1900) is None
    assert machine.alloc_physical_pages(1, 0x800, 0x3_1900) == 0x3_1800


@pytest.mark.parametrize("page", [0x2_1000, 0x2_8000, 0x3_0000, 0x3_2000, 0x3_4000, 0x1_F000])
def test_a_page_in_a_hole_cannot_be_freed(page: int) -> None:
    machine = machine_with(*HOLES)
    take_all_pages(machine)
    before = state(machine)
    for call in (machine.free_physical_page, lambda at: machine.free_physical_pages(at, 1)):
        with pytest.raises(KernelPanic, match="outside the regions of the physical heap"):
            call(page)
    with pytest.raises(KernelPanic, match="the region ends before"):
        machine.free_physical_pages(0x3_1F00, 2)
    assert state(machine) == before


def test_ram_outside_the_linear_space_is_left_out() -> None:
    layout = Layout(linear_start=0x2_1080, linear_end=0x2_4000, devices=())
    machine = machine_with(
        [(0x2_0000, 0x2_1000), (0x2_1000, 0x2_8000), (1 << 40, TOP)], (), 8, layout
    )
    assert [(start, end) for start, end, _ in regions(machine)] == [(0x2_1100, 0x2_4000)]
    assert machine.memory_ranges_info.outside_bytes == 0x1080 + 0x4000 + TOP - (1 << 40)
    assert machine.physical_mem_info.physical_end == 0x2_4000


def test_a_page_can_be_the_last_of_32_bits() -> None:
    """All but the last one: its end would be no address."""
    layout = Layout(linear_end=1 << 32, devices=())
    machine = machine_with([(0xFFFF_0000, 1 << 32)], (), 4, layout)
    assert [(start, end) for start, end, _ in regions(machine)] == [(0xFFFF_0100, 0xFFFF_FF00)]
    assert machine.alloc_physical_pages(254, 0, 0) == 0xFFFF_0100
    assert machine.alloc_physical_pages(1, 1 << 31, 0) is None
    assert machine.alloc_physical_page() is None
    machine.free_physical_pages(0xFFFF_0100, 254)


def test_devices_and_page_0_are_never_handed_out() -> None:
    device = DEVICES[0]
    machine = machine_with([(0, 0x1000), (device.start - 0x1000, device.end + 0x1000)])
    assert [(start, end) for start, end, _ in regions(machine)] == [
        (0x200, 0x1000),
        (device.start - 0xF00, device.start),
        (device.end + 0x100, device.end + 0x1000),
    ]


@pytest.mark.parametrize("place", [PROGRAM.start, PROGRAM.end - 1, PROGRAM.start + 0x777])
def test_a_reserved_byte_in_the_program_panics(place: int) -> None:
    with pytest.raises(KernelPanic, match="the program, 0x10000 to 0x20000, does not lie in free"):
        machine_with([(0x2_0000, 0x2_1000)], [(place, place + 1)])


def test_starting_again_gives_the_same() -> None:
    machine = machine_with(*HOLES)
    before = state(machine)
    take_all_pages(machine)
    machine.init_physical_memory_manager()
    assert state(machine) == before
