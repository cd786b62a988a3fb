"""The walk of Sv39, Sv48 and Sv57 (Priv, "Virtual Address Translation Process").

A walk has one outcome for each combination of values that its entries may be read as: those in
memory, and old ones that are cached.  The first outcome is that of memory.

Without Svnapot, Svpbmt and Svadu: bits 63:54 must be 0, and A and D are never set by the core.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, NamedTuple, TypeVar

from kernmem.hardware.simulation import Access, SimulatedRam

V, R, W, X, U, G, A, D = (1 << bit for bit in range(8))
RESERVED = 0x3FF << 54
POINTER_RESERVED = U | A | D  # of an entry that leads to a table

Old = TypeVar("Old")


class FaultKind(Enum):
    """What kind of fault: its cause for a fetch (Priv, "Supervisor Cause Register")."""

    ACCESS = 1
    PAGE = 12

    def cause(self, access: Access) -> int:
        """The cause for any access: first fetches, then loads; stores come two after loads."""
        after = {Access.READ: (4, 1), Access.WRITE: (6, 3), Access.EXECUTE: (0, 0)}
        return self.value + after[access][self is FaultKind.PAGE]


@dataclass(frozen=True)
class Fault:
    """A fault, and where the walk was when it met it; no level if it had not begun."""

    kind: FaultKind
    reason: str
    level: int | None = None


class Leaf(NamedTuple):
    """The end of a walk that found memory: the flags of the leaf, and the physical address.

    Attributes:
        is_global: whether the leaf or an entry above it says so.
    """

    physical: int
    flags: int
    level: int
    is_global: bool


class Outcome(NamedTuple, Generic[Old]):
    """How a walk may end, and the old value that it depends on; None: only on memory."""

    end: Fault | Leaf
    old: Old | None


@dataclass(frozen=True)
class Scheme:
    """Sv39, Sv48 or Sv57 on a core with ``physical_bits`` of physical address."""

    levels: int
    physical_bits: int

    def shift(self, level: int) -> int:
        """The lowest address bit that ``level`` resolves."""
        return 12 + 9 * level

    def canonical(self, address: int) -> int:
        """``address``, of which only the translated bits count, with the bits above them."""
        top = self.shift(self.levels)
        return address | (1 << 64) - (1 << top) if address >> top - 1 else address

    def is_canonical(self, address: int) -> bool:
        """Whether the bits above the address proper all equal its highest."""
        upper = address >> self.shift(self.levels) - 1
        return upper in (0, (1 << 65 - self.shift(self.levels)) - 1)


def is_pointer(entry: int) -> bool:
    """Whether an entry leads to a table."""
    return bool(entry & V) and not entry & (R | W | X)


def target(entry: int) -> int:
    """The physical address in an entry."""
    return (entry >> 10 & (1 << 44) - 1) << 12


Values = Callable[[int], Sequence[tuple[int, Old | None]]]
"""What an entry may be read as: what memory holds first, then old values."""


def walk(scheme: Scheme, root: int, address: int, values: Values[Old]) -> list[Outcome[Old]]:
    """Every way in which the walk for ``address`` may end."""
    if not scheme.is_canonical(address):
        return [Outcome(Fault(FaultKind.PAGE, "the address is not canonical"), None)]
    outcomes: list[Outcome[Old]] = []
    _descend(scheme, root, address, values, scheme.levels - 1, None, False, outcomes)
    return outcomes


def leaf_place(scheme: Scheme, root: int, address: int, ram: SimulatedRam) -> int:
    """Where the entry is that leads to no table, or that of level 0, by what memory holds."""
    table, level = root, scheme.levels - 1
    while True:
        place = table + 8 * (address >> scheme.shift(level) & 0x1FF)
        entry = int.from_bytes(ram.peek(place, 8), "little")
        if level == 0 or not is_pointer(entry):
            return place
        table, level = target(entry), level - 1


def _descend(
    scheme: Scheme,
    table: int,
    address: int,
    values: Values[Old],
    level: int,
    old: Old | None,
    is_global: bool,
    outcomes: list[Outcome[Old]],
) -> None:
    place = table + 8 * (address >> scheme.shift(level) & 0x1FF)
    if place >> scheme.physical_bits:
        reason = f"the table at {table:#x} is outside physical memory"
        outcomes.append(Outcome(Fault(FaultKind.ACCESS, reason, level), old))
        return
    for entry, stale in values(place):
        reached = old if stale is None else stale
        below = is_global or bool(entry & G)
        end = _end(scheme, entry, address, level, below)
        if end is not None:
            outcomes.append(Outcome(end, reached))
        else:
            _descend(scheme, target(entry), address, values, level - 1, reached, below, outcomes)


def _end(
    scheme: Scheme, entry: int, address: int, level: int, is_global: bool
) -> Fault | Leaf | None:
    """Steps 3 to 6 for one entry; None if the walk goes on."""
    reason = None
    if not entry & V:
        reason = "not valid"
    elif entry & W and not entry & R:
        reason = "writable, but not readable: reserved"
    elif entry & RESERVED:
        reason = f"a reserved bit is set in {entry:#x}"
    elif not entry & (R | X):
        if level > 0:
            return None
        reason = "an entry of level 0 leads to a table"
    elif target(entry) & (1 << scheme.shift(level)) - 1:
        reason = f"the block at {target(entry):#x} is misaligned"
    if reason is not None:
        return Fault(FaultKind.PAGE, reason, level)
    physical = target(entry) | address & (1 << scheme.shift(level)) - 1
    if physical >> scheme.physical_bits:
        return Fault(FaultKind.ACCESS, f"{physical:#x} is outside physical memory", level)
    return Leaf(physical, entry & 0xFF, level, is_global)


def refusal(leaf: Leaf, access: Access, *, user: bool, sum_: bool, mxr: bool) -> str | None:
    """Why a leaf refuses an access (steps 7 to 9); None if it does not."""
    flags = leaf.flags
    if user and not flags & U:
        return "the page is the supervisor's"
    if not user and flags & U and (access is Access.EXECUTE or not sum_):
        return "the page is the user's"
    wanted = {Access.READ: R | (X if mxr else 0), Access.WRITE: W, Access.EXECUTE: X}[access]
    if not flags & wanted:
        return "permission"
    if not flags & A:
        return "A is 0, and the core does not set it (Svade)"
    if access is Access.WRITE and not flags & D:
        return "D is 0, and the core does not set it (Svade)"
    return None
