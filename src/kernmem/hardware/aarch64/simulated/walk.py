"""The translation table walk (ASL ``AArch64.S1Translate``, ``S1Walk``, ``S1CheckPermissions``).

A walk reads descriptors through ``values``, which gives every value that the walker may see at
an address, the one in memory first.  So one walk has one outcome, or, while the tables are being
changed, several.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import NamedTuple

from kernmem.hardware.aarch64.simulated.regime import Regime, bits
from kernmem.hardware.simulation import Access
from kernmem.hardware.vmsa.core import Outcome
from kernmem.hardware.vmsa.regime import Kind
from kernmem.hardware.vmsa.stale import Stale
from kernmem.language import ModelViolation


class FaultKind(IntEnum):
    """Bits 5:2 of a fault status; bits 1:0 are the level (ASL ``EncodeLDFSC``)."""

    ADDRESS_SIZE = 0b0000
    TRANSLATION = 0b0001
    ACCESS_FLAG = 0b0010
    PERMISSION = 0b0011


ALIGNMENT_STATUS = 0x21
EXTERNAL_ABORT_STATUS = 0x10


class Fault(NamedTuple):
    """What a walk found instead of memory."""

    kind: FaultKind
    level: int

    @property
    def status(self) -> int:
        """The fault status code."""
        return self.kind << 2 | self.level

    @property
    def reason(self) -> str:
        """``translation fault, level 3``"""
        return f"{self.kind.name.lower().replace('_', ' ')} fault, level {self.level}"


class Leaf(NamedTuple):
    """Where a walk ended in memory, with the permissions of all levels in it.

    Attributes:
        physical: the physical address that was asked for.
        start, length: the virtual addresses that the descriptor maps.
    """

    physical: int
    attribute: int
    shareability: int
    not_global: bool
    level: int
    user: bool
    read_only: bool
    user_never: bool
    privileged_never: bool
    start: int
    length: int


Values = Callable[[int], Sequence[tuple[int, Stale | None]]]


class Limits(NamedTuple):
    """What the table descriptors so far take away: APTable, UXNTable, PXNTable (D8.4.4)."""

    no_user: bool = False
    no_write: bool = False
    user_never: bool = False
    privileged_never: bool = False


def walk(regime: Regime, root: int, address: int, values: Values) -> list[Outcome]:
    """Every outcome of translating ``address``; what memory says now comes first."""
    if address >> regime.input_bits:
        return [Outcome(Fault(FaultKind.TRANSLATION, 0), None)]
    if root >> regime.output_bits:
        return [Outcome(Fault(FaultKind.ADDRESS_SIZE, 0), None)]
    outcomes: list[Outcome] = []
    _descend(regime, root, address, regime.start_level, Limits(), None, values, outcomes)
    return outcomes


def _descend(
    regime: Regime,
    table: int,
    address: int,
    level: int,
    limits: Limits,
    stale: Stale | None,
    values: Values,
    outcomes: list[Outcome],
) -> None:
    place = table + 8 * regime.index(address, level)
    for entry, older in values(place):
        culprit = older or stale
        kind = regime.kind(entry, level)
        reserved = regime.reserved(entry, level)
        if reserved:
            raise ModelViolation(
                "RES0_SET",
                f"the descriptor {entry:#x} at {place:#x} (level {level}, on the walk for "
                f"{address:#x}) sets reserved bits {reserved:#x}, which must be 0",
            )
        if kind is Kind.INVALID:
            outcomes.append(Outcome(Fault(FaultKind.TRANSLATION, level), culprit))
        elif kind is Kind.TABLE:
            below = regime.next_table(entry)
            if below >> regime.output_bits:
                outcomes.append(Outcome(Fault(FaultKind.ADDRESS_SIZE, level), culprit))
                continue
            inner = _narrow(limits, entry) if regime.hierarchical else limits
            _descend(regime, below, address, level + 1, inner, culprit, values, outcomes)
        else:
            outcomes.append(Outcome(_leaf(regime, entry, address, level, limits), culprit))


def _narrow(limits: Limits, entry: int) -> Limits:
    return Limits(
        limits.no_user or bool(entry >> 61 & 1),
        limits.no_write or bool(entry >> 62 & 1),
        limits.user_never or bool(entry >> 60 & 1),
        limits.privileged_never or bool(entry >> 59 & 1),
    )


def _leaf(regime: Regime, entry: int, address: int, level: int, limits: Limits) -> Fault | Leaf:
    if entry >> 52 & 1:
        raise ModelViolation(
            "CONTIGUOUS", f"the descriptor {entry:#x} for {address:#x} is contiguous: not simulated"
        )
    output = regime.output(entry, level)
    if output >> regime.output_bits:
        return Fault(FaultKind.ADDRESS_SIZE, level)
    if not entry >> 10 & 1:
        return Fault(FaultKind.ACCESS_FLAG, level)
    length = 1 << regime.shift(level)
    return Leaf(
        physical=output | address & length - 1,
        attribute=bits(entry, 4, 2),
        shareability=bits(entry, 9, 8),
        not_global=bool(entry >> 11 & 1),
        level=level,
        user=bool(entry >> 6 & 1) and not limits.no_user,
        read_only=bool(entry >> 7 & 1) or limits.no_write,
        user_never=bool(entry >> 54 & 1) or limits.user_never,
        privileged_never=bool(entry >> 53 & 1) or limits.privileged_never,
        start=address & -length,
        length=length,
    )


def permitted(
    leaf: Leaf, access: Access, *, user: bool, wxn: bool = False, pan: bool = False
) -> bool:
    """Whether a leaf permits an access (ASL ``S1DirectBasePermissions``)."""
    user_reads = leaf.user
    user_writes = leaf.user and not leaf.read_only
    writes = user_writes if user else not leaf.read_only
    if access is Access.EXECUTE:
        # What user code may write, the kernel never executes, whatever PXN says.
        never = leaf.user_never if user else leaf.privileged_never or user_writes
        return not never and not (wxn and writes)
    if user:
        return user_reads if access is Access.READ else user_writes
    if pan and user_reads:
        return False
    return access is Access.READ or writes
