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
12       PAT of a block, as bit 7 is taken; lower than its address, of which it is no part
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

from kernmem.hardware.leaf_bits import BitFormat, LeafBits
from kernmem.language import Image, PhysicalAddress, kernel, u32, usize

PRESENT = 1 << 0
WRITABLE = 1 << 1
USER = 1 << 2
WRITE_THROUGH = 1 << 3  # PWT
CACHE_DISABLE = 1 << 4  # PCD
ACCESSED = 1 << 5
DIRTY = 1 << 6
BLOCK = 1 << 7  # PS
GLOBAL = 1 << 8  # G
PAT_OF_BLOCK = 1 << 12
NEVER_EXECUTE = 1 << 63  # XD

# Byte 3 of IA32_PAT is UC, strong uncacheable, from reset on (12.12.4); byte 0 is write-back.
# Byte 2 is UC-, uncacheable unless a memory type range register says that writes combine.
DEVICE = CACHE_DISABLE | WRITE_THROUGH
UNCACHED = CACHE_DISABLE

LEAF = LeafBits(
    always=ACCESSED | DIRTY,
    valid=PRESENT,
    # User code never executes a kernel page; the kernel may execute what user code can.
    kernel=WRITABLE,
    read_only=0,
    user_read_only=USER,
    user_read_write=USER | WRITABLE,
    normal=0,
    device=DEVICE,
    uncached=UNCACHED,
    never_execute=NEVER_EXECUTE,
    every_space=GLOBAL,
)


class LongMode(BitFormat):
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
        super().__init__(image, LEAF, page_bits=12)
        if levels not in (4, 5):
            raise ValueError(f"levels must be 4 or 5, not {levels!r}")
        if not 32 <= physical_bits <= 52:
            raise ValueError(f"physical_bits must be 32 to 52, not {physical_bits!r}")
        self.index_bits = 9
        self.levels = levels
        self.address_bits = self.page_bits + levels * self.index_bits - 1
        self.physical_bits = physical_bits
        # Blocks of 1 GiB are an extension: CPUID.80000001H:EDX.Page1GB[26] (4.1.4).
        self.block_levels = 2 if gigabyte_blocks else 1
        self.address_mask = (1 << 52) - self.page_length
        self.upper_half = True
        self.table_bits = PRESENT | WRITABLE | USER | ACCESSED
        # 12.12.4: the memory type of a page changes while it is not present.
        self.break_mask = CACHE_DISABLE | WRITE_THROUGH

    @kernel
    def is_leaf(self, entry: usize, level: u32) -> bool:
        """Whether an ``entry`` of ``level`` that is not 0 is a page or block, not a table."""
        return level == 0 or entry & BLOCK != 0

    @kernel
    def at_level(self, bits: usize, level: u32) -> usize:
        """Bit 7 tells a block from a table."""
        return bits | BLOCK if level > 0 else bits

    @kernel
    def frame(self, entry: usize, level: u32) -> PhysicalAddress:
        """The physical address that a leaf of ``level`` maps.

        Bit 12 of a block belongs to its memory type (PAT), not to its address.
        """
        if level > 0:
            entry = entry & ~usize(PAT_OF_BLOCK)
        return self.address(entry)
