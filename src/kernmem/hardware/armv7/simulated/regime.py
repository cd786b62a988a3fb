"""What a short descriptor means (DDI 0406, B3.5.1; DDI 0487, G5.4).

Levels are the manual's: 1 is the root, 2 is below.  Supersections and large pages, of 16 equal
descriptors each, are not simulated: a kernel that makes one is told so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy

from kernmem.hardware.vmsa.regime import Kind

TABLE_ADDRESS = 0xFFFF_FC00
SUPERSECTION = 1 << 18
SHIFT = {1: 20, 2: 12}

# The bits that should be zero: SBZ, NS, and what is left to the implementation.
TABLE_RESERVED = 1 << 9 | 1 << 4 | 1 << 3
SECTION_RESERVED = 1 << 19 | 1 << 9

# Of a descriptor that leads to a table, what may change while it is in use: domain and PXN.
TABLE_PERMISSIONS = 0xF << 5 | 1 << 2


def bits(value: int, high: int, low: int) -> int:
    """``value<high:low>``."""
    return value >> low & (1 << (high - low + 1)) - 1


@dataclass(frozen=True)
class ShortRegime:
    """The tables behind TTBR0, with TTBCR.N = 0.

    Attributes:
        access_flag: whether AP[0] is an access flag (SCTLR.AFE).
    """

    entry_length: ClassVar[int] = 4
    start_level: ClassVar[int] = 1
    last_level: ClassVar[int] = 2
    page_invalidation: ClassVar[str] = "TLBIMVAAIS"
    table_invalidation: ClassVar[str] = "TLBIMVAAIS"
    space_invalidation: ClassVar[str] = "TLBIALL or TLBIASID"

    access_flag: bool = False

    def table_length(self, level: int) -> int:
        """16 KiB for the root, 1 KiB below."""
        return 1 << 14 if level == 1 else 1 << 10

    def shift(self, level: int) -> int:
        """The lowest address bit that ``level`` resolves."""
        return SHIFT[level]

    def index(self, address: int, level: int) -> int:
        """The index into the table of ``level``."""
        return address >> 20 if level == 1 else bits(address, 19, 12)

    # Descriptors --------------------------------------------------------------------------

    def kind(self, entry: int, level: int) -> Kind:
        """What a descriptor is; in the root 11 is a section that is PXN."""
        if not entry & 0b11:
            return Kind.INVALID
        return Kind.TABLE if level == 1 and entry & 0b11 == 0b01 else Kind.LEAF

    def claims(self, entry: int) -> bool:
        """All types but 00 are valid."""
        return bool(entry & 0b11)

    def is_single(self, entry: int, level: int) -> bool:
        """Whether a leaf is one descriptor, not 16: a section or small page."""
        return not entry & SUPERSECTION if level == 1 else entry & 0b11 != 0b01

    def find(self, table: bytes, level: int, kind: Kind) -> Iterator[tuple[int, int]]:
        """The descriptors of one kind in a table: (index, value)."""
        entries = numpy.frombuffer(table, "<u4")
        for index in numpy.flatnonzero(entries & 0b11).tolist():
            entry = int(entries[index])
            if self.kind(entry, level) is kind:
                yield index, entry

    def find_global(self, table: bytes, level: int) -> Iterator[int]:
        """The indices of the sections or small pages of a table that are for all address spaces."""
        not_global = 1 << (17 if level == 1 else 11)
        entries = numpy.frombuffer(table, "<u4")
        yield from numpy.flatnonzero(entries & (not_global | 0b10) == 0b10).tolist()

    def next_table(self, entry: int) -> int:
        """The address that a table descriptor holds."""
        return entry & TABLE_ADDRESS

    def output(self, entry: int, level: int) -> int:
        """The address that a leaf holds."""
        return entry >> self.shift(level) << self.shift(level)

    def attributes(self, entry: int, level: int) -> tuple[int, int]:
        """TEX, C and B as one number, and S."""
        low = bits(entry, 3, 2)
        if level == 1:
            return bits(entry, 14, 12) << 2 | low, bits(entry, 16, 16)
        return bits(entry, 8, 6) << 2 | low, bits(entry, 10, 10)

    def permission(self, entry: int, level: int) -> int:
        """AP[2:0] of a leaf."""
        if level == 1:
            return bits(entry, 15, 15) << 2 | bits(entry, 11, 10)
        return bits(entry, 9, 9) << 2 | bits(entry, 5, 4)

    def never(self, entry: int, level: int) -> bool:
        """The XN of a leaf."""
        return bool(entry >> (4 if level == 1 else 0) & 1)

    def not_global(self, entry: int, level: int) -> bool:
        """The nG of a leaf."""
        return bool(entry >> (17 if level == 1 else 11) & 1)

    def is_global(self, entry: int, level: int) -> bool:
        """Whether it is a leaf for all address spaces."""
        return self.kind(entry, level) is Kind.LEAF and not self.not_global(entry, level)

    def cacheable(self, entry: int, level: int) -> bool:
        """Whether a TLB may hold it: it causes no Translation or Access flag fault (G5.8)."""
        kind = self.kind(entry, level)
        if kind is Kind.LEAF and self.access_flag:
            return bool(self.permission(entry, level) & 1)
        return kind is not Kind.INVALID

    def reserved(self, entry: int, level: int) -> int:
        """The bits of a valid descriptor that should be 0 and are not."""
        kind = self.kind(entry, level)
        if kind is Kind.INVALID or level == 2:
            return 0
        return entry & (TABLE_RESERVED if kind is Kind.TABLE else SECTION_RESERVED)

    # Changes of live descriptors ------------------------------------------------------------

    def forbidden_change(self, old: int, new: int, level: int) -> str | None:
        """Why a live descriptor may not be overwritten without break-before-make (G5.9.1).

        None if it may: only permissions change, or nG from 0 to 1.
        """
        if self.kind(old, level) is not self.kind(new, level):
            return "a table and a section change places"
        if self.kind(old, level) is Kind.TABLE:
            if (old ^ new) & ~TABLE_PERMISSIONS:
                return "it would lead to another table"
            return None
        if self.output(old, level) != self.output(new, level):
            return "the output address changes"
        if self.not_global(old, level) and not self.not_global(new, level):
            return "nG changes from 1 to 0"
        if self.attributes(old, level) != self.attributes(new, level):
            return "memory type or shareability changes"
        return None

    def harmless_change(self, old: int, new: int, level: int) -> bool:
        """Whether two values of a descriptor mean the same to the walker."""
        both = {self.kind(old, level), self.kind(new, level)}
        return both == {Kind.INVALID} or old == new
