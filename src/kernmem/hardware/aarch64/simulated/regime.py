"""What TCR_EL1 makes of an address, and what a descriptor means (DDI 0487, D8.2, D8.3).

Written against a core without FEAT_LPA, FEAT_LPA2, FEAT_BBM, FEAT_BTI, FEAT_HAFDBS: the bits
that those features give a meaning to are RES0.  Silicon does not fault on them; a later core
reads them; so a strict model refuses them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy

from kernmem.hardware.vmsa.regime import Kind
from kernmem.language import ModelViolation

BITS_48 = (1 << 48) - 1

# Fields of TCR_EL1 that are simulated: up to IPS, without EPD0 and A1; HPD0, HPD1.
SIMULATED = ((1 << 35) - 1) & ~(1 << 6 | 1 << 7 | 1 << 22) | 0b11 << 41

# Fields of leaves that decide whether a live change is allowed (D8.17.1, R_WHZWS; D8.3).
SOFTWARE = 0b1111 << 55 | 1 << 63
PERMISSIONS = 1 << 54 | 1 << 53 | 1 << 51 | 0b11 << 6 | 1 << 10  # UXN PXN DBM AP AF
NOT_GLOBAL = 1 << 11
TABLE_PERMISSIONS = 0b1111 << 59
TABLE_IGNORED = 0b111111 << 53 | 1 << 51 | 0b1111_1100 | 1 << 10 | 1 << 11 | 0b11 << 8 | 1 << 52


def bits(value: int, high: int, low: int) -> int:
    """``value<high:low>``."""
    return value >> low & (1 << (high - low + 1)) - 1


def granules(features: int) -> tuple[int, ...]:
    """log2 of the granules that a core has by its ID_AA64MMFR0_EL1: TGran4, TGran16, TGran64."""
    absent = {12: bits(features, 31, 28) == 15, 14: bits(features, 23, 20) == 0,
              16: bits(features, 27, 24) == 15}  # fmt: skip
    return tuple(page_bits for page_bits, missing in absent.items() if not missing)


def physical_width(features: int) -> int:
    """Bits of a physical address of a core by its ID_AA64MMFR0_EL1: PARange."""
    return (32, 36, 40, 42, 44, 48)[bits(features, 3, 0)]


@dataclass(frozen=True)
class Regime:
    """The tables behind TTBR0_EL1.

    Attributes:
        page_bits: log2 of the granule.
        input_bits: width of a virtual address, 64 - T0SZ.
        output_bits: width of a physical address.
        start_level: the manual's number of the root's level; pages are at level 3.
        block_levels: the levels that may hold blocks.
        hierarchical: whether APTable, UXNTable and PXNTable count (TCR_EL1.HPD0 = 0).
    """

    entry_length: ClassVar[int] = 8
    last_level: ClassVar[int] = 3
    page_invalidation: ClassVar[str] = "TLBI VAALE1IS"
    table_invalidation: ClassVar[str] = "TLBI VAAE1IS"
    space_invalidation: ClassVar[str] = "TLBI VMALLE1 or ASIDE1"

    page_bits: int
    input_bits: int
    output_bits: int
    start_level: int
    block_levels: tuple[int, ...]
    hierarchical: bool

    @classmethod
    def of(cls, tcr: int, physical_bits: int) -> Regime:
        """Read TCR_EL1 (D23.2.157) on a core with ``physical_bits`` of address."""
        size = bits(tcr, 5, 0)
        granule = {0b00: 12, 0b01: 16, 0b10: 14}.get(bits(tcr, 15, 14))
        if granule is None:
            raise ModelViolation("TCR", f"TG0 of {tcr:#x} is reserved")
        if not 16 <= size <= 39:
            raise ModelViolation("TCR", f"T0SZ of {tcr:#x} is {size}; it must be 16 to 39")
        if not bits(tcr, 23, 23):
            raise ModelViolation("TCR", f"{tcr:#x} walks TTBR1, which is not simulated: set EPD1")
        for field, high, low, good in (
            ("IRGN0", 9, 8, (0b01, 0b11)),
            ("ORGN0", 11, 10, (0b01, 0b11)),
            ("SH0", 13, 12, (0b11,)),
        ):
            if bits(tcr, high, low) not in good:
                raise ModelViolation(
                    "TCR",
                    f"{field} of {tcr:#x} is {bits(tcr, high, low):#b}: walks would not see the "
                    f"tables as the kernel's stores leave them in the cache (K11.5.3)",
                )
        if tcr & ~SIMULATED:
            raise ModelViolation("TCR", f"{tcr:#x} sets features that are not simulated")
        sizes = {0: 32, 1: 36, 2: 40, 3: 42, 4: 44, 5: 48}
        claimed = sizes.get(bits(tcr, 34, 32))
        if claimed is None:
            raise ModelViolation("TCR", f"IPS of {tcr:#x} is reserved or needs FEAT_LPA")
        input_bits = 64 - size
        # ASL S1StartLevel
        start_level = 3 - (input_bits - 1 - granule) // (granule - 3)
        return cls(
            granule,
            input_bits,
            min(claimed, physical_bits),
            start_level,
            (1, 2) if granule == 12 else (2,),
            not bits(tcr, 41, 41),
        )

    @property
    def stride(self) -> int:
        """How many address bits one level resolves."""
        return self.page_bits - 3

    @property
    def root_length(self) -> int:
        """Bytes of the root table, which its address must be a multiple of (at least 64)."""
        return max(8 << (self.input_bits - self.shift(self.start_level)), 64)

    def table_length(self, level: int) -> int:
        """Bytes of a table."""
        return self.root_length if level == self.start_level else 1 << self.page_bits

    def shift(self, level: int) -> int:
        """The lowest address bit that ``level`` resolves."""
        return self.page_bits + (3 - level) * self.stride

    def index(self, address: int, level: int) -> int:
        """The index into the table of ``level``."""
        top = self.input_bits if level == self.start_level else self.shift(level) + self.stride
        return bits(address, top - 1, self.shift(level))

    # Descriptors --------------------------------------------------------------------------

    def claims(self, entry: int) -> bool:
        """Bit 0 of a descriptor."""
        return bool(entry & 1)

    def find(self, table: bytes, level: int, kind: Kind) -> Iterator[tuple[int, int]]:
        """The descriptors of one kind in a table: (index, value)."""
        pattern = 0b01 if kind is Kind.LEAF and level < 3 else 0b11
        entries = numpy.frombuffer(table, "<u8")
        for index in numpy.flatnonzero(entries & 0b11 == pattern).tolist():
            entry = int(entries[index])
            if self.kind(entry, level) is kind:
                yield index, entry

    def find_global(self, table: bytes, level: int) -> Iterator[int]:
        """The indices of the leaves of a table that are for all address spaces."""
        pattern = 0b11 if level == 3 else 0b01
        entries = numpy.frombuffer(table, "<u8")
        yield from numpy.flatnonzero(entries & (NOT_GLOBAL | 0b11) == pattern).tolist()

    def is_global(self, entry: int, level: int) -> bool:
        """Whether it is a leaf for all address spaces: nG is 0."""
        return self.kind(entry, level) is Kind.LEAF and not entry & NOT_GLOBAL

    def kind(self, entry: int, level: int) -> Kind:
        """What a descriptor of ``level`` is (ASL ``DecodeDescriptorType``)."""
        if not entry & 1:
            return Kind.INVALID
        if level == 3:
            return Kind.LEAF if entry & 2 else Kind.INVALID
        if entry & 2:
            return Kind.TABLE
        return Kind.LEAF if level in self.block_levels else Kind.INVALID

    def next_table(self, entry: int) -> int:
        """The address that a table descriptor holds (ASL ``NextTableBase``)."""
        return entry & BITS_48 >> self.page_bits << self.page_bits

    def output(self, entry: int, level: int) -> int:
        """The address that a leaf holds (ASL ``LeafBase``)."""
        shift = self.shift(level)
        return entry & BITS_48 >> shift << shift

    def cacheable(self, entry: int, level: int) -> bool:
        """Whether a TLB may hold the descriptor: it causes no Translation, Address size or
        Access flag fault (D8.16.1, R_XCLRD)."""
        kind = self.kind(entry, level)
        if kind is Kind.TABLE:
            return self.next_table(entry) >> self.output_bits == 0
        if kind is Kind.LEAF:
            return self.output(entry, level) >> self.output_bits == 0 and bool(entry >> 10 & 1)
        return False

    def reserved(self, entry: int, level: int) -> int:
        """The bits of a valid descriptor that should be 0 and are not."""
        kind = self.kind(entry, level)
        if kind is Kind.INVALID:
            return 0
        low = (1 << self.page_bits) - (1 << 12)
        high = 0b111 << 48
        if kind is Kind.TABLE:
            return entry & (1 << 63 | high | low)
        if level < 3:
            low = (1 << self.shift(level)) - (1 << 12)
        if bits(entry, 9, 8) == 0b01:  # a reserved shareability
            low |= 1 << 8
        return entry & (high | low | 1 << 5)

    # Changes of live descriptors ------------------------------------------------------------

    def forbidden_change(self, old: int, new: int, level: int) -> str | None:
        """Why a live descriptor may not be overwritten by another without break-before-make.

        None if it may: only permissions and software bits change, or nG from 0 to 1.
        """
        if self.kind(old, level) is not self.kind(new, level):
            return "a table and a leaf change places"
        if self.kind(old, level) is Kind.TABLE:
            if (old ^ new) & ~(TABLE_PERMISSIONS | TABLE_IGNORED):
                return "it would lead to another table"
            return None
        if self.output(old, level) != self.output(new, level):
            return "the output address changes"
        if old & NOT_GLOBAL and not new & NOT_GLOBAL:
            return "nG changes from 1 to 0"
        if (old ^ new) & ~(SOFTWARE | PERMISSIONS | NOT_GLOBAL):
            return "memory type, shareability or another attribute changes"
        return None

    def harmless_change(self, old: int, new: int, level: int) -> bool:
        """Whether two values of a descriptor mean the same to the walker."""
        if self.kind(old, level) is not self.kind(new, level):
            return False
        if self.kind(old, level) is Kind.INVALID:
            return True
        ignored = TABLE_IGNORED if self.kind(old, level) is Kind.TABLE else SOFTWARE
        return not (old ^ new) & ~ignored
