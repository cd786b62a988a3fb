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

from kernmem.language import Image, PhysicalAddress, kernel, u32, usize
from kernmem.memory.architecture import ALL_MAPPINGS, EntryFormat, Mapping

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
        self.mappings = ALL_MAPPINGS

    @kernel
    def is_valid(self, entry: usize) -> bool:
        """Whether a walk goes on from ``entry``, to a table or to memory."""
        return entry & TYPE != 0

    @kernel
    def is_leaf(self, entry: usize, level: u32) -> bool:
        """Whether an ``entry`` of ``level`` that is not 0 is a page or block, not a table."""
        return level == 0 or entry & TYPE != TABLE

    @kernel
    def leaf(self, physical: PhysicalAddress, mapping: Mapping, level: u32) -> usize:
        """The entry that maps a page (level 0) or a section at ``physical``.

        Device memory is never executable: a speculative fetch could disturb a device.  What user
        code may read, the kernel may execute too, since PXN is not used.
        """
        bits = usize(ANY_ACCESS | SHAREABLE)
        if Mapping.DEVICE in mapping:
            bits = bits | BUFFERABLE
        elif Mapping.UNCACHED in mapping:
            bits = bits | WRITE_ALLOCATE
        else:
            bits = bits | (WRITE_ALLOCATE | CACHEABLE | BUFFERABLE)
        if Mapping.GLOBAL not in mapping:
            bits = bits | NOT_GLOBAL
        if Mapping.READ_ONLY in mapping:
            bits = bits | READ_ONLY
        if Mapping.USER_READ_WRITE in mapping:
            bits = bits | USER
        elif Mapping.USER_READ_ONLY in mapping:
            bits = bits | (USER | READ_ONLY)
        if Mapping.DEVICE in mapping or Mapping.NO_EXECUTE in mapping:
            bits = bits | EXECUTE_NEVER
        if level > 0:
            never = (bits & EXECUTE_NEVER) << EXECUTE_NEVER_RAISED_BY
            bits = (bits & RAISED) << RAISED_BY | bits & (CACHEABLE | BUFFERABLE) | never
        elif Mapping.NO_ACCESS in mapping:
            never = (bits & EXECUTE_NEVER) << EXECUTE_NEVER_KEPT_BY
            bits = bits & ~usize(EXECUTE_NEVER) | never
        if Mapping.NO_ACCESS not in mapping:
            bits = bits | LEAF
        return usize(physical) | bits

    @kernel
    def is_global(self, entry: usize, level: u32) -> bool:
        """Whether a leaf was made as :attr:`Mapping.GLOBAL`."""
        return self.attributes(entry, level) & NOT_GLOBAL == 0

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

        A device leaf is reported as NO_EXECUTE too, which it always is; READ_ONLY is not
        reported beside USER_READ_ONLY, which says it.
        """
        bits = self.attributes(entry, level)
        mapping = Mapping.KERNEL
        if bits & READ_ONLY != 0:
            if bits & USER != 0:
                mapping = mapping | Mapping.USER_READ_ONLY
            else:
                mapping = mapping | Mapping.READ_ONLY
        elif bits & USER != 0:
            mapping = mapping | Mapping.USER_READ_WRITE
        if bits & EXECUTE_NEVER != 0:
            mapping = mapping | Mapping.NO_EXECUTE
        if bits & WRITE_ALLOCATE == 0:
            mapping = mapping | Mapping.DEVICE
        elif bits & CACHEABLE == 0:
            mapping = mapping | Mapping.UNCACHED
        if self.is_global(entry, level):
            mapping = mapping | Mapping.GLOBAL
        if entry & TYPE == 0:
            mapping = mapping | Mapping.NO_ACCESS
        return mapping

    @kernel
    def must_break(self, old: usize, new: usize, level: u32) -> bool:
        """Whether a valid leaf must not become another at once (DDI 0406, B3.10.1)."""
        changed = self.attributes(old, level) ^ self.attributes(new, level)
        return changed & MEMORY_TYPE != 0

    @kernel
    def attributes(self, entry: usize, level: u32) -> usize:
        """The attributes of a leaf, as they stand in the descriptor of a page."""
        if level > 0:
            never = entry >> EXECUTE_NEVER_RAISED_BY & EXECUTE_NEVER
            return entry >> RAISED_BY & RAISED | entry & (CACHEABLE | BUFFERABLE) | never
        if entry & TYPE == 0:
            return entry | entry >> EXECUTE_NEVER_KEPT_BY & EXECUTE_NEVER
        return entry
