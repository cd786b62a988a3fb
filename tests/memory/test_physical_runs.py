"""Physical: runs of pages side by side, against a set of the free pages."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
from flat import PAGE, flat
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from machines import free_list, heap_pages, state, take_all_pages

from kernmem.language import KernelPanic
from kernmem.machine.port import Machine


def length_of(machine: Machine) -> int:
    return int(machine.physical_mem_info.page_length)


def runs(
    free: set[int], page: int, count: int, alignment: int = 0, limit: int = 0
) -> Iterator[int]:
    """Every run that there is, by the definition."""
    for base in sorted(free):
        covered = range(base, base + count * page, page)
        fits = base % (alignment or 1) == 0 and (limit == 0 or covered[-1] + page <= limit)
        if fits and free.issuperset(covered):
            yield base


def test_a_run_is_the_lowest_there_is(machine: Machine) -> None:
    page = length_of(machine)
    first = free_list(machine)[0]
    assert machine.alloc_physical_pages(3, 0, 0) == first
    assert machine.alloc_physical_page() == first + 3 * page
    machine.free_physical_page(first + page)
    assert machine.alloc_physical_pages(2, 0, 0) == first + 4 * page
    machine.free_physical_page(first)
    assert machine.alloc_physical_pages(2, 0, 0) == first
    assert free_list(machine)[0] == first + 6 * page


def test_a_run_is_aligned_and_the_pages_passed_over_stay_free(machine: Machine) -> None:
    page = length_of(machine)
    before = free_list(machine)
    machine.alloc_physical_page()
    for alignment in (4 * page, 16 * page, 8 * page):
        want = next(runs(set(free_list(machine)), page, 4, alignment))
        assert machine.alloc_physical_pages(4, alignment, 0) == want
        assert want % alignment == 0
    assert len(free_list(machine)) == len(before) - 13
    assert free_list(machine) == sorted(free_list(machine))


def test_an_alignment_below_a_page_asks_for_no_more_than_a_page(machine: Machine) -> None:
    page = length_of(machine)
    first = free_list(machine)[0]
    for number, alignment in enumerate((0, 1, 2, page // 2, page)):
        assert machine.alloc_physical_pages(1, alignment, 0) == first + number * page


def test_a_run_ends_by_the_limit(machine: Machine) -> None:
    page = length_of(machine)
    first = free_list(machine)[0]
    before = state(machine)
    for limit in (1, first, first + page, first + 3 * page - 1):
        assert machine.alloc_physical_pages(3, 0, limit) is None
    assert state(machine) == before
    assert machine.alloc_physical_pages(3, 0, first + 3 * page) == first
    assert machine.alloc_physical_pages(1, 0, first + 3 * page) is None


def test_none_when_there_is_no_such_run(machine: Machine) -> None:
    """Every second page is free: no two side by side, and nothing changes."""
    pages = take_all_pages(machine)
    for page in pages[::2]:
        machine.free_physical_page(page)
    before = state(machine)
    assert machine.alloc_physical_pages(2, 0, 0) is None
    assert machine.alloc_physical_pages(len(pages), 0, 0) is None
    assert machine.alloc_physical_pages(1 << 60, 0, 0) is None
    assert state(machine) == before
    machine.free_physical_page(pages[101])
    assert machine.alloc_physical_pages(3, 0, 0) == pages[100]


def test_all_pages_are_one_run() -> None:
    machine = flat(130)
    machine.init_physical_memory_manager()
    pages = heap_pages(machine)
    assert machine.alloc_physical_pages(131, 0, 0) is None
    assert machine.alloc_physical_pages(130, 0, 0) == pages[0]
    assert machine.alloc_physical_page() is None
    assert free_list(machine) == []
    machine.free_physical_pages(pages[0], 130)
    assert free_list(machine) == pages


def test_a_run_can_be_freed_in_parts_and_pages_as_a_run(machine: Machine) -> None:
    page = length_of(machine)
    base = machine.alloc_physical_pages(4, 0, 0)
    machine.free_physical_page(base + page)
    machine.free_physical_pages(base + 2 * page, 2)
    machine.free_physical_page(base)
    singles = [machine.alloc_physical_page() for _ in range(4)]
    machine.free_physical_pages(min(singles), 4)
    assert free_list(machine) == heap_pages(machine)


# Broken contracts -------------------------------------------------------------------------------


@pytest.mark.parametrize("alignment", [3, 0x1_0001, 2**64 - 1])
def test_an_alignment_that_is_no_power_of_2_panics(machine: Machine, alignment: int) -> None:
    with pytest.raises(KernelPanic, match=f"must be a power of 2, not {alignment}"):
        machine.alloc_physical_pages(1, alignment, 0)


def test_no_pages_at_all_panics(machine: Machine) -> None:
    with pytest.raises(KernelPanic, match="the count must be at least 1, not 0"):
        machine.alloc_physical_pages(0, 0, 0)


def test_a_run_that_cannot_be_freed_changes_nothing(machine: Machine) -> None:
    page = length_of(machine)
    start, end = heap_pages(machine)[0], heap_pages(machine)[-1] + page
    base = machine.alloc_physical_pages(8, 0, 0)
    machine.free_physical_page(base + 5 * page)
    outside = "it is outside the regions of the physical heap"
    for first, count, reason in (
        (base, 6, f"{base + 5 * page:#x} cannot be freed: it is free already"),
        (base + 6 * page, 3, f"{base + 8 * page:#x} cannot be freed: it is free already"),
        (base + 9 * page, 1, f"{base + 9 * page:#x} cannot be freed: it is free already"),
        (base, (end - int(base)) // page + 1, "on cannot be freed: the region ends before"),
        (base, 2**64 - 1, "on cannot be freed: the region ends before"),
        (start - page, 2, f"{start - page:#x} cannot be freed: {outside}"),
        (end, 1, f"{end:#x} cannot be freed: {outside}"),
        (base + 1, 1, "not a multiple of the page length"),
    ):
        before = state(machine)
        with pytest.raises(KernelPanic, match=reason):
            machine.free_physical_pages(first, count)
        assert state(machine) == before


# Any calls --------------------------------------------------------------------------------------


class PagesAndRuns(RuleBasedStateMachine):
    """All calls in any order, beside the set of the free pages."""

    make = staticmethod(partial(flat, pages=150))

    def __init__(self) -> None:
        super().__init__()
        self.machine = self.make()
        self.machine.init_physical_memory_manager()
        self.all = heap_pages(self.machine)
        self.free = set(self.all)

    @property
    def used(self) -> list[int]:
        """The pages that may be freed."""
        return sorted(set(self.all) - self.free)

    @rule()
    def alloc_page(self) -> None:
        page = self.machine.alloc_physical_page()
        if page is None:
            assert not self.free
        else:
            self.free.remove(page)

    @rule(
        count=st.integers(1, 40),
        alignment=st.sampled_from([0, PAGE, 2 * PAGE, 8 * PAGE, 64 * PAGE]),
        limit=st.integers(-4, 160),
    )
    def alloc_run(self, count: int, alignment: int, limit: int) -> None:
        below = self.all[limit % len(self.all)] + PAGE if limit > 0 else 0
        run = self.machine.alloc_physical_pages(count, alignment, below)
        assert run == next(runs(self.free, PAGE, count, alignment, below), None)
        if run is not None:
            self.free.difference_update(range(run, run + count * PAGE, PAGE))

    @precondition(lambda self: self.used)
    @rule(data=st.data())
    def free_page(self, data: st.DataObject) -> None:
        page = data.draw(st.sampled_from(self.used))
        self.machine.free_physical_page(page)
        self.free.add(page)

    @rule(number=st.integers(0, 149), count=st.integers(1, 20))
    def free_run(self, number: int, count: int) -> None:
        """Wherever it lies; it must be refused exactly if a page of it is not in use."""
        base = self.all[number % len(self.all)]
        pages = set(range(base, base + count * PAGE, PAGE))
        if pages.issubset(self.used):
            self.machine.free_physical_pages(base, count)
            self.free |= pages
        else:
            with pytest.raises(KernelPanic, match="cannot be freed"):
                self.machine.free_physical_pages(base, count)

    @rule(data=st.data())
    def free_half(self, data: st.DataObject) -> None:
        """Fragments."""
        for page in self.used[data.draw(st.integers(0, 1)) :: 2]:
            self.machine.free_physical_page(page)
            self.free.add(page)

    @invariant()
    def the_list_has_every_free_page_once(self) -> None:
        listed = free_list(self.machine)
        assert len(listed) == len(self.free)
        assert set(listed) == self.free


class WithHoles(PagesAndRuns):
    """The same where there are three regions, and pointers are of 4 bytes."""

    make = staticmethod(
        partial(
            flat,
            pointer_bytes=4,
            ram=[(0x3_0000, 0x3_4010), (0x2_0000, 0x2_1000)],
            reserved=[(0x3_2000, 0x3_2010)],
        )
    )


TestPagesAndRuns = PagesAndRuns.TestCase
TestWithHoles = WithHoles.TestCase
for each in (TestPagesAndRuns, TestWithHoles):
    each.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
