"""The tables of the address space in use, and what walks may read of them besides memory.

The walker may cache every entry that it can reach, at any time, *whether valid or not*, and use it
until a fence that is about it (Priv, "Supervisor Memory-Management Fence Instruction").  The worst
is assumed: everything is cached, and nothing is forgotten that a fence does not name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from kernmem.hardware.reuse import OldValues, check_kept
from kernmem.hardware.riscv64.simulated.stale import Kept, Stale, StoreOrder
from kernmem.hardware.riscv64.simulated.walk import (
    POINTER_RESERVED,
    RESERVED,
    G,
    Leaf,
    Scheme,
    V,
    is_pointer,
    target,
    walk,
)
from kernmem.hardware.simulation import CHUNK_BITS, SimulatedRam
from kernmem.language import ModelViolation


@dataclass(frozen=True)
class Table:
    """A live table: a page that walks may read.

    Attributes:
        start: the first address that it translates.
        is_global: whether an entry on the way to it says so for all below.
    """

    base: int
    level: int
    start: int
    is_global: bool


class LiveTables:
    """The tables behind one root, and the old values of their entries.

    Once the space is left, walks come here no more, and its memory may be used for anything: what
    counts then is what was cached before, the first of the values that an entry is changed from.

    Attributes:
        asid: what its translations are cached under.
        has_global: whether any entry that walks could reach is global.
        left: whether another space is in use.
        stale: the old values.
        by_chunk: the live table in each chunk of RAM; a chunk and a table are both 4 KiB.
        unlinked: those that only old values lead to.
    """

    def __init__(
        self,
        ram: SimulatedRam,
        scheme: Scheme,
        root: int,
        asid: int,
        order: StoreOrder,
        before: LiveTables | None = None,
    ) -> None:
        self.ram = ram
        self.scheme = scheme
        self.root = root
        self.asid = asid
        self.order = order
        self.by_chunk: dict[int, Table] = {}
        self.unlinked: dict[int, Stale] = {}
        self.stale: OldValues[Stale] = OldValues()
        self.has_global = False
        self.left = False
        self._changed_since: set[int] = set()  # entries stored to since the space was left
        self._before = frozenset(() if before is None else before.by_chunk)
        if before is not None:  # what was cached then is cached still
            self.stale = before.stale
        self._watch(Table(root, scheme.levels - 1, 0, False), entered=True)

    def values(self, place: int) -> Sequence[tuple[int, Stale | None]]:
        """What a walk may read at ``place``; once the space is left, what it has read."""
        old = [(each.old, each) for each in self.stale.at(place)]
        if place in self._changed_since:
            return old
        return [(int.from_bytes(self.ram.peek(place, 8), "little"), None), *old]

    def global_leaves(self) -> Iterator[Kept]:
        """What of it any other space may use."""
        if not self.has_global:
            return
        starts = {each.start for each in self.stale}
        for table in self.by_chunk.values():
            starts |= {self._start(table, index) for index, _ in self._entries(table)}
        for start in sorted(starts):
            for outcome in walk(self.scheme, self.root, start, self.values):
                leaf = outcome.end
                if isinstance(leaf, Leaf) and leaf.is_global:
                    length = 1 << self.scheme.shift(leaf.level)
                    offset = start % length
                    first = leaf._replace(physical=leaf.physical - offset)
                    yield Kept(start - offset, length, first)

    def now(self, address: int) -> int | None:
        """Where an address leads by what memory says now."""
        end = walk(self.scheme, self.root, self.scheme.canonical(address), self.values)[0].end
        return end.physical if isinstance(end, Leaf) else None

    def fence(self, address: int | None, *, every_space: bool, this_space: bool) -> None:
        """An SFENCE.VMA: forget the old values that it is about."""
        if not self.stale:
            return
        for each in self.stale.about(address):
            if not each.survives(address, every_space=every_space, this_space=this_space):
                self.stale.discard(each)
        if self.unlinked:
            self._find_unlinked()

    def _find_unlinked(self) -> None:
        """Stop watching tables that no old value leads to any more."""
        led = [each for each in self.stale if is_pointer(each.old)]
        kept: dict[int, Stale] = {}
        for stale in led:
            for table in self._below(target(stale.old), stale):
                if table in self.unlinked:
                    kept[table] = stale
        for number in self.unlinked:
            if number not in kept:
                del self.by_chunk[number]
        self.unlinked = kept

    def _below(self, base: int, stale: Stale) -> Iterator[int]:
        table = self.by_chunk.get(base >> CHUNK_BITS)
        if table is not None and table.level < stale.level:
            yield base >> CHUNK_BITS
            for _, entry in self._entries(table):
                if table.level > 0 and is_pointer(entry):
                    yield from self._below(target(entry), stale)

    # Stores -------------------------------------------------------------------------------

    def store(self, table: Table, physical: int, new: bytes) -> None:
        """Hear of a store to a live table, before it is done."""
        if self.left:
            self._store_left(table, physical, new)
            return
        old_bytes = self.ram.peek(physical, len(new))
        if old_bytes == new:
            return
        unlinked = self.unlinked.get(table.base >> CHUNK_BITS)
        if unlinked is not None:
            raise unlinked.freed(f"a store to {physical:#x}")
        if len(new) != 8 or physical % 8:
            raise ModelViolation(
                "TORN_ENTRY",
                f"a store of {len(new)} bytes at {physical:#x}, in a live table: a walk may see "
                "part of it; store entries whole",
            )
        old, value = int.from_bytes(old_bytes, "little"), int.from_bytes(new, "little")
        if not value & V:
            check_kept(
                value,
                f"storing {value:#x} over {old:#x} at {physical:#x}",
                table.base,
                is_root=table.base == self.root,
                unlink="a store of 0 to the entry that leads to it, and SFENCE.VMA x0, x0",
                switch="a write of another to satp",
            )
        if not old & V and not value & V:
            return  # all other bits of an entry that is not valid are software's
        self._check(value, physical, table.level)
        stale = self._changed(table, physical, old, value)
        stale = replace(stale, frames=tuple(self._frames(table, stale)))
        self.has_global |= stale.is_global
        self.stale.add(stale)
        start = stale.start
        same_table = is_pointer(old) and is_pointer(value) and target(old) == target(value)
        if is_pointer(old) and table.level > 0 and not same_table:
            for number in self._below(target(old), stale):
                self.unlinked[number] = stale
        if is_pointer(value) and table.level > 0:
            below = table.is_global or bool(value & G)
            self._watch(Table(target(value), table.level - 1, start, below), entered=False)

    def _store_left(self, table: Table, physical: int, new: bytes) -> None:
        """Hear of a store to what was a table when the space was left.

        What an entry was then may be cached; what it is changed from later was never seen.
        """
        before = self.ram.peek(physical & ~7, 8)
        at = physical & 7
        after = before[:at] + new + before[at + len(new) :]
        for offset in range(0, len(after), 8):
            place = (physical & ~7) + offset
            old = int.from_bytes(self.ram.peek(place, 8), "little")
            value = int.from_bytes(after[offset : offset + 8], "little")
            if old != value and place not in self._changed_since:
                self._changed_since.add(place)
                if old & V or value & V:
                    self.stale.add(self._changed(table, place, old, value))

    def _changed(self, table: Table, place: int, old: int, new: int) -> Stale:
        """The old value of an entry, as it may be cached."""
        length = 1 << self.scheme.shift(table.level)
        start = self._start(table, place - table.base >> 3)
        is_global = table.is_global or any(each & V and each & G for each in (old, new))
        return Stale(place, table.level, start, length, old, new, is_global)

    def _frames(self, table: Table, stale: Stale) -> Iterator[tuple[int, int, int]]:
        """The translations by what an entry of ``table`` was."""
        if not stale.old & V:
            return
        if not is_pointer(stale.old):
            yield stale.start, stale.length, target(stale.old)
            return
        for number in self._below(target(stale.old), stale):
            below = self.by_chunk[number]
            length = 1 << self.scheme.shift(below.level)
            for index, entry in self._entries(below):
                if not is_pointer(entry):
                    yield below.start + index * length, length, target(entry)

    def _check(self, entry: int, place: int, level: int) -> None:
        """Refuse entries that no kernel should make, though a core might not fault."""
        if is_pointer(entry) and entry & POINTER_RESERVED:
            raise ModelViolation(
                "RESERVED_NONLEAF",
                f"the entry {entry:#x} at {place:#x} (level {level}) leads to a table, and has U, "
                "A or D set, which are reserved there",
            )
        if entry & V and entry & RESERVED:
            raise ModelViolation("RESERVED_BITS", f"{entry:#x} at {place:#x} has reserved bits set")

    def _watch(self, table: Table, *, entered: bool) -> None:
        """A table has become reachable: it and all below are live from now on.

        If its space is being entered, it is used at once, so all stores to it must be visible; if
        it was entered before, every store since has left an old value.  If the table is linked, the
        fence that is about the link will be about the stores too, but for those of global leaves.
        """
        number = table.base >> CHUNK_BITS
        known = self.by_chunk.get(number)
        if number in self.unlinked:
            raise self.unlinked[number].freed(f"a new link to {table.base:#x}")
        if known is not None:
            if (known.level, known.start) != (table.level, table.start):
                raise ModelViolation(
                    "DOUBLE_TABLE",
                    f"the page at {table.base:#x} is a table of level {known.level} for "
                    f"{known.start:#x}, and of level {table.level} for {table.start:#x}",
                )
            if known.is_global or not table.is_global:
                return  # else it and all below it have become global
        visible = self.order.is_visible(number, self.asid, is_global=table.is_global)
        if entered and not visible and number not in self._before:
            raise ModelViolation(
                "NEW_NOT_VISIBLE",
                f"the table at {table.base:#x} (level {table.level}, for {table.start:#x} on) was "
                f"stored to, and walks may not see that yet; missing: SFENCE.VMA x0, x0 before "
                "the write to satp",
            )
        self.by_chunk[number] = table
        if table.base >> self.scheme.physical_bits:
            return  # walks meet an access fault there
        for index, entry in self._entries(table):
            self._check(entry, table.base + 8 * index, table.level)
            below = table.is_global or bool(entry & G)
            self.has_global |= below
            if below and not entered and not is_pointer(entry):
                self._note_global(table, index, entry)
            if table.level > 0 and is_pointer(entry):
                start = self._start(table, index)
                self._watch(Table(target(entry), table.level - 1, start, below), entered=entered)

    def _note_global(self, table: Table, index: int, entry: int) -> None:
        """A global leaf of a table that was linked: walks may see what was there before."""
        if not self.order.is_visible(table.base >> CHUNK_BITS, self.asid, is_global=True):
            place = table.base + 8 * index
            self.stale.add(self._changed(table, place, 0, entry))

    def _start(self, table: Table, index: int) -> int:
        """The first address that an entry translates."""
        return self.scheme.canonical(table.start + (index << self.scheme.shift(table.level)))

    def _entries(self, table: Table) -> Iterator[tuple[int, int]]:
        """The valid entries of a table, with their indices."""
        words = memoryview(self.ram.peek(table.base, 0x1000)).cast("Q")
        return ((index, entry) for index, entry in enumerate(words) if entry & V)
