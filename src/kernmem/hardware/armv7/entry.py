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
                                back, write-allocate; 000 0 1 is a shareable device
11:10, 15      5:4, 9           AP[1:0], AP[2]: 001 only the kernel, which reads and writes; 011
                                all read and write; 111 all only read (the access flag is off)
16             10               S: shareable
17             11               nG: the translation belongs to one ASID
31:20          31:12            the physical address
=============  ===============  ==============================================================

All other bits are 0: so the domain is 0, and PXN, which not every ARMv7 has, is not used.

A table of level 0 takes the first KiB of a page of its own: a page is what the kernel allocates.
"""

from __future__ import annotations

from kernmem.language import Image, PhysicalAddress, kernel, u32, usize
from kernmem.memory.architecture import EntryFormat, Mapping

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
READ_ONLY = 1 << 9  # AP[2]
SHAREABLE = 1 << 10  # S
NOT_GLOBAL = 1 << 11  # nG

# In that of a section AP, TEX, S and nG stand higher, and so does XN; B and C do not.
RAISED = 0xFF0
RAISED_BY = 6
EXECUTE_NEVER_RAISED_BY = 4

PAGE_BITS = 12
TABLE_ADDRESS = 0xFFFF_FC00


class ShortDescriptors(EntryFormat):
    """Pages of 4 KiB, sections of 1 MiB, 32 bits of address, virtual and physical."""

    c_module = "virtual"

    def __init__(self, image: Image) -> None:
        super().__init__(image)
        self.page_bits = PAGE_BITS
        self.page_length = 1 << PAGE_BITS
        self.levels = 2
        self.index_bits = 8
        self.root_index_bits = 12
        self.address_bits = 32
        self.physical_bits = 32
        self.block_levels = 1

    @kernel
    def is_valid(self, entry: usize) -> bool:
        """Whether a walk goes on from ``entry``, to a table or to memory."""
        return entry & TYPE != 0

    @kernel
    def is_leaf(self, entry: usize, level: u32) -> bool:
        """Whether a valid ``entry`` of ``level`` is a page or block, not a table."""
        return level == 0 or entry & TYPE != TABLE

    @kernel
    def leaf(self, physical: PhysicalAddress, mapping: Mapping, level: u32) -> usize:
        """The entry that maps a page (level 0) or a section at ``physical``.

        Device memory is never executable: a speculative fetch could disturb a device.  What user
        code may read, the kernel may execute too, since PXN is not used.
        """
        bits = usize(ANY_ACCESS | BUFFERABLE | SHAREABLE | NOT_GLOBAL)
        if Mapping.DEVICE not in mapping:
            bits = bits | (WRITE_ALLOCATE | CACHEABLE)
        if Mapping.USER_READ_WRITE in mapping:
            bits = bits | USER
        elif Mapping.USER_READ_ONLY in mapping:
            bits = bits | (USER | READ_ONLY)
        if Mapping.DEVICE in mapping or Mapping.NO_EXECUTE in mapping:
            bits = bits | EXECUTE_NEVER
        if level > 0:
            never = (bits & EXECUTE_NEVER) << EXECUTE_NEVER_RAISED_BY
            bits = (bits & RAISED) << RAISED_BY | bits & (CACHEABLE | BUFFERABLE) | never
        return usize(physical) | LEAF | bits

    @kernel
    def table(self, physical: PhysicalAddress) -> usize:
        """The entry that leads to the next lower table at ``physical``."""
        return usize(physical) | TABLE

    @kernel
    def frame(self, entry: usize, level: u32) -> PhysicalAddress:
        """The physical address that a leaf of ``level`` maps."""
        shift = self.shift(level)
        return PhysicalAddress(entry >> shift << shift)

    @kernel
    def next_table(self, entry: usize) -> PhysicalAddress:
        """The physical address of the table that a table entry leads to."""
        return PhysicalAddress(entry & TABLE_ADDRESS)

    @kernel
    def mapping(self, entry: usize, level: u32) -> Mapping:
        """How a leaf maps: ``leaf(frame, mapping)`` makes the same entry again.

        A device leaf is reported as NO_EXECUTE too, which it always is.
        """
        bits = entry
        if level > 0:
            never = entry >> EXECUTE_NEVER_RAISED_BY & EXECUTE_NEVER
            bits = entry >> RAISED_BY & RAISED | entry & (CACHEABLE | BUFFERABLE) | never
        mapping = Mapping.KERNEL
        if bits & USER != 0:
            if bits & READ_ONLY != 0:
                mapping = mapping | Mapping.USER_READ_ONLY
            else:
                mapping = mapping | Mapping.USER_READ_WRITE
        if bits & EXECUTE_NEVER != 0:
            mapping = mapping | Mapping.NO_EXECUTE
        if bits & CACHEABLE == 0:
            mapping = mapping | Mapping.DEVICE
        return mapping
