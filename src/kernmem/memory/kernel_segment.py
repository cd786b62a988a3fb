"""Kernel Segment: the kernel's own space.

The kernel image and the peripherals are mapped linearly, the physical heap is not.  The pages
that the kernel takes from it are mapped side by side: the segment, which grows and shrinks at its
end, a page at a time.

The segment may have a **shadow**: bytes that say something about those of the segment, one for so
many of them.  It lies above the limit of the segment, and its pages come and go with those of the
segment, so whoever knows an address of the segment finds its byte of the shadow by a shift.
"""

from __future__ import annotations

from kernmem.language import (
    Array,
    Component,
    Image,
    PhysicalAddress,
    Struct,
    VirtualAddress,
    api,
    array,
    kernel,
    linear,
    panic,
    span,
    struct,
    usize,
)
from kernmem.memory.architecture import Mapping, MemoryMap
from kernmem.memory.linear_space import LinearSpace
from kernmem.memory.pagetable import PagetableStatus
from kernmem.memory.physical import PhysicalMemory
from kernmem.memory.virtual import VirtualMemory

SHADOW_MARGIN = 64
"""Bytes of shadow beyond those of the segment: room for what marks its two ends."""

SHADOW = Mapping.KERNEL | Mapping.NO_EXECUTE
"""How the shadow is mapped."""

BATCH = 32
"""So many pages are unmapped at most before the MMU is told to forget them."""


@struct("kernel_segment_info_t")
class KernelSegmentInfo(Struct):
    """segment_start <= segment_end <= segment_limit <= shadow_start <= shadow_end.

    Pages are mapped from segment_start to segment_end and from shadow_start to shadow_end.  Of
    the shadow these are (segment_end - segment_start) / shadow + SHADOW_MARGIN bytes or more,
    at all times; without a shadow both its addresses are 0.
    """

    pagetable: PhysicalAddress | None
    segment_start: VirtualAddress
    segment_end: VirtualAddress
    segment_limit: VirtualAddress
    shadow_start: VirtualAddress
    shadow_end: VirtualAddress


@struct("kernel_segment_batch_t")
class Batch(Struct):
    """Pages that are unmapped together, and wait until the MMU has forgotten them."""

    pages: Array[usize] = array(usize, BATCH)


