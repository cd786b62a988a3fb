"""Global pages: cached for all spaces at once, and so told to the MMU for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flat import PAGE, flat

from kernmem.hardware import find
from kernmem.language import ModelViolation, PageFault
from kernmem.machine.model import Model
from kernmem.machine.port import Machine
from kernmem.memory.architecture import Mapping
from kernmem.memory.manager import MemoryManager
from kernmem.memory.pagetable import PagetableStatus
from kernmem.memory.profile import tuned

OK = PagetableStatus.OK
GLOBAL = Mapping.GLOBAL
BLOCK = 32 * PAGE  # of the flat machine
BOARDS = ("virt", "pc", "riscv-virt", "armv7-virt")


# What the MMU is told -----------------------------------------------------------------------


@pytest.fixture
def small() -> Machine:
    """A flat machine, with its physical memory manager up."""
    machine = flat()
    machine.init_physical_memory_manager()
    return machine


def told(machine: Machine, call: Callable[[], Any]) -> list[str]:
    """What the MMU driver was asked for during ``call``, with a star if for global pages."""
    calls: list[tuple[Any, ...]] = machine.kernel.mmu.calls  # type: ignore[attr-defined]
    calls.clear()
    assert call() == OK
    return [name + "*" * ("global" in arguments) for name, *arguments in calls]


def test_a_mapping_is_global_if_its_flags_say_so(small: Machine) -> None:
    table = small.create_pagetable()
    small.pagetable_map(table, 0, PAGE)
    one = small.pagetable_map
    assert told(small, lambda: one(table, PAGE, PAGE)) == ["publish_page"]
    assert told(small, lambda: one(table, 2 * PAGE, PAGE, GLOBAL)) == ["publish_page*"]
    many = small.pagetable_map_range
    assert told(small, lambda: many(table, 3 * PAGE, 0, 2 * PAGE, GLOBAL)) == ["publish_range*"]


@pytest.mark.parametrize("is_global", [0, 3, 5])
def test_an_unmapping_is_global_if_one_of_its_leaves_is(small: Machine, is_global: int) -> None:
    """The first, the last or one in between; not one beside it."""
    table = small.create_pagetable()
    for number in range(8):
        mapping = GLOBAL if number in (is_global, 6) else Mapping.KERNEL
        assert small.pagetable_map(table, number * PAGE, PAGE, mapping) == OK
    unmap = small.pagetable_unmap_range
    assert told(small, lambda: unmap(table, 0, 6 * PAGE)) == ["retire_range*"]
    assert told(small, lambda: unmap(table, 7 * PAGE, PAGE)) == ["retire_page"]
    assert told(small, lambda: unmap(table, 6 * PAGE, PAGE)) == ["retire_range*"]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (Mapping.KERNEL, Mapping.READ_ONLY, ["retire_range"]),
        (GLOBAL, GLOBAL | Mapping.READ_ONLY, ["retire_range*"]),
        (GLOBAL, Mapping.READ_ONLY, ["retire_range*"]),
        (Mapping.KERNEL, GLOBAL, ["retire_range*"]),
        (GLOBAL | Mapping.NO_ACCESS, GLOBAL, ["retire_range*"]),
        (GLOBAL, GLOBAL | Mapping.DEVICE, ["retire_range*", "publish_range*"]),
        (Mapping.KERNEL, Mapping.DEVICE, ["retire_range", "publish_range"]),
    ],
)
def test_a_protection_is_global_if_the_leaf_is_or_was(
    small: Machine, before: Mapping, after: Mapping, expected: list[str]
) -> None:
    table = small.create_pagetable()
    small.pagetable_map_range(table, 0, 0, 2 * PAGE, before)
    assert told(small, lambda: small.pagetable_protect_range(table, 0, PAGE, after)) == expected


@pytest.mark.parametrize("mapping", [GLOBAL, Mapping.KERNEL])
def test_a_split_is_global_if_the_block_is(small: Machine, mapping: Mapping) -> None:
    """So are its parts."""
    table = small.create_pagetable()
    small.pagetable_map_range(table, BLOCK, 0, BLOCK, mapping)
    star = "*" if mapping == GLOBAL else ""
    assert told(small, lambda: small.pagetable_unmap(table, BLOCK + PAGE)) == [
        *("order_tables", f"retire_page{star}", f"publish_range{star}"),
        f"retire_page{star}",
    ]
    assert told(small, lambda: small.pagetable_unmap(table, BLOCK)) == [f"retire_page{star}"]


# What is seen of it -------------------------------------------------------------------------


class Spaces:
    """Two spaces beside the linear one, which all of the test's calls are made in."""

    def __init__(self, board: str) -> None:
        self.machine = Model(find(board), lambda image, parts: MemoryManager(image, parts, tuned()))
        parts: Any = self.machine.kernel
        self.machine.init_memory()
        self.machine.enter_linear_space()
        self.linear = self.machine.linear_space_info.pagetable
        places = parts.physical.memory_map
        self.address = max(places.linear_end, places.segment_end)  # which none of them has
        self.tables = [self.machine.create_pagetable() for _ in range(2)]
        self.pages = [self.machine.alloc_physical_page() for _ in range(2)]
        for number, page in enumerate(self.pages):
            self.machine.write_physical(page, (number + 1).to_bytes(8, "little"))
        for table in self.tables:
            assert parts.kernel_segment.map_kernel(table) == OK

    def map(self, page: int) -> None:
        """Map one of the pages in both."""
        for table in self.tables:
            physical = self.pages[page]
            assert self.machine.pagetable_map(table, self.address, physical, GLOBAL) == OK

    def unmap(self, *spaces: int) -> None:
        """Unmap it in these."""
        for space in spaces:
            assert self.machine.pagetable_unmap(self.tables[space], self.address) == OK

    def read(self, space: int) -> int | None:
        """What is there in a space; None if it faults."""
        self.machine.switch_pagetable(self.tables[space])
        try:
            return self.machine.load(self.address)
        except PageFault:
            return None
        finally:
            self.machine.switch_pagetable(self.linear)


