"""The laboratory: a Raspberry Pi's architecture on a board that every machine can imitate.

Its RAM lies where a Linux process has nothing, so that the host machine can map it at its own
addresses, and all machines can be compared byte for byte.
"""

from __future__ import annotations

from kernmem.hardware.aarch64.board import Aarch64Board, FixedMap
from kernmem.hardware.aarch64.entry import Granule64K
from kernmem.hardware.aarch64.instructions import Instructions
from kernmem.hardware.aarch64.mmu import Aarch64Mmu
from kernmem.hardware.aarch64.simulated import SimulatedAarch64
from kernmem.hardware.boot import aarch64_boot
from kernmem.hardware.description import HardwareDescription
from kernmem.hardware.peripherals import Bus, Peripheral, Pl011
from kernmem.language import Image, Target
from kernmem.memory.architecture import Hardware, Region

RAM = Region(0x10_0000_0000, 0x10_1000_0000)
PROGRAM = Region(0x10_0000_0000, 0x10_0020_0000)
SEGMENT = Region(0x18_0000_0000, 0x1C_0000_0000)
UART = 0x0900_0000


def build(image: Image) -> Hardware:
    """The components of the board."""
    cpu = Instructions(image)
    entries = Granule64K(image, physical_bits=40)
    memory_map = FixedMap(
        image,
        program=PROGRAM,
        ram=RAM,
        devices=(Region(UART, UART + 0x1_0000),),
        linear=Region(0, RAM.end),
        segment=SEGMENT,
    )
    return Hardware(
        entries, Aarch64Mmu(image, cpu, entries), memory_map, Aarch64Board(image, cpu, UART)
    )


def peripherals(bus: Bus) -> tuple[Peripheral, ...]:
    """The devices of the board."""
    return (Pl011(UART, bus.write_console),)


LAB = HardwareDescription(
    name="lab",
    title="AArch64 laboratory board, 64 KiB pages, 256 MiB at 64 GiB",
    target=Target("aarch64", 8),
    build=build,
    ram=(RAM,),
    program_start=PROGRAM.start,
    program_end=PROGRAM.end,
    statics_base=PROGRAM.start + 0x10_0000,
    stack_top=PROGRAM.end,
    simulated_mmu=SimulatedAarch64,
    peripherals=peripherals,
    boot=aarch64_boot(image_name="lab.img", entry_level=1),
)
