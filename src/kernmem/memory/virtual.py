"""Virtual: creating, changing and using page tables.

The functions read and write tables at their physical addresses, so they share the contract of
the Physical module: the MMU is off, or the linear space is current.

**What the caller owes.**  A call does all the barriers and invalidations that its change needs on
this processor.  The caller owes: a lock around the calls, as all share the registries; with other
processors running under the root, an interrupt that makes each of them invalidate the range before
its memory is used again; after a change of the memory type, the cache maintenance that the new one
needs.
"""

from __future__ import annotations

from kernmem.language import (
    Component,
    Image,
    PhysicalAddress,
    VirtualAddress,
    api,
    from_linear,
    kernel,
    outlined,
    panic,
    u32,
    usize,
)
from kernmem.memory.architecture import EntryFormat, Mapping, Mmu
from kernmem.memory.leaves import Leaves
from kernmem.memory.pagetable import Change, PagetableStatus, VirtualMemInfo
from kernmem.memory.physical import PhysicalMemory
from kernmem.memory.tables import Tables, Walk


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
        self.tables = Tables(image, entries, mmu, physical)
        self.page_length = entries.page_length
        self.root_level = entries.levels - 1
        self.last_physical = (1 << entries.physical_bits) - 1
        self.mappings = entries.mappings
        self.info = self.static(VirtualMemInfo, "virtual_mem_info")
        self.leaves = Leaves(image, entries, mmu, physical, self.tables, self.info)

    # Page tables ----------------------------------------------------------------------------

    @api
    def create_pagetable(self) -> PhysicalAddress | None:
        """Make a page table that maps nothing; None when no pages for its root are left."""
        return self.tables.new_root()

    @api
    def delete_pagetable(self, pagetable: PhysicalAddress) -> None:
        """Give back every table under ``pagetable`` and itself, and no page that they map.

        Panics if it is in use: current, the linear space's, or what leave_linear_space goes back
        to.  O(tables x entries).
        """
        self.physical.require_addressable()
        info = self.info
        if info.current_pagetable == pagetable or info.awaited_pagetable == pagetable:
            panic(f"delete_pagetable: {pagetable} is current; switch_pagetable to another first")
        if info.linear_pagetable == pagetable:
            panic(f"delete_pagetable: {pagetable} is the linear space's, which is always needed")
        self.mmu.forget(pagetable)
        # Always down the last table entry that is left, until nothing but the root remains: pages
        # go back in the opposite order to that in which ascending addresses took them.
        while True:
            table = pagetable
            parent = pagetable
            place = usize(0)
            level = u32(self.root_level)
            while level > 0:
                end = self.tables.last_table_end(table, level)
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
        self.tables.free_root(pagetable)

    # Mapping --------------------------------------------------------------------------------

    @api
    def pagetable_map(
        self,
        pagetable: PhysicalAddress,
        virtual: VirtualAddress,
        physical: PhysicalAddress,
        mapping: Mapping = Mapping.KERNEL,
    ) -> PagetableStatus:
        """Translate the page at ``virtual`` to the page at ``physical``.  O(levels)."""
        length = usize(self.page_length)
        return self.pagetable_map_range(pagetable, virtual, physical, length, mapping)

    @api
    def pagetable_map_linear(
        self,
        pagetable: PhysicalAddress,
        start: VirtualAddress,
        end: VirtualAddress,
        mapping: Mapping = Mapping.KERNEL,
    ) -> PagetableStatus:
        """Translate every address from ``start`` up to but not including ``end`` to itself."""
        if end < start:
            return PagetableStatus.WRAPPING_RANGE
        return self.pagetable_map_range(pagetable, start, from_linear(start), end - start, mapping)

    @api
    def pagetable_map_range(
        self,
        pagetable: PhysicalAddress,
        virtual: VirtualAddress,
        physical: PhysicalAddress,
        length: usize,
        mapping: Mapping = Mapping.KERNEL,
    ) -> PagetableStatus:
        """Translate ``length`` bytes from ``virtual`` on to those from ``physical`` on.

        Uses the largest blocks that fit.  All is checked before anything is changed, so a failure
        has changed nothing, and no other processor has seen half a range.  The new translations
        are visible when the call returns; nothing is invalidated, as nothing was valid.
        """
        return self._change(pagetable, virtual, physical, length, mapping, Change.MAP)

    # Unmapping ------------------------------------------------------------------------------

    @api
    def pagetable_unmap(
        self, pagetable: PhysicalAddress, virtual: VirtualAddress
    ) -> PagetableStatus:
        """Undo the translation of the page at ``virtual``.  O(levels + entries)."""
        return self.pagetable_unmap_range(pagetable, virtual, usize(self.page_length))

    @api
    def pagetable_unmap_range(
        self, pagetable: PhysicalAddress, virtual: VirtualAddress, length: usize
    ) -> PagetableStatus:
        """Undo the translation of every page in the range; all must be mapped.

        Blocks that are in it only in part are split, which takes a page for each level; tables
        that become empty are given back.  The caches are told once, at the end: when the call
        returns, nobody translates by the old entries any more.  Panics if a block to be split
        holds the table in use or the running program.
        """
        physical = from_linear(virtual)
        return self._change(pagetable, virtual, physical, length, Mapping.KERNEL, Change.UNMAP)

    # Protecting -----------------------------------------------------------------------------

    @api
    def pagetable_protect_range(
        self, pagetable: PhysicalAddress, virtual: VirtualAddress, length: usize, mapping: Mapping
    ) -> PagetableStatus:
        """Map every page in the range as ``mapping`` says, to where it is; all must be mapped.

        Blocks that are in it only in part are split.  The caches are told once, at the end.  Where
        the architecture asks for it, as for another memory type on Arm, a leaf is invalid for a
        while: the kernel must not stand on it.
        """
        physical = from_linear(virtual)
        return self._change(pagetable, virtual, physical, length, mapping, Change.PROTECT)

    # What they share ------------------------------------------------------------------------

    @outlined
    def _change(
        self,
        pagetable: PhysicalAddress,
        virtual: VirtualAddress,
        physical: PhysicalAddress,
        length: usize,
        mapping: Mapping,
        change: Change,
    ) -> PagetableStatus:
        """Change a range, if nothing is wrong.

        Where it is mapped already, ``physical`` only has to be aligned as the frames are.
        """
        self.physical.require_addressable()
        status = self._check_range(virtual, length)
        if status == PagetableStatus.OK and change == Change.MAP:
            status = self._check_frames(physical, length)
        if status != PagetableStatus.OK:
            return status
        if not self._is_possible(mapping):
            return PagetableStatus.BAD_MAPPING
        with self.local(Walk) as walk:
            walk.pagetable = pagetable
            walk.start = virtual
            walk.last = virtual + (length - 1)
            walk.is_global = Mapping.GLOBAL in mapping
            status = self.leaves.check(walk, physical, change != Change.MAP)
            if status != PagetableStatus.OK:
                return status
            if change == Change.MAP:
                self.leaves.map_leaves(walk, physical, mapping)
            else:
                self.leaves.split_ends(walk)
                if change == Change.UNMAP:
                    self.leaves.unmap_leaves(walk)
                else:
                    self.leaves.protect_leaves(walk, mapping)
            return status

    @kernel
    def _check_range(self, virtual: VirtualAddress, length: usize) -> PagetableStatus:
        """What is wrong with a range, whatever is mapped there."""
        if length == 0:
            return PagetableStatus.EMPTY_RANGE
        if (usize(virtual) | length) % self.page_length != 0:
            return PagetableStatus.MISALIGNED
        if length - 1 > ~usize(0) - usize(virtual):
            return PagetableStatus.WRAPPING_RANGE
        if not self.entries.translates(virtual, virtual + (length - 1)):
            return PagetableStatus.NOT_TRANSLATABLE
        return PagetableStatus.OK

    @kernel
    def _check_frames(self, physical: PhysicalAddress, length: usize) -> PagetableStatus:
        """What is wrong with the frames that a range is to be mapped to."""
        if physical % self.page_length != 0:
            return PagetableStatus.MISALIGNED
        if physical > self.last_physical or length - 1 > self.last_physical - usize(physical):
            return PagetableStatus.NOT_TRANSLATABLE
        return PagetableStatus.OK

    @kernel
    def _is_possible(self, mapping: Mapping) -> bool:
        """Whether no flag contradicts another, and the hardware has them all."""
        if mapping | self.mappings != self.mappings:
            return False
        if Mapping.USER_READ_WRITE in mapping:
            return Mapping.USER_READ_ONLY not in mapping and Mapping.READ_ONLY not in mapping
        return Mapping.DEVICE not in mapping or Mapping.UNCACHED not in mapping

    # Looking up -----------------------------------------------------------------------------

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
        with self.local(Walk) as walk:
            walk.pagetable = pagetable
            walk.address = virtual
            self.tables.walk(walk)
            if not self.entries.is_valid(walk.entry):
                return None
            physical = self.entries.frame(walk.entry, walk.level) + (virtual & walk.mask)
            return None if physical == PhysicalAddress(0) else physical

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

    @outlined
    def _now_current(self, pagetable: PhysicalAddress) -> None:
        self.info.current_pagetable = pagetable
        self.physical.set_addressable(self.info.linear_pagetable == pagetable)

    @kernel
    def set_awaited_pagetable(self, pagetable: PhysicalAddress | None) -> None:
        """Say which table somebody is going to switch back to, if any."""
        self.info.awaited_pagetable = pagetable

    @kernel
    def set_linear_pagetable(self, pagetable: PhysicalAddress) -> None:
        """Say which table maps every address to itself."""
        self.info.linear_pagetable = pagetable
