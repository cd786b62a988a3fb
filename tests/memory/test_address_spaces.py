"""Address-space identifiers: who has one, and who loses it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machines import MAKERS

from kernmem.hardware import find
from kernmem.hardware.aarch64.mmu import Aarch64Mmu
from kernmem.language import (
    Component,
    Image,
    ModelViolation,
    PageFault,
    PhysicalAddress,
    api,
    usize,
)
from kernmem.machine.model import Model
from kernmem.machine.port import Machine
from kernmem.memory.address_spaces import NO_IDENTIFIER, SPACES
from kernmem.memory.architecture import Hardware
from kernmem.memory.manager import MemoryManager
from kernmem.memory.profile import tuned
from kernmem.memory.virtual import PagetableStatus


class Lender(Component):
    """A kernel that does nothing else."""

    def __init__(self, image: Image, hardware: Hardware) -> None:
        super().__init__(image)
        mmu = hardware.mmu
        assert isinstance(mmu, Aarch64Mmu)
        self.spaces = mmu.spaces  # of which there can be one

    @api
    def start(self, count: usize) -> None:
        """As many identifiers as the processor has."""
        self.spaces.start(count)

    @api
    def enter(self, table: PhysicalAddress) -> usize:
        """The identifier that the table has now; plus 100 if it is new."""
        kept = self.spaces.enter(table)
        return self.spaces.info.current if kept else self.spaces.info.current + 100

    @api
    def identifier(self, table: PhysicalAddress) -> usize:
        """The identifier of a table."""
        return self.spaces.identifier(table)

    @api
    def is_current(self, table: PhysicalAddress) -> bool:
        """Whether it was entered last."""
        return self.spaces.identifier(table) == self.spaces.info.current

    @api
    def forget(self, table: PhysicalAddress) -> None:
        """Take its identifier back."""
        self.spaces.forget(table)

    @api
    def must_invalidate(self, table: PhysicalAddress, is_global: bool) -> bool:
        """Whether a change under the table is not over with its identifier."""
        return self.spaces.must_invalidate(table, is_global)


@contextmanager
def lender(kind: str, count: int) -> Iterator[Machine]:
    """A machine of some kind, with so many identifiers."""
    machine = MAKERS[kind](find("lab"), Lender)
    machine.start(count)
    yield machine
    close = getattr(machine, "close", None)
    if close is not None:
        close()


@pytest.mark.parametrize("kind", MAKERS)
def test_a_table_keeps_its_identifier(kind: str) -> None:
    """Until others have taken all of them; the space in use keeps its own."""
    with lender(kind, SPACES) as machine:
        assert machine.identifier(0x1000) == NO_IDENTIFIER
        tables = [0x1000 * number for number in range(1, SPACES + 1)]
        lent = [machine.enter(table) - 100 for table in tables]
        assert sorted(lent) == list(range(SPACES))
        assert [machine.enter(table) for table in tables] == lent
        assert [machine.is_current(table) for table in tables] == [False] * (SPACES - 1) + [True]
        assert machine.enter(tables[0]) == lent[0]
        # The oldest is in use, so the one after it goes.
        assert machine.enter(0x10_0000) == lent[1] + 100
        assert machine.identifier(tables[0]) == lent[0]
        assert machine.identifier(tables[1]) == NO_IDENTIFIER
        assert machine.enter(tables[1]) == lent[2] + 100


@pytest.mark.parametrize("kind", MAKERS)
def test_a_table_that_was_forgotten_gets_a_new_one(kind: str) -> None:
    """Even if it is entered at once."""
    with lender(kind, SPACES) as machine:
        machine.enter(0x1000)
        machine.enter(0x2000)
        machine.forget(0x1000)
        machine.forget(0x3000)  # has none
        assert machine.identifier(0x1000) == NO_IDENTIFIER
        assert machine.enter(0x1000) >= 100
        assert machine.enter(0x2000) < 100


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("is_global", [False, True])
def test_a_change_is_over_with_the_identifier_unless_it_is_global(
    kind: str, *, is_global: bool
) -> None:
    """Only the table in use keeps its own."""
    with lender(kind, SPACES) as machine:
        machine.enter(0x1000)
        machine.enter(0x2000)
        assert machine.must_invalidate(0x2000, is_global)
        assert machine.identifier(0x2000) != NO_IDENTIFIER
        for other in (0x1000, 0x3000):
            assert machine.must_invalidate(other, is_global) == is_global
            assert machine.identifier(other) == NO_IDENTIFIER


@pytest.mark.parametrize("kind", MAKERS)
def test_one_identifier_is_enough(kind: str) -> None:
    """Every other space is new then."""
    with lender(kind, 1) as machine:
        assert [machine.enter(table) for table in (0x1000, 0x2000, 0x2000, 0x1000)] == [
            100,
            100,
            0,
            100,
        ]


STEPS = st.lists(st.tuples(st.booleans(), st.integers(1, SPACES + 4)), max_size=60)


@given(count=st.integers(1, SPACES + 2), steps=STEPS)
def test_no_identifier_is_of_two_tables(count: int, steps: list[tuple[bool, int]]) -> None:
    """And one that comes back without notice was nobody else's in between."""
    with lender("model", count) as machine:
        cached: dict[int, int] = {}  # under an identifier, the table's translations
        current = 0x1000
        cached[machine.enter(current) - 100] = current
        for is_entered, number in steps:
            table = 0x1000 * number
            if is_entered:
                before = machine.identifier(current)
                got = machine.enter(table)
                identifier = got % 100
                assert identifier < min(count, SPACES)
                assert identifier != before or table == current or count == 1
                if got >= 100:
                    cached[identifier] = table
                assert cached[identifier] == table
                current = table
            elif table != current:
                machine.forget(table)
                assert machine.identifier(table) == NO_IDENTIFIER
                cached = {key: value for key, value in cached.items() if value != table}
            assert machine.identifier(current) == next(
                (key for key, value in cached.items() if value == current), NO_IDENTIFIER
            )


