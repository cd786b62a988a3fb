"""Page-table entries of VMSAv7's short descriptors (DDI 0406, B3.5.1; DDI 0487, G5.4).

A descriptor is 4 bytes long.  Level 1 here, the manual's first, is the root: 4096 descriptors, each
for 1 MiB.  Level 0, the manual's second, has 256 for 4 KiB each.

=============  ===============  ==============================================================
root: section  table: page      meaning in the descriptors that are made here
=============  ===============  ==============================================================
1:0 = 10       1 = 1            the type; 01 in the root leads to a table, all of whose other
                                bits here are its address
4              0                XN: nobody executes
2, 3           2, 3             B, C; with
14:12          8:6              TEX, the memory type (TEX remap is off): 001 1 1 is normal, write-
                                back, write-allocate; 001 0 0 normal, not cached; 000 0 1 a
                                shareable device
11:10, 15      5:4, 9           AP[1:0], AP[2]: 001 only the kernel, which reads and writes; 011
                                all read and write; 101 only the kernel, which only reads; 111
                                all only read (the access flag is off)
16             10               S: shareable
17             11               nG: the translation belongs to one ASID
31:20          31:12            the physical address
=============  ===============  ==============================================================

A leaf without access has the type 00, with which the MMU ignores the rest.  As that leaves a page
no XN, it has it in TEX[2].

All other bits are 0: so the domain is 0, and PXN, which not every ARMv7 has, is not used.

A table of level 0 takes the first KiB of a page of its own: a page is what the kernel allocates.
"""

from __future__ import annotations

from kernmem.hardware.leaf_bits import BitFormat, LeafBits
from kernmem.language import Image, PhysicalAddress, kernel, u32, usize

TABLE = 0b01
LEAF = 0b10
TYPE = 0b11

# The attributes, as they stand in the descriptor of a page.
EXECUTE_NEVER = 1 << 0  # XN
BUFFERABLE = 1 << 2  # B
CACHEABLE = 1 << 3  # C
ANY_ACCESS = 1 << 4  # AP[0]
USER = 1 << 5  # AP[1]
WRITE_ALLOCATE = 1 << 6  # TEX[0]
EXECUTE_NEVER_KEPT = 1 << 8  # TEX[2]
EXECUTE_NEVER_KEPT_BY = 8
READ_ONLY = 1 << 9  # AP[2]
SHAREABLE = 1 << 10  # S
NOT_GLOBAL = 1 << 11  # nG

# In that of a section AP, TEX, S and nG stand higher, and so does XN; B and C do not.
RAISED = 0xFF0
RAISED_BY = 6
EXECUTE_NEVER_RAISED_BY = 4

MEMORY_TYPE = BUFFERABLE | CACHEABLE | WRITE_ALLOCATE | SHAREABLE | NOT_GLOBAL

PAGE_BITS = 12
TABLE_ADDRESS = 0xFFFF_FC00

LEAF_BITS = LeafBits(
    always=ANY_ACCESS | SHAREABLE,
    valid=LEAF,
    # What user code may read, the kernel may execute too, since PXN is not used.
    kernel=0,
    read_only=READ_ONLY,
    user_read_only=READ_ONLY | USER,
    user_read_write=USER,
    normal=WRITE_ALLOCATE | CACHEABLE | BUFFERABLE,
    device=BUFFERABLE,
    uncached=WRITE_ALLOCATE,
    never_execute=EXECUTE_NEVER,
    one_space=NOT_GLOBAL,
)


class ShortDescriptors(BitFormat):
    """Pages of 4 KiB, sections of 1 MiB, 32 bits of address, virtual and physical."""

    c_module = "virtual"

    def __init__(self, image: Image) -> None:
        super().__init__(image, LEAF_BITS, PAGE_BITS)
        self.levels = 2
        self.index_bits = 8
        self.root_index_bits = 12
        self.address_bits = 32
        self.physical_bits = 32
        self.block_levels = 1
        self.address_mask = TABLE_ADDRESS
        self.table_bits = TABLE
        self.break_mask = MEMORY_TYPE

    @kernel
    def is_valid(self, entry: usize) -> bool:
        """Whether a walk goes on from ``entry``, to a table or to memory."""
        return entry & TYPE != 0

    @kernel
    def is_leaf(self, entry: usize, level: u32) -> bool:
        """Whether an ``entry`` of ``level`` that is not 0 is a page or block, not a table."""
        return level == 0 or entry & TYPE != TABLE

    @kernel
    def at_level(self, bits: usize, level: u32) -> usize:
        """A section has most bits elsewhere; a page without access keeps XN elsewhere."""
        if level > 0:
            never = (bits & EXECUTE_NEVER) << EXECUTE_NEVER_RAISED_BY
            return (bits & RAISED) << RAISED_BY | bits & (CACHEABLE | BUFFERABLE | LEAF) | never
        if bits & LEAF == 0:
            never = (bits & EXECUTE_NEVER) << EXECUTE_NEVER_KEPT_BY
            return bits & ~usize(EXECUTE_NEVER) | never
        return bits

    @kernel
    def attributes(self, entry: usize, level: u32) -> usize:
        """The attributes of a leaf, as they stand in the descriptor of a page."""
        if level > 0:
            never = entry >> EXECUTE_NEVER_RAISED_BY & EXECUTE_NEVER
            return entry >> RAISED_BY & RAISED | entry & (CACHEABLE | BUFFERABLE) | never
        if entry & TYPE == 0:
            return entry | entry >> EXECUTE_NEVER_KEPT_BY & EXECUTE_NEVER
        return entry

    @kernel
    def frame(self, entry: usize, level: u32) -> PhysicalAddress:
        """The physical address that a leaf of ``level`` maps: above the attributes of its level."""
        shift = self.shift(level)
        return PhysicalAddress(entry >> shift << shift)