@pytest.mark.parametrize("board", BOARDS)
def test_a_page_that_is_changed_in_every_table_is_changed(board: str) -> None:
    """While none of them is in use."""
    spaces = Spaces(board)
    for page in (0, 1, 0):
        spaces.map(page)
        assert [spaces.read(0), spaces.read(1)] == [page + 1] * 2
        spaces.unmap(0, 1)
        assert [spaces.read(0), spaces.read(1)] == [None] * 2


@pytest.mark.parametrize("board", BOARDS)
def test_a_page_that_is_changed_in_one_table_only_is_not(board: str) -> None:
    """As soon as another that has it was in use, which the model finds out."""
    spaces = Spaces(board)
    spaces.map(0)
    spaces.unmap(0)
    assert spaces.read(1) == 1
    with pytest.raises(ModelViolation, match="GLOBAL_LEAK"):
        spaces.read(0)


@pytest.mark.parametrize("board", BOARDS)
def test_a_table_that_is_deleted_leaves_its_global_pages_to_the_others(board: str) -> None:
    """If these have them; what they have not must be unmapped first."""
    spaces = Spaces(board)
    spaces.map(0)
    assert [spaces.read(0), spaces.read(1)] == [1, 1]
    spaces.machine.delete_pagetable(spaces.tables[0])
    assert spaces.read(1) == 1
    spaces.unmap(1)
    assert spaces.read(1) is None
    spaces = Spaces(board)
    spaces.map(0)
    spaces.unmap(1)
    assert spaces.read(0) == 1
    spaces.machine.delete_pagetable(spaces.tables[0])
    with pytest.raises(ModelViolation, match="GLOBAL_LEAK"):
        spaces.read(1)
