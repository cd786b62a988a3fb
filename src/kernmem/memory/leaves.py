"""The leaves of a range: checked as a whole, then changed as a whole.

What can fail is in :meth:`Leaves.check_free` and :meth:`Leaves.isolate`, which count the pages that
the change will take; the change itself cannot fail.  So there is never anything to undo.
"""

from __future__ import annotations

from kernmem.language import (
    Component,
    Image,
    PhysicalAddress,
    VirtualAddress,
    kernel,
    linear,
    panic,
    u32,
    usize,
)
from kernmem.memory.architecture import EntryFormat, Mapping, Mmu
from kernmem.memory.pagetable import PagetableStatus, VirtualMemInfo
from kernmem.memory.physical import PhysicalMemory
from kernmem.memory.tables import UNLINKED, Tables, Unlinked, Walk


class Leaves(Component):
    """From ``start`` to ``last``, its last byte, both at the borders of pages."""

    c_module = "virtual"

    def __init__(
        self,
        image: Image,
        entries: EntryFormat,
        mmu: Mmu,
        physical: PhysicalMemory,
        tables: Tables,
        info: VirtualMemInfo,
    ) -> None:
        super().__init__(image)
        self.entries = entries
        self.mmu = mmu
        self.physical = physical
        self.tables = tables
        self.info = info
        self.root_level = entries.levels - 1
        self.block_levels = entries.block_levels
        self.program_start = physical.memory_map.program_start

    # Mapping --------------------------------------------------------------------------------

    @kernel
    def _block_level(
        self, virtual: VirtualAddress, last: VirtualAddress, physical: PhysicalAddress
    ) -> u32:
        """The highest level with a block that begins at both addresses and ends by ``last``."""
        level = u32(self.block_levels)
        while level > 0:
            length = self.tables.length(level)
            if last - virtual >= length - 1 and virtual % length == 0 and physical % length == 0:
                break
            level -= 1
        return level

    @kernel
    def check_free(
        self,
        walk: Walk,
        pagetable: PhysicalAddress,
        start: VirtualAddress,
        last: VirtualAddress,
        physical: PhysicalAddress,
    ) -> PagetableStatus:
        """Whether nothing in the range is mapped, and there are pages for its tables."""
        address = start
        tables = usize(0)
        while True:
            frame = physical + (address - start)
            level = self._block_level(address, last, frame)
            self.tables.walk(walk, pagetable, address, level)
            if walk.entry != 0:
                self.info.failed_address = address
                return PagetableStatus.ALREADY_MAPPED
            reach = self.tables.reach(walk.level, address, last)
            if walk.level > level:
                tables += self.tables.tables_to_map(walk.level, address, reach, frame)
            if reach == last:
                break
            address = reach + 1
        if self.physical.info.free_pages_count < tables:
            return PagetableStatus.OUT_OF_MEMORY
        return PagetableStatus.OK

    @kernel
    def map_leaves(
        self,
        walk: Walk,
        pagetable: PhysicalAddress,
        start: VirtualAddress,
        last: VirtualAddress,
        physical: PhysicalAddress,
        mapping: Mapping,
    ) -> None:
        """Map a range that :meth:`check_free` found free."""
        address = start
        grown = False
        while True:
            frame = physical + (address - start)
            level = self._block_level(address, last, frame)
            self.tables.walk(walk, pagetable, address, level)
            while walk.level > level:
                self.tables.grow(walk, address)
                grown = True
            length = self.tables.length(level)
            end = self.entries.table_length(level)
            index = walk.index
            while True:
                self.entries.write(walk.table, index, self.entries.leaf(frame, mapping, level))
                rest = last - address
                if rest < length:
                    break
                address += length
                frame += length
                index += 1
                if index == end or rest - length < length - 1:
                    break
            if rest < length:
                break
        is_global = Mapping.GLOBAL in mapping
        if grown or last - start >= length:
            self.mmu.publish_range(pagetable, start, last, is_global)
        else:
            self.mmu.publish_page(pagetable, start, is_global)

    # Unmapping and protecting ---------------------------------------------------------------

    @kernel
    def isolate(
        self,
        walk: Walk,
        pagetable: PhysicalAddress,
        start: VirtualAddress,
        last: VirtualAddress,
    ) -> PagetableStatus:
        """See that all of the range is mapped, and let leaves begin and end where it does.

        ``walk.is_global`` says whether any of them is.
        """
        address = start
        first_level = u32(0)
        walk.is_global = False
        while True:
            self.tables.walk(walk, pagetable, address, u32(0))
            if walk.entry == 0:
                self.info.failed_address = address
                return PagetableStatus.NOT_MAPPED
            if self.entries.is_global(walk.entry, walk.level):
                walk.is_global = True
            if address == start:
                first_level = walk.level
            reach = self.tables.reach(walk.level, address, last)
            if reach == last:
                break
            address = reach + 1
        tables = self.tables.tables_to_split(first_level, start, walk.level, last)
        if self.physical.info.free_pages_count < tables:
            return PagetableStatus.OUT_OF_MEMORY
        if tables > 0:
            self._refuse_underfoot(walk, pagetable, start, start, last)
            self._refuse_underfoot(walk, pagetable, last, start, last)
            self.tables.split(walk, pagetable, start, start, last)
            self.tables.split(walk, pagetable, last, start, last)
        return PagetableStatus.OK

    @kernel
    def _refuse_underfoot(
        self,
        walk: Walk,
        pagetable: PhysicalAddress,
        address: VirtualAddress,
        start: VirtualAddress,
        last: VirtualAddress,
    ) -> None:
        """Panic if what the kernel stands on lies in the block of ``address``, to be split.

        While the block is broken, there must still be the running program, and the table.
        """
        if self.info.current_pagetable != pagetable:
            return
        self.tables.walk(walk, pagetable, address, u32(0))
        first = self.tables.first(walk.level, address)
        end = first + (self.tables.length(walk.level) - 1)
        if start <= first and end <= last:
            return
        table = linear(walk.table)
        if first <= table and table <= end:
            panic(f"pagetable: the block around {address} holds the table in use itself")
        if linear(self.physical.info.program_end) > first and self.program_start <= end:
            panic(f"pagetable: the block around {address} holds the running program")

    @kernel
    def unmap_leaves(
        self,
        walk: Walk,
        pagetable: PhysicalAddress,
        start: VirtualAddress,
        last: VirtualAddress,
    ) -> None:
        """Unmap a range of whole leaves, and give back the tables that it empties.

        Those wait until nobody walks through them any more; if they are many, for a while.
        """
        begin = start
        address = start
        with self.local(Unlinked) as unlinked:
            unlinked.count = usize(0)
            while True:
                self.tables.walk(walk, pagetable, address, u32(0))
                level = walk.level
                length = self.tables.length(level)
                run = self._clear_run(walk, last - address)
                self.tables.prune(walk, pagetable, address, run, unlinked)
                if last - address < run * length:
                    break
                address += run * length
                if unlinked.count + self.root_level > UNLINKED:
                    self.mmu.retire_range(pagetable, begin, address - 1, walk.is_global)
                    self.tables.release(unlinked)
                    begin = address
            if begin == address and run == 1 and unlinked.count == 0:
                self.mmu.retire_page(pagetable, begin, walk.is_global)
            else:
                self.mmu.retire_range(pagetable, begin, last, walk.is_global)
                self.tables.release(unlinked)

    @kernel
    def _clear_run(self, walk: Walk, rest: usize) -> usize:
        """Clear leaves side by side in one table, of ``rest + 1`` bytes at most; how many."""
        length = self.tables.length(walk.level)
        end = self.entries.table_length(walk.level)
        index = walk.index
        while True:
            self.entries.write(walk.table, index, usize(0))
            index += 1
            if rest < length or index == end:
                break
            rest -= length
            entry = self.entries.read(walk.table, index)
            if self.entries.is_table(entry, walk.level):
                break
        return index - walk.index

    @kernel
    def change_leaves(
        self,
        walk: Walk,
        pagetable: PhysicalAddress,
        start: VirtualAddress,
        last: VirtualAddress,
        mapping: Mapping,
    ) -> bool:
        """Give leaves other flags; those that must be broken first are, and True is returned."""
        address = start
        broken = False
        while True:
            self.tables.walk(walk, pagetable, address, u32(0))
            frame = self.entries.frame(walk.entry, walk.level)
            entry = self.entries.leaf(frame, mapping, walk.level)
            if (
                self.entries.is_valid(entry)
                and self.entries.is_valid(walk.entry)
                and self.entries.must_break(walk.entry, entry, walk.level)
            ):
                entry = self.entries.leaf(frame, mapping | Mapping.NO_ACCESS, walk.level)
                broken = True
            self.entries.write(walk.table, walk.index, entry)
            length = self.tables.length(walk.level)
            if last - address < length:
                return broken
            address += length
