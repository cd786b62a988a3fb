"""The laboratory: a Raspberry Pi's architecture on a board that every machine can imitate.

Its RAM lies where a Linux process has nothing, so that the host machine can map it at its own
addresses, and all machines can be compared byte for byte.
"""

from __future__ import annotations

from kernmem.hardware.aarch64.boot import AARCH64
from kernmem.hardware.aarch64.entry import Granule64K
from kernmem.hardware.aarch64.instructions import Instructions
from kernmem.hardware.aarch64.mmu import Aarch64Mmu
from kernmem.hardware.aarch64.probe import Aarch64Probe
from kernmem.hardware.aarch64.simulated import SimulatedAarch64
from kernmem.hardware.boot import Boot
from kernmem.hardware.description import HardwareDescription
from kernmem.hardware.devices.pl011 import Pl011, SimulatedPl011
from kernmem.hardware.devices.semihosting import Semihosting
from kernmem.hardware.peripherals import Bus, Peripheral
from kernmem.language import Image, Target, kernel, u64
from kernmem.memory.architecture import Hardware, MemoryMap, Places, Region

RAM = Region(0x10_0000_0000, 0x10_1000_0000)
PROGRAM = Region(0x10_0000_0000, 0x10_0020_0000)
SEGMENT = Region(0x18_0000_0000, 0x1C_0000_0000)
UART = 0x0900_0000


class FixedMap(MemoryMap):
    """RAM that is known when the kernel is built."""

    @kernel
    def report(self) -> None:
        """One range of RAM."""
        self.ranges.add_ram(u64(RAM.start), u64(RAM.end))


def build(image: Image) -> Hardware:
    """The components of the board."""
    cpu = Instructions(image)
    entries = Granule64K(image, physical_bits=40)
    places = Places(
        program=PROGRAM,
        devices=(Region(UART, UART + 0x1_0000),),
        linear=Region(0, RAM.end),
        segment=SEGMENT,
    )
    return Hardware(
        entries,
        Aarch64Mmu(image, cpu, entries),
        FixedMap(image, places),
        Pl011(image, UART),
        Semihosting(image),
        Aarch64Probe(image),
    )


def peripherals(bus: Bus) -> tuple[Peripheral, ...]:
    """The devices of the board."""
    return (SimulatedPl011(UART, bus.write_console),)


LAB = HardwareDescription(
    name="lab",
    title="AArch64 laboratory board, 64 KiB pages, 256 MiB at 64 GiB",
    target=Target("aarch64", 8),
    build=build,
    ram=(RAM,),
    program=PROGRAM,
    simulated_mmu=SimulatedAarch64,
    peripherals=peripherals,
    boot=Boot(AARCH64, image_name="lab.img", entry_level=1),
)
