"""Address-space identifiers: who has one, and who loses it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machines import MAKERS

from kernmem.hardware import find
from kernmem.hardware.aarch64.mmu import Aarch64Mmu
from kernmem.language import Component, Image, PhysicalAddress, api, usize
from kernmem.machine.port import Machine
from kernmem.memory.address_spaces import NO_IDENTIFIER, SPACES
from kernmem.memory.architecture import Hardware


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
        return self.spaces.is_current(table)

    @api
    def forget(self, table: PhysicalAddress) -> None:
        """Take its identifier back."""
        self.spaces.forget(table)


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
