"""Virtual: page tables built, changed, looked up and given back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flat import PAGE, SEGMENT, flat
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from machines import free_list, leaves_of, pages_in_use, state, take_all_pages

from kernmem.language import KernelPanic
from kernmem.machine.port import Machine
from kernmem.memory.architecture import Mapping
from kernmem.memory.pagetable import PagetableStatus

OK = PagetableStatus.OK
BLOCK = 32 * PAGE  # what an entry of level 1 of the flat format maps
BIG = 32 * BLOCK  # of level 2
END = 1 << 23


def page_of(machine: Machine) -> int:
    """The length of a page."""
    return int(machine.physical_mem_info.page_length)


def unchanged(machine: Machine, expected: PagetableStatus, call: Callable[[], Any]) -> None:
    """``call`` gives this status, and all memory and all counters stay as they are."""
    before = state(machine)
    assert call() == expected
    assert state(machine) == before


@pytest.fixture
def small() -> Machine:
    """A flat machine of 64 pages, with its physical memory manager up."""
    machine = flat()
    machine.init_physical_memory_manager()
    return machine


# create_pagetable, delete_pagetable -------------------------------------------------------------


def test_a_new_table_is_one_page_and_maps_nothing(machine: Machine) -> None:
    """Whatever the page held before."""
    head = free_list(machine)[0]
    machine.write_physical(head + 64, b"\xff" * 64)
    table = machine.create_pagetable()
    assert table == head
    assert machine.read_physical(table, page_of(machine)) == bytes(page_of(machine))
    assert free_list(machine)[0] == head + page_of(machine)
    for virtual in (0, page_of(machine), END - page_of(machine)):
        assert machine.pagetable_get_translation(table, virtual) is None


def test_create_without_a_page_gives_none(small: Machine) -> None:
    take_all_pages(small)
    unchanged(small, None, small.create_pagetable)  # type: ignore[arg-type]


def test_delete_gives_back_every_table_and_nothing_else(machine: Machine) -> None:
    """The pages that the table maps stay their owner's; the list is in the old order."""
    page = page_of(machine)
    used = [machine.alloc_physical_page() for _ in range(3)]
    before = free_list(machine)
    table = machine.create_pagetable()
    for number, physical in enumerate(used):
        assert machine.pagetable_map(table, number * 40 * page, physical) == OK
    level1 = page * page // 8
    assert machine.pagetable_map_linear(table, level1 - page, level1 + 2 * page) == OK
    assert set(before) - set(free_list(machine)) >= {table}
    machine.delete_pagetable(table)
    assert free_list(machine) == before
    assert set(pages_in_use(machine)) == set(used)


def test_delete_of_the_current_table_panics(booted: Machine) -> None:
    booted.enter_linear_space()
    table = booted.virtual_mem_info.current_pagetable
    with pytest.raises(KernelPanic, match=f"{table} is current; switch_pagetable to another"):
        booted.delete_pagetable(table)


# pagetable_map: its statuses --------------------------------------------------------------------


def test_map_ok(machine: Machine) -> None:
    page = page_of(machine)
    table, physical = machine.create_pagetable(), machine.alloc_physical_page()
    assert machine.pagetable_map(table, 5 * page, physical) == OK
    assert machine.pagetable_get_translation(table, 5 * page) == physical
    assert machine.pagetable_get_translation(table, 6 * page - 1) == physical + (page - 1)
    for outside in (5 * page - 1, 6 * page):
        assert machine.pagetable_get_translation(table, outside) is None


def test_map_misaligned(machine: Machine) -> None:
    """Either address, whatever else is wrong; nothing changes."""
    page, table = page_of(machine), machine.create_pagetable()
    for virtual, physical in ((1, page), (page, 1), (page - 1, page), (page, page + 8)):
        unchanged(
            machine,
            PagetableStatus.MISALIGNED,
            lambda v=virtual, p=physical: machine.pagetable_map(table, v, p),
        )


