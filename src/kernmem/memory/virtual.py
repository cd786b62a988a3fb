"""Virtual: creating, changing and using page tables.

The walk is written once, over the entry format of the hardware.  Level 0 maps pages; a higher
level maps blocks, where they fit, or leads to the tables of the level below.

The functions read and write tables at their physical addresses, so they share the contract of
the Physical module: the MMU is off, or the linear space is current.
"""

from __future__ import annotations

from enum import IntEnum

from kernmem.language import (
    Component,
    Image,
    PhysicalAddress,
    Struct,
    VirtualAddress,
    api,
    enumeration,
    from_linear,
    kernel,
    linear,
    panic,
    span,
    struct,
    u32,
    usize,
)
from kernmem.memory.architecture import EntryFormat, Mapping, Mmu
from kernmem.memory.physical import PhysicalMemory


@enumeration("pagetable_status_t")
class PagetableStatus(IntEnum):
    """What became of a change to a page table.  All but OK leave it as it was."""

    OK = 0
    OUT_OF_MEMORY = 1
    MISALIGNED = 2
    ALREADY_MAPPED = 3
    NOT_MAPPED = 4
    NOT_TRANSLATABLE = 5


@struct("virtual_mem_info_t")
class VirtualMemInfo(Struct):
    """What the MMU translates by."""

    current_pagetable: PhysicalAddress | None  # None: the MMU is off
    linear_pagetable: PhysicalAddress | None  # the table of the linear space, once there is one


