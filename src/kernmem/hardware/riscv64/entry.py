"""Page-table entries of Sv39, Sv48 and Sv57 (Priv, "Page-Based 39-bit Virtual-Memory System").

=======  ====================================================================================
bits     meaning in the entries that are made here
=======  ====================================================================================
0        V: valid
3:1      X, W, R: execute, write, read; all 0 in an entry that leads to a table
4        U: user code has access, and the supervisor only loads and stores, by sstatus.SUM
5        G: global: in every address space
6, 7     A, D: accessed, dirty
8        RSW, left to software: this leaf was mapped as device memory
53:10    PPN: bits 55:12 of the physical address
=======  ====================================================================================

A leaf without access is as it would be otherwise, but not valid: then the rest is ignored.

All other bits are 0: N (63) and PBMT (62:61) fault on cores without Svnapot and Svpbmt, and 60:54
are reserved.  What is device memory is a matter of its physical address (Priv, "Physical Memory
Attributes"), so a device leaf differs from others in that it is never executable.

A and D are set in every leaf from the start.  A core may set them, or fault where they are 0
(Svade; Priv, "Addressing and Memory Protection"); set in advance, they do neither.  In entries
that lead to tables U, A and D are reserved, and 0.

No entry of a table is too high for a block, so there are blocks at every level.  Levels count
from the bottom, as the manual's own do.
"""

from __future__ import annotations

from kernmem.hardware.leaf_bits import BitFormat, LeafBits
from kernmem.language import Image, PhysicalAddress, kernel, u32, usize

VALID = 1 << 0
READ = 1 << 1
WRITE = 1 << 2
EXECUTE = 1 << 3
USER = 1 << 4
GLOBAL = 1 << 5
ACCESSED = 1 << 6
DIRTY = 1 << 7
DEVICE = 1 << 8  # the lower bit of RSW

PAGE_BITS = 12
PPN_SHIFT = 10
PPN_MASK = ((1 << 44) - 1) << PPN_SHIFT

LEAF = LeafBits(
    always=READ | ACCESSED | DIRTY,
    valid=VALID,
    # What user code has access to, the kernel never executes, whatever X says, and loads and stores
    # only while sstatus.SUM is 1 (Priv, "Supervisor Status Register"; ``mmu.py``).
    kernel=WRITE,
    read_only=0,
    user_read_only=USER,
    user_read_write=USER | WRITE,
    normal=0,
    device=DEVICE,
    uncached=None,  # a matter of the physical address, where there is no Svpbmt
    executable=EXECUTE,
    every_space=GLOBAL,
)


class PagedEntries(BitFormat):
    """Sv39, Sv48 or Sv57, by the number of levels: 3, 4 or 5.

    ======  ====================  =========================================
    levels  address_bits          blocks
    ======  ====================  =========================================
    3       38, of Sv39           2 MiB, 1 GiB
    4       47, of Sv48           also 512 GiB
    5       56, of Sv57           also 256 TiB
    ======  ====================  =========================================

    ``address_bits`` is one less than the name says: all bits above it must equal it in an address
    (Priv, "Virtual Address Translation Process"), so that the root's upper half translates the
    very last addresses.
    """

    c_module = "virtual"

    def __init__(self, image: Image, levels: int = 3, block_levels: int | None = None) -> None:
        super().__init__(image, LEAF, PAGE_BITS)
        if levels not in (3, 4, 5):
            raise ValueError(f"levels must be 3 (Sv39), 4 (Sv48) or 5 (Sv57), not {levels!r}")
        highest = levels - 1 if block_levels is None else block_levels
        if not 0 <= highest < levels:
            raise ValueError(f"block_levels must be 0 to {levels - 1}, not {block_levels!r}")
        self.levels = levels
        self.index_bits = 9
        self.address_bits = PAGE_BITS + 9 * levels - 1
        self.physical_bits = 56
        self.block_levels = highest
        self.upper_half = True
        self.table_bits = VALID

    @kernel
    def is_leaf(self, entry: usize, level: u32) -> bool:
        """Whether an ``entry`` of ``level`` that is not 0 is a page or block, not a table."""
        return entry & (READ | WRITE | EXECUTE) != 0

    @kernel
    def with_address(self, physical: PhysicalAddress) -> usize:
        """An entry with nothing but an address in it."""
        return usize(physical) >> PAGE_BITS << PPN_SHIFT

    @kernel
    def address(self, entry: usize) -> PhysicalAddress:
        """The address in an entry."""
        return PhysicalAddress((entry & PPN_MASK) << (PAGE_BITS - PPN_SHIFT))