def test_map_already_mapped(machine: Machine) -> None:
    """A page, and a page in the middle of a block; even if nothing would change."""
    page, table = page_of(machine), machine.create_pagetable()
    block = page * page // 8
    machine.pagetable_map(table, page, 7 * page)
    machine.pagetable_map_linear(table, block, 2 * block)
    for virtual, physical in ((page, 8 * page), (page, 7 * page), (block + 3 * page, page)):
        unchanged(
            machine,
            PagetableStatus.ALREADY_MAPPED,
            lambda v=virtual, p=physical: machine.pagetable_map(table, v, p),
        )


def test_map_not_translatable(machine: Machine) -> None:
    """Addresses wider than the walk or the entry; the last of each is fine."""
    page, table = page_of(machine), machine.create_pagetable()
    entries: Any = machine.kernel.virtual.entries  # type: ignore[attr-defined]
    virtual, physical = 1 << entries.address_bits, 1 << entries.physical_bits
    for wrong in ((virtual, page), (2**64 - page, page), (page, physical), (page, 2**64 - page)):
        unchanged(
            machine,
            PagetableStatus.NOT_TRANSLATABLE,
            lambda w=wrong: machine.pagetable_map(table, *w),
        )
    assert machine.pagetable_map(table, virtual - page, physical - page) == OK
    assert machine.pagetable_get_translation(table, virtual - 1) == physical - 1


@pytest.mark.parametrize("pages", [0, 1])
def test_map_out_of_memory(small: Machine, pages: int) -> None:
    """A first page takes two tables: with fewer pages nothing changes, not even in part."""
    table = small.create_pagetable()
    take_all_pages(small, leave=pages)
    out = PagetableStatus.OUT_OF_MEMORY
    unchanged(small, out, lambda: small.pagetable_map(table, PAGE, 5 * PAGE))


def test_map_takes_a_table_for_each_missing_level_and_no_more(small: Machine) -> None:
    table = small.create_pagetable()
    taken = []
    for virtual in (0, PAGE, BLOCK, BLOCK + PAGE, BIG):
        before = small.physical_mem_info.free_pages_count
        assert small.pagetable_map(table, virtual, PAGE) == OK
        taken.append(int(before - small.physical_mem_info.free_pages_count))
    assert taken == [2, 0, 1, 0, 2]


@pytest.mark.parametrize("mapping", [Mapping(number) for number in range(16) if number % 4 != 3])
def test_the_mapping_reaches_the_entry(machine: Machine, mapping: Mapping) -> None:
    """At every level; a device is never executable on some hardware, and says so."""
    entries: Any = machine.kernel.virtual.entries  # type: ignore[attr-defined]
    page, table = page_of(machine), machine.create_pagetable()
    block = page * page // 8
    assert machine.pagetable_map(table, page, 7 * page, mapping) == OK
    assert machine.pagetable_map_linear(table, block, 2 * block, mapping) == OK
    allowed = {mapping, mapping | Mapping.NO_EXECUTE} if Mapping.DEVICE in mapping else {mapping}
    leaves = leaves_of(machine, table)
    assert [(virtual, physical) for virtual, (physical, _, _) in leaves.items()] == [
        (page, 7 * page),
        (block, block),
    ]
    for _, entry, level in leaves.values():
        assert entries.mapping(entry, level) in allowed


# pagetable_map_linear ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "end", "leaves"),
    [
        (0, PAGE, [0]),
        (PAGE, 3 * PAGE, [0, 0]),
        (0, BLOCK, [1]),
        (BLOCK - PAGE, BLOCK + PAGE, [0, 0]),
        (BLOCK - PAGE, 2 * BLOCK + PAGE, [0, 1, 0]),
        (0, BIG, [2]),
        (BIG - BLOCK - PAGE, 2 * BIG + BLOCK + PAGE, [0, 1, 2, 1, 0]),
        (PAGE, BLOCK + PAGE, [0] * 32),  # as long as a block, but not aligned to it
        (END - BIG, END, [2]),
    ],
)
def test_linear_uses_the_largest_blocks_that_fit(
    small: Machine, start: int, end: int, leaves: list[int]
) -> None:
    table = small.create_pagetable()
    assert small.pagetable_map_linear(table, start, end) == OK
    found = leaves_of(small, table)
    assert [level for _, _, level in found.values()] == leaves
    assert all(physical == virtual for virtual, (physical, _, _) in found.items())
    assert next(iter(found)) == start
    for address in range(start or PAGE, end, PAGE):
        assert small.pagetable_get_translation(table, address) == address
    assert small.pagetable_get_translation(table, end) is None


