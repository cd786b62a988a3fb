"""The walk through the tables (SDM 4.5), access rights (4.6) and page-fault error codes (4.7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from kernmem.hardware.simulation import Access

PRESENT, WRITABLE, USER, ACCESSED, DIRTY = 1 << 0, 1 << 1, 1 << 2, 1 << 5, 1 << 6
PAGE_SIZE, GLOBAL, NEVER = 1 << 7, 1 << 8, 1 << 63

# The error code (4.7)
P, WR, US, RSVD, ID = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 4


class Regime(NamedTuple):
    """The registers and features that rule a translation.

    Attributes:
        levels: 4, or 5 with CR4.LA57.
        physical_bits: MAXPHYADDR, which CPUID.80000008H reports.
        no_execute: IA32_EFER.NXE.
        write_protect: CR0.WP.
        smep, smap: CR4.SMEP and SMAP; EFLAGS.AC is 0.
        global_pages: CR4.PGE.
        gigabyte_blocks: CPUID.80000001H:EDX.Page1GB.
    """

    levels: int = 4
    physical_bits: int = 40
    no_execute: bool = True
    write_protect: bool = True
    smep: bool = False
    smap: bool = False
    global_pages: bool = False
    gigabyte_blocks: bool = False

    def is_canonical(self, address: int) -> bool:
        """Whether all bits from the highest translated one up are equal (3.3.7.1)."""
        top = address >> (11 + 9 * self.levels)
        return top in (0, (1 << (53 - 9 * self.levels)) - 1)

    def reserved(self, entry: int, level: int) -> int:
        """The bits of a present entry that are set but must be 0 (tables 4-15 to 4-20)."""
        mask = (1 << 52) - (1 << self.physical_bits)
        if not self.no_execute:
            mask |= NEVER
        if level >= 3 or (level == 2 and not self.gigabyte_blocks):
            mask |= PAGE_SIZE
        elif level > 0 and entry & PAGE_SIZE:
            mask |= (1 << shift(level)) - (1 << 13)
        return entry & mask

    def cacheable(self, entry: int, level: int) -> bool:
        """Whether the processor may keep ``entry`` (4.10.2.3, 4.10.3.1)."""
        return entry & (PRESENT | ACCESSED) == PRESENT | ACCESSED and not self.reserved(
            entry, level
        )


class Rights(NamedTuple):
    """What all levels so far permit."""

    user: bool = True
    writable: bool = True
    never: bool = False

    def through(self, entry: int) -> Rights:
        """U/S and R/W are ANDed, XD is ORed (4.6)."""
        return Rights(
            self.user and bool(entry & USER),
            self.writable and bool(entry & WRITABLE),
            self.never or bool(entry & NEVER),
        )


class Fault(NamedTuple):
    """What a walk found instead of memory: P and RSVD of the error code."""

    code: int
    level: int
    reason: str


class Leaf(NamedTuple):
    """Where a walk ended in memory.

    Attributes:
        physical: the physical address that was asked for.
        memory_type: the index into IA32_PAT: 4 PAT + 2 PCD + PWT (4.9.2).
        start, length: the linear addresses that the entry maps.
    """

    physical: int
    memory_type: int
    rights: Rights
    dirty: bool
    is_global: bool
    level: int
    start: int
    length: int


class Start(NamedTuple):
    """Where a walk begins: at the root, or at a table whose address is cached."""

    table: int
    level: int
    rights: Rights = Rights()


Load = Callable[[int], int]


def shift(level: int) -> int:
    """The lowest address bit that the index of a level uses."""
    return 12 + 9 * level


def walk(regime: Regime, start: Start, address: int, load: Load) -> Fault | Leaf:
    """Translate a canonical address; ``load`` gives the entry at a physical address."""
    table, level, rights = start
    while True:
        entry = load(table + 8 * (address >> shift(level) & 511))
        if not entry & PRESENT:
            return Fault(0, level, f"not present, level {level}")
        reserved = regime.reserved(entry, level)
        if reserved:
            return Fault(P | RSVD, level, f"reserved bits {reserved:#x}, level {level}")
        rights = rights.through(entry)
        if level == 0 or entry & PAGE_SIZE:
            return _leaf(entry, address, level, rights)
        table = entry & (1 << 52) - (1 << 12)
        level -= 1


def _leaf(entry: int, address: int, level: int, rights: Rights) -> Leaf:
    length = 1 << shift(level)
    pat = entry >> (12 if level else 7) & 1  # the bit that tells a block from a table is taken
    return Leaf(
        physical=(entry & (1 << 52) - length) | (address & length - 1),
        memory_type=4 * pat + (entry >> 3 & 3),
        rights=rights,
        dirty=bool(entry & DIRTY),
        is_global=bool(entry & GLOBAL),
        level=level,
        start=address & -length,
        length=length,
    )


def permitted(regime: Regime, rights: Rights, access: Access, *, user: bool) -> bool:
    """Whether the rights of a page permit an access (4.6.1)."""
    if user and not rights.user:
        return False
    if access is Access.EXECUTE:
        return not rights.never and not (regime.smep and rights.user and not user)
    if regime.smap and rights.user and not user:
        return False
    if access is Access.READ:
        return True
    return rights.writable or (not user and not regime.write_protect)


def error_code(regime: Regime, found: int, access: Access, *, user: bool) -> int:
    """The error code of a page fault: what was found, and what was asked for (4.7)."""
    fetch = access is Access.EXECUTE and (regime.no_execute or regime.smep)
    return found | WR * (access is Access.WRITE) | US * user | ID * fetch
