"""Kernel Segment: the kernel's own space.

The kernel image and the peripherals are mapped linearly, the physical heap is not.  The pages
that the kernel takes from it are mapped side by side: the segment, which grows and shrinks at its
end, a page at a time.
"""

from __future__ import annotations

from kernmem.language import (
    Component,
    Image,
    PhysicalAddress,
    Struct,
    VirtualAddress,
    api,
    kernel,
    linear,
    panic,
    struct,
)
from kernmem.memory.architecture import Mapping, MemoryMap
from kernmem.memory.linear_space import LinearSpace
from kernmem.memory.pagetable import PagetableStatus
from kernmem.memory.physical import PhysicalMemory
from kernmem.memory.virtual import VirtualMemory


@struct("kernel_segment_info_t")
class KernelSegmentInfo(Struct):
    """segment_start <= segment_end <= segment_limit; pages are mapped up to segment_end."""

    pagetable: PhysicalAddress | None
    segment_start: VirtualAddress
    segment_end: VirtualAddress
    segment_limit: VirtualAddress


class KernelSegment(Component):
    """The space that the kernel runs in, and its growing segment."""

    c_module = "kernelsegment"

    def __init__(
        self,
        image: Image,
        physical: PhysicalMemory,
        virtual: VirtualMemory,
        linear_space: LinearSpace,
        memory_map: MemoryMap,
    ) -> None:
        super().__init__(image)
        self.physical = physical
        self.virtual = virtual
        self.linear_space = linear_space
        self.page_length = physical.page_length
        self.devices = memory_map.devices
        self.program_start = memory_map.program_start
        self.segment_start = memory_map.segment_start
        self.segment_limit = memory_map.segment_end
        self.info = self.static(KernelSegmentInfo, "kernel_segment_info")

    @api
    def init_kernel_segment(self) -> PagetableStatus:
        """Build the table: the image and the peripherals, and an empty segment.

        Call it while physical memory is addressable.  On failure nothing is kept.
        """
        table = self.virtual.create_pagetable()
        if table is None:
            return PagetableStatus.OUT_OF_MEMORY
        status = self.map_kernel(table)
        if status != PagetableStatus.OK:
            self.virtual.delete_pagetable(table)
            return status
        self.info.pagetable = table
        self.info.segment_start = VirtualAddress(self.segment_start)
        self.info.segment_end = VirtualAddress(self.segment_start)
        self.info.segment_limit = VirtualAddress(self.segment_limit)
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
        """Map pages until the segment reaches ``end``; if one fails, everything is as before."""
        before = self.info.segment_end
        if end > self.info.segment_limit:
            return False
        if (end - before) // self.page_length > self.physical.info.free_pages_count:
            return False
        self.linear_space.enter_linear_space()
        extended = True
        while extended and self.info.segment_end < end:
            extended = self._add_page()
        while not extended and self.info.segment_end > before:
            self._remove_page()
        self.linear_space.leave_linear_space()
        return extended

    @kernel
    def _add_page(self) -> bool:
        """Take a page and map it at the end; False, and nothing changed, if that fails."""
        address = self.info.segment_end
        page = self.physical.alloc_physical_page()
        if page is None:
            return False
        status = self.virtual.pagetable_map(self._pagetable(), address, page, Mapping.KERNEL)
        if status != PagetableStatus.OK:
            self.physical.free_physical_page(page)
            return False
        self.info.segment_end = address + self.page_length
        return True

    @api
    def shrink_kernel_segment(self) -> None:
        """Unmap the last page of the segment and give it back.  Panics if there is none."""
        if self.info.segment_end == self.info.segment_start:
            panic("shrink_kernel_segment: the segment is empty")
        self.linear_space.enter_linear_space()
        self._remove_page()
        self.linear_space.leave_linear_space()

    @kernel
    def _remove_page(self) -> None:
        """Unmap the last page and give it back."""
        table = self._pagetable()
        address = self.info.segment_end - self.page_length
        page = self.virtual.pagetable_get_translation(table, address)
        if page is None:
            panic(f"the kernel segment: {address} is not mapped")
        self.virtual.pagetable_unmap(table, address)
        self.physical.free_physical_page(page)
        self.info.segment_end = address

    @kernel
    def _pagetable(self) -> PhysicalAddress:
        """The table of the kernel's space, which must have been built."""
        table = self.info.pagetable
        if table is None:
            panic("there is no kernel segment: call init_kernel_segment first")
        return table
