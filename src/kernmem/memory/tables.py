"""The tree of tables under a root: the walk down it, and how it grows, splits and shrinks.

Level 0 maps pages; a higher level maps blocks, where they fit, or leads to the tables of the level
below.  No table but the root is ever empty.  An entry is *taken* when it is not 0: a leaf that
gives no access is invalid to the MMU and keeps its place all the same.

The order in which the tables and the MMU's caches change is here, the instructions are in
:class:`~kernmem.memory.architecture.Mmu`.
"""

from __future__ import annotations

from kernmem.language import (
    Array,
    Component,
    Image,
    PhysicalAddress,
    Struct,
    VirtualAddress,
    array,
    kernel,
    linear,
    panic,
    span,
    struct,
    u32,
    usize,
)
from kernmem.memory.architecture import EntryFormat, Mmu
from kernmem.memory.physical import PhysicalMemory

UNLINKED = 16
"""So many tables are unlinked at most before the MMU is told to forget them."""


@struct("pagetable_walk_t")
class Walk(Struct):
    """Where a walk for an address has got to."""

    table: PhysicalAddress
    index: usize
    entry: usize
    level: u32
    is_global: bool  # after a walk over a range: whether any leaf was


@struct("pagetable_unlinked_t")
class Unlinked(Struct):
    """Tables that no entry leads to any more, but of which the MMU may still know."""

    count: usize
    tables: Array[usize] = array(usize, UNLINKED)


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
    def walk(
        self, walk: Walk, pagetable: PhysicalAddress, address: VirtualAddress, lowest: u32
    ) -> None:
        """Go down to the entry of ``address`` that leads to no table, or that of ``lowest``."""
        table = pagetable
        level = u32(self.root_level)
        index = self.entries.index(address, level)
        entry = self.entries.read(table, index)
        while level > lowest and self.entries.is_table(entry, level):
            table = self.entries.next_table(entry)
            level -= 1
            index = self.entries.index(address, level)
            entry = self.entries.read(table, index)
        walk.table = table
        walk.index = index
        walk.entry = entry
        walk.level = level

    @kernel
    def length(self, level: u32) -> usize:
        """The bytes that an entry of ``level`` stands for."""
        return usize(1) << self.entries.shift(level)

    @kernel
    def reach(self, level: u32, address: VirtualAddress, last: VirtualAddress) -> VirtualAddress:
        """The last address, ``last`` at most, that has the entry of ``level`` of ``address``."""
        length = self.length(level)
        rest = length - 1 - address % length
        if last - address <= rest:
            return last
        return address + rest

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
    def grow(self, walk: Walk, address: VirtualAddress) -> None:
        """Put an empty table where the walk for ``address`` has ended, and go on into it."""
        table = self.new_table()
        self.mmu.order_tables()
        self.entries.write(walk.table, walk.index, self.entries.table(table))
        walk.table = table
        walk.level -= 1
        walk.index = self.entries.index(address, walk.level)
        walk.entry = usize(0)

    @kernel
    def tables_to_map(
        self, level: u32, start: VirtualAddress, last: VirtualAddress, frame: PhysicalAddress
    ) -> usize:
        """How many tables :meth:`grow` will make under an empty entry of ``level`` for a range.

        A table is needed for each slot of the level above it that no block can fill: of those
        that the range covers from end to end, if the frames are aligned as the addresses are, none.
        """
        tables = usize(0)
        while level > 0:
            length = self.length(level)
            slots = last // length - start // length + 1
            if level <= self.block_levels and start % length == frame % length:
                parts = usize(0)
                if start % length != 0:
                    parts += 1
                if last % length != length - 1:
                    parts += 1
                if parts < slots:
                    slots = parts
            tables += slots
            level -= 1
        return tables

    # Splitting ------------------------------------------------------------------------------

    @kernel
    def tables_to_split(
        self, level: u32, start: VirtualAddress, last_level: u32, last: VirtualAddress
    ) -> usize:
        """How many tables it takes that leaves begin at ``start`` and end at ``last``.

        ``level`` and ``last_level`` are those of the leaves that they are in.
        """
        tables = usize(0)
        while level > 0 or last_level > 0:
            above = level if level > last_level else last_level
            length = self.length(above)
            begins = level == above and start % length != 0
            ends = last_level == above and last % length != length - 1
            if begins:
                tables += 1
            if ends and not (begins and start // length == last // length):
                tables += 1
            if level == above:
                level -= 1
            if last_level == above:
                last_level -= 1
        return tables

    @kernel
    def first(self, level: u32, address: VirtualAddress) -> VirtualAddress:
        """The first address that has the entry of ``level`` of ``address``."""
        return address - address % self.length(level)

    @kernel
    def split(
        self,
        walk: Walk,
        pagetable: PhysicalAddress,
        address: VirtualAddress,
        start: VirtualAddress,
        last: VirtualAddress,
    ) -> None:
        """Split the leaf of ``address`` until leaves begin at ``start`` and end at ``last``.

        All tables that it takes are made before the old entry is broken and the new one made.  In
        between only that entry is written: the new tables may lie in the block that is missing.
        """
        self.walk(walk, pagetable, address, u32(0))
        level = walk.level
        first = self.first(level, address)
        begins = first < start
        ends = last - first < self.length(level) - 1
        if not begins and not ends:
            return
        is_global = self.entries.is_global(walk.entry, level)
        parts = self._parts(walk.entry, level)
        if begins:
            self._divide(parts, level - 1, start, False)
        if ends:
            self._divide(parts, level - 1, last, True)
        self.mmu.order_tables()
        self.entries.write(walk.table, walk.index, usize(0))
        self.mmu.retire_page(pagetable, address, is_global)
        self.entries.write(walk.table, walk.index, self.entries.table(parts))
        self.mmu.publish_range(pagetable, address, address, is_global)

    @kernel
    def _parts(self, block: usize, level: u32) -> PhysicalAddress:
        """A table, not linked yet, that maps the same as an entry of ``level``."""
        frame = self.entries.frame(block, level)
        mapping = self.entries.mapping(block, level)
        length = self.length(level - 1)
        table = self.new_table()
        for number in span(usize(0), self.entries.table_length(level - 1)):
            leaf = self.entries.leaf(frame + number * length, mapping, level - 1)
            self.entries.write(table, number, leaf)
        return table

    @kernel
    def _divide(
        self, table: PhysicalAddress, level: u32, address: VirtualAddress, at_end: bool
    ) -> None:
        """Below a table that is not linked yet, let a leaf begin, or ``at_end`` end, there."""
        while True:
            length = self.length(level)
            edge = length - 1 if at_end else usize(0)
            if address % length == edge:
                break
            index = self.entries.index(address, level)
            entry = self.entries.read(table, index)
            if self.entries.is_leaf(entry, level):
                entry = self.entries.table(self._parts(entry, level))
                self.entries.write(table, index, entry)
            table = self.entries.next_table(entry)
            level -= 1

    # Shrinking ------------------------------------------------------------------------------

    @kernel
    def prune(
        self,
        walk: Walk,
        pagetable: PhysicalAddress,
        address: VirtualAddress,
        run: usize,
        unlinked: Unlinked,
    ) -> None:
        """Unlink what became empty when, from ``address`` on, ``run`` entries were cleared."""
        first = walk.index
        end = first + run
        while walk.level < self.root_level and self._is_empty_beside(walk, first, end):
            unlinked.tables[unlinked.count] = usize(walk.table)
            unlinked.count += 1
            self.walk(walk, pagetable, address, walk.level + 1)
            self.entries.write(walk.table, walk.index, usize(0))
            first = walk.index
            end = first + 1

    @kernel
    def _is_empty_beside(self, walk: Walk, first: usize, end: usize) -> bool:
        """Whether no entry of a table is taken, where those from ``first`` to ``end`` are not.

        Looks outward from them, as what is in use mostly has a neighbour.
        """
        length = self.entries.table_length(walk.level)
        while first > 0 or end < length:
            if first > 0:
                first -= 1
                if self.entries.read(walk.table, first) != 0:
                    return False
            if end < length:
                if self.entries.read(walk.table, end) != 0:
                    return False
                end += 1
        return True

    @kernel
    def release(self, unlinked: Unlinked) -> None:
        """Give back tables that the MMU has forgotten."""
        for number in span(usize(0), unlinked.count):
            self.physical.free_physical_page(PhysicalAddress(unlinked.tables[number]))
        unlinked.count = usize(0)

    @kernel
    def last_table_end(self, table: PhysicalAddress, level: u32) -> usize:
        """The index after the last entry of ``table`` that leads to a table; 0 if none does."""
        end = self.entries.table_length(level)
        while end > 0 and not self.entries.is_table(self.entries.read(table, end - 1), level):
            end -= 1
        return end