class KernelSegment(Component):
    """The space that the kernel runs in, and its growing segment.

    With ``shadow``, which divides the length of a page, each so many bytes of the segment have a
    byte of shadow; 0: there is none.  Segment and shadow share the range of the memory map.
    """

    c_module = "kernelsegment"

    def __init__(
        self,
        image: Image,
        physical: PhysicalMemory,
        virtual: VirtualMemory,
        linear_space: LinearSpace,
        memory_map: MemoryMap,
        shadow: int = 0,
    ) -> None:
        super().__init__(image)
        self.physical = physical
        self.virtual = virtual
        self.linear_space = linear_space
        self.page_length = physical.page_length
        self.devices = memory_map.devices
        self.program_start = memory_map.program_start
        self.shadow = shadow
        pages = (memory_map.segment_end - memory_map.segment_start) // self.page_length
        if shadow:
            # The most pages for which there are whole pages of shadow besides.
            whole = pages * self.page_length - SHADOW_MARGIN
            pages = whole // (self.page_length + self.page_length // shadow)
        self.segment_start = memory_map.segment_start
        self.segment_limit = memory_map.segment_start + pages * self.page_length
        self.shadow_start = self.segment_limit
        self.info = self.static(KernelSegmentInfo, "kernel_segment_info")

    @api
    def init_kernel_segment(self) -> PagetableStatus:
        """Build the table: the image and the peripherals, and an empty segment with its shadow.

        Call it while physical memory is addressable.  On failure nothing is kept.
        """
        table = self.virtual.create_pagetable()
        if table is None:
            return PagetableStatus.OUT_OF_MEMORY
        status = self.map_kernel(table)
        if self.shadow != 0 and status == PagetableStatus.OK:
            status = self._map_page(table, VirtualAddress(self.shadow_start), SHADOW)
        if status != PagetableStatus.OK:
            self.virtual.delete_pagetable(table)
            return status
        self.info.pagetable = table
        self.info.segment_start = VirtualAddress(self.segment_start)
        self.info.segment_end = VirtualAddress(self.segment_start)
        self.info.segment_limit = VirtualAddress(self.segment_limit)
        if self.shadow != 0:
            self.info.shadow_start = VirtualAddress(self.shadow_start)
            self.info.shadow_end = VirtualAddress(self.shadow_start + self.page_length)
        return PagetableStatus.OK

    @api
    def map_kernel(self, pagetable: PhysicalAddress) -> PagetableStatus:
        """Map what every space that the kernel runs in needs: its image and the peripherals.

        The image is mapped in whole pages.  After a failure some of it may be mapped.
        """
        start = VirtualAddress(self.program_start - self.program_start % self.page_length)
        last = linear(self.physical.info.program_end) + (self.page_length - 1)
        status = self.virtual.pagetable_map_linear(
            pagetable, start, last - last % self.page_length, Mapping.KERNEL
        )
        for device in self.devices:
            if status == PagetableStatus.OK:
                status = self.virtual.pagetable_map_linear(
                    pagetable,
                    VirtualAddress(device.start),
                    VirtualAddress(device.end),
                    Mapping.DEVICE | Mapping.NO_EXECUTE,
                )
        return status

    @api
    def enable_kernel_segment(self) -> None:
        """Go to the kernel's space, from the linear space that the kernel started in."""
        table = self.info.pagetable
        if table is None:
            panic("enable_kernel_segment: there is none; call init_kernel_segment first")
        if self.virtual.info.current_pagetable is None:
            self.virtual.enable_pagetable(table)
        else:
            self.virtual.switch_pagetable(table)
        self.linear_space.linear_space_drop()

    @api
    def extend_kernel_segment(self) -> VirtualAddress | None:
        """Map one more page at the end of the segment; its address.

        None when the segment reaches its limit or no page is left, with everything as before.
        """
        address = self.info.segment_end
        if self.info.segment_limit - address < self.page_length:
            return None
        return address if self.extend_kernel_segment_to(address + self.page_length) else None

    @kernel
    def extend_kernel_segment_to(self, end: VirtualAddress) -> bool:
        """Map pages until the segment reaches ``end``, which lies beyond its end.

        False, with everything as before, when they cannot be had.
        """
        before = self.info.segment_end
        if end > self.info.segment_limit:
            return False
        pages = (end - before) // self.page_length
        if self.shadow != 0:
            pages += (self._shadow_end(end) - self.info.shadow_end) // self.page_length
        if pages > self.physical.info.free_pages_count:
            return False
        self.linear_space.enter_linear_space()
        extended = True
        while extended and self.info.segment_end < end:
            extended = self._add_page()
        # One by one, so that each is handed out again when it was.
        while not extended and self.info.segment_end > before:
            self._cut(self.info.segment_end - self.page_length)
        self.linear_space.leave_linear_space()
        return extended

    @kernel
    def _add_page(self) -> bool:
        """Map a page at the end, and what shadow it needs; False, and nothing changed, if not."""
        info = self.info
        table = self._pagetable()
        address = info.segment_end
        if self.shadow != 0 and self._shadow_end(address + self.page_length) > info.shadow_end:
            if self._map_page(table, info.shadow_end, SHADOW) != PagetableStatus.OK:
                return False
            info.shadow_end += self.page_length
        if self._map_page(table, address, Mapping.KERNEL) != PagetableStatus.OK:
            self._cut_shadow()
            return False
        info.segment_end = address + self.page_length
        return True

    @kernel
    def _map_page(
        self, table: PhysicalAddress, address: VirtualAddress, mapping: Mapping
    ) -> PagetableStatus:
        """Take a page and map it; if that fails, nothing has changed."""
        page = self.physical.alloc_physical_page()
        if page is None:
            return PagetableStatus.OUT_OF_MEMORY
        status = self.virtual.pagetable_map(table, address, page, mapping)
        if status != PagetableStatus.OK:
            self.physical.free_physical_page(page)
        return status

    @api
    def shrink_kernel_segment(self) -> None:
        """Unmap the last page of the segment and give it back.  Panics if there is none."""
        if self.info.segment_end == self.info.segment_start:
            panic("shrink_kernel_segment: the segment is empty")
        self.linear_space.enter_linear_space()
        self._cut(self.info.segment_end - self.page_length)
        self.linear_space.leave_linear_space()

    @kernel
    def shrink_kernel_segment_to(self, end: VirtualAddress) -> None:
        """Unmap the whole pages from ``end`` on and give them back.  O(pages).

        Panics if ``end`` is neither in the segment nor its end.
        """
        info = self.info
        start = info.segment_start
        if end < start or end > info.segment_end:
            panic(f"shrink_kernel_segment_to: {end} is not in {start} to {info.segment_end}")
        end = start + self._whole_pages(end - start)
        if end == info.segment_end:
            return
        self.linear_space.enter_linear_space()
        self._cut(end)
        self.linear_space.leave_linear_space()

    @kernel
    def _cut(self, end: VirtualAddress) -> None:
        """Let the segment end at ``end``, a page's border, and its shadow where it then must."""
        self._unmap_pages(end, self.info.segment_end)
        self.info.segment_end = end
        self._cut_shadow()

    @kernel
    def _cut_shadow(self) -> None:
        """Give back the pages of the shadow that the segment does not need."""
        if self.shadow != 0:
            end = self._shadow_end(self.info.segment_end)
            self._unmap_pages(end, self.info.shadow_end)
            self.info.shadow_end = end

    @kernel
    def _unmap_pages(self, start: VirtualAddress, end: VirtualAddress) -> None:
        """Unmap pages and give them back, the last first."""
        table = self._pagetable()
        with self.local(Batch) as batch:
            while end > start:
                count = usize(0)
                while count < BATCH and end > start:
                    end -= self.page_length
                    page = self.virtual.pagetable_get_translation(table, end)
                    if page is None:
                        panic(f"the kernel segment: {end} is not mapped")
                    batch.pages[count] = usize(page)
                    count += 1
                self.virtual.pagetable_unmap_range(table, end, count * self.page_length)
                for number in span(usize(0), count):
                    self.physical.free_physical_page(PhysicalAddress(batch.pages[number]))

    @kernel
    def _shadow_end(self, end: VirtualAddress) -> VirtualAddress:
        """Where the shadow ends of a segment that ends at ``end``."""
        length = (end - VirtualAddress(self.segment_start)) // self.shadow + SHADOW_MARGIN
        return VirtualAddress(self.shadow_start) + self._whole_pages(length)

    @kernel
    def _whole_pages(self, length: usize) -> usize:
        """``length`` up to a whole number of pages."""
        return (length + (self.page_length - 1)) // self.page_length * self.page_length

    @kernel
    def _pagetable(self) -> PhysicalAddress:
        """The table of the kernel's space, which must have been built."""
        table = self.info.pagetable
        if table is None:
            panic("there is no kernel segment: call init_kernel_segment first")
        return table
