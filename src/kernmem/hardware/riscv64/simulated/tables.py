"""The tables of the address space in use, and what walks may read of them besides memory.

The walker may cache every entry that it can reach, at any time, *whether valid or not*, and use it
until a fence that is about it (Priv, "Supervisor Memory-Management Fence Instruction").  The worst
is assumed: everything is cached, and nothing is forgotten that a fence does not name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from kernmem.hardware.reuse import check_kept
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
from kernmem.hardware.simulation import CHUNK, CHUNK_BITS, SimulatedRam
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


@dataclass(frozen=True)
class Stale:
    """An old value of an entry, which walks may use although memory holds another.

    Attributes:
        place: the physical address of the entry.
        start, length: the addresses that it translates.
        is_global: whether the old or the new value is a global one.
        frames: the translations that may be cached of it: first address, length, physical address.
    """

    place: int
    level: int
    start: int
    length: int
    old: int
    new: int
    is_global: bool
    frames: tuple[tuple[int, int, int], ...] = ()

    @property
    def of_leaf(self) -> bool:
        """Whether a fence for one address is about it: no table is led to, before or after."""
        return not is_pointer(self.old) and not is_pointer(self.new)

    def survives(self, address: int | None, *, every_space: bool, this_space: bool) -> bool:
        """Whether a fence leaves it: one for an address, for all spaces or only for one."""
        if not every_space and (self.is_global or not this_space):
            return True
        if address is None:
            return False
        return not self.of_leaf or not self.start <= address < self.start + self.length

    def violation(self, use: str) -> ModelViolation:
        """The error for a use that depends on it."""
        fence = "SFENCE.VMA va, x0" if self.of_leaf else "SFENCE.VMA x0, x0"
        rule = "STALE_TRANSLATION" if self.of_leaf else "WALK_CACHE_STALE"
        if not self.old & V:
            rule = "INVALID_CACHED"
        return ModelViolation(
            rule,
            f"{use}: the entry at {self.place:#x} (level {self.level}, for {self.start:#x} to "
            f"{self.start + self.length:#x}) was changed from {self.old:#x} to {self.new:#x}, and "
            f"the old value may still be in use; missing: {fence} after the store",
        )

    def freed(self, use: str) -> ModelViolation:
        """The error for a use of a table that it led to, and that walks may still read."""
        facts = self.violation("a walk").facts
        return ModelViolation(
            "TABLE_FREED_LIVE", f"{use}, a table that was unlinked but is in use: {facts}"
        )


class StoreOrder:
    """What walks are sure to see: the stores before a fence that is about the walk.

    A fence for all addresses is about every entry, one for an address about the leaf of that only.
    So for each ASID it is kept what walks see of the chunks stored to since the last of the former.
    """

    def __init__(self, ram: SimulatedRam) -> None:
        self._ram = ram
        # By ASID.  None: global entries, and spaces that had no fence of their own.
        self._seen: dict[int | None, dict[int, bytes]] = {None: {}}

    def fence(self, asid: int | None) -> None:
        """A fence for all addresses, of one space or of all."""
        if asid is None:
            self._seen.clear()
        self._seen[asid] = {}

    def fence_leaf(self, place: int, asid: int | None) -> None:
        """A fence for an address whose leaf is at ``place``, in one space or in all."""
        if asid is not None:
            self._seen.setdefault(asid, dict(self._seen[None]))
        chunk, offset = divmod(place, CHUNK)
        new = self._ram.peek(place, 8)
        for known, chunks in self._seen.items():
            seen = chunks.get(chunk)
            if seen is not None and (
                asid is None or (asid == known and not (seen[offset] | new[0]) & G)
            ):
                chunks[chunk] = seen[:offset] + new + seen[offset + 8 :]

    def store(self, chunk: int) -> None:
        """A store to a chunk of RAM, before it is done."""
        for chunks in self._seen.values():
            if chunk not in chunks:
                chunks[chunk] = self._ram.peek(chunk << CHUNK_BITS, CHUNK)

    def is_visible(self, chunk: int, asid: int, *, is_global: bool) -> bool:
        """Whether walks for an ASID see it; a fence for one space is not about global entries."""
        seen = self._seen[None if is_global or asid not in self._seen else asid].get(chunk)
        return seen is None or seen == self._ram.peek(chunk << CHUNK_BITS, CHUNK)


class LiveTables:
    """The tables behind one root, and the old values of their entries.

    Once the space is left, walks come here no more, and its memory may be used for anything: what
    counts then is what was cached before, the first of the values that an entry is changed from.

    Attributes:
        asid: what its translations are cached under.
        has_global: whether any entry that walks could reach is global.
        left: whether another space is in use.
        by_chunk: the live table in each chunk of RAM; a chunk and a table are both 4 KiB.
        unlinked: those that only old values lead to.
        only_global: of a space that was left: whether only global entries may be cached still.
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
        self.stale: dict[int, list[Stale]] = {}
        self.only_global = False
        self.has_global = False
        self.left = False
        self._changed_since: set[int] = set()  # entries stored to since the space was left
        self._before = frozenset(() if before is None else before.by_chunk)
        if before is not None:  # what was cached then is cached still
            self.stale.update(before.stale)
        self._watch(Table(root, scheme.levels - 1, 0, False), entered=True)

    def values(self, place: int) -> Sequence[tuple[int, Stale | None]]:
        """What a walk may read at ``place``."""
        now = (int.from_bytes(self.ram.peek(place, 8), "little"), None)
        stale = self.stale.get(place)
        return (now,) if stale is None else (now, *((each.old, each) for each in stale))

    def old_values(self) -> Iterator[Stale]:
        """All values that entries had, and may be cached."""
        for values in self.stale.values():
            yield from values

    def now(self, address: int) -> int | None:
        """Where an address leads by what memory says now."""
        end = walk(self.scheme, self.root, self.scheme.canonical(address), self.values)[0].end
        return end.physical if isinstance(end, Leaf) else None

    def fence(self, address: int | None, *, every_space: bool, this_space: bool) -> None:
        """An SFENCE.VMA: forget the old values that it is about."""
        if not self.stale:
            return
        for place, values in list(self.stale.items()):
            kept = [
                each
                for each in values
                if each.survives(address, every_space=every_space, this_space=this_space)
            ]
            if kept:
                self.stale[place] = kept
            else:
                del self.stale[place]
        if self.unlinked:
            self._find_unlinked()

    def _find_unlinked(self) -> None:
        """Stop watching tables that no old value leads to any more."""
        led = [each for values in self.stale.values() for each in values if is_pointer(each.old)]
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
        self.stale.setdefault(physical, []).append(stale)
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
                    stale = self._changed(table, place, old, value)
                    self.stale.setdefault(place, []).append(stale)

    def _changed(self, table: Table, place: int, old: int, new: int) -> Stale:
        """The old value of an entry, as it may be cached."""
        length = 1 << self.scheme.shift(table.level)
        start = table.start + (place - table.base >> 3) * length
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
        fence that is about the link will be about the stores too.
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
            self.has_global |= bool(entry & G)
            if table.level > 0 and is_pointer(entry):
                start = table.start + (index << self.scheme.shift(table.level))
                below = table.is_global or bool(entry & G)
                self._watch(Table(target(entry), table.level - 1, start, below), entered=entered)

    def _entries(self, table: Table) -> Iterator[tuple[int, int]]:
        """The valid entries of a table, with their indices."""
        words = memoryview(self.ram.peek(table.base, 0x1000)).cast("Q")
        return ((index, entry) for index, entry in enumerate(words) if entry & V)
