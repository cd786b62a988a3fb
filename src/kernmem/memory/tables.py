"""The tree of tables under a root: the walk down it, and how it grows, splits and shrinks.

Level 0 maps pages; a higher level maps blocks, where they fit, or leads to the tables of the level
below.  No table but the root is ever empty.  An entry is *taken* when it is not 0: a leaf that
gives no access is invalid to the MMU and keeps its place all the same.

The order in which the tables and the MMU's caches change is here, the instructions are in
:class:`~kernmem.memory.architecture.Mmu`.
"""

from __future__ import annotations

from kernmem.language import (
    Component,
    Image,
    PhysicalAddress,
    Struct,
    VirtualAddress,
    kernel,
    linear,
    outlined,
    panic,
    span,
    struct,
    u32,
    usize,
    wrap_add,
)
from kernmem.memory.architecture import EntryFormat, Mapping, Mmu
from kernmem.memory.physical import PhysicalMemory


@struct("pagetable_walk_t")
class Walk(Struct):
    """A range of addresses, and the entry that a walk over them has got to."""

    pagetable: PhysicalAddress
    start: VirtualAddress
    last: VirtualAddress  # the last byte
    address: VirtualAddress  # whose entry it is
    table: PhysicalAddress
    index: usize
    entry: usize
    mask: usize  # the bits of an address that tell the bytes of the entry apart
    level: u32
    is_global: bool  # whether any leaf of the range is, was or becomes so
    tables: usize  # how many the change will make
    unlinked: PhysicalAddress  # the last that no entry leads to any more, if not 0


