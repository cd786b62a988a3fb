"""Page-table entries of VMSAv8-64 (DDI 0487, D8.3 "Translation table descriptor formats").

=======  ====================================================================================
bits     meaning in the descriptors that are made here
=======  ====================================================================================
0        valid
1        level 0: must be 1 (a page); above: 1 is a table, 0 a block
4:2      AttrIndx: which byte of MAIR_EL1 gives the memory type
7:6      AP[2:1]: 00 EL1 reads and writes, 01 EL0 too, 11 both only read (D8.4.1)
9:8      SH: 11 inner shareable; device memory ignores it
10       AF: accessed; 0 would fault at the first access (D8.4.6)
11       nG: the translation belongs to one ASID; 0 in a global one
47:m     output address, m the lowest address bit of the page or block
53, 54   PXN, UXN: EL1, EL0 never executes
=======  ====================================================================================

All other bits are 0.  A leaf without access is as it would be otherwise, but not valid: then the
MMU ignores the rest (D8.3.1).  Levels here count from the bottom: level 0 is the manual's level 3.
"""

from __future__ import annotations

from kernmem.hardware.leaf_bits import BitFormat, LeafBits
from kernmem.language import Image, kernel, u32, usize

VALID = 1 << 0
TABLE_OR_PAGE = 1 << 1
ATTRIBUTE_SHIFT = 2
NORMAL = 0 << ATTRIBUTE_SHIFT  # index 0 of MAIR_EL1
DEVICE = 1 << ATTRIBUTE_SHIFT  # index 1 of MAIR_EL1
UNCACHED = 2 << ATTRIBUTE_SHIFT  # index 2 of MAIR_EL1
ATTRIBUTE = 0b111 << ATTRIBUTE_SHIFT
USER = 1 << 6  # AP[1]
READ_ONLY = 1 << 7  # AP[2]
INNER_SHAREABLE = 0b11 << 8
ACCESSED = 1 << 10
NOT_GLOBAL = 1 << 11
PRIVILEGED_NEVER = 1 << 53  # PXN
USER_NEVER = 1 << 54  # UXN

LEAF = LeafBits(
    always=ACCESSED,
    valid=VALID,
    # User code never executes a kernel page; the kernel may execute what user code only reads, but
    # never what it writes, whatever PXN says (D8.4.1).
    kernel=USER_NEVER,
    read_only=READ_ONLY | USER_NEVER,
    user_read_only=READ_ONLY | USER,
    user_read_write=USER,
    normal=NORMAL | INNER_SHAREABLE,
    device=DEVICE,  # and never executable (D8.4.2)
    uncached=UNCACHED | INNER_SHAREABLE,
    never_execute=PRIVILEGED_NEVER | USER_NEVER,
    one_space=NOT_GLOBAL,
)


class Granule(BitFormat):
    """Stage 1 descriptors of one granule.

    ==========  ===========  ==========  ================================
    page_bits   a page       index_bits  blocks (D8.3, Table D8-50)
    ==========  ===========  ==========  ================================
    12          4 KiB        9           2 MiB, 1 GiB
    14          16 KiB       11          32 MiB
    16          64 KiB       13          512 MiB
    ==========  ===========  ==========  ================================
    """

    c_module = "virtual"

    def __init__(
        self, image: Image, page_bits: int, address_bits: int, physical_bits: int = 48
    ) -> None:
        super().__init__(image, LEAF, page_bits)
        if page_bits not in (12, 14, 16):
            raise ValueError(f"page_bits must be 12, 14 or 16, not {page_bits!r}")
        if not page_bits < address_bits <= 48:
            raise ValueError(f"address_bits must be {page_bits + 1} to 48, not {address_bits!r}")
        if not 32 <= physical_bits <= 48:
            raise ValueError(f"physical_bits must be 32 to 48, not {physical_bits!r}")
        self.index_bits = page_bits - 3
        self.levels = -(-(address_bits - page_bits) // self.index_bits)
        self.address_bits = address_bits
        self.physical_bits = physical_bits
        self.block_levels = min(2 if page_bits == 12 else 1, self.levels - 1)
        self.address_mask = (1 << 48) - self.page_length
        self.table_bits = VALID | TABLE_OR_PAGE
        # D8.17.1, R_DDMVT: another memory type or shareability, or global where it was not.
        self.break_mask = ATTRIBUTE | INNER_SHAREABLE | NOT_GLOBAL

    @kernel
    def is_leaf(self, entry: usize, level: u32) -> bool:
        """Whether an ``entry`` of ``level`` that is not 0 is a page or block, not a table."""
        return level == 0 or entry & TABLE_OR_PAGE == 0

    @kernel
    def at_level(self, bits: usize, level: u32) -> usize:
        """Bit 1 tells a page from nothing, and a block from a table."""
        return bits | TABLE_OR_PAGE if level == 0 else bits


class Granule64K(Granule):
    """64 KiB pages and 42-bit addresses: two levels, with blocks of 512 MiB."""

    def __init__(self, image: Image, physical_bits: int = 48) -> None:
        super().__init__(image, page_bits=16, address_bits=42, physical_bits=physical_bits)
