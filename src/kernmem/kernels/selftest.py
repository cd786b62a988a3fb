"""The self-test kernel: it goes through the specification, chapter by chapter, and says so.

Boots on every hardware, and prints the same on all but for the numbers of the machine.
"""

from __future__ import annotations

from kernmem.kernels.selftest_heap import HeapTest
from kernmem.kernels.selftest_tables import TableTest
from kernmem.language import (
    Component,
    Image,
    PhysicalAddress,
    VirtualAddress,
    api,
    kernel,
    linear,
    span,
    u32,
    u64,
    usize,
)
from kernmem.memory.architecture import Hardware
from kernmem.memory.manager import MemoryManager
from kernmem.memory.pagetable import PagetableStatus
from kernmem.memory.profile import Profile

SEGMENT_PAGES = 5
RUN_PAGES = 4
PATTERN = 0x6B65_726E_6D65_6D00


class SelfTest(Component):
    """A kernel whose whole work is to test its memory manager."""

    c_module = "selftest"

    def __init__(self, image: Image, hardware: Hardware, profile: Profile) -> None:
        super().__init__(image)
        self.manager = MemoryManager(image, hardware, profile)
        self.power = hardware.power
        self.physical = self.manager.physical
        self.linear_space = self.manager.linear_space
        self.segment = self.manager.kernel_segment
        self.tables = TableTest(image, self.manager, hardware)
        self.heap = HeapTest(image, self.manager)

    @api
    def kernel_main(self) -> None:
        """Run every chapter, print PASS, and leave the machine with status 0."""
        self.print("kernmem self-test")
        self.physical.init_physical_memory_manager()
        self._test_physical()
        status = self.linear_space.init_linear_space()
        assert status == PagetableStatus.OK, "the linear space could not be built"
        status = self.segment.init_kernel_segment()
        assert status == PagetableStatus.OK, "the kernel segment could not be built"
        self.linear_space.enable_linear_space()
        self.print("MMU on, in the linear space")
        self.tables.run()
        self.segment.enable_kernel_segment()
        self._test_linear_space()
        self._test_segment()
        self.manager.kernel_heap.init_kernel_heap()
        self.heap.run()
        self.print("PASS")
        self.power.exit(u32(0))

    @kernel
    def _test_physical(self) -> None:
        """Pages: ascending at first, last in first out, all of them and not one more."""
        info = self.physical.info
        self.print(f"physical: {info.page_quantity} pages of {info.page_length} bytes")
        first = self._page()
        second = self._page()
        assert first == info.physical_heap_start, f"the first page is {first}"
        assert second == first + info.page_length, f"the second page is {second}"
        assert info.free_pages_count + 2 == info.page_quantity, f"{info.free_pages_count} left"
        self.physical.free_physical_page(first)
        again = self._page()
        assert again == first, f"{first} was freed last, but {again} came first"
        self.physical.free_physical_page(second)
        self.physical.free_physical_page(first)
        self._exhaust()
        assert info.free_pages_count == info.page_quantity, f"{info.free_pages_count} free"
        self.print("  allocated, freed, exhausted, counted: ok")
        self._test_runs()
        assert info.free_pages_count == info.page_quantity, f"{info.free_pages_count} free"
        self.print("  runs aligned, kept below a limit, given back: ok")

    @kernel
    def _page(self) -> PhysicalAddress:
        """A physical page, where there must be one."""
        page = self.physical.alloc_physical_page()
        assert page is not None, "no page left"
        return page

    @kernel
    def _exhaust(self) -> None:
        """Take every page, chained through their first words, and give them back."""
        quantity = self.physical.info.page_quantity
        chain = PhysicalAddress(0)
        for _ in span(usize(0), quantity):
            page = self._page()
            self.array_at(usize, linear(page))[0] = chain - PhysicalAddress(0)
            chain = page
        extra = self.physical.alloc_physical_page()
        assert extra is None, "a page more than there are"
        for _ in span(usize(0), quantity):
            page = chain
            chain = PhysicalAddress(self.array_at(usize, linear(page))[0])
            self.physical.free_physical_page(page)

    @kernel
    def _test_runs(self) -> None:
        """Runs lie where they must, or there are none."""
        info = self.physical.info
        length = usize(RUN_PAGES) * info.page_length
        run = self.physical.alloc_physical_pages(usize(RUN_PAGES), length, PhysicalAddress(0))
        assert run is not None, f"no {RUN_PAGES} pages side by side"
        assert run % length == 0, f"{run} is not aligned"
        start = info.physical_heap_start
        low = self.physical.alloc_physical_pages(usize(1), usize(0), start + info.page_length)
        assert run == start or low == start, f"{start} is free, but not found below a limit"
        none = self.physical.alloc_physical_pages(usize(1), usize(0), start + info.page_length)
        assert none is None, f"{start} is in use, but another page was found below the limit"
        if low is not None:
            self.physical.free_physical_page(low)
        self.physical.free_physical_pages(run, usize(RUN_PAGES))

    @kernel
    def _test_linear_space(self) -> None:
        """Enter, nest and leave; the space in use before comes back at the last leave."""
        virtual = self.manager.virtual.info
        kernel_space = virtual.current_pagetable
        assert kernel_space != virtual.linear_pagetable, "the kernel is in the linear space"
        self.linear_space.enter_linear_space()
        assert virtual.current_pagetable == virtual.linear_pagetable, "enter did not switch"
        self.linear_space.enter_linear_space()
        self.linear_space.leave_linear_space()
        assert virtual.current_pagetable == virtual.linear_pagetable, "an inner leave switched"
        page = self._page()
        self.physical.free_physical_page(page)
        self.linear_space.leave_linear_space()
        assert virtual.current_pagetable == kernel_space, "leave did not switch back"
        self.print("linear space: entered, nested, left: ok")

    @kernel
    def _test_segment(self) -> None:
        """Extend the segment, write through it, and find the bytes in physical memory."""
        for number in span(usize(0), usize(SEGMENT_PAGES)):
            address = self.segment.extend_kernel_segment()
            assert address is not None, f"the segment could not be extended to page {number}"
            words = self.array_at(u64, address)
            for word in span(usize(0), usize(8)):
                words[word] = u64(PATTERN) + u64(number * 8 + word)
        found = usize(0)
        self.linear_space.enter_linear_space()
        region = self.physical.regions.list.lowest
        while region is not None:
            page = region.start
            while page < region.end:
                found += self._pattern_words(linear(page))
                page += self.physical.page_length
            region = region.next
        self.linear_space.leave_linear_space()
        assert found == SEGMENT_PAGES * 8, f"found {found} words of the pattern"
        self.print(f"kernel segment: {SEGMENT_PAGES} pages written, found in physical memory: ok")

    @kernel
    def _pattern_words(self, page: VirtualAddress) -> usize:
        """How many words at the start of a page are the pattern that belongs there."""
        words = self.array_at(u64, page)
        first = words[0]
        if first < PATTERN or first >= PATTERN + SEGMENT_PAGES * 8:
            return usize(0)
        count = usize(0)
        for word in span(usize(0), usize(8)):
            if words[word] == first + u64(word):
                count += 1
        return count
