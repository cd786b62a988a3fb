"""The memory map of a board whose firmware passes a flattened device tree."""

from __future__ import annotations

from kernmem.hardware.device_tree import DeviceTree, DeviceTreeStatus
from kernmem.hardware.firmware_map import FirmwareMap
from kernmem.language import Image, PhysicalAddress, kernel, panic, span, u64, usize
from kernmem.memory.architecture import Places

TREE_LIMIT = 0x10_0000  # bytes; more than any board's


class TreeMap(FirmwareMap):
    """RAM as the device tree tells it."""

    def __init__(self, image: Image, places: Places) -> None:
        super().__init__(image, places)
        self.tree = DeviceTree(image)

    @kernel
    def firmware_tree(self) -> PhysicalAddress:
        """Where the firmware left the device tree; a board may know better."""
        return self.passed()

    @kernel
    def report(self) -> None:
        """What the device tree says.  The tree itself is reserved too, and not in its list."""
        start = self.firmware_tree()
        status = self.tree.read(start, usize(TREE_LIMIT))
        if status != DeviceTreeStatus.OK:
            panic(f"the firmware passed no good device tree at {start}: status {u64(status)}")
        for index in span(usize(0), self.tree.info.memory_count):
            self.ranges.add_ram(self.tree.memory[index * 2], self.tree.memory[index * 2 + 1])
        for index in span(usize(0), self.tree.info.reserved_count):
            self.ranges.reserve(self.tree.reserved[index * 2], self.tree.reserved[index * 2 + 1])
        self.ranges.reserve(u64(start), u64(start) + u64(self.tree.info.length))
