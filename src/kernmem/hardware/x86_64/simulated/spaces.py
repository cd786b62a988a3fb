"""What may be cached under one PCID, and the stores to the tables that it was read from.

The processor walks the tables of the space in use only, so what it has cached of another one dates
from before that was left (SDM 4.10.1).  A store to such a table leaves the old value cached, and
is no error: the memory may be used for anything, until MOV to CR3 keeps what is cached.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy

from kernmem.hardware.reuse import check_frames, check_kept
from kernmem.hardware.simulation import CHUNK_BITS, SimulatedRam
from kernmem.hardware.x86_64.simulated.stale import Change, Stale, StaleValues, harmless
from kernmem.hardware.x86_64.simulated.walk import (
    GLOBAL,
    PAGE_SIZE,
    PRESENT,
    Leaf,
    Regime,
    Rights,
    Start,
    shift,
    walk,
)
from kernmem.language import ModelViolation
from kernmem.memory.architecture import Region

ADDRESS = (1 << 52) - (1 << 12)


class Table(NamedTuple):
    """A table that walks from the root may come through."""

    base: int
    level: int
    start: int
    rights: Rights


class Space:
    """The tables behind one root, and what of their old entries may be cached.

    Attributes:
        regime: the registers that rule a walk.
        stale: what is cached, and out of date.
        left: whether another space is in use.
    """

    def __init__(self, ram: SimulatedRam, program: Region, regime: Regime, root: int) -> None:
        self._ram = ram
        self._program = program
        self.regime = regime
        self.root = Table(root, regime.levels - 1, 0, Rights())
        self.stale = StaleValues()
        self.left = False
        self._changed: set[int] = set()  # entries, since the space was left
        self._live: dict[int, list[Table]] | None = None  # by chunk; None: to be found again

    def change_regime(self, regime: Regime) -> None:
        """Walk by other registers."""
        self.regime = regime
        self._live = None

    def leave(self) -> None:
        """Another space is in use from now on: what is cached of this one stays as it is."""
        self._tables()
        self.left = True

    def enter(self) -> None:
        """The space is in use again, with what is cached of it."""
        self.left = False
        self._changed.clear()
        self._live = None

    # Tables -------------------------------------------------------------------------------

    def load(self, place: int) -> int:
        """The entry at a physical address."""
        return int.from_bytes(self._ram.peek(place, 8), "little")

    def _tables(self) -> dict[int, list[Table]]:
        """The tables that walks from the root may come through, by the chunk that they fill."""
        if self._live is None:
            self._live = {}
            for table in self._reachable(self.root):
                self._live.setdefault(table.base >> CHUNK_BITS, []).append(table)
        return self._live

    def _reachable(self, table: Table) -> Iterator[Table]:
        yield table
        if table.level == 0:
            return
        for start, entry in self._entries(table, clear=PAGE_SIZE):
            if not self.regime.reserved(entry, table.level):
                rights = table.rights.through(entry)
                yield from self._reachable(Table(entry & ADDRESS, table.level - 1, start, rights))

    def _entries(
        self, table: Table, *, having: int = 0, clear: int = 0
    ) -> Iterator[tuple[int, int]]:
        """The present entries of a table, with and without some bits: (first address, value)."""
        entries = numpy.frombuffer(self._ram.peek(table.base, 0x1000), "<u8")
        wanted = PRESENT | having
        for index in numpy.flatnonzero(entries & (wanted | clear) == wanted).tolist():
            if table.base + 8 * index not in self._changed:
                yield self._address(table.start, index, table.level), int(entries[index])

    def _address(self, start: int, index: int, level: int) -> int:
        """The first address of an entry, in canonical form."""
        address = start + (index << shift(level))
        top = 12 + 9 * self.regime.levels
        if address >> top - 1 & 1:
            address |= (1 << 64) - (1 << top)
        return address

    def _leaves(self, table: Table, having: int = 0) -> Iterator[Leaf]:
        """The translations of a table that may be cached, and whose entries have some bits."""
        for start, entry in self._entries(table, having=having):
            cached = self.regime.cacheable(entry, table.level)
            if cached and (table.level == 0 or entry & PAGE_SIZE):
                found = walk(self.regime, Start(*table[:2], table.rights), start, self.load)
                assert isinstance(found, Leaf)
                yield found

    def global_leaves(self) -> list[Stale]:
        """What any other space may use, if global pages are on: cached, and in the tables."""
        if not self.regime.global_pages:
            return []
        kept = [each for each in self.stale if each.is_global]
        for tables in self._tables().values():
            for table in tables:
                kept += [
                    Stale(leaf.start, leaf.length, None, leaf)
                    for leaf in self._leaves(table, GLOBAL)
                ]
        return kept

    # Stores -------------------------------------------------------------------------------

    def store(self, physical: int, new: bytes) -> bool:
        """Hear of a store; whether it is to a table."""
        number = physical >> CHUNK_BITS
        tables = self._tables().get(number, [])
        old = self._ram.peek(physical, len(new))
        if self.left:
            if tables and old != new:
                self._store_left(tables, physical, new)
            return bool(tables)
        check_frames(self.stale.leading_to(physical, len(new)), physical, new, self._now)
        freed = self.stale.through(number)
        if not tables and freed is None:
            return False
        if old == new:
            return True
        what = f"storing {len(new)} bytes at {physical:#x}"
        if not tables:
            assert freed is not None
            raise freed.freed(what)
        if physical % 8 or len(new) % 8:
            raise ModelViolation(
                "TORN_ENTRY",
                f"{what} changes part of an entry of the live table {physical & ~0xFFF:#x}: store "
                "all 8 bytes at once",
            )
        for offset in range(0, len(new), 8):
            before = int.from_bytes(old[offset : offset + 8], "little")
            after = int.from_bytes(new[offset : offset + 8], "little")
            if before != after:
                for table in tables:
                    self._change(table, physical + offset, before, after)
        return True

    def _now(self, address: int) -> int | None:
        """Where an address leads by what memory says now."""
        end = walk(self.regime, Start(*self.root[:2]), address, self.load)
        return end.physical if isinstance(end, Leaf) else None

    def _store_left(self, tables: list[Table], physical: int, new: bytes) -> None:
        """A store to what was a table; the first value of an entry is the one that was seen."""
        first, last = physical & ~7, physical + len(new) - 1 & ~7
        words = bytearray(self._ram.peek(first, last + 8 - first))
        words[physical - first : physical - first + len(new)] = new
        for place in range(first, last + 8, 8):
            after = int.from_bytes(words[place - first : place - first + 8], "little")
            before = self.load(place)
            if before != after and place not in self._changed:
                for table in tables:
                    self._change(table, place, before, after)
                self._changed.add(place)

    def _change(self, table: Table, place: int, old: int, new: int) -> None:
        level = table.level
        start = self._address(table.start, (place - table.base) // 8, level)
        change = Change(place, level, start, old, new)
        if not new & PRESENT and not self.left:
            check_kept(
                new,
                str(change),
                table.base,
                is_root=level == self.root.level,
                unlink=f"a store that clears the entry that leads to it, and INVLPG of {start:#x}",
                switch="MOV to CR3 of another",
            )
            self._check_self(change)
        below = self._below(change)
        was_table = level > 0 and bool(old & PRESENT) and not old & PAGE_SIZE
        is_table = level > 0 and bool(new & PRESENT) and not new & PAGE_SIZE
        if (was_table or is_table) and not self.left:
            self._live = None
        if not self.regime.cacheable(old, level) or harmless(old, new, table=was_table):
            return
        if not was_table:
            found = walk(self.regime, Start(*table[:2], table.rights), start, self.load)
            assert isinstance(found, Leaf)
            self.stale.add(Stale(start, change.length, change, found))
            return
        self.stale.add(
            Stale(
                start,
                change.length,
                change,
                table=Start(old & ADDRESS, level - 1, table.rights.through(old)),
                tables=frozenset(each.base >> CHUNK_BITS for each in below),
            )
        )
        for each in below:
            for leaf in self._leaves(each):
                self.stale.add(Stale(leaf.start, leaf.length, change, leaf))

    def _below(self, change: Change) -> list[Table]:
        """The tables that the old entry led to."""
        return [
            each
            for tables in self._tables().values()
            for each in tables
            if each.level < change.level
            and change.start <= each.start < change.start + change.length
        ]

    def _check_self(self, change: Change) -> None:
        """The code that runs, its stack and its variables must stay mapped."""
        if change.start < self._program.end and self._program.start < change.start + change.length:
            raise ModelViolation(
                "SELF_UNMAP",
                f"the running program is at {self._program.start:#x} to {self._program.end:#x}: "
                f"{change}",
            )