def test_linear_misaligned(machine: Machine) -> None:
    page, table = page_of(machine), machine.create_pagetable()
    for start, end in ((1, page), (0, page + 1), (8, page + 8)):
        unchanged(
            machine,
            PagetableStatus.MISALIGNED,
            lambda s=start, e=end: machine.pagetable_map_linear(table, s, e),
        )


def test_linear_not_translatable(machine: Machine) -> None:
    """Past what can be translated."""
    page, table = page_of(machine), machine.create_pagetable()
    entries: Any = machine.kernel.virtual.entries  # type: ignore[attr-defined]
    end = 1 << min(entries.address_bits, entries.physical_bits)
    for wrong in ((end - page, end + page), (end, end + page)):
        unchanged(
            machine,
            PagetableStatus.NOT_TRANSLATABLE,
            lambda w=wrong: machine.pagetable_map_linear(table, *w),
        )
    assert machine.pagetable_map_linear(table, end - page, end) == OK


@pytest.mark.parametrize("taken", [0, PAGE, BLOCK - PAGE, BLOCK, 2 * BLOCK + 5 * PAGE])
def test_linear_already_mapped_undoes_its_part(small: Machine, taken: int) -> None:
    """Anything in the way, and the whole range stays as it was."""
    table = small.create_pagetable()
    small.pagetable_map(table, taken, 7 * PAGE)
    unchanged(
        small,
        PagetableStatus.ALREADY_MAPPED,
        lambda: small.pagetable_map_linear(table, 0, 2 * BLOCK + 6 * PAGE),
    )


def test_linear_over_a_block_already_mapped(small: Machine) -> None:
    table = small.create_pagetable()
    small.pagetable_map_linear(table, BLOCK, 2 * BLOCK)
    for start, end in ((0, BIG), (BLOCK, 2 * BLOCK), (BLOCK - PAGE, BLOCK + PAGE), (0, 3 * BLOCK)):
        unchanged(
            small,
            PagetableStatus.ALREADY_MAPPED,
            lambda s=start, e=end: small.pagetable_map_linear(table, s, e),
        )


@pytest.mark.parametrize("pages", range(5))
def test_linear_out_of_memory_at_every_page(small: Machine, pages: int) -> None:
    """It takes 4 tables, to the left and to the right of a block; with less all is undone."""
    table = small.create_pagetable()
    take_all_pages(small, leave=pages)
    start, end = BIG - BLOCK - PAGE, 2 * BIG + 3 * BLOCK + PAGE
    if pages < 4:
        out = PagetableStatus.OUT_OF_MEMORY
        unchanged(small, out, lambda: small.pagetable_map_linear(table, start, end))
    else:
        assert small.pagetable_map_linear(table, start, end) == OK
        assert small.physical_mem_info.free_pages_count == 0


# pagetable_unmap --------------------------------------------------------------------------------


def test_unmap_gives_back_the_tables_that_become_empty(machine: Machine) -> None:
    """Not before they are, and never the root."""
    page, table = page_of(machine), machine.create_pagetable()
    empty = free_list(machine)
    assert machine.pagetable_map(table, page, 7 * page) == OK
    one = free_list(machine)
    assert machine.pagetable_map(table, 2 * page, 8 * page) == OK
    assert machine.pagetable_unmap(table, page) == OK
    assert free_list(machine) == one
    assert machine.pagetable_get_translation(table, page) is None
    assert machine.pagetable_get_translation(table, 2 * page) == 8 * page
    assert machine.pagetable_unmap(table, 2 * page) == OK
    assert free_list(machine) == empty
    assert machine.read_physical(table, page) == bytes(page)