class Tables(Component):
    """Page tables as data: nothing here knows which root is current."""

    c_module = "virtual"

    def __init__(
        self, image: Image, entries: EntryFormat, mmu: Mmu, physical: PhysicalMemory
    ) -> None:
        super().__init__(image)
        self.entries = entries
        self.mmu = mmu
        self.physical = physical
        self.page_length = entries.page_length
        self.root_pages = entries.root_pages
        self.root_level = entries.levels - 1
        self.block_levels = entries.block_levels

    # Walking --------------------------------------------------------------------------------

    @kernel
    def walk(self, walk: Walk) -> None:
        """Go down to the entry of the address that leads to no table."""
        self.walk_to(walk, u32(0))

    @outlined
    def walk_to(self, walk: Walk, lowest: u32) -> None:
        """Go down to the entry of the address that leads to no table, or that of ``lowest``."""
        below = walk.pagetable
        level = u32(self.root_level + 1)
        while True:
            table = below
            level -= 1
            index = self.entries.index(walk.address, level)
            entry = self.entries.read(table, index)
            below = self.entries.next_table(entry)
            if level <= lowest or not self.entries.is_table(entry, level):
                break
        walk.table = table
        walk.index = index
        walk.entry = entry
        walk.level = level
        walk.mask = self.mask(level)

    @outlined
    def begin(self, walk: Walk) -> None:
        """Walk to the start of the range, if it is elsewhere."""
        if walk.address != walk.start:
            walk.address = walk.start
            self.walk(walk)

    @outlined
    def next(self, walk: Walk) -> bool:
        """Go on to the entry after this one; False if the range ends in this one."""
        rest = self.rest(walk)
        if walk.last - walk.address <= rest:
            return False
        walk.address += rest + 1
        walk.index += 1
        if walk.index < self.entries.table_length(walk.level):
            walk.entry = self.entries.read(walk.table, walk.index)
            if not self.entries.is_table(walk.entry, walk.level):
                return True
        self.walk(walk)
        return True

    @kernel
    def rest(self, walk: Walk) -> usize:
        """How many bytes of the entry lie behind the address."""
        return walk.mask - (walk.address & walk.mask)

    @kernel
    def mask(self, level: u32) -> usize:
        """The bits of an address within what an entry of ``level`` stands for."""
        return (usize(1) << self.entries.shift(level)) - 1

    # Growing --------------------------------------------------------------------------------

    @kernel
    def new_root(self) -> PhysicalAddress | None:
        """A root that maps nothing; None when no pages for it are left."""
        length = usize(self.root_pages * self.page_length)
        if self.root_pages == 1:
            root = self.physical.alloc_physical_page()
        else:
            root = self.physical.alloc_physical_pages(
                usize(self.root_pages), length, PhysicalAddress(0)
            )
        if root is not None:
            self.zero(linear(root), length)
        return root

    @kernel
    def free_root(self, root: PhysicalAddress) -> None:
        """Give back a root."""
        if self.root_pages == 1:
            self.physical.free_physical_page(root)
        else:
            self.physical.free_physical_pages(root, usize(self.root_pages))

    @kernel
    def new_table(self) -> PhysicalAddress:
        """An empty table, where the caller has made sure that a page is left."""
        table = self.physical.alloc_physical_page()
        if table is None:
            panic("the free list ended before free_pages_count said so")
        self.zero(linear(table), usize(self.page_length))
        return table

    @kernel
    def grow(self, walk: Walk) -> None:
        """Put an empty table where the walk has ended, and go on into it."""
        table = self.new_table()
        self.mmu.order_tables()
        self.entries.write(walk.table, walk.index, self.entries.table(table))
        self.walk(walk)

    @kernel
    def needed(self, walk: Walk, skew: usize) -> usize:
        """How many tables it takes under this entry that leaves begin and end where the range does.

        ``skew`` has the bits in which the addresses differ from their frames.  A table is needed
        for each slot of the level above it that no block can fill: of those that the range covers
        from end to end, if the frames are aligned as the addresses are, none.
        """
        tables = usize(0)
        rest = self.rest(walk)
        last = walk.address + rest if rest < walk.last - walk.address else walk.last
        level = walk.level
        while level > 0:
            shift = self.entries.shift(level)
            mask = self.mask(level)
            slots = (last >> shift) - (walk.address >> shift) + 1
            if level <= self.block_levels and skew & mask == 0:
                parts = usize(0)
                if walk.address & mask != 0:
                    parts += 1
                if last & mask != mask:
                    parts += 1
                if parts == 0:
                    break
                if parts < slots:
                    slots = parts
            tables += slots
            level -= 1
        return tables

    # Writing --------------------------------------------------------------------------------

    @outlined
    def write_run(self, walk: Walk, entry: usize, step: usize) -> None:
        """Write this entry, and those behind it in the table that the range covers as well.

        Up to the next table entry, and each ``step`` more than the one before.  The walk is at
        the last of them then.
        """
        shift = self.entries.shift(walk.level)
        length = self.entries.table_length(walk.level)
        end = walk.index + ((walk.last - walk.address + 1) >> shift)
        if end > length:
            end = length
        stop = self._write(walk.table, walk.index, end, walk.level, entry, step)
        walk.address += (stop - 1 - walk.index) << shift
        walk.index = stop - 1

    @outlined
    def _write(
        self,
        table: PhysicalAddress,
        index: usize,
        end: usize,
        level: u32,
        entry: usize,
        step: usize,
    ) -> usize:
        """Write entries from ``index`` up to ``end`` or a table entry; where that is."""
        while index < end:
            old = self.entries.read(table, index)
            if self.entries.is_table(old, level):
                break
            self.entries.write(table, index, entry)
            entry = wrap_add(entry, step)
            index += 1
        return index

    # Splitting ------------------------------------------------------------------------------

    @kernel
    def parts(self, block: usize, level: u32) -> PhysicalAddress:
        """A table, not linked yet, that maps the same as an entry of ``level``."""
        mapping = self.entries.mapping(block, level)
        first = self.entries.leaf(self.entries.frame(block, level), mapping, level - 1)
        length = self.entries.table_length(level - 1)
        table = self.new_table()
        step = self.entries.step(self.mask(level - 1) + 1)
        self._write(table, usize(0), length, level - 1, first, step)
        return table

    @kernel
    def divide(self, table: PhysicalAddress, level: u32, address: VirtualAddress) -> None:
        """Let a leaf begin at ``address``, in the ``table`` of an entry of ``level``.

        The table is not linked yet.
        """
        while True:
            level -= 1
            if address & self.mask(level) == 0:
                break
            index = self.entries.index(address, level)
            entry = self.entries.read(table, index)
            if self.entries.is_leaf(entry, level):
                entry = self.entries.table(self.parts(entry, level))
                self.entries.write(table, index, entry)
            table = self.entries.next_table(entry)

    # Shrinking ------------------------------------------------------------------------------

    @kernel
    def prune(self, walk: Walk) -> None:
        """Unlink the table of an entry that was cleared, and those above it, if they are empty.

        They wait in a list: the first entry of each is a leaf without access to the next, which a
        walker that still comes through it may find.
        """
        while walk.level < self.root_level and self._nearest(walk) == 0:
            link = self.entries.leaf(walk.unlinked, Mapping.NO_ACCESS, u32(0))
            self.entries.write(walk.table, usize(0), link)
            walk.unlinked = walk.table
            self.walk_to(walk, walk.level + 1)
            self.entries.write(walk.table, walk.index, usize(0))

    @kernel
    def _nearest(self, walk: Walk) -> usize:
        """How far the nearest other entry is that is taken; 0 if none of the table is."""
        length = self.entries.table_length(walk.level)
        for distance in span(usize(1), length // 2 + 1):
            after = self.entries.read(walk.table, (walk.index + distance) % length)
            before = self.entries.read(walk.table, (walk.index + length - distance) % length)
            if after != 0 or before != 0:
                return distance
        return usize(0)

    @kernel
    def release(self, walk: Walk) -> None:
        """Give back the unlinked tables, of which the MMU knows no more.

        In the order in which they were unlinked, so that their list is turned round first.
        """
        table = walk.unlinked
        later = PhysicalAddress(0)
        while table != PhysicalAddress(0):
            link = self.entries.read(table, usize(0))
            turned = self.entries.leaf(later, Mapping.NO_ACCESS, u32(0))
            self.entries.write(table, usize(0), turned)
            later = table
            table = self.entries.frame(link, u32(0))
        while later != PhysicalAddress(0):
            link = self.entries.read(later, usize(0))
            self.physical.free_physical_page(later)
            later = self.entries.frame(link, u32(0))

    @kernel
    def last_table_end(self, table: PhysicalAddress, level: u32) -> usize:
        """The index after the last entry of ``table`` that leads to a table; 0 if none does."""
        end = self.entries.table_length(level)
        while end > 0 and not self.entries.is_table(self.entries.read(table, end - 1), level):
            end -= 1
        return end
