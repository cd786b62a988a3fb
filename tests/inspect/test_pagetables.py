"""Page tables as they are read from outside: what the kernel lists, and whatever damage does."""

from __future__ import annotations

import random
from typing import Any

import pytest

from kernmem.hardware import HARDWARE
from kernmem.inspect import MappedRange, read_pagetable
from kernmem.language import u32
from kernmem.machine.model import Model
from kernmem.memory.architecture import Mapping
from kernmem.memory.manager import MemoryManager
from kernmem.memory.mappings import PagetableRange
from kernmem.memory.pagetable import PagetableStatus
from kernmem.memory.profile import spec

MAPPINGS = (
    Mapping.NO_ACCESS,
    Mapping.KERNEL,
    Mapping.READ_ONLY,
    Mapping.USER_READ_ONLY | Mapping.NO_EXECUTE,
    Mapping.USER_READ_WRITE,
    Mapping.DEVICE | Mapping.NO_EXECUTE,
)


class Tables:
    """A machine with its MMU off, where all memory can be addressed, and an empty table."""

    def __init__(self, board: str, seed: int = 1) -> None:
        self.random = random.Random(seed)
        self.machine = Model(
            HARDWARE[board], lambda image, parts: MemoryManager(image, parts, spec())
        )
        self.machine.init_physical_memory_manager()
        parts: Any = self.machine.kernel
        self.entries = parts.virtual.entries
        self.page = int(self.entries.page_length)
        self.root = int(self.machine.create_pagetable())

    def address(self) -> int:
        """A page anywhere in the addresses that a root translates, often at the border of a table.

        Few differ in the index of a level, so that they meet.
        """
        entries = self.entries
        address = 0
        for level in range(entries.levels):
            last = int(entries.table_length(u32(level))) - 1
            index = self.random.choice((0, 1, 2, 3, last // 2, last // 2 + 1, last - 1, last))
            address |= index << int(entries.shift(u32(level)))
        address %= (entries.last_virtual + 1) << entries.upper_half
        if address > entries.last_virtual:
            address += entries.upper_start - (entries.last_virtual + 1)
        return address

    def fill(self) -> None:
        """Map ranges at random, of up to three pages or blocks of any level, where nothing is."""
        for number in range(40):
            address = self.address()
            level = u32(self.random.randrange(self.entries.block_levels + 1))
            length = 1 << int(self.entries.shift(level))
            address -= address % length
            frame = self.random.choice((address, 0, length)) % (1 << self.entries.physical_bits)
            self.machine.pagetable_map_range(
                self.root,
                address,
                frame,
                length * self.random.randrange(1, 4),
                MAPPINGS[number % len(MAPPINGS)],
            )

    def free_pages(self) -> int:
        """How many pages are left."""
        return int(self.machine.physical_mem_info.free_pages_count)

    def listed(self) -> list[MappedRange]:
        """What the kernel's own walk lists."""
        page = self.machine.alloc_physical_page()
        self.machine.write_physical(page, bytes(64))
        found = self.machine.reference(PagetableRange, page)
        ranges = []
        while self.machine.pagetable_next_range(self.root, found):
            numbers = (int(found.virtual), int(found.physical), int(found.length))
            ranges.append(MappedRange(*numbers, Mapping(int(found.mapping)), int(found.level)))
        self.machine.free_physical_page(page)
        return ranges


@pytest.mark.parametrize(
    "board",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in ("virt-16k", "virt-64k") else name
        for name in HARDWARE
    ],
)
def test_the_view_and_the_kernels_own_walk_agree(board: str) -> None:
    """Two walks that share no code, over random tables: every range, level, flag and guard."""
    tables = Tables(board)
    tables.fill()
    found = read_pagetable(tables.machine, tables.root)
    assert found.problems == ()
    assert list(found.ranges) == tables.listed()
    levels = {each.level for each in found.ranges}
    assert levels == set(range(tables.entries.block_levels + 1))
    assert any(Mapping.NO_ACCESS in each.mapping for each in found.ranges)
    used = int(tables.machine.physical_mem_info.page_quantity - tables.free_pages())
    assert len(found.tables) == used - (tables.entries.root_pages - 1)


@pytest.mark.parametrize("board", HARDWARE)
def test_no_damage_stops_the_view(board: str) -> None:
    """Random words and flipped bits in every table: it ends, and follows no table twice."""
    tables = Tables(board, seed=3)
    tables.fill()
    size = tables.entries.entry_length
    problems: set[str] = set()
    for _ in range(20):
        for table in read_pagetable(tables.machine, tables.root).tables:
            place = table + size * tables.random.randrange(4)
            entry = int.from_bytes(tables.machine.read_physical(place, size), "little")
            flipped = entry ^ 1 << tables.random.randrange(8 * size)
            damage = tables.random.choice((flipped, tables.random.getrandbits(8 * size)))
            tables.machine.write_physical(place, damage.to_bytes(size, "little"))
        found = read_pagetable(tables.machine, tables.root)
        assert len(set(found.tables)) == len(found.tables)
        problems.update(found.problems)
    assert problems


def test_a_table_below_the_lowest_level_is_damage() -> None:
    """On RISC-V an entry of level 0 without R, W and X would lead to one."""
    tables = Tables("riscv-virt")
    assert tables.machine.pagetable_map(tables.root, 0, 0) == PagetableStatus.OK
    place = read_pagetable(tables.machine, tables.root).tables[-1] + 8 * 5
    tables.machine.write_physical(place, (0x8000_0000 >> 2 | 1).to_bytes(8, "little"))
    found = read_pagetable(tables.machine, tables.root)
    assert found.problems == (f"{place:#x} leads to a table, at level 0",)


def test_what_is_not_for_everybody_is_said() -> None:
    """Read-only, uncached and without access, beside what is for user code."""
    tables = Tables("virt")
    mappings = (Mapping.READ_ONLY, Mapping.UNCACHED | Mapping.NO_EXECUTE, Mapping.NO_ACCESS)
    for number, mapping in enumerate(mappings):
        tables.machine.pagetable_map(tables.root, number * tables.page, 0, mapping)
    assert [line.split("KiB  ")[1] for line in str(
        read_pagetable(tables.machine, tables.root)
    ).splitlines()[2:]] == [
        "kernel r- user -- x normal    page  (level 0)",
        "kernel rw user -- - uncached  page  (level 0)",
        "kernel -- user -- - normal    page  (level 0)",
    ]  # fmt: skip
