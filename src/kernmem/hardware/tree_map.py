"""The memory map of a board whose firmware passes a flattened device tree."""

from __future__ import annotations

from kernmem.hardware.device_tree import DeviceTree, DeviceTreeStatus
from kernmem.language import Image, PhysicalAddress, kernel, panic, span, u64, usize
from kernmem.memory.architecture import MemoryMap, Region

TREE_LIMIT = 0x10_0000  # bytes; more than any board's


class TreeMap(MemoryMap):
    """RAM as the device tree tells it; where the tree is, each board says.

    ``program`` is the window that the image lies in; RAM from the end of ``linear`` on is not used.
    """

    c_module = "physical"

    def __init__(
        self,
        image: Image,
        *,
        program: Region,
        devices: tuple[Region, ...],
        linear: Region,
        segment: Region,
    ) -> None:
        super().__init__(image)
        self.tree = DeviceTree(image)
        self.devices = devices
        self.linear_start = linear.start
        self.linear_end = linear.end
        self.segment_start = segment.start
        self.segment_end = segment.end
        self.program_start = program.start
        self.window_end = program.end
        self.ram_end = self.static_array(u64, 1, "ram_end")

    @kernel
    def firmware_tree(self) -> PhysicalAddress:
        """Where the firmware left the device tree."""
        raise NotImplementedError

    @kernel
    def program_end(self) -> PhysicalAddress:
        """The first byte after the kernel image, its stack and its variables."""
        return PhysicalAddress(self.window_end)

    @kernel
    def physical_end(self) -> PhysicalAddress:
        """The end of the RAM around the program, or of its part before anything reserved.

        The first call reads the device tree, and must be made with the MMU off.
        """
        if self.ram_end[0] == 0:
            self.ram_end[0] = self.ask_tree()
        return PhysicalAddress(self.ram_end[0])

    @kernel
    def ask_tree(self) -> u64:
        """What the device tree says.  The tree itself is reserved too, and not in its list."""
        start = self.firmware_tree()
        status = self.tree.read(start, usize(TREE_LIMIT))
        if status != DeviceTreeStatus.OK:
            panic(f"the firmware passed no good device tree at {start}: status {u64(status)}")
        end = self.memory_end()
        for index in span(usize(0), self.tree.info.reserved_count):
            reserved = self.tree.reserved[index * 2]
            end = self.before(end, reserved, self.tree.reserved[index * 2 + 1])
        return self.before(end, u64(start), u64(start) + u64(self.tree.info.length))

    @kernel
    def memory_end(self) -> u64:
        """The end of the range of RAM that the program lies in."""
        found = u64(0)
        for index in span(usize(0), self.tree.info.memory_count):
            start = self.tree.memory[index * 2]
            end = self.tree.memory[index * 2 + 1]
            if start <= self.program_start and end >= self.window_end:
                found = end if end < self.linear_end else u64(self.linear_end)
        if found == 0:
            panic("the device tree knows no RAM where the program is")
        return found

    @kernel
    def before(self, end: u64, reserved: u64, reserved_end: u64) -> u64:
        """``end``, or where a reserved range begins before it."""
        if reserved_end <= self.program_start:
            return end
        if reserved < self.window_end:
            panic(f"the firmware reserved {reserved:#x}, where the program is")
        return reserved if reserved < end else end
