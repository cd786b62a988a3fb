"""Page-table entries of 4-level and 5-level paging (SDM 4.5, tables 4-15 to 4-20).

=======  ====================================================================================
bits     meaning in the entries that are made here
=======  ====================================================================================
0        P: present
1        R/W: may be written, if all levels say so
2        U/S: user code has access, if all levels say so
3, 4     PWT, PCD: with PAT, which byte of IA32_PAT gives the memory type (4.9.2)
5        A: accessed
6        D: dirty; leaves only
7        PS: a block; at level 0, where there are only pages, this is PAT
8        G: MOV to CR3 leaves the translation in the TLB, while CR4.PGE is 1
12       PAT of a block, as bit 7 is taken
51:m     physical address, m the lowest address bit of the page or block
63       XD: nobody executes, if any level says so (EFER.NXE)
=======  ====================================================================================

All other bits are 0.  A leaf without access is as it would be otherwise, but not present: then the
processor ignores the rest (table 4-19).  A and D are set from the start: the processor has nothing
to note, so it never writes to a table.  As R/W and U/S are ANDed over the levels, entries that lead
to tables carry both, and the leaf decides (4.6).

Levels count from the bottom: level 0 is the manual's page table, level 1 its page directory,
level 2 its page-directory-pointer table, level 3 its PML4 table and level 4 its PML5 table.
"""

from __future__ import annotations

from kernmem.language import (
    Image,
    PhysicalAddress,
    kernel,
    u32,
    usize,
)
from kernmem.memory.architecture import ALL_MAPPINGS, EntryFormat, Mapping

PRESENT = 1 << 0
WRITABLE = 1 << 1
USER = 1 << 2
WRITE_THROUGH = 1 << 3  # PWT
CACHE_DISABLE = 1 << 4  # PCD
ACCESSED = 1 << 5
DIRTY = 1 << 6
BLOCK = 1 << 7  # PS
GLOBAL = 1 << 8  # G
NEVER_EXECUTE = 1 << 63  # XD

# Byte 3 of IA32_PAT is UC, strong uncacheable, from reset on (12.12.4); byte 0 is write-back.
# Byte 2 is UC-, uncacheable unless a memory type range register says that writes combine.
DEVICE = CACHE_DISABLE | WRITE_THROUGH
UNCACHED = CACHE_DISABLE


class LongMode(EntryFormat):
    """Entries of 8 bytes, 512 in a table of 4 KiB.

    The root translates both halves of the canonical addresses: 47 bits each with 4 levels,
    56 with 5 (3.3.7.1).
    """

    c_module = "virtual"

    def __init__(
        self,
        image: Image,
        levels: int = 4,
        *,
        physical_bits: int = 40,
        gigabyte_blocks: bool = False,
    ) -> None:
        super().__init__(image)
        if levels not in (4, 5):
            raise ValueError(f"levels must be 4 or 5, not {levels!r}")
        if not 32 <= physical_bits <= 52:
            raise ValueError(f"physical_bits must be 32 to 52, not {physical_bits!r}")
        self.page_bits = 12
        self.page_length = 1 << self.page_bits
        self.index_bits = 9
        self.levels = levels
        self.address_bits = self.page_bits + levels * self.index_bits - 1
        self.physical_bits = physical_bits
        # Blocks of 1 GiB are an extension: CPUID.80000001H:EDX.Page1GB[26] (4.1.4).
        self.block_levels = 2 if gigabyte_blocks else 1
        self.address_mask = (1 << 52) - self.page_length
        self.upper_half = True
        self.mappings = ALL_MAPPINGS
        # 12.12.4: the memory type of a page changes while it is not present.
        self.break_mask = CACHE_DISABLE | WRITE_THROUGH

    @kernel
    def is_valid(self, entry: usize) -> bool:
        """Whether a walk goes on from ``entry``, to a table or to memory."""
        return entry & PRESENT != 0

    @kernel
    def is_leaf(self, entry: usize, level: u32) -> bool:
        """Whether an ``entry`` of ``level`` that is not 0 is a page or block, not a table."""
        return level == 0 or entry & BLOCK != 0

    @kernel
    def leaf(self, physical: PhysicalAddress, mapping: Mapping, level: u32) -> usize:
        """The entry that maps a page (level 0) or a block at ``physical``.

        Device memory is never executable: a speculative fetch could disturb a device.  User
        code never executes a kernel page; the kernel may execute what user code can.
        """
        entry = usize(physical) | (ACCESSED | DIRTY)
        if Mapping.NO_ACCESS not in mapping:
            entry = entry | PRESENT
        if level > 0:
            entry = entry | BLOCK
        if Mapping.DEVICE in mapping:
            entry = entry | (DEVICE | NEVER_EXECUTE)
        elif Mapping.UNCACHED in mapping:
            entry = entry | UNCACHED
        if Mapping.GLOBAL in mapping:
            entry = entry | GLOBAL
        if Mapping.USER_READ_WRITE in mapping:
            entry = entry | (USER | WRITABLE)
        elif Mapping.USER_READ_ONLY in mapping:
            entry = entry | USER
        elif Mapping.READ_ONLY not in mapping:
            entry = entry | WRITABLE
        if Mapping.NO_EXECUTE in mapping:
            entry = entry | NEVER_EXECUTE
        return entry

    @kernel
    def is_global(self, entry: usize, level: u32) -> bool:
        """Whether a leaf was made as :attr:`Mapping.GLOBAL`."""
        return entry & GLOBAL != 0

    @kernel
    def table(self, physical: PhysicalAddress) -> usize:
        """The entry that leads to the next lower table at ``physical``."""
        return usize(physical) | (PRESENT | WRITABLE | USER | ACCESSED)

    @kernel
    def frame(self, entry: usize, level: u32) -> PhysicalAddress:
        """The physical address that a leaf of ``level`` maps.

        The PAT bit of a block is below it, and is 0 in all that :meth:`leaf` makes.
        """
        return self.next_table(entry)

    @kernel
    def next_table(self, entry: usize) -> PhysicalAddress:
        """The physical address of the table that a table entry leads to."""
        return PhysicalAddress(entry & self.address_mask)

    @kernel
    def mapping(self, entry: usize, level: u32) -> Mapping:
        """How a leaf maps: ``leaf(frame, mapping)`` makes the same entry again.

        A device leaf is reported as NO_EXECUTE too, which it always is; READ_ONLY is not
        reported beside USER_READ_ONLY, which says it.
        """
        mapping = Mapping.KERNEL
        if entry & USER != 0:
            if entry & WRITABLE != 0:
                mapping = mapping | Mapping.USER_READ_WRITE
            else:
                mapping = mapping | Mapping.USER_READ_ONLY
        elif entry & WRITABLE == 0:
            mapping = mapping | Mapping.READ_ONLY
        if entry & NEVER_EXECUTE != 0:
            mapping = mapping | Mapping.NO_EXECUTE
        if entry & WRITE_THROUGH != 0:
            mapping = mapping | Mapping.DEVICE
        elif entry & CACHE_DISABLE != 0:
            mapping = mapping | Mapping.UNCACHED
        if self.is_global(entry, level):
            mapping = mapping | Mapping.GLOBAL
        if entry & PRESENT == 0:
            mapping = mapping | Mapping.NO_ACCESS
        return mapping
