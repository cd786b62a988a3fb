"""What the processor may have cached although memory says otherwise (SDM 4.10.2, 4.10.3).

At the worst, everything that can be cached was, the moment it was written, and stays until an
instruction that must drop it.  What counts is therefore not which translations were used, but
which entries were changed since: each leaves :class:`Stale` values behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kernmem.hardware.ranges import RangeIndex
from kernmem.hardware.x86_64.simulated.walk import (
    ACCESSED,
    DIRTY,
    Fault,
    Leaf,
    Load,
    Regime,
    Start,
    shift,
    walk,
)
from kernmem.language import ModelViolation

# Bits that mean nothing to the processor: 11:9, 58:52, and the protection key, which is off.
IGNORED = 0b111 << 9 | 0x7F << 52 | 0xF << 59
IGNORED_IN_TABLES = IGNORED | 1 << 6 | 1 << 8


@dataclass(frozen=True)
class Change:
    """A store that changed an entry which may have been cached."""

    place: int
    level: int
    start: int
    old: int
    new: int

    @property
    def length(self) -> int:
        """Bytes of linear addresses that the entry is for."""
        return 1 << shift(self.level)

    def __str__(self) -> str:
        return (
            f"the entry at {self.place:#x} (level {self.level}, for {self.start:#x} to "
            f"{self.start + self.length:#x}) was changed from {self.old:#x} to {self.new:#x}"
        )


@dataclass(frozen=True)
class Stale:
    """A cached translation, or the cached address of a table, that is out of date.

    Attributes:
        start, length: the linear addresses that it serves.
        leaf: the translation in the TLB, for its first address; None for a table.
        table: where walks go on by the paging-structure caches; None for a translation.
        tables: the tables that can be reached through it, by number of the 4 KiB chunk.
        change: the store that made it so; None for what a switch left behind.
    """

    start: int
    length: int
    change: Change | None
    leaf: Leaf | None = None
    table: Start | None = None
    tables: frozenset[int] = frozenset()

    @property
    def is_global(self) -> bool:
        """Whether it survives MOV to CR3."""
        return self.leaf is not None and self.leaf.is_global

    @property
    def frames(self) -> tuple[tuple[int, int, int], ...]:
        """The translation that may be cached: first address, length, physical address.

        What a switch left behind is of another table, which has its memory still.
        """
        if self.leaf is None or self.change is None:
            return ()
        return ((self.start, self.length, self.leaf.physical),)

    def serves(self, address: int) -> bool:
        """Whether an access to ``address`` may use it."""
        return self.start <= address < self.start + self.length

    def end(self, regime: Regime, address: int, load: Load) -> Fault | Leaf:
        """Where an access that uses it ends."""
        if self.table is not None:
            return walk(regime, self.table, address, load)
        assert self.leaf is not None
        return self.leaf._replace(physical=self.leaf.physical + address - self.start)

    def violation(self, use: str, *, dirty: bool = False) -> ModelViolation:
        """The error for a use that depends on it."""
        if self.change is None:
            return ModelViolation(
                "GLOBAL_LEAK",
                f"{use}: the translation of {self.start:#x} to {self.start + self.length:#x} is "
                "global, survives MOV to CR3, and differs from the new table's; map it alike in "
                "every table, or do not set G",
            )
        rule = "WALK_CACHE_STALE" if self.table is not None else "STALE_TRANSLATION"
        if dirty:
            rule = "DIRTY_LOST"
        return ModelViolation(
            rule,
            f"{use}: {self.change}, and the old value may still be in use; missing: INVLPG of "
            f"{self.start:#x} after the store",
        )

    def freed(self, use: str) -> ModelViolation:
        """The error for a store to a table that is not linked any more, but in use."""
        return ModelViolation(
            "TABLE_FREED_LIVE",
            f"{use}, in a table that was unlinked, but walks may still come here: {self.change}; "
            f"missing: INVLPG of {self.start:#x} before the table is used again",
        )


class StaleValues:
    """What is cached of one space and out of date, the oldest first, each once."""

    def __init__(self) -> None:
        self._order: dict[Stale, int] = {}
        self._added = 0
        self._walks: dict[Stale, None] = {}  # those that are the address of a table
        self._by_table: dict[int, dict[Stale, None]] = {}  # the chunks of the tables behind those
        self._by_address: RangeIndex[Stale] = RangeIndex()
        self._by_frame: RangeIndex[Stale] = RangeIndex()

    def __iter__(self) -> Iterator[Stale]:
        return iter(self._order)

    def add(self, stale: Stale) -> None:
        """An entry was changed, or a space left that has global translations."""
        if stale in self._order:
            return
        self._added += 1
        self._order[stale] = self._added
        self._by_address.add(stale, stale.start, stale.length)
        if stale.table is not None:
            self._walks[stale] = None
        for number in stale.tables:
            self._by_table.setdefault(number, {})[stale] = None
        for _, length, frame in stale.frames:
            self._by_frame.add(stale, frame, length)

    def _discard(self, stale: Stale) -> None:
        del self._order[stale]
        self._by_address.discard(stale)
        self._by_frame.discard(stale)
        self._walks.pop(stale, None)
        for number in stale.tables:
            del self._by_table[number][stale]

    def invlpg(self, address: int, *, left: bool) -> None:
        """INVLPG drops the translations of one page, and all addresses of tables (4.10.4.1).

        Of a space that was left, only those that are global.
        """
        for each in (*self._walks, *self.serving(address)):
            if each in self._order and (each.is_global or not left):
                self._discard(each)

    def fault(self, address: int) -> None:
        """A page fault drops what the access could have used (4.10.4.1)."""
        for each in self.serving(address):
            self._discard(each)

    def serving(self, address: int) -> list[Stale]:
        """Those that an access to ``address`` may use."""
        found = [each for each in self._by_address.near(address) if each.serves(address)]
        return sorted(found, key=self._order.__getitem__)

    def leading_to(self, physical: int, length: int) -> list[Stale]:
        """Those that may lead to some memory."""
        return sorted(self._by_frame.near(physical, length), key=self._order.__getitem__)

    def through(self, number: int) -> Stale | None:
        """The first by which walks may come through a table in this chunk of memory."""
        return next(iter(self._by_table.get(number, ())), None)


def harmless(old: int, new: int, *, table: bool) -> bool:
    """Whether a change makes no difference to who has the old value cached.

    A set from 0 cannot have been cached; A cleared may go without notice; D set is right.
    """
    differ = old ^ new
    if new & DIRTY and not table:
        differ &= ~DIRTY
    return not differ & ~(ACCESSED | (IGNORED_IN_TABLES if table else IGNORED))
