"""The kernel gives memory back while it is in use: on every architecture the model notices.

A step of the kernel is left out, or a page freed that it would not free.  The marker that is
stored in a free page is its first use.
"""

from __future__ import annotations

from typing import Any

import pytest

from hardware.bench import Broken
from kernmem.hardware import find
from kernmem.language import PhysicalAddress, VirtualAddress, u32, usize
from kernmem.machine.model import Model
from kernmem.memory.architecture import Mapping
from kernmem.memory.manager import MemoryManager
from kernmem.memory.profile import spec

BOARDS = ("lab", "virt", "virt-16k", "armv7-virt", "pc", "pc-la57", "riscv-virt", "riscv-virt-sv57")


class Machine:
    """A machine in its linear space, where pages are freed; three pages of memory are mapped there.

    Attributes:
        table: the root of the linear space, which is in use.
        address: where the pages are mapped, so that no table becomes empty when one goes.
    """

    def __init__(self, board: str) -> None:
        self.model = Model(find(board), lambda image, parts: MemoryManager(image, parts, spec()))
        self.model.call("init_memory")
        self.model.call("enter_linear_space")
        manager = self.model.kernel
        assert isinstance(manager, MemoryManager)
        self.manager = manager
        self.table = self.model.linear_space_info.pagetable
        self.page_length = manager.virtual.page_length
        self.address = manager.kernel_segment.segment_start
        self.pages = [self.model.call("alloc_physical_page") for _ in range(3)]
        for number, page in enumerate(self.pages):
            self.model.call("pagetable_map", self.table, self.page_address(number), page)

    def page_address(self, number: int) -> int:
        """Where one of the pages is mapped."""
        return self.address + number * self.page_length

    def leave_out(self, step: str) -> None:
        """The driver does nothing when it is called for this step."""
        vars(self.manager.virtual.mmu)[step] = lambda *_, **__: None

    def free(self, page: Any) -> None:
        """Free a page: its marker is stored."""
        self.model.call("free_physical_page", page)

    def lowest_table(self) -> PhysicalAddress:
        """The table that has the entries of the pages."""
        entries = self.manager.virtual.tables.entries
        table, level = PhysicalAddress(self.table), entries.levels - 1
        while level > 0:
            index = entries.index(VirtualAddress(self.address), u32(level))
            table = entries.next_table(entries.read(table, usize(index)))
            level -= 1
        return table


@pytest.fixture(params=BOARDS)
def machine(request: pytest.FixtureRequest) -> Machine:
    return Machine(request.param)


def test_a_page_is_freed_after_it_was_unmapped(machine: Machine) -> None:
    """Nothing is wrong with that."""
    machine.model.call("pagetable_unmap", machine.table, machine.page_address(0))
    machine.free(machine.pages[0])
    assert machine.model.call("alloc_physical_page") == machine.pages[0]


def test_a_page_is_freed_that_was_not_retired(machine: Machine) -> None:
    """It was unmapped, but may be cached."""
    machine.leave_out("retire_page")
    machine.model.call("pagetable_unmap", machine.table, machine.page_address(0))
    machine.free(machine.model.call("alloc_physical_page"))  # any other page may be used
    with Broken("FRAME_REUSED_LIVE"):
        machine.free(machine.pages[0])


def test_a_page_is_freed_that_was_not_retired_with_its_range(machine: Machine) -> None:
    """The same by the call for ranges."""
    machine.leave_out("retire_range")
    length = 2 * machine.page_length
    machine.model.call("pagetable_unmap_range", machine.table, machine.address, length)
    with Broken("FRAME_REUSED_LIVE"):
        machine.free(machine.pages[0])


def test_a_table_is_freed_that_was_not_retired_with_its_range(machine: Machine) -> None:
    """It has become empty, and the call gives it back."""
    machine.leave_out("retire_range")
    with Broken("TABLE_FREED_LIVE"):
        machine.model.call(
            "pagetable_unmap_range", machine.table, machine.address, 3 * machine.page_length
        )


def test_a_page_may_be_written_to_whose_permissions_changed(machine: Machine) -> None:
    """It is mapped still, and not given back."""
    machine.leave_out("retire_page")
    machine.leave_out("retire_range")
    for number in range(3):
        machine.model.call(
            "pagetable_protect_range",
            machine.table,
            machine.page_address(number),
            machine.page_length,
            Mapping.READ_ONLY,
        )
    machine.model.write_physical(machine.pages[0], b"x")
    machine.model.store(int(machine.pages[0]), 7)


def test_the_root_in_use_is_freed(machine: Machine) -> None:
    with Broken("ROOT_FREED_LIVE"):
        machine.free(machine.manager.virtual.info.current_pagetable)


def test_a_table_in_use_is_freed(machine: Machine) -> None:
    with Broken("TABLE_FREED_LIVE"):
        machine.free(machine.lowest_table())