# In the memory manager -------------------------------------------------------------------------

WITH_IDENTIFIERS = ["lab", "virt", "pc", "pc-la57", "riscv-virt", "riscv-virt-sv48", "armv7-virt"]


def manager_of(hardware: str) -> Model:
    """A booted model, in its linear space."""
    model = Model(find(hardware), lambda image, parts: MemoryManager(image, parts, tuned()))
    model.init_memory()
    model.enter_linear_space()
    return model


def spaces_come_and_go(model: Model) -> None:
    """Each deleted table's pages become the next one's, which maps the same address elsewhere."""
    manager: Any = model.kernel
    kernel_space = model.virtual_mem_info.current_pagetable
    address = int(manager.kernel_segment.segment_start)
    pages = [model.alloc_physical_page() for _ in range(2)]
    roots = set()
    for number in range(2 * SPACES):
        page = pages[number % 2]
        model.write_physical(page, number.to_bytes(8, "little"))
        table = model.create_pagetable()
        roots.add(table)
        assert manager.kernel_segment.map_kernel(table) == PagetableStatus.OK
        assert model.pagetable_map(table, address, page) == PagetableStatus.OK
        model.switch_pagetable(table)
        assert model.load(address) == number
        model.switch_pagetable(kernel_space)
        model.delete_pagetable(table)
    assert len(roots) < 2 * SPACES, "no root was used again"


@pytest.mark.parametrize("hardware", WITH_IDENTIFIERS)
def test_a_root_that_is_used_again_is_another_space(hardware: str) -> None:
    """What was cached under it is not: the model would refuse the load."""
    spaces_come_and_go(manager_of(hardware))


@pytest.mark.parametrize("hardware", ["lab", "virt", "pc", "pc-la57", "armv7-virt"])
def test_that_it_is_forgotten_matters(hardware: str) -> None:
    """Without that, the old space comes back; RISC-V's fence after a mapping drops it anyway."""
    model = manager_of(hardware)
    manager: Any = model.kernel
    manager.virtual.mmu.forget = lambda table: None
    with pytest.raises((ModelViolation, PageFault, AssertionError)):
        spaces_come_and_go(model)
