"""The wiring of the memory manager, and the order in which it boots."""

from __future__ import annotations

from kernmem.language import Component, Image, api, panic
from kernmem.memory.architecture import Hardware
from kernmem.memory.heap_check import HeapCheck
from kernmem.memory.kernel_heap import KernelHeap
from kernmem.memory.kernel_segment import KernelSegment
from kernmem.memory.linear_space import LinearSpace
from kernmem.memory.mappings import Mappings
from kernmem.memory.pagetable import PagetableStatus
from kernmem.memory.physical import PhysicalMemory
from kernmem.memory.profile import Profile
from kernmem.memory.virtual import VirtualMemory


class MemoryManager(Component):
    """Pages, page tables, the linear space, the kernel segment and the heap, each on the last."""

    c_module = "memorymanager"

    def __init__(self, image: Image, hardware: Hardware, profile: Profile) -> None:
        super().__init__(image)
        memory_map = hardware.memory_map
        self.physical = PhysicalMemory(image, memory_map, hardware.format.page_length)
        self.virtual = VirtualMemory(image, hardware.format, hardware.mmu, self.physical)
        self.mappings = Mappings(image, hardware.format, self.physical, self.virtual.tables)
        self.linear_space = LinearSpace(image, self.virtual, memory_map)
        self.kernel_segment = KernelSegment(
            image,
            self.physical,
            self.virtual,
            self.linear_space,
            memory_map,
            profile.shadow,
        )
        self.kernel_heap = KernelHeap(image, self.kernel_segment, profile)
        self.heap_check = HeapCheck(image, self.kernel_heap)

    @api
    def init_memory(self) -> None:
        """From the MMU off to a heap that works: the boot order of the memory manager."""
        self.physical.init_physical_memory_manager()
        if self.linear_space.init_linear_space() != PagetableStatus.OK:
            panic("init_memory: no memory for the tables of the linear space")
        if self.kernel_segment.init_kernel_segment() != PagetableStatus.OK:
            panic("init_memory: no memory for the tables of the kernel segment")
        self.linear_space.enable_linear_space()
        self.kernel_segment.enable_kernel_segment()
        self.kernel_heap.init_kernel_heap()
