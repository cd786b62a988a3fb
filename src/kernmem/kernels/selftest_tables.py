"""The self-test's chapter on page tables.  It runs in the linear space."""

from __future__ import annotations

from kernmem.language import (
    Component,
    Image,
    PhysicalAddress,
    VirtualAddress,
    kernel,
    linear,
    u32,
    u64,
    usize,
)
from kernmem.memory.architecture import Fault, Hardware, Mapping
from kernmem.memory.manager import MemoryManager
from kernmem.memory.pagetable import PagetableStatus

ONE = 0x1111_1111_1111_1111
TWO = 0x2222_2222_2222_2222


class TableTest(Component):
    """Two spaces that map the same pages crosswise, or share one, faults, and a split block."""

    def __init__(self, image: Image, manager: MemoryManager, hardware: Hardware) -> None:
        super().__init__(image)
        self.physical = manager.physical
        self.virtual = manager.virtual
        self.linear_space = manager.linear_space
        self.segment = manager.kernel_segment
        self.probe = hardware.probe
        self.entries = hardware.format
        self.page_length = hardware.format.page_length
        # Where the kernel segment will be there is nothing yet.
        self.first = hardware.memory_map.segment_start
        self.second = self.first + self.page_length
        self.unmapped = self.first + 2 * self.page_length
        # An address that the linear space leaves alone; the segment's own, if it is one.
        self.beyond = max(hardware.memory_map.linear_end, self.first)
        self.shared = self.beyond + 3 * self.page_length

    @kernel
    def run(self) -> None:
        """The whole chapter; the pages in use are the same before and after."""
        free_pages = self.physical.info.free_pages_count
        self.print("page tables:")
        self._test_crosswise()
        self._test_unmap()
        self._test_split()
        left = self.physical.info.free_pages_count
        assert left == free_pages, f"{free_pages} pages were free, and {left} are now"
        self.print("  every page given back: ok")

    @kernel
    def _test_crosswise(self) -> None:
        """What is at one address in one space is at the other in the other."""
        page = self._page()
        other = self._page()
        self.array_at(u64, linear(page))[0] = u64(ONE)
        self.array_at(u64, linear(other))[0] = u64(TWO)
        space = self._space(page, other)
        other_space = self._space(other, page)
        self.virtual.switch_pagetable(space)
        self._expect(u64(ONE), u64(TWO))
        self.virtual.switch_pagetable(other_space)
        self._expect(u64(TWO), u64(ONE))
        self.print("  two spaces map two pages crosswise: ok")
        self._test_faults()
        self.virtual.switch_pagetable(self._linear_pagetable())
        self._share(space, other_space, page, u64(ONE))
        self._share(space, other_space, other, u64(TWO))
        self.print("  two spaces share a global page, and then another: ok")
        self.virtual.delete_pagetable(space)
        self.virtual.delete_pagetable(other_space)
        self.physical.free_physical_page(page)
        self.physical.free_physical_page(other)

    @kernel
    def _space(self, page: PhysicalAddress, other: PhysicalAddress) -> PhysicalAddress:
        """A space with the kernel, ``page`` writable at one address, ``other`` not at the next."""
        table = self.virtual.create_pagetable()
        assert table is not None, "no page for a table"
        status = self.segment.map_kernel(table)
        assert status == PagetableStatus.OK, "the kernel could not be mapped"
        self._map(table, VirtualAddress(self.first), page, Mapping.KERNEL)
        self._map(table, VirtualAddress(self.second), other, Mapping.USER_READ_ONLY)
        again = self.virtual.pagetable_map(table, VirtualAddress(self.first), other)
        assert again == PagetableStatus.ALREADY_MAPPED, "a page was mapped twice"
        return table

    @kernel
    def _map(
        self,
        table: PhysicalAddress,
        virtual: VirtualAddress,
        physical: PhysicalAddress,
        mapping: Mapping,
    ) -> None:
        """Map a page, and look the translation up."""
        status = self.virtual.pagetable_map(table, virtual, physical, mapping)
        assert status == PagetableStatus.OK, f"{virtual} could not be mapped"
        found = self.virtual.pagetable_get_translation(table, virtual + 8)
        assert found == physical + 8, f"{virtual} is mapped to {physical}, but found elsewhere"

    @kernel
    def _expect(self, first: u64, second: u64) -> None:
        """Read both virtual pages."""
        found = self.array_at(u64, VirtualAddress(self.first))[0]
        assert found == first, f"{found:#x} at the first page, not {first:#x}"
        found = self.array_at(u64, VirtualAddress(self.second))[0]
        assert found == second, f"{found:#x} at the second page, not {second:#x}"

    @kernel
    def _test_faults(self) -> None:
        """The MMU refuses to write a read-only page and to read an unmapped one."""
        fault = self.probe.read(VirtualAddress(self.second))
        assert fault == Fault.NONE, "a read-only page cannot be read"
        fault = self.probe.write(VirtualAddress(self.second), u64(0))
        assert fault == Fault.PERMISSION, "a read-only page can be written"
        self._expect(u64(TWO), u64(ONE))
        fault = self.probe.write(VirtualAddress(self.first), u64(TWO))
        assert fault == Fault.NONE, "a writable page cannot be written"
        fault = self.probe.read(VirtualAddress(self.unmapped))
        assert fault == Fault.NOT_MAPPED, "an unmapped page can be read"
        self.print("  a read-only page and an unmapped page fault: ok")

    @kernel
    def _share(
        self,
        space: PhysicalAddress,
        other_space: PhysicalAddress,
        page: PhysicalAddress,
        expected: u64,
    ) -> None:
        """Map a page global in two spaces, read it in both, and unmap it again."""
        shared = VirtualAddress(self.shared)
        self._map(space, shared, page, Mapping.GLOBAL | Mapping.NO_EXECUTE)
        self._map(other_space, shared, page, Mapping.GLOBAL | Mapping.NO_EXECUTE)
        self.virtual.switch_pagetable(space)
        found = self.array_at(u64, shared)[0]
        assert found == expected, f"{found:#x} at the global page, not {expected:#x}"
        self.virtual.switch_pagetable(other_space)
        found = self.array_at(u64, shared)[0]
        assert found == expected, f"{found:#x} at the global page, not {expected:#x}"
        self.virtual.switch_pagetable(self._linear_pagetable())
        self._unmap(space, shared)
        self._unmap(other_space, shared)
        self.virtual.switch_pagetable(space)
        fault = self.probe.read(shared)
        assert fault == Fault.NOT_MAPPED, "a global page can be read after it was unmapped"
        self.virtual.switch_pagetable(self._linear_pagetable())

    @kernel
    def _test_unmap(self) -> None:
        """A page that is unmapped in the space in use is out of reach at once.

        Its neighbour stays mapped, so that no table goes, and takes the page along.
        """
        page = self._page()
        table = self._linear_pagetable()
        address = VirtualAddress(self.beyond)
        neighbour = address + self.page_length
        self._map(table, address, page, Mapping.KERNEL | Mapping.NO_EXECUTE)
        self._map(table, neighbour, page, Mapping.KERNEL | Mapping.NO_EXECUTE)
        self.array_at(u64, address)[0] = u64(ONE)
        found = self.array_at(u64, linear(page))[0]
        assert found == ONE, f"{found:#x} was written through {address}, not {ONE:#x}"
        self._unmap(table, address)
        fault = self.probe.read(address)
        assert fault == Fault.NOT_MAPPED, "a page can be read after it was unmapped"
        self._unmap(table, neighbour)
        self.physical.free_physical_page(page)
        self.print("  a page unmapped in the space in use is out of reach: ok")

    @kernel
    def _unmap(self, table: PhysicalAddress, address: VirtualAddress) -> None:
        """Unmap a page that is mapped."""
        status = self.virtual.pagetable_unmap(table, address)
        assert status == PagetableStatus.OK, f"{address} could not be unmapped"

    @kernel
    def _test_split(self) -> None:
        """A block is one entry; without one of its pages it is a table of the others."""
        table = self.virtual.create_pagetable()
        assert table is not None, "no page for a table"
        level = u32(self.entries.block_levels)
        length = usize(1) << self.entries.shift(level)
        start = VirtualAddress(0) + length
        free_pages = self.physical.info.free_pages_count
        status = self.virtual.pagetable_map_linear(table, start, start + length)
        assert status == PagetableStatus.OK, "the block could not be mapped"
        used = free_pages - self.physical.info.free_pages_count
        hole = start + length - 2 * self.page_length
        self._unmap(table, hole)
        used = free_pages - self.physical.info.free_pages_count - used
        assert used == usize(level), f"the split took {used} tables"
        found = self.virtual.pagetable_get_translation(table, hole)
        assert found is None, "the page is mapped still"
        self._is_linear(table, start)
        self._is_linear(table, hole - self.page_length)
        self._is_linear(table, hole + self.page_length)
        self.virtual.delete_pagetable(table)
        self.print("  a block is split around the page that is unmapped: ok")

    @kernel
    def _is_linear(self, table: PhysicalAddress, address: VirtualAddress) -> None:
        """``address`` translates to itself."""
        found = self.virtual.pagetable_get_translation(table, address)
        assert found is not None and linear(found) == address, f"{address} is not linear"

    @kernel
    def _page(self) -> PhysicalAddress:
        """A physical page, where there must be one."""
        page = self.physical.alloc_physical_page()
        assert page is not None, "no page left"
        return page

    @kernel
    def _linear_pagetable(self) -> PhysicalAddress:
        """The table of the linear space, which is built."""
        table = self.linear_space.info.pagetable
        assert table is not None, "no linear space"
        return table
