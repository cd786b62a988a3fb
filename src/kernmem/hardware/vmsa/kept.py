"""The global translations of the spaces that were left: they count under every ASID (D8.16.1).

Whichever the current tables are, a TLB may translate by them until they are invalidated by their
address, or all is (D8.17.5.4).  That does no harm where the current tables say the same, in the
same form: with two translations of one address that differ, even in nG or in length, a TLB may use
either, or mix both, or abort (D8.17.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kernmem.hardware.vmsa.stale import Invalidation, Maintenance, Stale, Step
from kernmem.language import ModelViolation


@dataclass(kw_only=True)
class Kept(Maintenance):
    """One of them.

    Attributes:
        start, length: the virtual addresses that it is for.
        leaf: what a walk for the first of them ended at.
    """

    start: int
    length: int
    leaf: Any

    @classmethod
    def of(cls, leaf: Any, address: int, stale: Stale | None) -> Kept:
        """What a walk for ``address`` ended at, by this old value of a descriptor, if any."""
        offset = address % leaf.length
        return cls(
            start=address - offset,
            length=leaf.length,
            leaf=leaf._replace(physical=leaf.physical - offset),
            step=Step.ORDERED if stale is None else stale.step,
            broadcast=stale is not None and stale.broadcast,
        )

    def serves(self, address: int) -> bool:
        """Whether it is for ``address``."""
        return self.start <= address < self.start + self.length

    def end(self, address: int) -> Any:
        """What a walk for ``address`` ended at."""
        return self.leaf._replace(physical=self.leaf.physical + address - self.start)

    def invalidate(self, operation: Invalidation) -> None:
        """A TLBI: one by address drops it whatever ASID it names, one by ASID alone does not."""
        if operation.address is None:
            covers = operation.asid is None
        else:
            level_fits = operation.level_hint in (None, self.leaf.level)
            covers = level_fits and self.serves(operation.address)
        if covers:
            self.begin(broadcast=operation.broadcast)

    def violation(self, use: str) -> ModelViolation:
        """The error for an access that the current tables mean otherwise."""
        rule, missing = {
            Step.INVALIDATING: (
                "INVALIDATE_INCOMPLETE",
                "a DSB for loads and stores (DSB ISH) after the TLBI",
            ),
            Step.COMPLETE: ("NO_CONTEXT_SYNC", "an ISB after the DSB"),
        }.get(self.step, ("GLOBAL_LEAK", "a TLBI by address for all ASIDs, DSB ISH and ISB"))
        return ModelViolation(
            rule,
            f"{use}: a space that was left had a global translation of {self.start:#x} to "
            f"{self.start + self.length:#x}, at {self.leaf.physical:#x}, which may still be in "
            f"use, and the current tables say otherwise; missing: {missing}, or the same in both",
        )


class KeptLeaves:
    """All of them: mostly none, but a kernel may have many."""

    def __init__(self) -> None:
        self._by_length: dict[int, dict[int, list[Kept]]] = {}  # and then by start

    def __iter__(self) -> Iterator[Kept]:
        for by_start in self._by_length.values():
            for values in by_start.values():
                yield from values

    def keep(self, kept: Kept) -> None:
        """A space is left that had this one."""
        values = self._by_length.setdefault(kept.length, {}).setdefault(kept.start, [])
        if kept not in values:
            values.append(kept)

    def serving(self, address: int) -> Iterator[Kept]:
        """Those that are for ``address``."""
        for length, by_start in self._by_length.items():
            yield from by_start.get(address & -length, ())

    def synchronize(self) -> None:
        """An ISB."""
        if any(each.synchronizable for each in self):
            kept = [each for each in self if not each.synchronizable]
            self._by_length.clear()
            for each in kept:
                self.keep(each)
