"""Ranges of page tables on every architecture: made by the kernel, judged by its strict MMU.

What a call may and may not do is specified on small flat machines, in ``tests/memory``.  Here the
tables have the forms of real ones and are in use while they change, so a mapping is what an access
meets, and each missing barrier or invalidation is a violation.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest

from kernmem.hardware import HARDWARE, virt
from kernmem.hardware.flat_tree import TreeNode, cells, flatten, wide
from kernmem.hardware.simulation import Access
from kernmem.inspect import MappedRange, read_pagetable
from kernmem.language import KernelPanic, PageFault, u32
from kernmem.machine.model import Model
from kernmem.memory.architecture import Mapping, Region
from kernmem.memory.manager import MemoryManager
from kernmem.memory.pagetable import PagetableStatus
from kernmem.memory.profile import spec

OK = PagetableStatus.OK
GIB = 1 << 30
LONG_TABLES = ("lab", "virt-16k", "virt-64k")
BOARDS = [
    pytest.param(name, marks=pytest.mark.slow) if name in LONG_TABLES else name
    for name in HARDWARE
    if name not in ("rpi3", "riscv-virt-mmode")
]
"""All forms of tables: the two boards that are left out have those of others."""


@cache
def booted(board: str) -> tuple[Model, Any]:
    """A machine in its linear space, and its state."""
    machine = Model(HARDWARE[board], lambda image, parts: MemoryManager(image, parts, spec()))
    machine.init_memory()
    machine.enter_linear_space()
    return machine, machine.snapshot()


class Space:
    """The linear space of a board, which is in use, and the addresses beyond all that it maps.

    Attributes:
        table: its root.
        start: an address from which on nothing is mapped, and any block may begin.
        hole: a physical address with nothing behind it, where any block may begin.
    """

    def __init__(self, board: str) -> None:
        self.machine, fresh = booted(board)
        self.machine.restore(fresh)
        parts: Any = self.machine.kernel
        self.entries = parts.virtual.entries
        self.page = int(self.entries.page_length)
        self.levels = range(1, self.entries.block_levels + 1)
        places = parts.physical.memory_map
        most = self.length(self.entries.block_levels)
        self.start = -(-max(places.linear_end, places.segment_end) // most) * most
        self.hole = -(-max(ram.end for ram in self.machine.hardware.ram) // most) * most
        self.table = int(self.machine.linear_space_info.pagetable)
        self.before = self.listed()

    def length(self, level: int) -> int:
        """The bytes that an entry of a level maps."""
        return 1 << int(self.entries.shift(u32(level)))

    def free(self) -> int:
        """How many pages are free."""
        return int(self.machine.physical_mem_info.free_pages_count)

    def listed(self) -> tuple[MappedRange, ...]:
        """What the table in use maps."""
        found = read_pagetable(self.machine, self.table)
        assert not found.problems
        return found.ranges

    def new(self) -> list[tuple[int, int, int, int]]:
        """What the test has mapped: (address, frame, length, level) of each range."""
        return [
            (each.virtual, each.physical, each.length, each.level)
            for each in self.listed()
            if each not in self.before
        ]

    def map(
        self, address: int, frame: int, length: int, mapping: Mapping = Mapping.KERNEL
    ) -> PagetableStatus:
        """Map a range."""
        call = self.machine.pagetable_map_range
        return PagetableStatus(call(self.table, address, frame, length, mapping))

    def unmap(self, address: int, length: int) -> PagetableStatus:
        """Unmap a range."""
        call = self.machine.pagetable_unmap_range
        return PagetableStatus(call(self.table, address, length))

    def protect(self, address: int, length: int, mapping: Mapping) -> PagetableStatus:
        """Give a range other flags."""
        call = self.machine.pagetable_protect_range
        return PagetableStatus(call(self.table, address, length, mapping))

    def goes(self, address: int, access: Access = Access.READ, *, user: bool = False) -> int | None:
        """Where an access goes; None if it faults."""
        try:
            return self.machine.memory.mmu.translate(address, access, user=user).physical
        except PageFault:
            return None

    def rights(self, address: int) -> tuple[Any, ...]:
        """All that the MMU lets anybody do at an address, and whether it is a device."""
        accesses = [(access, user) for access in Access for user in (False, True)]
        allowed = [self.goes(address, access, user=user) is not None for access, user in accesses]
        if self.goes(address) is None:
            return tuple(allowed)
        return (*allowed, self.machine.memory.mmu.translate(address, Access.READ).normal)

    def take_all_pages(self) -> None:
        """Leave no page for tables."""
        count = self.free()
        while count:
            while self.free() >= count:
                if self.machine.alloc_physical_pages(count, 0, 0) is None:
                    break
            count //= 2
        assert self.free() == 0

    def refuses(self, status: PagetableStatus, call: Callable[[], PagetableStatus]) -> None:
        """A call gives this status, and neither a table nor the number of pages changes."""
        before, free = self.listed(), self.free()
        assert call() == status
        assert (self.listed(), self.free()) == (before, free)


@pytest.fixture(params=BOARDS)
def space(request: pytest.FixtureRequest) -> Space:
    """Every architecture in turn."""
    return Space(request.param)


# Blocks -----------------------------------------------------------------------------------------


def test_a_range_as_long_as_a_block_and_aligned_alike_is_one_entry(space: Space) -> None:
    """At every level with blocks: no table is made below it, and the next byte is not mapped."""
    root_level = space.entries.levels - 1
    for level in space.levels:
        length = space.length(level)
        assert space.map(space.start, space.hole, length) == OK
        assert space.new() == [(space.start, space.hole, length, level)]
        assert space.goes(space.start) == space.hole
        assert space.goes(space.start + length - 1) == space.hole + length - 1
        assert space.goes(space.start + length) is None
        assert space.unmap(space.start, length) == OK
        table = space.machine.create_pagetable()
        free = space.free()
        status = space.machine.pagetable_map_range(table, space.start, space.hole, length)
        assert status == OK
        assert free - space.free() == root_level - level


def test_frames_aligned_less_than_the_addresses_are_mapped_by_smaller_leaves(space: Space) -> None:
    """Off by one leaf of the level below, and not a single block of this one."""
    for level in space.levels:
        length, below = space.length(level), space.length(level - 1)
        assert space.map(space.start, space.hole + below, length) == OK
        assert space.new() == [(space.start, space.hole + below, length, level - 1)]
        assert space.goes(space.start + length - 1) == space.hole + below + length - 1
        assert space.unmap(space.start, length) == OK


def test_a_range_a_little_shorter_or_longer_than_a_block(space: Space) -> None:
    """Shorter: only smaller leaves.  Longer: a block, and a smaller leaf."""
    for level in space.levels:
        length, below = space.length(level), space.length(level - 1)
        assert space.map(space.start, space.hole, length - below) == OK
        assert space.new() == [(space.start, space.hole, length - below, level - 1)]
        assert space.goes(space.start + length - below) is None
        assert space.unmap(space.start, length - below) == OK
        assert space.map(space.start, space.hole, length + below) == OK
        assert space.new() == [
            (space.start, space.hole, length, level),
            (space.start + length, space.hole + length, below, level - 1),
        ]
        assert space.goes(space.start + length + below) is None
        assert space.unmap(space.start, length + below) == OK


# Borders ----------------------------------------------------------------------------------------


def test_a_range_over_the_border_of_two_tables_of_each_level(space: Space) -> None:
    """Up to the border of two entries of the root, if there is one beyond all that is mapped."""
    free = space.free()
    for level in range(1, space.entries.levels):
        length = space.length(level)
        border = -(-(space.start + 2 * space.page) // length) * length
        if not space.entries.translates(border, border):
            continue
        at = border - 2 * space.page
        assert space.map(at, space.hole, 3 * space.page) == OK
        assert space.goes(at - 1) is None
        for offset in (0, 2 * space.page - 1, 2 * space.page, 3 * space.page - 1):
            assert space.goes(at + offset) == space.hole + offset
        assert space.goes(border + space.page) is None
        assert space.unmap(at, 3 * space.page) == OK
    assert space.free() == free


def test_the_last_addresses_that_there_are(space: Space) -> None:
    """Pages and a block that end there; what comes after, and the address 0, stay as they are."""
    entries = space.entries
    width = 8 * space.machine.hardware.target.pointer_bytes
    end = 1 << width if entries.upper_half else 1 << entries.address_bits
    zero = space.goes(0)
    for length in (2 * space.page, space.length(1), space.length(1) + space.page):
        start = end - length
        assert space.map(start, space.hole + -length % space.length(1), length) == OK
        assert sum(found for _, _, found, _ in space.new()) == length
        last = space.goes(end - 1)
        assert last is not None
        assert last % space.page == space.page - 1
        assert space.goes(start - 1) is None
        assert space.goes(0) == zero
        assert space.protect(end - space.page, space.page, Mapping.READ_ONLY) == OK
        assert space.goes(end - 1, Access.WRITE) is None
        assert space.goes(end - space.page - 1, Access.WRITE) is not None
        assert space.unmap(start, length) == OK
        assert space.goes(end - 1) is None
        assert space.listed() == space.before


def test_ranges_that_no_table_can_hold(space: Space) -> None:
    """Beyond the end, wrapping round, in the hole between the halves: a status, and no change."""
    entries, page = space.entries, space.page
    end = 1 << 8 * space.machine.hardware.target.pointer_bytes
    lower = 1 << entries.address_bits
    wrong = [(end - page, 2 * page, PagetableStatus.WRAPPING_RANGE)]
    if lower < end:
        wide = PagetableStatus.NOT_TRANSLATABLE
        wrong += [(lower, page, wide), (lower - page, 2 * page, wide)]
        wrong += [((lower | 1 << 55) % end, page, wide)] if lower <= 1 << 55 else []
    if entries.upper_half:
        wrong += [(end - lower - page, page, wide), (end - lower - page, 2 * page, wide)]
    for start, length, status in wrong:
        space.refuses(status, lambda s=start, n=length: space.map(s, space.hole, n))
        space.refuses(status, lambda s=start, n=length: space.unmap(s, n))
    for address, frame, length, status in (
        (space.start, space.hole, 0, PagetableStatus.EMPTY_RANGE),
        (space.start, space.hole, page - 1, PagetableStatus.MISALIGNED),
        (space.start + 1, space.hole, page, PagetableStatus.MISALIGNED),
        (space.start, space.hole + page // 2, page, PagetableStatus.MISALIGNED),
    ):
        space.refuses(status, lambda a=address, f=frame, n=length: space.map(a, f, n))


def test_frames_beyond_the_width_of_an_entry(space: Space) -> None:
    """The last one is mapped; one more is refused."""
    end = 1 << space.entries.physical_bits
    page = space.page
    assert space.map(space.start, end - page, page) == OK
    assert space.goes(space.start + page - 1) == end - 1
    if end < 1 << 8 * space.machine.hardware.target.pointer_bytes:
        wide = PagetableStatus.NOT_TRANSLATABLE
        space.refuses(wide, lambda: space.map(space.start + page, end, page))
    wide = PagetableStatus.NOT_TRANSLATABLE
    space.refuses(wide, lambda: space.map(space.start + page, end - page, 2 * page))


@pytest.mark.parametrize("board", ["virt", "pc", "riscv-virt", "armv7-virt"])
def test_a_range_of_several_tables(board: str) -> None:
    """All are given back when no walk can come through them any more."""
    space = Space(board)
    free = space.free()
    length = 4 * space.length(1)
    assert space.map(space.start, space.hole + space.page, length) == OK
    assert {level for *_, level in space.new()} == {0}
    assert space.goes(space.start + length - 1) == space.hole + space.page + length - 1
    assert space.unmap(space.start, length) == OK
    assert all(space.goes(space.start + at) is None for at in range(0, length, space.length(1)))
    assert (space.listed(), space.free()) == (space.before, free)


# Parts of blocks --------------------------------------------------------------------------------

KINDS = (
    Mapping.KERNEL,
    Mapping.READ_ONLY | Mapping.NO_EXECUTE,
    Mapping.USER_READ_ONLY,
    Mapping.USER_READ_WRITE | Mapping.NO_EXECUTE,
    Mapping.DEVICE,
    Mapping.UNCACHED,
    Mapping.NO_ACCESS,
)


def test_the_rest_of_a_block_keeps_frames_rights_and_memory_type(space: Space) -> None:
    """A page of a block goes, or gets other flags; at every level, however the block is mapped."""
    changes = itertools.cycle(itertools.product(("first", "middle", "last"), (True, False)))
    for level, mapping, (part, unmaps) in zip(
        (level for level in space.levels for _ in KINDS),
        itertools.cycle(KINDS),
        changes,
        strict=False,
    ):
        if mapping | space.entries.mappings != space.entries.mappings:
            continue
        length = space.length(level)
        changed = {"first": 0, "middle": length // 2, "last": length - space.page}[part]
        at, frame = space.start + changed, space.hole + changed
        assert space.map(space.start, space.hole, length, mapping) == OK
        rights = space.rights(space.start)
        if unmaps:
            assert space.unmap(at, space.page) == OK
            assert space.goes(at) is None
        else:
            assert space.protect(at, space.page, Mapping.USER_READ_ONLY) == OK
            assert space.goes(at, user=True) == frame
            assert space.goes(at, Access.WRITE) is None
        around = (changed - space.page, changed + space.page, 0, length // 3, length - space.page)
        for offset in {each for each in around if 0 <= each < length and each != changed}:
            assert space.rights(space.start + offset) == rights
            if mapping != Mapping.NO_ACCESS:
                assert space.goes(space.start + offset) == space.hole + offset
        assert sum(found for _, _, found, _ in space.new()) == length - space.page * unmaps
        if unmaps:
            assert space.map(at, frame, space.page, mapping) == OK
        assert space.unmap(space.start, length) == OK
        assert space.listed() == space.before


def test_without_a_page_for_its_tables_a_block_stays_whole(space: Space) -> None:
    """Neither unmapped nor protected, and translated as before."""
    out = PagetableStatus.OUT_OF_MEMORY
    level = space.levels[-1]
    length = space.length(level)
    assert space.map(space.start, space.hole, length) == OK
    space.take_all_pages()
    at = space.start + length // 2
    space.refuses(out, lambda: space.unmap(at, space.page))
    space.refuses(out, lambda: space.protect(at, space.page, Mapping.READ_ONLY))
    assert space.goes(at, Access.WRITE) == space.hole + length // 2
    assert space.unmap(space.start, length) == OK


def test_tables_may_be_made_of_pages_of_the_block_that_they_split(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Blocks of 1 GiB of the linear space, which is in use, through two levels.

    There is little RAM before that of the block: the kernel enters it page by page.
    """
    ram = (Region(virt.RAM.start, virt.RAM.start + (1 << 24)), Region(2 * GIB - (1 << 24), 3 * GIB))
    places = b"".join(wide(each.start, each.end - each.start) for each in ram)
    memory = TreeNode("memory", {"device_type": b"memory\0", "reg": places})
    tree = flatten(
        TreeNode("", {"#address-cells": cells(2), "#size-cells": cells(2)}, (memory,)),
        least=virt.TREE_LENGTH,
    )
    monkeypatch.setattr(virt, "device_tree", lambda: tree)
    hardware = dataclasses.replace(virt.VIRT, ram=ram)
    machine = Model(hardware, lambda image, parts: MemoryManager(image, parts, spec()))
    machine.init_memory()
    machine.enter_linear_space()
    table = machine.linear_space_info.pagetable
    pages = machine.alloc_physical_pages(4, GIB, 0)  # of another GiB than program and tables
    assert pages % GIB == 0
    machine.free_physical_pages(pages, 4)
    machine.free_physical_page(machine.alloc_physical_page())
    at = pages + 0x5000
    blocks = [each for each in read_pagetable(machine, table).ranges if each.level == 2]
    assert any(each.virtual <= at < each.virtual + each.length for each in blocks)
    assert machine.pagetable_protect_range(table, at, 0x3000, Mapping.READ_ONLY) == OK
    leaf = [each for each in read_pagetable(machine, table).ranges if each.virtual == at]
    assert [(each.length, each.mapping) for each in leaf] == [(0x3000, Mapping.READ_ONLY)]
    assert set(read_pagetable(machine, table).tables) & set(range(pages, pages + 0x4000, 0x1000))
    machine.store(pages + 0x8000, 5)
    with pytest.raises(PageFault):
        machine.store(at, 5)


