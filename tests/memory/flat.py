"""Small flat machines: the model machine with an MMU that translates nothing.

Every virtual address has storage of its own, so page tables can be built, read and compared, but
nothing is seen through them.  Pages are 256 bytes, a table has 32 entries, a machine has as few
pages as a test wants, pointers are 4 or 8 bytes: out of memory is near, and all memory can be
compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from kernmem.hardware.description import HardwareDescription
from kernmem.hardware.simulation import Access, SimulatedMmu, Translation
from kernmem.language import (
    Component,
    Image,
    PhysicalAddress,
    Target,
    VirtualAddress,
    kernel,
    u8,
    u32,
    u64,
    usize,
)
from kernmem.machine.model import Model
from kernmem.memory.architecture import (
    ALL_MAPPINGS,
    Console,
    EntryFormat,
    Hardware,
    Mapping,
    MemoryMap,
    Mmu,
    Places,
    Power,
    Probe,
    Region,
)
from kernmem.memory.manager import MemoryManager
from kernmem.memory.profile import Profile, spec

Ranges = Sequence[tuple[int, int]]

PAGE = 256
PROGRAM = Region(0x1_0000, 0x2_0000)
DEVICES = (Region(0x8_0000, 0x8_0000 + 2 * PAGE),)
LINEAR_END = 0x10_0000
SEGMENT = Region(0x40_0000, 0x40_0000 + 512 * PAGE)
ADDRESS_BITS = 23


class FlatMmu(SimulatedMmu):
    """Every address is its own translation.  Counts the accesses, if asked to."""

    def __init__(self, *, counting: bool) -> None:
        self.enabled = False
        self.counting = counting
        self.accesses = 0

    def execute(self, instruction: str, operand: int = 0) -> int:
        """There are no instructions."""
        raise NotImplementedError(instruction)

    def translate(
        self, address: int, access: Access, size: int = 1, *, user: bool = False
    ) -> Translation:
        """The address itself."""
        self.accesses += 1
        return Translation(address, True, not self.counting)

    def before_store(self, physical: int, new: bytes) -> bool:
        """Nothing is watched."""
        return not self.counting

    def registers(self) -> dict[str, int]:
        """There are none."""
        return {}

    def snapshot(self) -> int:
        """The count."""
        return self.accesses

    def restore(self, state: int) -> None:
        """Set the count."""
        self.accesses = state


class FlatFormat(EntryFormat):
    """Three levels of 32 entries: pages of 256 bytes, blocks of 8 KiB and 256 KiB.

    Bit 0: valid; bit 1: a leaf; from bit 8: the address; above it: how it maps.
    """

    def __init__(self, image: Image) -> None:
        super().__init__(image)
        self.page_bits = PAGE.bit_length() - 1
        self.page_length = PAGE
        self.levels = 3
        self.index_bits = 5
        self.address_bits = ADDRESS_BITS
        self.physical_bits = 30 if self.entry_length == 8 else 24
        self.block_levels = 2
        self.mappings = ALL_MAPPINGS
        self.break_mask = int(Mapping.DEVICE | Mapping.UNCACHED) << self.physical_bits

    @kernel
    def is_valid(self, entry: usize) -> bool:
        return entry & 1 != 0

    @kernel
    def is_leaf(self, entry: usize, level: u32) -> bool:
        return entry & 2 != 0

    @kernel
    def leaf(self, physical: PhysicalAddress, mapping: Mapping, level: u32) -> usize:
        assert physical % (1 << int(self.shift(level))) == 0, "a leaf must be aligned"
        return (
            usize(physical)
            | usize(int(mapping)) << self.physical_bits
            | (2 if mapping & 128 else 3)
        )

    @kernel
    def is_global(self, entry: usize, level: u32) -> bool:
        return Mapping.GLOBAL in self.mapping(entry, level)

    @kernel
    def table(self, physical: PhysicalAddress) -> usize:
        return usize(physical) | 1

    @kernel
    def frame(self, entry: usize, level: u32) -> PhysicalAddress:
        return PhysicalAddress(entry % (1 << self.physical_bits) >> 8 << 8)

    @kernel
    def next_table(self, entry: usize) -> PhysicalAddress:
        return PhysicalAddress(entry >> 8 << 8)

    @kernel
    def mapping(self, entry: usize, level: u32) -> Mapping:
        return Mapping(int(entry) >> self.physical_bits)

    @kernel
    def must_break(self, old: usize, new: usize, level: u32) -> bool:
        return (old ^ new) & self.break_mask != 0


class RecordedMmu(Mmu):
    """Does nothing, and notes what it was asked to do, in ``calls``; "global" last if it is."""

    def __init__(self, image: Image) -> None:
        super().__init__(image)
        self.calls: list[tuple[Any, ...]] = []

    @kernel
    def enable(self, table: PhysicalAddress) -> None:
        self.calls.append(("enable", int(table)))

    @kernel
    def switch(self, table: PhysicalAddress) -> None:
        self.calls.append(("switch", int(table)))

    @kernel
    def order_tables(self) -> None:
        self.calls.append(("order_tables",))

    @kernel
    def publish_page(
        self, table: PhysicalAddress, address: VirtualAddress, is_global: bool
    ) -> None:
        self._note("publish_page", table, address, is_global=is_global)

    @kernel
    def publish_range(
        self, table: PhysicalAddress, start: VirtualAddress, last: VirtualAddress, is_global: bool
    ) -> None:
        self._note("publish_range", table, start, last, is_global=is_global)

    @kernel
    def retire_page(self, table: PhysicalAddress, address: VirtualAddress, is_global: bool) -> None:
        self._note("retire_page", table, address, is_global=is_global)

    @kernel
    def retire_range(
        self, table: PhysicalAddress, start: VirtualAddress, last: VirtualAddress, is_global: bool
    ) -> None:
        self._note("retire_range", table, start, last, is_global=is_global)

    @kernel
    def forget(self, table: PhysicalAddress) -> None:
        self.calls.append(("forget", int(table)))

    def _note(self, name: str, *addresses: int, is_global: bool) -> None:
        self.calls.append((name, *map(int, addresses), *(["global"] if is_global else [])))


class NoConsole(Console):
    """Nobody reads it."""

    @kernel
    def put(self, character: u8) -> None:
        """Nothing is there to see it."""


class FlatMap(MemoryMap):
    """A program, then RAM, then a device."""

    def __init__(
        self, image: Image, program_end: int, layout: Layout, ram: Ranges, reserved: Ranges
    ) -> None:
        program = Region(PROGRAM.start, program_end)
        linear = Region(layout.linear_start, layout.linear_end)
        super().__init__(image, Places(program, layout.devices, linear, layout.segment))
        self.ram = ram
        self.reserved = reserved

    @kernel
    def report(self) -> None:
        for start, end in self.ram:
            self.ranges.add_ram(u64(start), u64(end))
        for start, end in self.reserved:
            self.ranges.reserve(u64(start), u64(end))


@dataclass(frozen=True)
class Layout:
    """Where a flat machine has what is not RAM."""

    devices: tuple[Region, ...] = DEVICES
    linear_start: int = 0
    linear_end: int = LINEAR_END
    segment: Region = SEGMENT


def flat(
    pages: int = 64,
    profile: Profile | None = None,
    *,
    pointer_bytes: int = 8,
    ends: tuple[int, int] | None = None,
    layout: Layout | None = None,
    ram: Ranges | None = None,
    reserved: Ranges = (),
    counting: bool = False,
    kernel: Callable[[Image, Hardware], Component] | None = None,
) -> Model:
    """A flat machine with a memory manager and ``pages`` pages of physical heap.

    ``kernel`` makes what runs on it instead of the memory manager.  ``ends`` are the ends of the
    program and of the RAM, instead of ``pages``; or ``ram`` is what there is besides that of the
    program.
    """
    where = layout or Layout()
    # A record and the map of free pages lie between the program and the heap.
    words = 4 + pages // 64 + 1
    map_end = -(-words * 8 // PAGE) * PAGE
    program_end, physical_end = ends or (PROGRAM.end, PROGRAM.end + map_end + pages * PAGE)

    found = [(PROGRAM.start, physical_end)]
    if ram is not None:
        found = [*ram, (PROGRAM.start, PROGRAM.end)]

    def build(image: Image) -> Hardware:
        memory_map = FlatMap(image, program_end, where, found, reserved)
        return Hardware(
            FlatFormat(image),
            RecordedMmu(image),
            memory_map,
            NoConsole(image),
            Power(image),
            Probe(image),
        )

    hardware = HardwareDescription(
        name="flat",
        title=f"flat memory, {8 * pointer_bytes}-bit pointers",
        target=Target("host", pointer_bytes),
        build=build,
        ram=(Region(0, 1 << 8 * pointer_bytes),),
        program=PROGRAM,
        simulated_mmu=lambda ram, program: FlatMmu(counting=counting),
        peripherals=lambda bus: (),
        boot=cast(Any, None),
    )
    return Model(
        hardware, kernel or (lambda image, built: FlatManager(image, built, profile or spec()))
    )


class FlatManager(MemoryManager):
    """The memory manager, which also keeps the parts of its hardware where tests find them."""

    def __init__(self, image: Image, hardware: Hardware, profile: Profile) -> None:
        super().__init__(image, hardware, profile)
        self.mmu = hardware.mmu
        self.entries = hardware.format