def test_unmap_not_mapped(machine: Machine) -> None:
    """In an empty table, next to a page, and a second time."""
    page, table = page_of(machine), machine.create_pagetable()
    machine.pagetable_map(table, page, 7 * page)
    for virtual in (0, 2 * page, page * page // 8):
        unchanged(
            machine,
            PagetableStatus.NOT_MAPPED,
            lambda v=virtual: machine.pagetable_unmap(table, v),
        )
    assert machine.pagetable_unmap(table, page) == OK
    unchanged(machine, PagetableStatus.NOT_MAPPED, lambda: machine.pagetable_unmap(table, page))


def test_unmap_misaligned(machine: Machine) -> None:
    table, wrong = machine.create_pagetable(), page_of(machine) + 8
    machine.pagetable_map(table, page_of(machine), 0)
    unchanged(machine, PagetableStatus.MISALIGNED, lambda: machine.pagetable_unmap(table, wrong))


def test_unmap_not_translatable(small: Machine) -> None:
    """END would alias address 0."""
    table = small.create_pagetable()
    small.pagetable_map(table, 0, PAGE)
    status = PagetableStatus.NOT_TRANSLATABLE
    unchanged(small, status, lambda: small.pagetable_unmap(table, END))
    assert small.pagetable_get_translation(table, END) is None


@pytest.mark.parametrize("hole", [0, PAGE, 17 * PAGE, BLOCK - PAGE])
def test_unmap_splits_a_block_and_keeps_its_neighbours(small: Machine, hole: int) -> None:
    """The other 31 pages translate as before, with the same mapping."""
    table = small.create_pagetable()
    mapping = Mapping.USER_READ_ONLY | Mapping.NO_EXECUTE
    small.pagetable_map_linear(table, BLOCK, 2 * BLOCK, mapping)
    before = small.physical_mem_info.free_pages_count
    assert small.pagetable_unmap(table, BLOCK + hole) == OK
    assert small.physical_mem_info.free_pages_count == before - 1
    entries: Any = small.kernel.virtual.entries  # type: ignore[attr-defined]
    found = leaves_of(small, table)
    assert list(found) == [at for at in range(BLOCK, 2 * BLOCK, PAGE) if at != BLOCK + hole]
    for virtual, (physical, entry, level) in found.items():
        assert (physical, entries.mapping(entry, level), level) == (virtual, mapping, 0)


def test_unmap_splits_through_every_level(small: Machine) -> None:
    """A page out of 256 KiB leaves 31 blocks and 31 pages, and takes two tables."""
    table = small.create_pagetable()
    small.pagetable_map_linear(table, BIG, 2 * BIG)
    before = small.physical_mem_info.free_pages_count
    hole = BIG + 3 * BLOCK + 4 * PAGE
    assert small.pagetable_unmap(table, hole) == OK
    assert small.physical_mem_info.free_pages_count == before - 2
    levels = [int(level) for _, _, level in leaves_of(small, table).values()]
    assert (levels.count(0), levels.count(1), len(levels)) == (31, 31, 62)
    for address in range(BIG, 2 * BIG, PAGE):
        expected = None if address == hole else address
        assert small.pagetable_get_translation(table, address) == expected


@pytest.mark.parametrize("pages", [0, 1])
def test_unmap_out_of_memory_for_the_split(small: Machine, pages: int) -> None:
    table = small.create_pagetable()
    small.pagetable_map_linear(table, BIG, 2 * BIG)
    take_all_pages(small, leave=pages)
    out = PagetableStatus.OUT_OF_MEMORY
    unchanged(small, out, lambda: small.pagetable_unmap(table, BIG + PAGE))


def test_a_block_unmapped_page_by_page_leaves_nothing(small: Machine) -> None:
    table = small.create_pagetable()
    before = free_list(small)
    small.pagetable_map_linear(table, BLOCK, 2 * BLOCK)
    for address in range(BLOCK, 2 * BLOCK, PAGE):
        assert small.pagetable_unmap(table, address) == OK
    assert sorted(free_list(small)) == sorted(before)
    assert small.read_physical(table, PAGE) == bytes(PAGE)


def test_a_split_of_the_block_that_holds_its_table_panics() -> None:
    """While the block is broken, the kernel could not write the entry that mends it."""
    machine = flat(256)
    machine.init_memory()
    machine.enter_linear_space()
    table = machine.linear_space_info.pagetable
    with pytest.raises(KernelPanic, match="holds the table in use itself"):
        machine.pagetable_unmap(table, table)


# What the MMU is told ---------------------------------------------------------------------------


def told(machine: Machine, call: Callable[[], Any]) -> list[tuple[Any, ...]]:
    """What the MMU driver was asked for during ``call``."""
    calls: list[tuple[Any, ...]] = machine.kernel.mmu.calls  # type: ignore[attr-defined]
    calls.clear()
    assert call() == OK
    return list(calls)


def test_a_map_is_published_tables_before_they_are_linked(small: Machine) -> None:
    table = small.create_pagetable()
    first = told(small, lambda: small.pagetable_map(table, 0, PAGE))
    order = [("order_tables",)] * 2
    assert first == [*order, ("publish_range", table, 0, PAGE - 1)]
    second = told(small, lambda: small.pagetable_map(table, PAGE, PAGE))
    assert second == [("publish_page", table, PAGE)]


def test_an_unmap_is_retired_once_as_a_page_or_with_its_tables(small: Machine) -> None:
    table = small.create_pagetable()
    small.pagetable_map(table, 5 * PAGE, PAGE)
    small.pagetable_map(table, 6 * PAGE, PAGE)
    first = told(small, lambda: small.pagetable_unmap(table, 5 * PAGE))
    assert first == [("retire_page", table, 5 * PAGE)]
    last = told(small, lambda: small.pagetable_unmap(table, 6 * PAGE))
    assert last == [("retire_range", table, 6 * PAGE, 7 * PAGE - 1)]


def test_a_split_is_break_before_make(small: Machine) -> None:
    """The new table is published, the block retired, the table linked and published."""
    table = small.create_pagetable()
    small.pagetable_map_linear(table, BLOCK, 2 * BLOCK)
    calls = told(small, lambda: small.pagetable_unmap(table, BLOCK))
    at = BLOCK
    split = [("order_tables",), ("retire_page", table, at), ("publish_range", table, at, at)]
    assert calls == [*split, ("retire_page", table, BLOCK)]


def test_a_split_through_every_level_at_both_ends_breaks_one_entry(small: Machine) -> None:
    """The tables for all of it are made before: no entry of a new one is broken again."""
    table = small.create_pagetable()
    small.pagetable_map_linear(table, BIG, 2 * BIG)
    start, length = BIG + BLOCK - PAGE, 3 * BLOCK
    calls = told(small, lambda: small.pagetable_unmap_range(table, start, length))
    split = [("retire_page", table, start), ("publish_range", table, start, start)]
    assert calls == [("order_tables",), *split, ("retire_range", table, start, start + length - 1)]
    levels = [int(level) for _, _, level in leaves_of(small, table).values()]
    assert (levels.count(0), levels.count(1)) == (31 + 1, 28)


# enable_pagetable, switch_pagetable -------------------------------------------------------------


def test_enable_twice_panics_and_names_switch(booted: Machine) -> None:
    table = booted.virtual_mem_info.current_pagetable
    with pytest.raises(KernelPanic, match="the MMU is on already; use switch_pagetable"):
        booted.enable_pagetable(table)


def test_switch_before_enable_panics_and_names_enable(machine: Machine) -> None:
    table = machine.create_pagetable()
    with pytest.raises(KernelPanic, match="the MMU is off; use enable_pagetable first"):
        machine.switch_pagetable(table)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("create_pagetable", 0),
        ("delete_pagetable", 1),
        ("pagetable_map", 3),
        ("pagetable_map_linear", 3),
        ("pagetable_unmap", 2),
        ("pagetable_get_translation", 2),
    ],
)
def test_calls_outside_the_linear_space_panic(booted: Machine, name: str, arguments: int) -> None:
    with pytest.raises(KernelPanic, match="physical memory is not addressable here"):
        booted.call(name, *[page_of(booted)] * arguments)


