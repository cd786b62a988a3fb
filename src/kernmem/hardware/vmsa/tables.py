"""The tables of the address space in use, and the rules for changing them while they are.

Everything that a walk could reach is assumed to be cached at once, and to stay (DDI 0487,
D8.16.1: translations may be cached at any time, speculatively); so what counts is not which
translations were used, but which descriptors have an old value that may still be in a TLB.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Generic, TypeVar

from kernmem.hardware.reuse import OldValues, check_kept
from kernmem.hardware.simulation import CHUNK_BITS, SimulatedRam
from kernmem.hardware.vmsa.regime import Kind, TranslationRegime
from kernmem.hardware.vmsa.stale import Invalidation, Stale, Step
from kernmem.language import ModelViolation
from kernmem.memory.architecture import Region

R = TypeVar("R", bound=TranslationRegime)


@dataclass
class Table:
    """A live table.

    Attributes:
        base: its physical address.
        start: the first virtual address that it translates.
        parent: the place of the descriptor that leads to it; None for the root.
        linked: False once that descriptor leads elsewhere, but walks may still come here.
    """

    base: int
    length: int
    level: int
    start: int
    parent: int | None
    linked: bool = True

    @property
    def chunks(self) -> range:
        """The numbers of the chunks of RAM that it lies in."""
        return range(self.base >> CHUNK_BITS, (self.base + self.length - 1 >> CHUNK_BITS) + 1)

    def holds(self, place: int) -> bool:
        """Whether a descriptor lies in it."""
        return self.base <= place < self.base + self.length


class LiveTables(Generic[R]):
    """The tables of one address space, and the old values that walks may still use.

    Attributes:
        by_chunk: the live table in each chunk of RAM.
        stale: the old values.
        unordered: the chunks that were stored to since the last DSB; the owner keeps it.
    """

    def __init__(
        self,
        ram: SimulatedRam,
        program: Region,
        regime: R,
        root: int,
        asid: int,
        unordered: AbstractSet[int],
    ) -> None:
        self.ram = ram
        self.program = program
        self.regime = regime
        self.root = root
        self.asid = asid
        self.unordered = unordered
        self.by_base: dict[int, Table] = {}
        self.by_chunk: dict[int, Table] = {}
        self.stale: OldValues[Stale] = OldValues()
        length = regime.table_length(regime.start_level)
        if root % length:
            raise ModelViolation(
                "ROOT_ALIGN", f"the root table {root:#x} must be a multiple of {length:#x}"
            )
        top = Table(root, length, regime.start_level, 0, None)
        what = f"the address space of the root {root:#x}"
        self._adopt(top, what, "NEW_NOT_VISIBLE", "DSB ISHST before the switch")

    def values(self, place: int) -> Sequence[tuple[int, Stale | None]]:
        """What a walk may read at ``place``: what memory holds, then old values."""
        current = (int.from_bytes(self.ram.peek(place, self.regime.entry_length), "little"), None)
        stale = self.stale.at(place)
        if not stale:
            return (current,)
        return [current, *((each.old, each) for each in stale)]

    def global_addresses(self) -> set[int]:
        """The first address of every leaf that may be cached for all address spaces."""
        regime = self.regime
        found = {each.start for each in self.stale if each.cached and each.is_global}
        for table in self.by_base.values():
            content = self.ram.peek(table.base, table.length)
            shift = regime.shift(table.level)
            found.update(
                table.start + (index << shift) for index in regime.find_global(content, table.level)
            )
        return found

    # Maintenance --------------------------------------------------------------------------

    def order(self) -> None:
        """A DSB of any kind."""
        for each in self.stale:
            each.order()

    def complete(self, domain: str) -> None:
        """A DSB for loads and stores."""
        for each in self.stale:
            each.complete(domain)

    def invalidate(self, operation: Invalidation) -> None:
        """A TLBI."""
        for each in self.stale.about(operation.address):
            each.invalidate(operation)

    def synchronize(self) -> None:
        """An ISB: old values that are gone everywhere else are gone for good."""
        gone = [each for each in self.stale if each.synchronizable]
        for each in gone:
            self.stale.discard(each)
        for each in gone:
            if each.table is not None:
                self._release(each.table)

    def _release(self, base: int) -> None:
        """Stop watching a table that no walk reaches any more, and those below it."""
        table = self.by_base.get(base)
        if table is None or table.linked:
            return
        for below in self._subtree(table):
            del self.by_base[below.base]
            for number in below.chunks:
                del self.by_chunk[number]
            for stale in [each for each in self.stale if below.holds(each.place)]:
                self.stale.discard(stale)

    # Stores -------------------------------------------------------------------------------

    def store(self, table: Table, physical: int, new: bytes) -> None:
        """Hear of a store to a live table, before it is done; raise if it breaks a rule."""
        old = self.ram.peek(physical, len(new))
        if old == new:
            return
        size = self.regime.entry_length
        if physical % size or len(new) % size:
            raise ModelViolation(
                "TORN_ENTRY",
                f"a store of {len(new)} bytes at {physical:#x} changes part of a descriptor of "
                f"the live table {table.base:#x}: store all {size} bytes at once",
            )
        for offset in range(0, len(new), size):
            before = int.from_bytes(old[offset : offset + size], "little")
            after = int.from_bytes(new[offset : offset + size], "little")
            if before != after and table.holds(physical + offset):
                self._change(table, physical + offset, before, after)

    def _change(self, table: Table, place: int, old: int, new: int) -> None:
        regime, level = self.regime, table.level
        length = 1 << regime.shift(level)
        start = table.start + (place - table.base) // regime.entry_length * length
        what = (
            f"storing {new:#x} over {old:#x} in the descriptor at {place:#x} "
            f"(level {level}, for {start:#x} to {start + length:#x})"
        )
        self._check_frozen(table, what)
        self._check_kept(table, new, what)
        if regime.kind(new, level) is Kind.INVALID:
            self._check_program(start, length, what)
        if regime.claims(new):
            self._check_new(place, old, new, level, what)
        if regime.harmless_change(old, new, level):
            return
        stale = Stale(
            place=place,
            level=level,
            start=start,
            length=length,
            old=old,
            new=new,
            asid=self.asid,
            cached=regime.cacheable(old, level),
            is_global=regime.is_global(old, level),
            remedy=regime.page_invalidation,
        )
        if stale.cached and regime.kind(old, level) is Kind.LEAF:
            stale.frame = regime.output(old, level)
        following = regime.next_table(new) if regime.kind(new, level) is Kind.TABLE else None
        previous = None
        if stale.cached and regime.kind(old, level) is Kind.TABLE:
            previous = self.by_base.get(regime.next_table(old))
        if following is not None and (previous is None or previous.base != following):
            below = Table(following, regime.table_length(level + 1), level + 1, start, place)
            missing = "DSB ISHST between filling and linking the table"
            self._adopt(below, what, "TABLE_LINKED_UNINIT", missing)
        if previous is not None:
            stale.table = previous.base
            stale.remedy = regime.table_invalidation
            stale.leaves = dict(self._leaves(previous))
            stale.remnants = dict(self._remnants(previous))
            if previous.base != following:
                for each in self._subtree(previous):
                    each.linked = False
        self.stale.add(stale)

    # The rules ----------------------------------------------------------------------------

    def _check_kept(self, table: Table, new: int, what: str) -> None:
        """What is stored in a table that is in use must not be the bare address of a page."""
        if not self.regime.claims(new):
            check_kept(
                new,
                what,
                table.base,
                is_root=table.parent is None,
                unlink=f"a store of 0 to the descriptor at {table.parent or 0:#x}, DSB ISHST, "
                f"{self.regime.table_invalidation}, DSB ISH and ISB",
                switch="the switch to another root, and ISB",
            )

    def _check_frozen(self, table: Table, what: str) -> None:
        """A table that was unlinked must be left alone until no walk can come through it."""
        if table.linked:
            return
        for each in self.stale:
            if each.table is not None and any(
                below is table for below in self._subtree(self.by_base[each.table])
            ):
                raise ModelViolation(
                    "TABLE_FREED_LIVE",
                    f"{what}, in the table {table.base:#x}, which was unlinked but is in use: "
                    + each.violation("a walk").facts,
                )

    def _check_program(self, start: int, length: int, what: str) -> None:
        """The code that runs, its stack and its variables must stay mapped."""
        if start < self.program.end and self.program.start < start + length:
            raise ModelViolation(
                "SELF_UNMAP",
                f"{what} unmaps the running program, {self.program.start:#x} to "
                f"{self.program.end:#x}: change it from another address space",
            )

    def _check_new(self, place: int, old: int, new: int, level: int, what: str) -> None:
        """Rules for storing a descriptor that claims to be valid."""
        regime = self.regime
        if regime.kind(new, level) is Kind.INVALID:
            raise ModelViolation("BAD_LEVEL", f"{what}: that level cannot hold such a descriptor")
        reserved = regime.reserved(new, level)
        if reserved:
            raise ModelViolation("RES0_SET", f"{what} sets reserved bits {reserved:#x}")
        if regime.cacheable(old, level):
            reason = regime.forbidden_change(old, new, level)
            if reason is not None:
                raise ModelViolation(
                    "BBM_REQUIRED",
                    f"{what}: {reason}, so both could be cached at once; break before make: "
                    "store 0, DSB ISH, TLBI, DSB ISH, then store the new one (D8.17.1, R_DDMVT)",
                )
        for each in self.stale.at(place):
            if each.cached and each.step < Step.COMPLETE:
                reason = regime.forbidden_change(each.old, new, level)
                if reason is not None:
                    raise ModelViolation(
                        "BBM_MAKE_BEFORE_CLEAN",
                        f"{what}: {reason}; " + each.violation("made before clean").facts,
                    )

    # Tables -------------------------------------------------------------------------------

    def _adopt(self, table: Table, what: str, rule: str, missing: str) -> None:
        """A table becomes live, and so does what is below it; all of it must be visible."""
        found: dict[int, Table] = {}
        for each in self._reachable(table):
            known = self.by_base.get(each.base) or found.get(each.base)
            if known is not None:
                raise ModelViolation(
                    "DOUBLE_TABLE" if known.linked else "TABLE_FREED_LIVE",
                    f"{what} has the table {each.base:#x} for {each.start:#x}, but it is in use "
                    f"for {known.start:#x} already",
                )
            found[each.base] = each
            for number in each.chunks:
                if number in self.unordered:
                    raise ModelViolation(
                        rule,
                        f"{what}: the table {each.base:#x} (level {each.level}, from "
                        f"{each.start:#x}) can be walked before the stores to it at "
                        f"{number << CHUNK_BITS:#x} are visible; missing: {missing}",
                    )
        for each in found.values():
            self._watch(each)

    def _watch(self, table: Table) -> None:
        self.by_base[table.base] = table
        for number in table.chunks:
            self.by_chunk[number] = table
        self.ram.forget_writes()

    def _reachable(self, table: Table) -> Iterator[Table]:
        """``table`` and all tables below it, by what memory holds."""
        yield table
        if table.level == self.regime.last_level:
            return
        for place, start, entry in self._find(table, Kind.TABLE):
            if self.regime.cacheable(entry, table.level):
                base = self.regime.next_table(entry)
                level = table.level + 1
                length = self.regime.table_length(level)
                yield from self._reachable(Table(base, length, level, start, place))

    def _subtree(self, table: Table) -> list[Table]:
        """``table`` and the live tables below it."""
        found = [table]
        for each in found:
            found.extend(
                below
                for below in self.by_base.values()
                if below.parent is not None and each.holds(below.parent)
            )
        return found

    def _leaves(self, table: Table) -> Iterator[tuple[tuple[int, int], int]]:
        """The translations below a table that may be cached."""
        for each in self._subtree(table):
            length = 1 << self.regime.shift(each.level)
            for _, start, entry in self._find(each, Kind.LEAF):
                if self.regime.cacheable(entry, each.level):
                    yield (start, length), self.regime.output(entry, each.level)

    def _remnants(self, table: Table) -> Iterator[tuple[tuple[int, int], int]]:
        """What was cached through a table before a change there, and is not invalidated yet."""
        for each in self._subtree(table):
            for stale in self.stale:
                if each.holds(stale.place) and stale.cached and stale.step < Step.INVALIDATING:
                    if stale.table is None:
                        yield (stale.start, stale.length), self.regime.output(stale.old, each.level)
                    else:
                        yield from (stale.leaves | stale.remnants).items()

    def _find(self, table: Table, kind: Kind) -> Iterator[tuple[int, int, int]]:
        """The descriptors of a kind: (place, first virtual address, value)."""
        content = self.ram.peek(table.base, table.length)
        size, shift = self.regime.entry_length, self.regime.shift(table.level)
        for index, entry in self.regime.find(content, table.level, kind):
            yield table.base + size * index, table.start + (index << shift), entry
