"""Old values of descriptors: what a walk may still use although memory says otherwise.

Two things keep an old value alive.  The walker may not see the new one yet: until a DSB after
the store, and then an ISB, it may read either (DDI 0487, G5.9.1).  And if the old value could be
cached it was, at the worst: then it stays until a matching TLBI, issued after that DSB, is
completed by a DSB for loads and stores, and an ISB (D8.17.5, R_TGVWD, R_PSMWS, R_BLDZX).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeAlias

from kernmem.language import ModelViolation

Leaves: TypeAlias = dict[tuple[int, int], int]
"""Translations: (first virtual address, length) -> the physical address that it leads to."""


class Step(IntEnum):
    """How far the maintenance after a store has come."""

    STORED = 0  # the walker may not see the store
    ORDERED = 1  # DSB: it does
    INVALIDATING = 2  # TLBI: the TLB was told to drop the old value
    COMPLETE = 3  # DSB: it has; only an ISB is missing


@dataclass(frozen=True)
class Invalidation:
    """One TLBI instruction (D8.17.5.4).

    Attributes:
        address: the virtual address it names; None for all.
        asid: the ASID that it names; None for all.
        last_level: whether it leaves descriptors that lead to tables alone.
        level_hint: the only level that it must look at (FEAT_TTL); None for any.
        broadcast: whether other cores obey (…IS), so that a DSB ISH must complete it.
    """

    name: str
    address: int | None = None
    asid: int | None = None
    last_level: bool = False
    level_hint: int | None = None
    broadcast: bool = False


@dataclass(kw_only=True, eq=False)
class Maintenance:
    """Something that is, or may be, in a cache, and how far getting rid of it has come."""

    step: Step = Step.ORDERED
    broadcast: bool = False
    cached: bool = True

    def order(self) -> None:
        """A DSB of any kind: the store is visible."""
        if self.step is Step.STORED:
            self.step = Step.ORDERED

    def begin(self, *, broadcast: bool = False) -> None:
        """An invalidation that covers it."""
        if self.step is Step.ORDERED:
            self.step = Step.INVALIDATING
            self.broadcast = self.broadcast or broadcast

    def complete(self, domain: str) -> None:
        """A DSB for loads and stores: invalidations issued before are done.

        A broadcast one takes a DSB for the inner shareable domain.
        """
        if self.step is Step.INVALIDATING and not (self.broadcast and domain == "nsh"):
            self.step = Step.COMPLETE

    @property
    def synchronizable(self) -> bool:
        """Whether an ISB now is the end of it."""
        return self.step is (Step.COMPLETE if self.cached else Step.ORDERED)


@dataclass(kw_only=True, eq=False)
class Stale(Maintenance):
    """An old value of the descriptor at ``place``.

    Attributes:
        place: the physical address of the descriptor.
        start, length: the virtual addresses that it is for.
        asid: the ASID that was current.
        cached: whether it must be assumed to be in the TLB.
        table: the table that the old value led to; None for a leaf.
        frame: for a leaf, the physical address that it maps.
        leaves: for a table, the translations below it that may be in the TLB on their own, and
            need their own invalidation.  As long as the walk to the table is cached they can
            come back, so only what comes after counts.
        remnants: the same for translations that were cleared already, and cannot come back.
        note: the rule that maintenance so far broke, and what is missing.
        remedy: the instruction that invalidates it.
    """

    place: int
    level: int
    start: int
    length: int
    old: int
    new: int
    asid: int
    is_global: bool = False
    table: int | None = None
    frame: int | None = None
    leaves: Leaves = field(default_factory=dict)
    remnants: Leaves = field(default_factory=dict)
    step: Step = Step.STORED
    walk_step: Step = Step.ORDERED  # how far dropping the walk to the table has come
    note: tuple[str, str] | None = None
    remedy: str = "TLBI"

    def complete(self, domain: str) -> None:
        """A DSB for loads and stores."""
        super().complete(domain)
        if self.walk_step is Step.INVALIDATING and not (self.broadcast and domain == "nsh"):
            self.walk_step = Step.COMPLETE

    def invalidate(self, operation: Invalidation) -> None:
        """A TLBI: count it, or remember why it does not count."""
        if not self.cached or self.step >= Step.INVALIDATING:
            return
        if operation.address is not None and not self._covers(operation.address):
            return
        if operation.asid is not None and self._other_context(operation):
            self.note = (
                "INVALIDATE_MISSED",
                f"{operation.name} named ASID {operation.asid}, but the old value "
                + ("is global" if self.is_global else f"is cached under ASID {self.asid}"),
            )
            return
        if self.step is Step.STORED:
            self.note = (
                "INVALIDATE_BEFORE_VISIBLE",
                f"a DSB between the store and the {operation.name}, which came too early",
            )
            return
        self._drop(operation)

    @property
    def frames(self) -> Iterator[tuple[int, int, int]]:
        """The translations that may be cached of it: first address, length, physical address."""
        if self.cached and self.step < Step.COMPLETE:
            if self.frame is not None:
                yield self.start, self.length, self.frame
            for (start, length), frame in (self.leaves | self.remnants).items():
                yield start, length, frame

    def _covers(self, address: int) -> bool:
        return self.start <= address < self.start + self.length

    def _other_context(self, operation: Invalidation) -> bool:
        # An operation by address and ASID drops global leaves too; one by ASID alone does not.
        if self.is_global:
            return operation.address is None
        return operation.asid != self.asid

    def _drop(self, operation: Invalidation) -> None:
        if operation.level_hint not in (None, self.level):
            self.note = (
                "INVALIDATE_MISSED",
                f"the {operation.name} said level {operation.level_hint}; it is {self.level}",
            )
            return
        self.broadcast = self.broadcast or operation.broadcast
        if self.table is None:
            self.begin()
            return
        if not operation.last_level and self.walk_step is Step.ORDERED:
            self.walk_step = Step.INVALIDATING
        self.remnants = _without(self.remnants, operation.address)
        if not operation.last_level or self.walk_step is Step.COMPLETE:
            self.leaves = _without(self.leaves, operation.address)
        left = self.leaves | self.remnants
        if self.walk_step is Step.ORDERED:
            self.note = (
                "WALK_CACHE_STALE",
                f"{operation.name} leaves cached table descriptors alone; "
                "use the operation without L",
            )
        elif left:
            start, length = min(left)
            self.note = (
                "INVALIDATE_MISSED",
                f"a TLBI for each translation below the table, after the walk to it is dropped: "
                f"{len(left)} left, the first {start:#x} to {start + length:#x}",
            )
        else:
            self.begin()

    # What is wrong ------------------------------------------------------------------------

    def violation(self, use: str) -> ModelViolation:
        """The error for an access, or another use, that depends on this old value."""
        rule, missing = self._missing()
        return ModelViolation(
            rule,
            f"{use}: the descriptor at {self.place:#x} (level {self.level}, for "
            f"{self.start:#x} to {self.start + self.length:#x}) was changed from {self.old:#x} "
            f"to {self.new:#x}, and the old value may still be in use; missing: {missing}",
        )

    def _missing(self) -> tuple[str, str]:
        if self.step is Step.INVALIDATING:
            return "INVALIDATE_INCOMPLETE", "a DSB for loads and stores (DSB ISH) after the TLBI"
        if self.step is Step.COMPLETE or (self.step is Step.ORDERED and not self.cached):
            return "NO_CONTEXT_SYNC", "an ISB after the DSB"
        if self.note is not None:
            return self.note
        if not self.cached:
            return "NEW_NOT_VISIBLE", "DSB ISHST and ISB after the store"
        if self.step is Step.STORED:
            return "STALE_TRANSLATION", f"DSB ISHST, {self.remedy}, DSB ISH and ISB after the store"
        return "STALE_TRANSLATION", f"{self.remedy}, DSB ISH and ISB"


def _without(leaves: Leaves, address: int | None) -> Leaves:
    """``leaves`` without those that an operation on ``address``, or on all, drops."""
    if address is None:
        return {}
    return {
        (start, length): frame
        for (start, length), frame in leaves.items()
        if not start <= address < start + length
    }
