"""Linear Space: every virtual address is mapped to the equal physical address.

The kernel enters it when it needs the physical memory manager, and leaves it for the space that
was in use before.  Entering nests: only the outermost pair switches.
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
    panic,
    struct,
    usize,
)
from kernmem.memory.architecture import Mapping, MemoryMap
from kernmem.memory.pagetable import PagetableStatus
from kernmem.memory.virtual import VirtualMemory


@struct("linear_space_info_t")
class LinearSpaceInfo(Struct):
    """previous_pagetable is not None exactly while depth > 0."""

    pagetable: PhysicalAddress | None
    previous_pagetable: PhysicalAddress | None  # in use before the outermost enter
    depth: usize  # enters that wait for their leave


class LinearSpace(Component):
    """The space in which physical addresses can be used as they are."""

    c_module = "linearspace"

    def __init__(self, image: Image, virtual: VirtualMemory, memory_map: MemoryMap) -> None:
        super().__init__(image)
        self.virtual = virtual
        self.start = memory_map.linear_start
        self.end = memory_map.linear_end
        self.devices = tuple(sorted(memory_map.devices, key=lambda region: region.start))
        self.info = self.static(LinearSpaceInfo, "linear_space_info")

    @api
    def init_linear_space(self) -> PagetableStatus:
        """Build the table: the bus from end to end, devices as device memory.

        Call it while physical memory is addressable.  On failure nothing is kept.
        """
        table = self.virtual.create_pagetable()
        if table is None:
            return PagetableStatus.OUT_OF_MEMORY
        address = VirtualAddress(self.start)
        for device in self.devices:
            status = self._map(table, address, VirtualAddress(device.start), Mapping.KERNEL)
            if status == PagetableStatus.OK:
                address = VirtualAddress(device.end)
                status = self._map(
                    table,
                    VirtualAddress(device.start),
                    address,
                    Mapping.DEVICE | Mapping.NO_EXECUTE,
                )
            if status != PagetableStatus.OK:
                self.virtual.delete_pagetable(table)
                return status
        status = self._map(table, address, VirtualAddress(self.end), Mapping.KERNEL)
        if status != PagetableStatus.OK:
            self.virtual.delete_pagetable(table)
            return status
        self.info.pagetable = table
        self.virtual.set_linear_pagetable(table)
        return PagetableStatus.OK

    @kernel
    def _map(
        self,
        table: PhysicalAddress,
        start: VirtualAddress,
        end: VirtualAddress,
        mapping: Mapping,
    ) -> PagetableStatus:
        """Map a range linearly; an empty range is mapped already."""
        if start == end:
            return PagetableStatus.OK
        return self.virtual.pagetable_map_linear(table, start, end, mapping)

    @api
    def enable_linear_space(self) -> None:
        """Set up the MMU for the linear space.  Only once, as the first space of all."""
        self.virtual.enable_pagetable(self._pagetable())

    @api
    def enter_linear_space(self) -> None:
        """Switch to the linear space from whatever space is in use."""
        current = self.virtual.info.current_pagetable
        if current is None:
            panic("enter_linear_space: the MMU is off; call enable_linear_space first")
        if self.info.depth == 0:
            table = self._pagetable()
            self.info.previous_pagetable = current
            self.virtual.set_awaited_pagetable(current)
            if current != table:
                self.virtual.switch_pagetable(table)
        self.info.depth += 1

    @api
    def leave_linear_space(self) -> None:
        """Undo one enter; the last goes back to the space in use before the first."""
        if self.info.depth == 0:
            panic("leave_linear_space without enter_linear_space")
        self.info.depth -= 1
        if self.info.depth == 0:
            previous = self.info.previous_pagetable
            if previous is None:
                panic("leave_linear_space: no space was noted by enter_linear_space")
            self.info.previous_pagetable = None
            self.virtual.set_awaited_pagetable(None)
            if previous != self._pagetable():
                self.virtual.switch_pagetable(previous)

    @api
    def linear_space_drop(self) -> None:
        """Forget every enter: the kernel went to another space without a leave."""
        self.info.depth = usize(0)
        self.info.previous_pagetable = None
        self.virtual.set_awaited_pagetable(None)

    @kernel
    def _pagetable(self) -> PhysicalAddress:
        """The table of the linear space, which must have been built."""
        table = self.info.pagetable
        if table is None:
            panic("there is no linear space: call init_linear_space first")
        return table
