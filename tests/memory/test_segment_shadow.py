"""The shadow of the kernel segment: it comes and goes with the pages of the segment."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from flat import DEVICES, PAGE, SEGMENT, Layout, flat
from hypothesis import example, given, settings
from hypothesis import strategies as st
from machines import free_list, heap_pages, registries, state, take_all_pages
from segments import (
    OK,
    SHADOW,
    SegmentKernel,
    check,
    make,
    page_of,
    pages_of,
    segment,
    shadow_of,
    shadow_pages,
    tables,
)

from kernmem.language import KernelPanic
from kernmem.machine.port import Machine
from kernmem.memory.architecture import Region
from kernmem.memory.kernel_segment import BATCH, SHADOW_MARGIN
from kernmem.memory.pagetable import PagetableStatus


@pytest.fixture
def machine(segmented: tuple[Machine, Any]) -> Machine:
    """Every machine in turn, with a shadow and without, its segment empty."""
    machine, fresh = segmented
    machine.restore(fresh)
    return machine


def contents(machine: Machine, pages: list[int]) -> list[bytes]:
    """What physical pages hold."""
    return [machine.read_physical(each, page_of(machine)) for each in pages]


# How the range is divided -----------------------------------------------------------------------


@given(pages=st.integers(2, 600), spare=st.integers(0, PAGE - 1))
@example(pages=49, spare=0)  # not a byte is left over
@settings(deadline=None)
def test_segment_and_shadow_fit_the_range(pages: int, spare: int) -> None:
    """Whole pages, the segment first; no longer segment has room for its shadow."""
    region = Region(SEGMENT.start, SEGMENT.start + pages * PAGE + spare)
    machine = make("flat", layout=Layout(segment=region))
    start, end, limit = segment(machine)
    assert start == end == region.start
    assert (limit - start) % PAGE == 0
    assert machine.kernel_segment_info.shadow_start == limit
    own = (limit - start) // PAGE
    assert own + shadow_pages(machine, own) <= pages < own + 1 + shadow_pages(machine, own + 1)


def test_both_can_be_filled_to_their_limits() -> None:
    machine = make("flat", layout=Layout(segment=Region(SEGMENT.start, SEGMENT.start + 131 * PAGE)))
    start, _, limit = segment(machine)
    assert (limit - start) // PAGE == 128
    assert machine.extend_to(limit)
    check(machine)
    assert machine.kernel_segment_info.shadow_end == SEGMENT.start + 131 * PAGE
    before = state(machine)
    assert not machine.extend_to(limit + 1)
    assert machine.extend_kernel_segment() is None
    assert state(machine) == before


@pytest.mark.parametrize("shadow", [0, SHADOW])
def test_a_limit_within_a_page_is_not_passed(shadow: int) -> None:
    """Not even by an end that lies below it in that page."""
    region = Region(SEGMENT.start, SEGMENT.start + 5 * PAGE + 8)
    machine = make("flat", shadow, layout=Layout(segment=region))
    limit = segment(machine)[2]
    assert limit == SEGMENT.start + (5 - shadow_pages(machine, 5)) * PAGE
    before = state(machine)
    assert not machine.extend_to(limit + 1)
    assert state(machine) == before
    assert machine.extend_to(limit - 1)
    assert segment(machine)[1] == limit


# An empty segment -------------------------------------------------------------------------------


def test_an_empty_segment_has_room_for_the_marks_of_its_ends(machine: Machine) -> None:
    """Before it ever grew, and after it was given back."""
    check(machine)
    start = segment(machine)[0]
    assert machine.extend_to(start + 1)
    machine.shrink_to(start)
    check(machine)
    assert segment(machine)[1] == start
    own, shadow = pages_of(machine)
    assert (len(own), len(shadow)) == (0, 1 if shadow_of(machine) else 0)
    for address in shadow:
        machine.write_virtual(address, b"\x55" * SHADOW_MARGIN)


def test_init_out_of_memory_at_every_page() -> None:
    """The page of the shadow and its tables are taken last, and nothing is kept without them."""
    needed = 0
    while True:
        machine = flat(64, kernel=partial(SegmentKernel, shadow=SHADOW))
        machine.init_physical_memory_manager()
        take_all_pages(machine, leave=needed)
        before = state(machine)
        if machine.init_kernel_segment() == OK:
            break
        assert state(machine) == before
        needed += 1
    assert len(free_list(machine)) == 0
    assert needed >= 3 + 2  # the root, two tables of the image, the shadow's page and its tables


@pytest.mark.parametrize("at", [DEVICES[0].start, SEGMENT.end - PAGE * 9])
def test_init_with_something_in_the_way(at: int) -> None:
    """Of a device, or of the shadow: the status says so, and nothing is kept."""
    layout = Layout(devices=(*DEVICES, Region(at, at + PAGE)))
    machine = flat(64, layout=layout, kernel=partial(SegmentKernel, shadow=SHADOW))
    machine.init_physical_memory_manager()
    before = state(machine)
    assert machine.init_kernel_segment() == PagetableStatus.ALREADY_MAPPED
    assert state(machine) == before


# Growing ----------------------------------------------------------------------------------------


def test_a_page_of_shadow_comes_with_the_page_that_needs_it(machine: Machine) -> None:
    """Pages are counted exactly: one for each page of segment, shadow and table."""
    page, shadow = page_of(machine), shadow_of(machine)
    start = segment(machine)[0]
    free = machine.physical_mem_info.free_pages_count
    known = tables(machine, [*pages_of(machine)[1]])
    first = shadow_pages(machine, 0)
    for number in range(1, 68):
        assert machine.extend_kernel_segment() == start + (number - 1) * page
        own, above = pages_of(machine)
        assert (len(own), len(above)) == (number, shadow_pages(machine, number))
        taken = free - machine.physical_mem_info.free_pages_count
        new_tables = tables(machine, [*own, *above]) - known
        assert taken == number + len(above) - first + new_tables
    assert len(pages_of(machine)[1]) == (2 if shadow else 0)
    check(machine)


def test_growing_at_once_is_growing_page_by_page(machine: Machine) -> None:
    """The same pages are taken for the same addresses."""
    page = page_of(machine)
    start = segment(machine)[0]
    fresh = machine.snapshot()
    assert machine.extend_to(start + 66 * page - 5)
    at_once = state(machine)
    machine.restore(fresh)
    for _ in range(66):
        machine.extend_kernel_segment()
    assert state(machine) == at_once


def test_a_page_more_costs_two_switches() -> None:
    """Whether a page of shadow comes with it or not."""
    machine = make("flat")
    calls: list[tuple[Any, ...]] = machine.kernel.virtual.mmu.calls  # type: ignore[attr-defined]
    for _ in range(66):
        calls.clear()
        machine.extend_kernel_segment()
        assert [name for name, *_ in calls].count("switch") == 2


def test_out_of_memory_at_every_page(machine: Machine) -> None:
    """Past the border of a table, and of a page of shadow: False, and everything as before."""
    page = page_of(machine)
    start = segment(machine)[0]
    end = start + 70 * page
    before = machine.physical_mem_info.free_pages_count
    fresh = machine.snapshot()
    assert machine.extend_to(end)
    needed = before - machine.physical_mem_info.free_pages_count
    assert needed >= 70 + shadow_pages(machine, 70) - shadow_pages(machine, 0)
    machine.restore(fresh)
    machine.enter_linear_space()
    held = take_all_pages(machine)
    used = sorted({*heap_pages(machine)} - {*held})
    for _ in range(needed):
        before = registries(machine), free_list(machine), contents(machine, used)
        assert not machine.extend_to(end)
        assert (registries(machine), free_list(machine), contents(machine, used)) == before
        machine.free_physical_page(held.pop())
    assert machine.extend_to(end)
    assert machine.physical_mem_info.free_pages_count == 0
    check(machine)


@pytest.mark.parametrize("pages", [2, 40, 63])
def test_no_page_more_than_needed_must_be_left(machine: Machine, pages: int) -> None:
    """Where the tables are there, the pages of segment and shadow; with one less, none is taken."""
    page, start = page_of(machine), segment(machine)[0]
    assert machine.extend_to(start + page)
    end = start + (1 + pages) * page
    needed = pages + shadow_pages(machine, 1 + pages) - shadow_pages(machine, 1)
    needed += tables(machine, [*range(start, end, page)]) - tables(machine, [start])
    machine.enter_linear_space()
    held = take_all_pages(machine, leave=needed - 1)
    assert not machine.extend_to(end)
    machine.free_physical_page(held.pop())
    assert machine.extend_to(end)
    assert machine.physical_mem_info.free_pages_count == 0


def test_a_page_of_shadow_goes_back_when_its_page_cannot_be_had(machine: Machine) -> None:
    """Something is in the way of the first page that needs it."""
    page, start = page_of(machine), segment(machine)[0]
    pages = 1
    while shadow_pages(machine, pages + 1) == shadow_pages(machine, 1) and pages < 64:
        pages += 1
    assert machine.extend_to(start + pages * page)
    machine.enter_linear_space()
    frame, table = machine.alloc_physical_page(), machine.kernel_segment_info.pagetable
    assert machine.pagetable_map(table, start + pages * page, frame) == OK
    machine.leave_linear_space()
    before = state(machine)
    assert machine.extend_kernel_segment() is None
    assert state(machine) == before


@pytest.mark.parametrize("shadow", [0, SHADOW])
def test_what_is_mapped_already_is_never_taken(shadow: int) -> None:
    """Something in the way of any page of the segment or of its shadow: everything as before."""
    machine = make("flat", shadow)
    machine.extend_kernel_segment()
    start = segment(machine)[0]
    end = start + 132 * PAGE
    fresh = machine.snapshot()
    machine.extend_to(end)
    own, above = pages_of(machine)
    assert len(above) == (3 if shadow else 0)
    for address in [own[1], own[2], *own[31:34], *own[62:66], own[-1], *above[1:]]:
        machine.restore(fresh)
        machine.enter_linear_space()
        table = machine.kernel_segment_info.pagetable
        assert machine.pagetable_map(table, address, 5 * PAGE) == OK
        machine.leave_linear_space()
        before = state(machine)
        assert not machine.extend_to(end)
        assert state(machine) == before


# Shrinking --------------------------------------------------------------------------------------


def test_shrink_undoes_extend_exactly(machine: Machine) -> None:
    """Page by page, tables and shadow included, in the order in which they would be taken again."""
    states = []
    for _ in range(67):
        states.append((pages_of(machine), free_list(machine)))
        machine.extend_kernel_segment()
    for expected in reversed(states):
        machine.shrink_kernel_segment()
        assert (pages_of(machine), free_list(machine)) == expected


def test_shrink_to_gives_back_what_growing_took(machine: Machine) -> None:
    """All pages of segment, shadow and tables; those that stay keep what they hold."""
    page = page_of(machine)
    start = segment(machine)[0]
    assert machine.extend_to(start + 3 * page)
    kept = [*pages_of(machine)[0], *pages_of(machine)[1]]
    for address in kept:
        machine.write_virtual(address, address.to_bytes(8, "little") * (page // 8))
    free = set(free_list(machine))
    assert machine.extend_to(start + 100 * page)
    machine.shrink_to(start + 3 * page)
    assert [*pages_of(machine)[0], *pages_of(machine)[1]] == kept
    assert set(free_list(machine)) == free
    check(machine)
    for address in kept:
        assert machine.read_virtual(address, page) == address.to_bytes(8, "little") * (page // 8)


def test_shrink_to_gives_back_whole_pages_only(machine: Machine) -> None:
    page = page_of(machine)
    start = segment(machine)[0]
    assert machine.extend_to(start + 3 * page)
    for end, expected in [
        (start + 3 * page, 3),
        (start + 2 * page + 1, 3),
        (start + 2 * page, 2),
        (start + 2 * page - 1, 2),
        (start + 1, 1),
        (start, 0),
        (start, 0),
    ]:
        machine.shrink_to(end)
        assert len(pages_of(machine)[0]) == expected
        check(machine)


@pytest.mark.parametrize("past", [-1, 1])
def test_shrink_to_outside_the_segment_panics(machine: Machine, past: int) -> None:
    """Below its start, and beyond its end: with nothing changed."""
    machine.extend_kernel_segment()
    start, end, _ = segment(machine)
    before = state(machine)
    wrong = start - 1 if past < 0 else end + 1
    with pytest.raises(KernelPanic) as panic:
        machine.shrink_to(wrong)
    assert (
        str(panic.value) == f"shrink_kernel_segment_to: {wrong:#x} is not in {start:#x} to {end:#x}"
    )
    assert state(machine) == before


def test_the_mmu_is_told_once_for_a_batch_of_pages() -> None:
    """And the tables are not switched where there is nothing to do."""
    machine = make("flat")
    start = segment(machine)[0]
    calls: list[tuple[Any, ...]] = machine.kernel.virtual.mmu.calls  # type: ignore[attr-defined]
    machine.extend_to(start + (3 + 2 * BATCH) * PAGE)
    assert len(pages_of(machine)[1]) == 2
    calls.clear()
    machine.shrink_to(start + 2 * PAGE + 1)
    names = [name for name, *_ in calls]
    # Two batches of the segment's pages, and one page of the shadow.
    assert names == ["switch", "retire_range", "retire_range", "retire_page", "switch"]
    calls.clear()
    machine.shrink_to(start + 2 * PAGE + 1)
    assert calls == []