class VirtualMemory(Component):
    """Page tables, and the MMU that translates by them."""

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
        self.last_physical = (1 << entries.physical_bits) - 1
        self.info = self.static(VirtualMemInfo, "virtual_mem_info")

    # Page tables ----------------------------------------------------------------------------

    @api
    def create_pagetable(self) -> PhysicalAddress | None:
        """Make a page table that maps nothing; None when no pages for its root are left."""
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

    @api
    def delete_pagetable(self, pagetable: PhysicalAddress) -> None:
        """Give back every table under ``pagetable`` and itself, and no page that they map.

        Panics if it is current.  O(tables x entries).
        """
        self.physical.require_addressable()
        if self.info.current_pagetable == pagetable:
            panic(f"delete_pagetable: {pagetable} is current; switch_pagetable to another first")
        # Always down the last table entry that is left, until nothing but the root remains: pages
        # go back in the opposite order to that in which ascending addresses took them.
        while True:
            table = pagetable
            parent = pagetable
            place = usize(0)
            level = u32(self.root_level)
            while level > 0:
                end = self._tables_end(table, level)
                if end == 0:
                    break
                parent = table
                place = end - 1
                table = self.entries.next_table(self.entries.read(table, place))
                level -= 1
            if table == pagetable:
                break
            self.entries.write(parent, place, usize(0))
            self.physical.free_physical_page(table)
        self.mmu.forget(pagetable)
        if self.root_pages == 1:
            self.physical.free_physical_page(pagetable)
        else:
            self.physical.free_physical_pages(pagetable, usize(self.root_pages))

    @kernel
    def _tables_end(self, table: PhysicalAddress, level: u32) -> usize:
        """The index after the last entry of ``table`` that leads to a table; 0 if none does."""
        end = self.entries.table_length(level)
        while end > 0:
            entry = self.entries.read(table, end - 1)
            if self.entries.is_valid(entry) and not self.entries.is_leaf(entry, level):
                break
            end -= 1
        return end

    @api
    def pagetable_map(
        self,
        pagetable: PhysicalAddress,
        virtual: VirtualAddress,
        physical: PhysicalAddress,
        mapping: Mapping = Mapping.KERNEL,
    ) -> PagetableStatus:
        """Translate the page at ``virtual`` to the page at ``physical``.  O(levels).

        The new translation is visible when the call returns; no other is disturbed.
        """
        self.physical.require_addressable()
        if virtual % self.page_length != 0 or physical % self.page_length != 0:
            return PagetableStatus.MISALIGNED
        last = virtual + (self.page_length - 1)
        if not self.entries.translates(virtual, last) or physical > self.last_physical:
            return PagetableStatus.NOT_TRANSLATABLE
        status = self._map_leaf(pagetable, virtual, physical, mapping, u32(0))
        self.mmu.publish_range(pagetable, virtual, last)
        return status

    @api
    def pagetable_map_linear(
        self,
        pagetable: PhysicalAddress,
        start: VirtualAddress,
        end: VirtualAddress,
        mapping: Mapping = Mapping.KERNEL,
    ) -> PagetableStatus:
        """Translate every address from ``start`` up to but not including ``end`` to itself.

        Uses the largest blocks that fit.  If a part cannot be mapped, nothing is.
        """
        self.physical.require_addressable()
        if start % self.page_length != 0 or end % self.page_length != 0:
            return PagetableStatus.MISALIGNED
        if start >= end or end - 1 > self.last_physical:
            return PagetableStatus.NOT_TRANSLATABLE
        if not self.entries.translates(start, end - 1):
            return PagetableStatus.NOT_TRANSLATABLE
        status = PagetableStatus.OK
        address = start
        while address < end:
            level = self._largest_level(address, end)
            status = self._map_leaf(pagetable, address, from_linear(address), mapping, level)
            if status != PagetableStatus.OK:
                break
            address += usize(1) << self.entries.shift(level)
        if status != PagetableStatus.OK:
            while address > start:
                address -= self._unmap_leaf(pagetable, address - self.page_length)
        self.mmu.publish_range(pagetable, start, end - 1)
        return status

    @kernel
    def _largest_level(self, start: VirtualAddress, end: VirtualAddress) -> u32:
        """The highest level with a block that begins at ``start`` and ends by ``end``."""
        level = u32(self.block_levels)
        while level > 0:
            length = usize(1) << self.entries.shift(level)
            if start % length == 0 and end - start >= length:
                break
            level -= 1
        return level

    @api
    def pagetable_unmap(
        self, pagetable: PhysicalAddress, virtual: VirtualAddress
    ) -> PagetableStatus:
        """Undo the translation of the page at ``virtual``.

        A block that it is a part of is split first, which takes a page for each level; a table
        that becomes empty is given back.  No CPU translates by the old entry any more when the
        call returns.
        """
        self.physical.require_addressable()
        if virtual % self.page_length != 0:
            return PagetableStatus.MISALIGNED
        if not self.entries.translates(virtual, virtual):
            return PagetableStatus.NOT_TRANSLATABLE
        level = self._leaf_level(pagetable, virtual)
        table = self._table_at(pagetable, virtual, level)
        if not self.entries.is_valid(self.entries.read(table, self.entries.index(virtual, level))):
            return PagetableStatus.NOT_MAPPED
        if self.physical.info.free_pages_count < usize(level):
            return PagetableStatus.OUT_OF_MEMORY
        while level > 0:
            self._split(pagetable, table, virtual, level)
            level -= 1
            table = self._table_at(pagetable, virtual, level)
        self._unmap_leaf(pagetable, virtual)
        return PagetableStatus.OK

    @api
    def pagetable_get_translation(
        self, pagetable: PhysicalAddress, virtual: VirtualAddress
    ) -> PhysicalAddress | None:
        """The physical address that ``virtual`` translates to; None if it is not mapped.

        Physical address 0 cannot be told from None, in C or here.
        """
        self.physical.require_addressable()
        if not self.entries.translates(virtual, virtual):
            return None
        level = self._leaf_level(pagetable, virtual)
        table = self._table_at(pagetable, virtual, level)
        entry = self.entries.read(table, self.entries.index(virtual, level))
        if not self.entries.is_valid(entry):
            return None
        offset = virtual % (usize(1) << self.entries.shift(level))
        physical = self.entries.frame(entry, level) + offset
        return None if physical == PhysicalAddress(0) else physical

    # The walk -------------------------------------------------------------------------------

    @kernel
    def _leaf_level(self, pagetable: PhysicalAddress, virtual: VirtualAddress) -> u32:
        """The level at which a walk for ``virtual`` ends: at a leaf, or at an invalid entry."""
        table = pagetable
        level = u32(self.root_level)
        while level > 0:
            entry = self.entries.read(table, self.entries.index(virtual, level))
            if not self.entries.is_valid(entry) or self.entries.is_leaf(entry, level):
                break
            table = self.entries.next_table(entry)
            level -= 1
        return level

    @kernel
    def _table_at(
        self, pagetable: PhysicalAddress, virtual: VirtualAddress, level: u32
    ) -> PhysicalAddress:
        """The table of ``level`` on the walk for ``virtual``, which must reach that far."""
        table = pagetable
        above = u32(self.root_level)
        while above > level:
            table = self.entries.next_table(
                self.entries.read(table, self.entries.index(virtual, above))
            )
            above -= 1
        return table

    @kernel
    def _map_leaf(
        self,
        pagetable: PhysicalAddress,
        virtual: VirtualAddress,
        physical: PhysicalAddress,
        mapping: Mapping,
        leaf_level: u32,
    ) -> PagetableStatus:
        """Map one page or block; the caller publishes.  New tables are filled, then linked.

        The upper tables are taken first, as :meth:`_unmap_leaf` gives them back last: what is
        undone leaves the free pages in the order that they had.
        """
        level = self._leaf_level(pagetable, virtual)
        if level < leaf_level:
            return PagetableStatus.ALREADY_MAPPED
        place = self._table_at(pagetable, virtual, level)
        if self.entries.is_valid(self.entries.read(place, self.entries.index(virtual, level))):
            return PagetableStatus.ALREADY_MAPPED
        if self.physical.info.free_pages_count < usize(level - leaf_level):
            return PagetableStatus.OUT_OF_MEMORY
        entry = self.entries.leaf(physical, mapping, leaf_level)
        if level > leaf_level:
            top = self._new_table()
            table = top
            below = level - 1
            while below > leaf_level:
                under = self._new_table()
                self.entries.write(
                    table, self.entries.index(virtual, below), self.entries.table(under)
                )
                table = under
                below -= 1
            self.entries.write(table, self.entries.index(virtual, below), entry)
            entry = self.entries.table(top)
            self.mmu.order_tables()
        self.entries.write(place, self.entries.index(virtual, level), entry)
        return PagetableStatus.OK

    @kernel
    def _new_table(self) -> PhysicalAddress:
        """An empty table, where the caller has made sure that a page is left."""
        table = self.physical.alloc_physical_page()
        if table is None:
            panic("the free list ended before free_pages_count said so")
        self.zero(linear(table), usize(self.page_length))
        return table

    @kernel
    def _unmap_leaf(self, pagetable: PhysicalAddress, virtual: VirtualAddress) -> usize:
        """Unmap the page or block at ``virtual`` whole, and give back the tables it empties.

        Returns the length unmapped.
        """
        level = self._leaf_level(pagetable, virtual)
        length = usize(1) << self.entries.shift(level)
        table = self._table_at(pagetable, virtual, level)
        self.entries.write(table, self.entries.index(virtual, level), usize(0))
        self.mmu.retire_page(pagetable, virtual)
        while level < self.root_level and self._is_empty(table, level):
            level += 1
            parent = self._table_at(pagetable, virtual, level)
            self.entries.write(parent, self.entries.index(virtual, level), usize(0))
            self.mmu.retire_range(pagetable, virtual, virtual)
            self.physical.free_physical_page(table)
            table = parent
        return length

    @kernel
    def _is_empty(self, table: PhysicalAddress, level: u32) -> bool:
        """Whether no entry of ``table`` is valid."""
        for index in span(usize(0), self.entries.table_length(level)):
            if self.entries.is_valid(self.entries.read(table, index)):
                return False
        return True

    @kernel
    def _split(
        self,
        pagetable: PhysicalAddress,
        table: PhysicalAddress,
        virtual: VirtualAddress,
        level: u32,
    ) -> None:
        """Replace the block of ``level`` around ``virtual`` by a table that maps the same.

        The old entry is broken before the new one is made; in between the block is not mapped,
        so it must not be what the kernel, working on ``table``, stands on.
        """
        index = self.entries.index(virtual, level)
        block = self.entries.read(table, index)
        if self.info.current_pagetable == pagetable:
            bits = self.entries.shift(level)
            if linear(table) >> bits == virtual >> bits:
                panic(f"pagetable_unmap: the block around {virtual} holds the table in use itself")
        frame = self.entries.frame(block, level)
        mapping = self.entries.mapping(block, level)
        part = usize(1) << self.entries.shift(level - 1)
        parts = self._new_table()
        for number in span(usize(0), self.entries.table_length(level - 1)):
            leaf = self.entries.leaf(frame + number * part, mapping, level - 1)
            self.entries.write(parts, number, leaf)
        self.mmu.order_tables()
        self.entries.write(table, index, usize(0))
        self.mmu.retire_page(pagetable, virtual)
        self.entries.write(table, index, self.entries.table(parts))
        self.mmu.publish_range(pagetable, virtual, virtual)

    # The MMU --------------------------------------------------------------------------------

    @api
    def enable_pagetable(self, pagetable: PhysicalAddress) -> None:
        """Turn the MMU on, once; ``pagetable`` must map the running code linearly."""
        if self.info.current_pagetable is not None:
            panic("enable_pagetable: the MMU is on already; use switch_pagetable")
        self.mmu.enable(pagetable)
        self._now_current(pagetable)

    @api
    def switch_pagetable(self, pagetable: PhysicalAddress) -> None:
        """Translate by ``pagetable`` from now on; it must map the running code as now."""
        if self.info.current_pagetable is None:
            panic("switch_pagetable: the MMU is off; use enable_pagetable first")
        self.mmu.switch(pagetable)
        self._now_current(pagetable)

    @kernel
    def _now_current(self, pagetable: PhysicalAddress) -> None:
        self.info.current_pagetable = pagetable
        self.physical.set_addressable(self.info.linear_pagetable == pagetable)

    @kernel
    def set_linear_pagetable(self, pagetable: PhysicalAddress) -> None:
        """Say which table maps every address to itself."""
        self.info.linear_pagetable = pagetable
