"""The PC: one x86-64 processor, COM1, and a loader that knows PVH (QEMU's q35).

The loader describes the memory in its start info (Xen's arch-x86/hvm/start_info.h).  RAM above
64 GiB is left alone: the boot code's table, with which the kernel starts, ends there.

``pc-la57`` is the same with 5 levels, and a kernel segment that 4 could not reach.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from kernmem.hardware.boot import Boot
from kernmem.hardware.description import HardwareDescription
from kernmem.hardware.devices.debug_exit import DebugExit, debug_exit_status
from kernmem.hardware.devices.ns16550 import Ns16550
from kernmem.hardware.firmware_map import FirmwareMap
from kernmem.hardware.peripherals import Bus, Peripheral
from kernmem.hardware.x86_64 import BOOT_LINEAR_GIB
from kernmem.hardware.x86_64.boot import x86_64
from kernmem.hardware.x86_64.entry import LongMode
from kernmem.hardware.x86_64.instructions import Instructions
from kernmem.hardware.x86_64.mmu import X86Mmu
from kernmem.hardware.x86_64.ports import Ports
from kernmem.hardware.x86_64.probe import X86Probe
from kernmem.hardware.x86_64.simulated import SimulatedX86
from kernmem.language import (
    Image,
    PhysicalAddress,
    Struct,
    Target,
    kernel,
    linear,
    panic,
    span,
    struct,
    u32,
    u64,
    usize,
    wrap_add,
)
from kernmem.memory.architecture import Hardware, Places, Region

LOW_MEMORY_END = 0x10_0000  # the BIOS's, video memory, and what real mode needs, as in Linux
PROGRAM = Region(0x10_0000, 0x20_0000)
RAM = (Region(0, 0xA_0000), Region(0x10_0000, 0x400_0000))  # of a simulator: 64 MiB
APICS = Region(0xFEC0_0000, 0xFF00_0000)  # I/O APIC, HPET, local APIC
LINEAR = Region(0, BOOT_LINEAR_GIB << 30)
SEGMENT = {
    4: Region(0x80_0000_0000, 0x100_0000_0000),
    5: Region(0x8000_0000_0000, 0x8080_0000_0000),  # from where 4 levels end
}
"""Where the kernel segment may lie, by the number of levels."""

# Ports
COM1 = 0x3F8
EXIT_PORT = 0xF4  # of QEMU's isa-debug-exit

# The loader's start info
MAGIC = 0x336E_C578
RAM_TYPE = 1
START_INFO = 0x7000  # where a simulator puts it


@struct("start_info_t")
class StartInfo(Struct):
    """What a PVH loader leaves; version 0 ends before the memory map."""

    magic: u32
    version: u32
    flags: u32
    module_count: u32
    modules: u64
    command_line: u64
    acpi_tables: u64
    memory_map: u64
    memory_map_entries: u32
    reserved: u32


@struct("memory_range_t")
class MemoryRange(Struct):
    """An entry of its memory map."""

    start: u64
    length: u64
    type: u32
    reserved: u32


class PcMap(FirmwareMap):
    """RAM as the loader says; COM1 is at ports, and needs no address."""

    passed_to_model = START_INFO

    @kernel
    def report(self) -> None:
        """The loader's memory map; whatever it does not call RAM is reserved."""
        place = u64(self.passed())
        info = self.at(StartInfo, linear(self.passed()))
        if info.magic != MAGIC or info.version == 0:
            panic(f"no start info with a memory map at {place:#x}: boot with a PVH loader")
        self.ranges.reserve(u64(0), u64(LOW_MEMORY_END))
        first = linear(PhysicalAddress(info.memory_map))
        for index in span(u32(0), info.memory_map_entries):
            entry = self.at(MemoryRange, first + usize(index) * self.sizeof(MemoryRange))
            end = wrap_add(entry.start, entry.length)
            if entry.type == RAM_TYPE:
                self.ranges.add_ram(entry.start, end)
            else:
                self.ranges.reserve(entry.start, end)


def build(image: Image, levels: int = 4) -> Hardware:
    """The components of the board."""
    cpu = Instructions(image)
    entries = LongMode(image, levels)
    places = Places(program=PROGRAM, devices=(APICS,), linear=LINEAR, segment=SEGMENT[levels])
    return Hardware(
        entries,
        X86Mmu(image, cpu, entries),
        PcMap(image, places),
        Ns16550(image, Ports(image), COM1),
        DebugExit(image, EXIT_PORT),
        X86Probe(image),
    )


def peripherals(bus: Bus, *beyond: Region) -> tuple[Peripheral, ...]:
    """No devices at addresses; but here a simulator does what the loader does.

    It may have RAM ``beyond`` what every PC has.
    """
    ranges = [(RAM[0].start, RAM[0].end - 0x400, 1), (RAM[1].start, RAM[1].end - 0x2_0000, 1)]
    ranges += [(region.start, region.end, 1) for region in beyond]
    words = (
        (MAGIC, 4), (1, 4), (0, 4), (0, 4), (0, 8), (0, 8), (0, 8), (START_INFO + 0x100, 8),
        (len(ranges), 4), (0, 4),
    )  # fmt: skip
    place = START_INFO
    for value, size in words:
        bus.store_physical(place, size, value)
        place += size
    place = START_INFO + 0x100
    for start, end, kind in ranges:
        bus.store_physical(place, 8, start)
        bus.store_physical(place + 8, 8, end - start)
        bus.store_physical(place + 16, 8, kind)
        place += 24
    return ()


QEMU = (
    *("qemu-system-x86_64", "-M", "q35", "-m", "64M", "-nodefaults"),
    *("-device", f"isa-debug-exit,iobase={EXIT_PORT:#x},iosize=4"),
)

BOOT = Boot(
    x86_64(levels=4),
    image_name="pc.elf",
    entry_level=0,
    qemu=QEMU,
    qemu_status=debug_exit_status,
    loads_elf=True,
)

PC = HardwareDescription(
    name="pc",
    title="x86-64 PC (QEMU q35), 4 KiB pages",
    target=Target("x86_64", 8),
    build=build,
    ram=RAM,
    program=PROGRAM,
    simulated_mmu=SimulatedX86,
    peripherals=peripherals,
    boot=BOOT,
)

PC_LA57 = replace(
    PC,
    name="pc-la57",
    title="the same PC, 5 levels of tables",
    build=partial(build, levels=5),
    simulated_mmu=partial(SimulatedX86, levels=5),
    boot=replace(BOOT, code=x86_64(levels=5), qemu=(*QEMU, "-cpu", "qemu64,+la57")),
)
