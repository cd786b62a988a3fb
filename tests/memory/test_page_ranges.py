"""Ranges of a page table: mapped, unmapped, protected, walked; and what each failure leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flat import PAGE, flat
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from machines import leaves_of, state, take_all_pages

from kernmem.hardware import find
from kernmem.language import KernelPanic
from kernmem.machine.model import Model
from kernmem.machine.port import Machine
from kernmem.memory.architecture import Mapping
from kernmem.memory.manager import MemoryManager
from kernmem.memory.mappings import PagetableRange
from kernmem.memory.pagetable import PagetableStatus
from kernmem.memory.profile import spec

OK = PagetableStatus.OK
BLOCK = 32 * PAGE  # what an entry of level 1 of the flat format maps
BIG = 32 * BLOCK  # of level 2
END = 1 << 23

MAPPINGS = (
    Mapping.KERNEL,
    Mapping.USER_READ_ONLY | Mapping.NO_EXECUTE,
    Mapping.USER_READ_WRITE,
    Mapping.READ_ONLY,
    Mapping.UNCACHED | Mapping.NO_EXECUTE,
    Mapping.DEVICE | Mapping.NO_EXECUTE,
    Mapping.NO_ACCESS,
)


@pytest.fixture
def small() -> Machine:
    """A flat machine of 96 pages, with its physical memory manager up."""
    machine = flat(96)
    machine.init_physical_memory_manager()
    return machine


def fails(machine: Machine, expected: PagetableStatus, call: Callable[[], Any]) -> None:
    """``call`` gives this status, and all memory and all counters stay as they are."""
    before = state(machine)
    assert call() == expected
    assert state(machine) == before


def page_of(machine: Machine) -> int:
    """The length of a page."""
    return int(machine.physical_mem_info.page_length)


Range = tuple[int, int, int, Mapping, int]  # address, frame, length, mapping, level


def ranges(machine: Machine, table: int, call: str = "pagetable_next_range") -> list[Range]:
    """What a walk over all of a table finds, in a page that no one else uses meanwhile."""
    page = machine.alloc_physical_page()
    machine.write_physical(page, bytes(64))
    found = machine.reference(PagetableRange, page)
    listed = []
    while machine.call(call, table, found):
        numbers = (int(found.virtual), int(found.physical), int(found.length))
        listed.append((*numbers, Mapping(int(found.mapping)), int(found.level)))
    machine.free_physical_page(page)
    return listed


# What is wrong with a range ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("virtual", "length", "status"),
    [
        (1, 0, PagetableStatus.EMPTY_RANGE),
        (2, 0, PagetableStatus.EMPTY_RANGE),
        (1, 1.5, PagetableStatus.MISALIGNED),
        (0.5, 1, PagetableStatus.MISALIGNED),
        (-1, 2, PagetableStatus.WRAPPING_RANGE),
        (-2, 3, PagetableStatus.WRAPPING_RANGE),
    ],
)
def test_each_bad_range_has_its_own_status(
    machine: Machine, virtual: float, length: float, status: PagetableStatus
) -> None:
    """In pages; the same for all three calls; nothing changes."""
    page, table = page_of(machine), machine.create_pagetable()
    width = 8 * machine.hardware.target.pointer_bytes
    start, bytes_ = int(virtual * page) % (1 << width), int(length * page)
    for call in (
        lambda: machine.pagetable_map_range(table, start, page, bytes_),
        lambda: machine.pagetable_unmap_range(table, start, bytes_),
        lambda: machine.pagetable_protect_range(table, start, bytes_, Mapping.KERNEL),
    ):
        fails(machine, status, call)


def test_a_range_that_the_root_cannot_translate(machine: Machine) -> None:
    """One page too far, and far too far; the last page is fine."""
    page, table = page_of(machine), machine.create_pagetable()
    entries: Any = machine.kernel.virtual.entries  # type: ignore[attr-defined]
    end = 1 << entries.address_bits
    for start, length in ((end - page, 2 * page), (end, page), (0, end + page)):
        fails(
            machine,
            PagetableStatus.NOT_TRANSLATABLE,
            lambda s=start, n=length: machine.pagetable_map_range(table, s, page, n),
        )
    assert machine.pagetable_map_range(table, end - page, page, page) == OK
    assert ranges(machine, table) == [(end - page, page, page, Mapping.KERNEL, 0)]


def test_frames_wider_than_an_entry_and_misaligned_frames(small: Machine) -> None:
    table = small.create_pagetable()
    wide = PagetableStatus.NOT_TRANSLATABLE
    end = 1 << 30
    fails(small, wide, lambda: small.pagetable_map_range(table, 0, end, PAGE))
    fails(small, wide, lambda: small.pagetable_map_range(table, 0, end - PAGE, 2 * PAGE))
    misaligned = PagetableStatus.MISALIGNED
    fails(small, misaligned, lambda: small.pagetable_map_range(table, 0, PAGE + 8, PAGE))
    assert small.pagetable_map_range(table, 0, end - PAGE, PAGE) == OK


@pytest.mark.parametrize(
    "mapping",
    [
        Mapping.USER_READ_ONLY | Mapping.USER_READ_WRITE,
        Mapping.USER_READ_WRITE | Mapping.READ_ONLY,
        Mapping.DEVICE | Mapping.UNCACHED,
        Mapping(1 << 20),
    ],
)
def test_flags_that_contradict_or_are_not_there(small: Machine, mapping: Mapping) -> None:
    table = small.create_pagetable()
    bad = PagetableStatus.BAD_MAPPING
    fails(small, bad, lambda: small.pagetable_map(table, 0, PAGE, mapping))
    assert small.pagetable_map(table, 0, PAGE) == OK
    fails(small, bad, lambda: small.pagetable_protect_range(table, 0, PAGE, mapping))


@pytest.mark.parametrize("taken", [0, 5 * PAGE, BLOCK, BLOCK + 3 * PAGE, 3 * BLOCK - PAGE])
def test_an_overlap_is_named_and_changes_nothing(small: Machine, taken: int) -> None:
    """The registry has the address of the page in the way."""
    table = small.create_pagetable()
    assert small.pagetable_map(table, taken, 7 * PAGE) == OK
    already = PagetableStatus.ALREADY_MAPPED
    fails(small, already, lambda: small.pagetable_map_range(table, 0, PAGE, 3 * BLOCK))
    assert small.virtual_mem_info.failed_address == taken
    fails(small, already, lambda: small.pagetable_map_range(table, 0, 0, 3 * BLOCK))
    assert small.virtual_mem_info.failed_address == taken


def test_a_hole_is_named_and_changes_nothing(small: Machine) -> None:
    table = small.create_pagetable()
    assert small.pagetable_map_range(table, 0, PAGE, 40 * PAGE) == OK
    assert small.pagetable_unmap(table, 35 * PAGE) == OK
    hole = PagetableStatus.NOT_MAPPED
    fails(small, hole, lambda: small.pagetable_unmap_range(table, PAGE, 39 * PAGE))
    assert small.virtual_mem_info.failed_address == 35 * PAGE
    change = small.pagetable_protect_range
    fails(small, hole, lambda: change(table, PAGE, 39 * PAGE, Mapping.READ_ONLY))


# Out of memory, at every page -------------------------------------------------------------------


def until_it_works(
    call: Callable[[Machine, int], Any], before: Callable[[Machine, int], Any]
) -> int:
    """How many pages ``call`` needs; with each number less it fails, and has changed nothing."""
    for pages in range(20):
        machine = flat(96)
        machine.init_physical_memory_manager()
        table = machine.create_pagetable()
        before(machine, table)
        take_all_pages(machine, leave=pages)
        held = state(machine)
        status = call(machine, table)
        if status == OK:
            assert machine.physical_mem_info.free_pages_count == 0  # it asks for no more than that
            return pages
        assert status == PagetableStatus.OUT_OF_MEMORY
        assert state(machine) == held
    raise AssertionError("20 pages are not enough")


def test_mapping_takes_the_tables_that_it_must() -> None:
    """Aligned alike: only at the ends.  Not aligned alike: one a block, and theirs."""
    start = BIG - BLOCK - PAGE

    def aligned(machine: Machine, table: int) -> Any:
        return machine.pagetable_map_range(table, start, start, BIG + 3 * BLOCK)

    def skew(machine: Machine, table: int) -> Any:
        return machine.pagetable_map_range(table, start, start + PAGE, 5 * BLOCK)

    def nothing(machine: Machine, table: int) -> None:
        """A table that maps nothing."""

    def within_a_block(machine: Machine, table: int) -> Any:
        return machine.pagetable_map_range(table, 5 * PAGE, 5 * PAGE, 3 * PAGE)

    assert until_it_works(aligned, nothing) == 4
    assert until_it_works(within_a_block, nothing) == 2
    assert until_it_works(skew, nothing) == 2 + 6


def test_splitting_takes_a_table_a_level_at_each_end() -> None:
    """Both ends in one block of two levels share what they can."""

    def one_big_block(machine: Machine, table: int) -> None:
        assert machine.pagetable_map_range(table, BIG, BIG, BIG) == OK

    def within_a_page_table(machine: Machine, table: int) -> Any:
        return machine.pagetable_unmap_range(table, BIG + PAGE, 3 * PAGE)

    def over_two(machine: Machine, table: int) -> Any:
        length = 2 * BLOCK
        return machine.pagetable_protect_range(table, BIG + PAGE, length, Mapping.READ_ONLY)

    def from_the_start(machine: Machine, table: int) -> Any:
        return machine.pagetable_unmap_range(table, BIG, BLOCK)

    assert until_it_works(within_a_page_table, one_big_block) == 2
    assert until_it_works(over_two, one_big_block) == 3
    assert until_it_works(from_the_start, one_big_block) == 1


# What the MMU is told ---------------------------------------------------------------------------


def told(machine: Machine, call: Callable[[], Any]) -> list[tuple[Any, ...]]:
    """What the MMU driver was asked for during ``call``."""
    calls: list[tuple[Any, ...]] = machine.kernel.mmu.calls  # type: ignore[attr-defined]
    calls.clear()
    assert call() == OK
    return list(calls)


def test_a_range_is_told_once(small: Machine) -> None:
    table = small.create_pagetable()
    mapped = told(small, lambda: small.pagetable_map_range(table, 0, PAGE, 2 * BLOCK))
    assert mapped[-1] == ("publish_range", table, 0, 2 * BLOCK - 1)
    assert set(mapped[:-1]) == {("order_tables",)}
    read_only = Mapping.READ_ONLY
    changed = told(small, lambda: small.pagetable_protect_range(table, 0, BLOCK, read_only))
    assert changed == [("retire_range", table, 0, BLOCK - 1)]
    unmapped = told(small, lambda: small.pagetable_unmap_range(table, 0, 2 * BLOCK))
    assert unmapped == [("retire_range", table, 0, 2 * BLOCK - 1)]


def test_a_few_pages_are_told_as_a_range_though_no_table_comes_or_goes(small: Machine) -> None:
    """Side by side in one table, and at the border of two."""
    table = small.create_pagetable()
    for virtual in (0, 2 * BLOCK - PAGE):
        assert small.pagetable_map(table, virtual, PAGE) == OK
    for start in (2 * PAGE, BLOCK - PAGE):
        length = 2 * PAGE
        place = (table, start, start + length - 1)
        mapped = told(small, lambda s=start: small.pagetable_map_range(table, s, PAGE, 2 * PAGE))
        assert mapped == [("publish_range", *place)]
        unmapped = told(small, lambda s=start: small.pagetable_unmap_range(table, s, 2 * PAGE))
        assert unmapped == [("retire_range", *place)]


def test_another_memory_type_goes_by_way_of_no_access(small: Machine) -> None:
    """Broken, retired, made, published; without access on either side there is no need."""
    table = small.create_pagetable()
    assert small.pagetable_map_range(table, 0, PAGE, 2 * PAGE) == OK
    retire, publish = ((name, table, 0, 2 * PAGE - 1) for name in ("retire_range", "publish_range"))
    for mapping, calls in (
        (Mapping.UNCACHED, [retire, publish]),
        (Mapping.UNCACHED | Mapping.READ_ONLY, [retire]),
        (Mapping.NO_ACCESS, [retire]),
        (Mapping.DEVICE, [retire]),
        (Mapping.KERNEL, [retire, publish]),
    ):
        told_now = told(
            small, lambda m=mapping: small.pagetable_protect_range(table, 0, 2 * PAGE, m)
        )
        assert told_now == calls
        assert ranges(small, table) == [(0, PAGE, 2 * PAGE, mapping, 0)]


def test_tables_are_used_again_only_when_the_mmu_has_forgotten_them() -> None:
    """However many they are."""
    machine = flat(96)
    machine.init_physical_memory_manager()
    table = machine.create_pagetable()
    count = 35
    assert machine.pagetable_map_range(table, 0, PAGE, count * BLOCK) == OK
    parts: Any = machine.kernel
    calls = parts.mmu.calls
    calls.clear()
    free = parts.physical.free_physical_page
    freed: list[int] = []

    def watched(page: Any) -> None:
        assert calls == [("retire_range", table, 0, count * BLOCK - 1)]
        freed.append(int(page))
        free(page)

    parts.physical.free_physical_page = watched
    assert machine.pagetable_unmap_range(table, 0, count * BLOCK) == OK
    assert len(freed) == count + 2  # and 2 of the level above


# Looking ----------------------------------------------------------------------------------------


def test_a_guard_keeps_its_place_and_its_frame(machine: Machine) -> None:
    """It translates nothing, nothing can be mapped there, and protect opens it again."""
    page, table = page_of(machine), machine.create_pagetable()
    assert machine.pagetable_map_range(table, page, 3 * page, 3 * page) == OK
    assert machine.pagetable_protect_range(table, 2 * page, page, Mapping.NO_ACCESS) == OK
    assert machine.pagetable_get_translation(table, 2 * page) is None
    assert machine.pagetable_get_translation(table, 3 * page) == 5 * page
    already = PagetableStatus.ALREADY_MAPPED
    fails(machine, already, lambda: machine.pagetable_map(table, 2 * page, page))
    assert ranges(machine, table) == [
        (page, 3 * page, page, Mapping.KERNEL, 0),
        (2 * page, 4 * page, page, Mapping.NO_ACCESS, 0),
        (3 * page, 5 * page, page, Mapping.KERNEL, 0),
    ]
    assert machine.pagetable_protect_range(table, 2 * page, page, Mapping.KERNEL) == OK
    assert machine.pagetable_get_translation(table, 2 * page) == 4 * page
    assert ranges(machine, table) == [(page, 3 * page, 3 * page, Mapping.KERNEL, 0)]


def test_ranges_of_different_levels_are_told_apart(small: Machine) -> None:
    """Though their addresses and frames continue."""
    table = small.create_pagetable()
    assert small.pagetable_map_range(table, BLOCK, BLOCK, BLOCK + 2 * PAGE) == OK
    assert ranges(small, table) == [
        (BLOCK, BLOCK, BLOCK, Mapping.KERNEL, 1),
        (2 * BLOCK, 2 * BLOCK, 2 * PAGE, Mapping.KERNEL, 0),
    ]


def test_the_audit_lists_what_is_writable_and_executable(machine: Machine) -> None:
    page, table = page_of(machine), machine.create_pagetable()
    never = Mapping.NO_EXECUTE
    for number, mapping in enumerate(
        (
            *(Mapping.KERNEL, Mapping.KERNEL | never, Mapping.USER_READ_WRITE),
            *(Mapping.USER_READ_WRITE | never, Mapping.USER_READ_ONLY, Mapping.READ_ONLY),
            *(Mapping.DEVICE | never, Mapping.NO_ACCESS, Mapping.KERNEL),
        )
    ):
        assert machine.pagetable_map(table, (2 * number) * page, page, mapping) == OK
    found = ranges(machine, table, "pagetable_next_writable_executable")
    assert [virtual // page for virtual, *_ in found] == [0, 4, 16]


def test_the_ends_of_all_addresses() -> None:
    """Where there is an upper half, its last page is mapped, found, and ends the walk."""
    for board in ("pc", "riscv-virt"):
        machine = Model(find(board), lambda image, parts: MemoryManager(image, parts, spec()))
        machine.init_physical_memory_manager()
        table, page = machine.create_pagetable(), 0x1000
        entries: Any = machine.kernel.virtual.entries  # type: ignore[attr-defined]
        lower, upper = 1 << entries.address_bits, (1 << 64) - (1 << entries.address_bits)
        frame = machine.alloc_physical_page()
        for start in (0, lower - page, upper, (1 << 64) - page):
            assert machine.pagetable_map(table, start, frame) == OK
        for start in (lower, upper - page):
            status = machine.pagetable_map(table, start, frame)
            assert status == PagetableStatus.NOT_TRANSLATABLE
        crossing = machine.pagetable_map_range(table, lower - page, frame, upper - lower + page)
        assert crossing == PagetableStatus.NOT_TRANSLATABLE
        found = [virtual for virtual, *_ in ranges(machine, table)]
        assert found == [0, lower - page, upper, (1 << 64) - page]
        assert machine.pagetable_unmap(table, (1 << 64) - page) == OK
        assert machine.pagetable_unmap(table, upper) == OK


# The tables in use ------------------------------------------------------------------------------


def test_the_linear_spaces_table_is_not_deleted(machine: Machine) -> None:
    machine.init_linear_space()
    table = machine.linear_space_info.pagetable
    with pytest.raises(KernelPanic, match="is the linear space's"):
        machine.delete_pagetable(table)


def test_what_leave_goes_back_to_is_not_deleted(booted: Machine) -> None:
    current = booted.virtual_mem_info.current_pagetable
    booted.enter_linear_space()
    with pytest.raises(KernelPanic, match=f"{current} is current"):
        booted.delete_pagetable(current)


def test_leaving_lets_the_table_go() -> None:
    """Nobody awaits it any more; only that it is current keeps it."""
    machine = flat(96)
    machine.init_memory()
    machine.enter_linear_space()
    assert machine.virtual_mem_info.awaited_pagetable is not None
    machine.leave_linear_space()
    assert machine.virtual_mem_info.awaited_pagetable is None


@pytest.mark.parametrize("at_start", [False, True])
def test_the_block_that_holds_the_current_table_is_not_split(at_start: bool) -> None:
    """Whichever end of the range is in it; the same range of another table may be."""
    machine = flat(96)
    machine.init_physical_memory_manager()
    assert machine.init_linear_space() == OK
    table = int(machine.linear_space_info.pagetable)
    # While the MMU is off any block may be split: what is left around the table is small.
    assert machine.pagetable_protect_range(table, 0, PAGE, Mapping.READ_ONLY) == OK
    machine.enable_linear_space()
    block = table // BLOCK * BLOCK
    start, length = (block + PAGE, BLOCK) if at_start else (block - BLOCK, BLOCK + PAGE)
    with pytest.raises(KernelPanic, match=r"the block around 0x\w+ holds the table in use itself"):
        machine.pagetable_unmap_range(table, start, length)
    other = machine.create_pagetable()
    assert machine.pagetable_map_linear(other, block - BLOCK, block + 2 * BLOCK) == OK
    assert machine.pagetable_unmap_range(other, start, length) == OK


@pytest.mark.parametrize("at_start", [False, True])
def test_the_block_that_holds_the_running_program_is_not_split(at_start: bool) -> None:
    """Code, stack and variables are used between break and make; another table may be changed."""
    machine = flat(96)
    machine.init_physical_memory_manager()
    assert machine.init_linear_space() == OK
    table = int(machine.linear_space_info.pagetable)
    assert machine.pagetable_protect_range(table, 0, PAGE, Mapping.READ_ONLY) == OK
    machine.enable_linear_space()
    block = machine.hardware.program.start // BLOCK * BLOCK
    start, length = (block + PAGE, BLOCK - PAGE) if at_start else (block, PAGE)
    with pytest.raises(KernelPanic, match=r"the block around 0x\w+ holds the running program"):
        machine.pagetable_protect_range(table, start, length, Mapping.READ_ONLY)
    assert machine.pagetable_protect_range(table, block, BLOCK, Mapping.USER_READ_WRITE) == OK
    other = machine.create_pagetable()
    assert machine.pagetable_map_linear(other, block, block + BLOCK) == OK
    assert machine.pagetable_protect_range(other, start, length, Mapping.READ_ONLY) == OK


# Against a dictionary ---------------------------------------------------------------------------

NUMBERS = st.integers(0, 100) | st.sampled_from([0, 31, 32, 33, 63, 64, 96])
LENGTHS = st.integers(1, 70) | st.sampled_from([32, 64])


class PageRanges(RuleBasedStateMachine):
    """Ranges of pages against a dictionary from page to frame and mapping; 24 pages for tables."""

    @initialize()
    def start(self) -> None:
        """A table, and few pages."""
        self.machine = flat(24)
        self.machine.init_physical_memory_manager()
        self.table = self.machine.create_pagetable()
        self.known: dict[int, tuple[int, Mapping]] = {}

    def change(self, first: int, pages: int, change: Callable[[], Any], wanted: bool) -> bool:
        """Whether a call did its work; if not, it must be right, and leave all as it was."""
        span = range(first, first + pages)
        before = state(self.machine)
        status = change()
        wrong = [page for page in span if (page in self.known) != wanted]
        if wrong:
            other = PagetableStatus.NOT_MAPPED if wanted else PagetableStatus.ALREADY_MAPPED
            assert status == other
        if status != OK:
            assert wrong or status == PagetableStatus.OUT_OF_MEMORY
            assert state(self.machine) == before
        return bool(status == OK)

    @rule(
        first=NUMBERS, pages=LENGTHS, frame=NUMBERS, linear=st.booleans(),
        mapping=st.sampled_from(MAPPINGS),
    )  # fmt: skip
    def map(self, first: int, pages: int, frame: int, linear: bool, mapping: Mapping) -> None:
        """Aligned alike or not."""
        frame = first if linear else frame
        if self.change(
            first, pages,
            lambda: self.machine.pagetable_map_range(
                self.table, first * PAGE, frame * PAGE, pages * PAGE, mapping
            ), False,
        ):  # fmt: skip
            for number in range(pages):
                self.known[first + number] = (frame + number, mapping)

    @rule(first=NUMBERS, pages=LENGTHS)
    def unmap(self, first: int, pages: int) -> None:
        """With what must be split, and with holes."""
        if self.change(
            first, pages,
            lambda: self.machine.pagetable_unmap_range(self.table, first * PAGE, pages * PAGE),
            True,
        ):  # fmt: skip
            for number in range(pages):
                del self.known[first + number]

    @rule(first=NUMBERS, pages=LENGTHS, mapping=st.sampled_from(MAPPINGS))
    def protect(self, first: int, pages: int, mapping: Mapping) -> None:
        """To the same frames."""
        if self.change(
            first, pages,
            lambda: self.machine.pagetable_protect_range(
                self.table, first * PAGE, pages * PAGE, mapping
            ), True,
        ):  # fmt: skip
            for number in range(pages):
                self.known[first + number] = (self.known[first + number][0], mapping)

    @invariant()
    def says_what_is_known(self) -> None:
        """The walk, page by page; it meets no page twice, and merges what it can."""
        if self.machine.physical_mem_info.free_pages_count == 0:
            return  # the walk's record needs a page
        said = {}
        found = ranges(self.machine, self.table)
        for virtual, physical, length, mapping, _ in found:
            for offset in range(0, length, PAGE):
                said[(virtual + offset) // PAGE] = ((physical + offset) // PAGE, mapping)
        assert said == self.known
        assert sum(length for _, _, length, _, _ in found) == len(self.known) * PAGE

    @invariant()
    def keeps_no_table_for_nothing(self) -> None:
        """Every table leads to a leaf or holds one."""
        entries: Any = self.machine.kernel.virtual.entries  # type: ignore[attr-defined]
        assert entries.levels == 3
        if not self.known:
            assert self.machine.physical_mem_info.free_pages_count == 23
            assert not leaves_of(self.machine, self.table)


TestPageRanges = PageRanges.TestCase
TestPageRanges.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
