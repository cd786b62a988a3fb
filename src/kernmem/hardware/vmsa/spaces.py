"""The address spaces that were in use before, and may still be cached under their ASIDs.

After a switch nothing new is cached for the old ASID (D8.16.1: only translations of the current
context are), but what was cached stays.  It does no harm until the ASID is current again, unless it
is global, which is what :mod:`.kept` is about.  Then the root must be the same and what may be
cached of its tables unchanged, or everything under the ASID must have been invalidated.  Silicon
would also accept that each change was invalidated by itself; the model does not follow that far.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kernmem.hardware.simulation import CHUNK_BITS
from kernmem.hardware.vmsa.stale import Invalidation, Maintenance, Step
from kernmem.hardware.vmsa.tables import LiveTables
from kernmem.language import ModelViolation


@dataclass(kw_only=True)
class Left(Maintenance):
    """What may be cached under an ASID that is not current.

    Attributes:
        tables: those that it was cached from.
        change: what of it is out of date, if anything.
    """

    tables: LiveTables[Any]
    change: str | None = None

    def store(self, physical: int, new: bytes) -> None:
        """A store to one of the tables; entries that were invalid are not cached (R_XCLRD)."""
        table = self.tables.by_chunk[physical >> CHUNK_BITS]
        length = self.tables.regime.entry_length
        first, last = physical - physical % length, physical + len(new) - 1
        for place in range(first, last + 1, length):
            old = int.from_bytes(self.tables.ram.peek(place, length), "little")
            regime = self.tables.regime
            if regime.cacheable(old, table.level) and not regime.is_global(old, table.level):
                self.change = f"the entry at {place:#x} was stored to"


class LeftSpaces:
    """All ASIDs under which something may be cached, but for the current one."""

    def __init__(self) -> None:
        self._by_asid: dict[int, Left] = {}
        self._by_chunk: dict[int, list[Left]] = {}

    def all(self) -> list[Maintenance]:
        """Each of them."""
        return list(self._by_asid.values())

    def cached(self, asid: int) -> LiveTables[Any] | None:
        """What may be cached under an ASID since it was left."""
        left = self._by_asid.get(asid)
        return None if left is None else left.tables

    def leave(self, tables: LiveTables[Any]) -> None:
        """Another address space becomes current."""
        left = Left(tables=tables)
        for stale in tables.stale:
            if stale.cached and not stale.is_global:
                left.change = stale.violation("before it was left").facts
        self._by_asid[tables.asid] = left
        for number in tables.by_chunk:
            self._by_chunk.setdefault(number, []).append(left)

    def store(self, physical: int, new: bytes) -> bool:
        """Hear of a store to RAM; whether more of its chunk may be cached, and unchanged."""
        here = self._by_chunk.get(physical >> CHUNK_BITS, ())
        spaces = [each for each in here if each.change is None]
        for left in spaces:
            left.store(physical, new)
        return any(each.change is None for each in spaces)

    def enter(self, root: int, asid: int) -> None:
        """An ASID becomes current: nothing wrong may be cached under it."""
        left = self._by_asid.get(asid)
        if left is None:
            return
        if left.step is Step.ORDERED and left.tables.root == root and left.change is None:
            self._keep({key: value for key, value in self._by_asid.items() if key != asid})
            return
        remedy = left.tables.regime.space_invalidation
        rule, missing = {
            Step.INVALIDATING: ("INVALIDATE_INCOMPLETE", "DSB NSH after the TLBI"),
            Step.COMPLETE: ("NO_CONTEXT_SYNC", "ISB after the DSB"),
        }.get(left.step, ("ASID_ALIAS", f"{remedy}, DSB NSH and ISB"))
        change = "" if left.change is None else f", of which {left.change}"
        raise ModelViolation(
            rule,
            f"ASID {asid} becomes current with the root {root:#x}, but translations of the root "
            f"{left.tables.root:#x}{change} may be cached under it; missing: {missing}",
        )

    def invalidate(self, operation: Invalidation) -> None:
        """A TLBI of everything, or of an ASID; those by address do not clean a whole ASID."""
        if operation.address is not None:
            return
        for asid, left in self._by_asid.items():
            if operation.asid in (None, asid):
                left.begin(broadcast=operation.broadcast)

    def synchronize(self) -> None:
        """An ISB."""
        kept = {asid: left for asid, left in self._by_asid.items() if not left.synchronizable}
        if len(kept) < len(self._by_asid):
            self._keep(kept)

    def _keep(self, kept: dict[int, Left]) -> None:
        """Of the others nothing is cached any more."""
        self._by_asid = kept
        chunks = {
            number: [each for each in spaces if kept.get(each.tables.asid) is each]
            for number, spaces in self._by_chunk.items()
        }
        self._by_chunk = {number: spaces for number, spaces in chunks.items() if spaces}
