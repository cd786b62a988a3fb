"""The address spaces that were in use before, and may still be cached under their ASIDs.

After a switch nothing new is cached for the old ASID (D8.16.1: only translations of the current
context are), but what was cached stays.  It does no harm until the ASID is current again.  Then
the root must be the same and its tables untouched, or everything under the ASID must have been
invalidated.  Silicon would also accept that each change was invalidated by itself; the model
does not follow that far.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kernmem.hardware.vmsa.stale import Invalidation, Maintenance, Step
from kernmem.hardware.vmsa.tables import LiveTables
from kernmem.language import ModelViolation


@dataclass(kw_only=True)
class Left(Maintenance):
    """What may be cached under an ASID that is not current.

    Attributes:
        remedy: the instructions that invalidate all of it.
        change: what was changed in its tables since, if anything.
    """

    asid: int
    root: int
    remedy: str
    change: str | None = None


class LeftSpaces:
    """All ASIDs under which something may be cached, but for the current one."""

    def __init__(self) -> None:
        self._by_asid: dict[int, Left] = {}
        self._by_chunk: dict[int, list[Left]] = {}

    def all(self) -> list[Maintenance]:
        """Each of them."""
        return list(self._by_asid.values())

    def holds(self, asid: int) -> bool:
        """Whether anything may be cached under an ASID since it was left."""
        return asid in self._by_asid

    def leave(self, tables: LiveTables[Any]) -> None:
        """Another address space becomes current."""
        left = Left(asid=tables.asid, root=tables.root, remedy=tables.regime.space_invalidation)
        for values in tables.stale.values():
            for stale in values:
                if stale.cached:
                    left.change = stale.violation("before it was left").facts
        self._by_asid[left.asid] = left
        for number in tables.by_chunk:
            self._by_chunk.setdefault(number, []).append(left)

    def changed(self, number: int, physical: int) -> None:
        """A store to a chunk: what was cached from it is out of date."""
        for left in self._by_chunk.pop(number, ()):
            left.change = left.change or f"the table at {physical:#x} was stored to"

    def enter(self, root: int, asid: int) -> None:
        """An ASID becomes current: nothing wrong may be cached under it."""
        left = self._by_asid.get(asid)
        if left is None:
            return
        if left.step is Step.ORDERED and left.root == root and left.change is None:
            del self._by_asid[asid]
            return
        rule, missing = {
            Step.INVALIDATING: ("INVALIDATE_INCOMPLETE", "DSB NSH after the TLBI"),
            Step.COMPLETE: ("NO_CONTEXT_SYNC", "ISB after the DSB"),
        }.get(left.step, ("ASID_ALIAS", f"{left.remedy}, DSB NSH and ISB"))
        change = "" if left.change is None else f", of which {left.change}"
        raise ModelViolation(
            rule,
            f"ASID {asid} becomes current with the root {root:#x}, but translations of the root "
            f"{left.root:#x}{change} may be cached under it; missing: {missing}",
        )

    def invalidate(self, operation: Invalidation) -> None:
        """A TLBI of everything, or of an ASID; those by address do not clean a whole ASID."""
        if operation.address is not None:
            return
        for left in self._by_asid.values():
            if operation.asid in (None, left.asid):
                left.begin(broadcast=operation.broadcast)

    def synchronize(self) -> None:
        """An ISB."""
        kept = {asid: left for asid, left in self._by_asid.items() if not left.synchronizable}
        if len(kept) == len(self._by_asid):
            return
        self._by_asid = kept
        chunks = {
            number: [each for each in spaces if kept.get(each.asid) is each]
            for number, spaces in self._by_chunk.items()
        }
        self._by_chunk = {number: spaces for number, spaces in chunks.items() if spaces}
