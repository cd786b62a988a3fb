"""The leaves of a range: checked as a whole, then changed as a whole.

What can fail is in :meth:`Leaves.check`, which counts the pages that the change will take; the
change itself cannot fail.  So there is never anything to undo.
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
    usize,
)
from kernmem.memory.architecture import EntryFormat, Mapping, Mmu
from kernmem.memory.pagetable import PagetableStatus, VirtualMemInfo
from kernmem.memory.physical import PhysicalMemory
from kernmem.memory.tables import Tables, Walk


class Leaves(Component):
    """Of the range of a walk, which begins and ends at borders of pages."""

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
        self.block_levels = entries.block_levels
        self.program_start = physical.memory_map.program_start

    # Checking -------------------------------------------------------------------------------

    @kernel
    def check(self, walk: Walk, physical: PhysicalAddress, taken: bool) -> PagetableStatus:
        """Whether all of the range is ``taken``, or nothing, and there are pages for its tables.

        ``physical`` is aligned as the frames are that the range is mapped to, or will be.
        Afterwards ``walk.tables`` is the number of the tables, and ``walk.is_global`` true if one
        of the leaves is.
        """
        skew = usize(walk.start) ^ usize(physical)
        walk.tables = usize(0)
        walk.address = walk.start
        self.tables.walk(walk)
        while True:
            if (walk.entry != 0) != taken:
                self.info.failed_address = walk.address
                return PagetableStatus.NOT_MAPPED if taken else PagetableStatus.ALREADY_MAPPED
            if taken and self.entries.is_global(walk.entry, walk.level):
                walk.is_global = True
            walk.tables += self.tables.needed(walk, skew)
            if not self.tables.next(walk):
                break
        if self.physical.info.free_pages_count < walk.tables:
            return PagetableStatus.OUT_OF_MEMORY
        return PagetableStatus.OK

    @kernel
    def split_ends(self, walk: Walk) -> None:
        """Let leaves begin and end where the range does, after a :meth:`check`."""
        if walk.tables > 0:
            self.split(walk, walk.start)
            self.split(walk, walk.last)

    @kernel
    def split(self, walk: Walk, address: VirtualAddress) -> None:
        """Split the leaf of ``address`` where the range begins or ends in it.

        All tables that it takes are made before the old entry is broken and the new one made.  In
        between only that entry is written: the new tables may lie in the block that is missing.
        """
        walk.address = address
        self.tables.walk(walk)
        first = address - (address & walk.mask)
        end = first + walk.mask
        if walk.start <= first and end <= walk.last:
            return
        if self.info.current_pagetable == walk.pagetable:
            self._refuse_underfoot(walk, first, end)
        is_global = self.entries.is_global(walk.entry, walk.level)
        parts = self.tables.parts(walk.entry, walk.level)
        if walk.start > first:
            self.tables.divide(parts, walk.level, walk.start)
        if walk.last < end:
            self.tables.divide(parts, walk.level, walk.last + 1)
        self.mmu.order_tables()
        self.entries.write(walk.table, walk.index, usize(0))
        self.mmu.retire_page(walk.pagetable, address, is_global)
        self.entries.write(walk.table, walk.index, self.entries.table(parts))
        self.mmu.publish_range(walk.pagetable, address, address, is_global)

    @kernel
    def _refuse_underfoot(self, walk: Walk, first: VirtualAddress, end: VirtualAddress) -> None:
        """Panic if what the kernel stands on lies in a block, ``first`` to ``end``, to be split.

        While the block is broken, there must still be the running program, and the table.
        """
        table = linear(walk.table)
        if first <= table and table <= end:
            panic(f"pagetable: the block around {walk.address} holds the table in use itself")
        if linear(self.physical.info.program_end) > first and self.program_start <= end:
            panic(f"pagetable: the block around {walk.address} holds the running program")

    # Changing -------------------------------------------------------------------------------

    @kernel
    def map_leaves(self, walk: Walk, physical: PhysicalAddress, mapping: Mapping) -> None:
        """Map a range that :meth:`check` found free, with the largest blocks that fit."""
        self.tables.begin(walk)
        while True:
            frame = physical + (walk.address - walk.start)
            while not self._fits(walk, frame):
                self.tables.grow(walk)
            leaf = self.entries.leaf(frame, mapping, walk.level)
            self.tables.write_run(walk, leaf, self.entries.step(walk.mask + 1))
            if not self.tables.next(walk):
                break
        if walk.tables > 0 or walk.address != walk.start:
            self.mmu.publish_range(walk.pagetable, walk.start, walk.last, walk.is_global)
        else:
            self.mmu.publish_page(walk.pagetable, walk.start, walk.is_global)

    @kernel
    def _fits(self, walk: Walk, frame: PhysicalAddress) -> bool:
        """Whether a leaf can take the entry: it begins at the address, and ends in the range."""
        return (
            walk.level <= self.block_levels
            and walk.address & walk.mask == 0
            and frame & walk.mask == 0
            and walk.last - walk.address >= walk.mask
        )

    @kernel
    def unmap_leaves(self, walk: Walk) -> None:
        """Unmap a range of whole leaves, and give back the tables that it empties.

        Those wait until nobody walks through them any more.
        """
        walk.unlinked = PhysicalAddress(0)
        self.tables.begin(walk)
        while True:
            self.tables.write_run(walk, usize(0), usize(0))
            self.tables.prune(walk)
            if not self.tables.next(walk):
                break
        if walk.unlinked == PhysicalAddress(0) and walk.address == walk.start:
            self.mmu.retire_page(walk.pagetable, walk.start, walk.is_global)
        else:
            self.mmu.retire_range(walk.pagetable, walk.start, walk.last, walk.is_global)
            self.tables.release(walk)

    @kernel
    def protect_leaves(self, walk: Walk, mapping: Mapping) -> None:
        """Give the leaves of a range other flags."""
        broken = self._change_leaves(walk, mapping)
        self.mmu.retire_range(walk.pagetable, walk.start, walk.last, walk.is_global)
        if broken:
            self._change_leaves(walk, mapping)
            self.mmu.publish_range(walk.pagetable, walk.start, walk.last, walk.is_global)

    @kernel
    def _change_leaves(self, walk: Walk, mapping: Mapping) -> bool:
        """Give leaves other flags; those that must be broken first are, and it says so."""
        broken = False
        self.tables.begin(walk)
        while True:
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
            walk.entry = entry
            if not self.tables.next(walk):
                return broken
