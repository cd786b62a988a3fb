"""QEMU's machine ``virt`` with a Cortex-A15: a core of 32 bits, on the board of :mod:`.virt`."""

from __future__ import annotations

from kernmem.hardware.armv7.boot import ARMV7
from kernmem.hardware.armv7.entry import ShortDescriptors
from kernmem.hardware.armv7.instructions import Instructions
from kernmem.hardware.armv7.mmu import Armv7Mmu
from kernmem.hardware.armv7.probe import Armv7Probe
from kernmem.hardware.armv7.simulated import SimulatedArmv7
from kernmem.hardware.boot import Boot
from kernmem.hardware.description import HardwareDescription
from kernmem.hardware.devices.pl011 import Pl011
from kernmem.hardware.devices.psci import SemihostingOrPsci
from kernmem.hardware.devices.semihosting import QEMU_SEMIHOSTING
from kernmem.hardware.virt import PROGRAM, RAM, UART, VirtMap, peripherals
from kernmem.language import Image, Target
from kernmem.memory.architecture import Hardware, Places, Region

LINEAR_END = 0xC000_0000  # so up to 2 GiB of RAM are used
SEGMENT = Region(LINEAR_END, 0xF000_0000)


def build(image: Image) -> Hardware:
    """The components of the board."""
    cpu = Instructions(image)
    entries = ShortDescriptors(image)
    places = Places(
        program=PROGRAM,
        devices=(Region(UART, UART + 0x1000),),
        linear=Region(0, LINEAR_END),
        segment=SEGMENT,
    )
    return Hardware(
        entries,
        Armv7Mmu(image, cpu, entries, PROGRAM),
        VirtMap(image, places),
        Pl011(image, UART),
        SemihostingOrPsci(image),
        Armv7Probe(image),
    )


ARMV7_VIRT = HardwareDescription(
    name="armv7-virt",
    title="QEMU's ARMv7 virt (Cortex-A15), 4 KiB pages, short descriptors",
    target=Target("armv7", 4),
    build=build,
    ram=(RAM,),
    program=PROGRAM,
    simulated_mmu=SimulatedArmv7,
    peripherals=peripherals,
    boot=Boot(
        ARMV7,
        image_name="armv7-virt.elf",
        entry_level=1,
        qemu=(
            *("qemu-system-arm", "-M", "virt", "-cpu", "cortex-a15", "-m", "128"),
            *QEMU_SEMIHOSTING,
        ),
        loads_elf=True,
    ),
)
