"""The translation table walk (ASL ``AArch32.S1WalkSD``) and its permissions.

A walk reads descriptors through ``values``, which gives every value that the walker may see at
an address, the one in memory first.  So one walk has one outcome, or, while the tables are being
changed, several.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple

from kernmem.hardware.armv7.simulated.regime import ShortRegime, bits
from kernmem.hardware.simulation import Access
from kernmem.hardware.vmsa.core import Outcome
from kernmem.hardware.vmsa.regime import Kind
from kernmem.hardware.vmsa.stale import Stale
from kernmem.language import ModelViolation

ALIGNMENT_STATUS = 0b00001


class FaultKind(Enum):
    """Kinds of faults, by their status for level 1 and level 2 (DDI 0406, B3.13.3)."""

    TRANSLATION = (0b00101, 0b00111)
    ACCESS_FLAG = (0b00011, 0b00110)
    DOMAIN = (0b01001, 0b01011)
    PERMISSION = (0b01101, 0b01111)


class Fault(NamedTuple):
    """What a walk found instead of memory.

    Attributes:
        domain: of the root's descriptor; 0 where that is not valid.
    """

    kind: FaultKind
    level: int
    domain: int = 0

    @property
    def status(self) -> int:
        """DFSR, but for WnR: the domain in bits 7:4, the status in 10 and 3:0."""
        return self.kind.value[self.level - 1] | self.domain << 4

    @property
    def reason(self) -> str:
        """``translation fault, level 2``"""
        return f"{self.kind.name.lower().replace('_', ' ')} fault, level {self.level}"


class Leaf(NamedTuple):
    """Where a walk ended in memory.

    Attributes:
        physical: the physical address that was asked for.
        attribute: TEX, C and B.
        permission: AP[2:0].
        length: bytes that the descriptor maps.
    """

    physical: int
    attribute: int
    shareable: int
    not_global: bool
    level: int
    domain: int
    permission: int
    never: bool
    privileged_never: bool
    length: int


Values = Callable[[int], Sequence[tuple[int, Stale | None]]]


def walk(regime: ShortRegime, root: int, address: int, values: Values) -> list[Outcome]:
    """Every outcome of translating ``address``; what memory says now comes first."""
    outcomes: list[Outcome] = []
    for first, stale in values(root + 4 * regime.index(address, 1)):
        kind = regime.kind(first, 1)
        domain = bits(first, 8, 5)
        if kind is Kind.INVALID:
            outcomes.append(Outcome(Fault(FaultKind.TRANSLATION, 1), stale))
        elif kind is Kind.LEAF:
            end = _leaf(regime, first, address, 1, domain, bool(first & 1))
            outcomes.append(Outcome(end, stale))
        else:
            place = regime.next_table(first) + 4 * regime.index(address, 2)
            for second, older in values(place):
                if regime.kind(second, 2) is Kind.INVALID:
                    end = Fault(FaultKind.TRANSLATION, 2, domain)
                else:
                    end = _leaf(regime, second, address, 2, domain, bool(first >> 2 & 1))
                outcomes.append(Outcome(end, older or stale))
    return outcomes


def _leaf(
    regime: ShortRegime, entry: int, address: int, level: int, domain: int, privileged_never: bool
) -> Fault | Leaf:
    if not regime.is_single(entry, level):
        what = "a supersection" if level == 1 else "a large page"
        raise ModelViolation(
            "NOT_SIMULATED", f"the descriptor {entry:#x} for {address:#x} is that of {what}"
        )
    permission = regime.permission(entry, level)
    if regime.access_flag and not permission & 1:
        return Fault(FaultKind.ACCESS_FLAG, level, domain)
    length = 1 << regime.shift(level)
    attribute, shareable = regime.attributes(entry, level)
    return Leaf(
        physical=regime.output(entry, level) | address & length - 1,
        attribute=attribute,
        shareable=shareable,
        not_global=regime.not_global(entry, level),
        level=level,
        domain=domain,
        permission=permission,
        never=regime.never(entry, level),
        privileged_never=privileged_never,
        length=length,
    )


# Who may do what, by AP[2:0] (DDI 0406, B3.7.1): the kernel's rights, then the user's.
RIGHTS = {
    0b000: ("", ""),
    0b001: ("rw", ""),
    0b010: ("rw", "r"),
    0b011: ("rw", "rw"),
    0b101: ("r", ""),
    0b110: ("r", "r"),  # deprecated
    0b111: ("r", "r"),
}
# The same where AP[0] is the access flag, which is set if a walk comes here.
SIMPLE_RIGHTS = {0b001: ("rw", ""), 0b011: ("rw", "rw"), 0b101: ("r", ""), 0b111: ("r", "r")}

# DACR, two bits a domain
CLIENT, RESERVED, MANAGER = 0b01, 0b10, 0b11


def refusal(
    regime: ShortRegime, leaf: Leaf, dacr: int, access: Access, *, user: bool
) -> FaultKind | None:
    """Why an access to a leaf is refused; None if it is not (ASL ``AArch32.CheckDomain``)."""
    domain = bits(dacr, 2 * leaf.domain + 1, 2 * leaf.domain)
    if domain == MANAGER:
        return None  # nothing is checked, not even XN
    if domain == RESERVED:
        raise ModelViolation(
            "RESERVED_BITS",
            f"DACR {dacr:#x} gives domain {leaf.domain}, of {leaf.physical:#x}, a reserved value",
        )
    if domain != CLIENT:
        return FaultKind.DOMAIN
    table = SIMPLE_RIGHTS if regime.access_flag else RIGHTS
    if leaf.permission not in table:
        raise ModelViolation(
            "RESERVED_BITS", f"AP is {leaf.permission:#05b} for {leaf.physical:#x}: reserved"
        )
    rights = table[leaf.permission][user]
    if access is Access.EXECUTE:
        never = leaf.never or (leaf.privileged_never and not user)
        allowed = "r" in rights and not never
    else:
        allowed = ("w" if access is Access.WRITE else "r") in rights
    return None if allowed else FaultKind.PERMISSION