@pytest.mark.parametrize("board", ["pc", "armv7-virt"])
def test_a_block_that_holds_the_program_but_no_table_is_not_split(board: str) -> None:
    """Not in the space in use: between break and make the next instruction would not be there."""
    space = Space(board)
    program = space.machine.hardware.program.start
    with pytest.raises(KernelPanic, match=f"the block around {program:#x} holds the running prog"):
        space.protect(program, space.page, Mapping.READ_ONLY)


# Against a dictionary ---------------------------------------------------------------------------


class Soup:
    """Random calls around the border of two blocks, and a dictionary of what they should do."""

    FLAGS = (
        Mapping.KERNEL,
        Mapping.READ_ONLY,
        Mapping.USER_READ_ONLY | Mapping.NO_EXECUTE,
        Mapping.USER_READ_WRITE,
        Mapping.DEVICE | Mapping.NO_EXECUTE,
        Mapping.NO_ACCESS,
    )

    def __init__(self, space: Space, seed: int) -> None:
        self.space = space
        self.random = random.Random(seed)
        self.block = space.length(1) // space.page  # in pages
        self.known: dict[int, tuple[int, Mapping]] = {}

    def span(self) -> tuple[int, int]:
        """The first page and the number of pages of a call: at blocks, near them, anywhere."""
        first = self.random.choice((0, self.block, 2 * self.block, self.random.randrange(64)))
        first += self.random.choice((0, 0, self.random.randrange(-4, 5)))
        count = self.random.choice((self.block, 1, 2, self.random.randrange(1, 16)))
        return max(first, 0), count

    def statuses(self, pages: range, *, mapped: bool) -> PagetableStatus:
        """What a call on these pages must give."""
        if all((page in self.known) == mapped for page in pages):
            return OK
        return PagetableStatus.NOT_MAPPED if mapped else PagetableStatus.ALREADY_MAPPED

    def step(self) -> Iterator[int]:
        """One call; the pages where its effect begins and ends."""
        space = self.space
        first, count = self.span()
        pages = range(first, first + count)
        start, length = space.start + first * space.page, count * space.page
        mapping = self.random.choice(self.FLAGS)
        call = self.random.choice(("map", "map", "unmap", "protect"))
        wanted = self.statuses(pages, mapped=call != "map")
        if call == "map":
            frame = first + self.random.choice((0, 0, 1, self.block))
            at = space.hole + frame * space.page
            assert space.map(start, at, length, mapping) == wanted
            new = {page: (frame + page - first, mapping) for page in pages}
        elif call == "unmap":
            assert space.unmap(start, length) == wanted
            new = {}
        else:
            assert space.protect(start, length, mapping) == wanted
            new = {page: (self.known.get(page, (0,))[0], mapping) for page in pages}
        if wanted == OK:
            for page in pages:
                self.known.pop(page, None)
            self.known.update(new)
        yield from (first - 1, first, first + count // 2, pages[-1], pages[-1] + 1)

    def check(self, page: int) -> None:
        """An access to a page meets what the dictionary says."""
        if page < 0:
            return
        space = self.space
        address = space.start + page * space.page
        frame, mapping = self.known.get(page, (0, Mapping.NO_ACCESS))
        goes = space.hole + frame * space.page
        found = space.goes(address), space.goes(address, Access.WRITE, user=True)
        readable = Mapping.NO_ACCESS not in mapping
        writable = Mapping.USER_READ_WRITE in mapping
        assert found == (goes if readable else None, goes if writable else None), hex(address)

    def check_all(self) -> None:
        """The table lists the dictionary, page by page, and nothing more."""
        space = self.space
        listed = {}
        for each in space.listed():
            if each in space.before:
                continue
            for offset in range(0, each.length, space.page):
                page = (each.virtual + offset - space.start) // space.page
                listed[page] = ((each.physical + offset - space.hole) // space.page, each.mapping)
        assert listed == self.known


def test_random_calls_against_a_dictionary(space: Space) -> None:
    """Each call's status, and what accesses meet; at the end no table is left over.

    Tables are made of pages that are full of ones.
    """
    free = space.free()
    pages = [space.machine.alloc_physical_page() for _ in range(16)]
    for page in pages:
        space.machine.write_physical(page, b"\xff" * space.page)
        space.machine.free_physical_page(page)
    soup = Soup(space, seed=7)
    for number in range(120 if soup.block <= 512 else 30):
        for page in soup.step():
            soup.check(page)
        if number % 10 == 0:
            soup.check_all()
    soup.check_all()
    while soup.known:
        first = min(soup.known)
        end = next(page for page in range(first, first + 10**6) if page not in soup.known)
        assert space.unmap(space.start + first * space.page, (end - first) * space.page) == OK
        for page in range(first, end):
            del soup.known[page]
    assert (space.listed(), space.free()) == (space.before, free)