# Against a dictionary ---------------------------------------------------------------------------

VIRTUAL = st.integers(0, 3 * 32).map(lambda page: page * PAGE + (page // 32) * (BIG - BLOCK))
PAGES = st.integers(1, 300).map(lambda page: page * PAGE)
MAPPINGS = st.sampled_from([Mapping.KERNEL, Mapping.USER_READ_ONLY, Mapping.USER_READ_WRITE])


class Translations(RuleBasedStateMachine):
    """Page tables against a dictionary from page to page; at most 12 pages for tables."""

    @initialize()
    def start(self) -> None:
        """A table, and few pages."""
        self.machine = flat(12)
        self.machine.init_physical_memory_manager()
        self.table = self.machine.create_pagetable()
        self.expected: dict[int, tuple[int, Mapping]] = {}
        self.fresh = set(free_list(self.machine))

    @rule(virtual=VIRTUAL, physical=PAGES, mapping=MAPPINGS)
    def map(self, virtual: int, physical: int, mapping: Mapping) -> None:
        """A page."""
        before = state(self.machine)
        status = self.machine.pagetable_map(self.table, virtual, physical, mapping)
        if status == OK:
            assert virtual not in self.expected
            self.expected[virtual] = (physical, mapping)
        else:
            assert state(self.machine) == before
            assert (virtual in self.expected) == (status == PagetableStatus.ALREADY_MAPPED)

    @rule(start=VIRTUAL, pages=st.integers(1, 70) | st.sampled_from([32, 64, 1024]))
    def map_linear(self, start: int, pages: int) -> None:
        """A range."""
        before = state(self.machine)
        end = start + pages * PAGE
        status = self.machine.pagetable_map_linear(self.table, start, end)
        taken = any(start <= virtual < end for virtual in self.expected)
        if status == OK:
            assert not taken
            for virtual in range(start, end, PAGE):
                self.expected[virtual] = (virtual, Mapping.KERNEL)
        else:
            assert state(self.machine) == before
            assert taken or status == PagetableStatus.OUT_OF_MEMORY

    @rule(virtual=VIRTUAL)
    def unmap(self, virtual: int) -> None:
        """A page, perhaps out of a block."""
        before = state(self.machine)
        status = self.machine.pagetable_unmap(self.table, virtual)
        if status == OK:
            del self.expected[virtual]
        else:
            assert state(self.machine) == before
            assert (virtual not in self.expected) == (status == PagetableStatus.NOT_MAPPED)

    @rule()
    def unmap_everything(self) -> None:
        """Tear down to no table but the root."""
        for virtual in sorted(self.expected):
            if self.machine.pagetable_unmap(self.table, virtual) == OK:
                del self.expected[virtual]
        if not self.expected:
            assert set(free_list(self.machine)) == self.fresh
            assert self.machine.read_physical(self.table, PAGE) == bytes(PAGE)

    @invariant()
    def translates_as_expected(self) -> None:
        """Every leaf is in the dictionary, and nothing more; no table is empty or lost."""
        machine = self.machine
        entries: Any = machine.kernel.virtual.entries  # type: ignore[attr-defined]
        found: dict[int, tuple[int, Mapping]] = {}
        for virtual, (physical, entry, level) in leaves_of(machine, self.table).items():
            for offset in range(0, 1 << int(entries.shift(level)), PAGE):
                mapping = entries.mapping(entry, level)
                found[virtual + offset] = (physical + offset, mapping)
        assert found == self.expected
        for virtual, (physical, _) in list(found.items())[:: max(1, len(found) // 8)]:
            translated = machine.pagetable_get_translation(self.table, virtual + 9)
            assert translated == physical + 9
        tables = set(pages_in_use(machine)) - {self.table}
        roots = {virtual // BIG for virtual in self.expected}
        assert len(tables) <= len(roots) + len({virtual // BLOCK for virtual in self.expected})

    def teardown(self) -> None:
        """delete_pagetable gives everything back."""
        if hasattr(self, "table"):
            self.machine.delete_pagetable(self.table)
            assert len(free_list(self.machine)) == 12


TestTranslations = Translations.TestCase
TestTranslations.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)

assert SEGMENT.end <= END
