"""The Raspberry Pi 3: four Cortex-A53, of which one is used, and a VideoCore that owns the RAM.

Addresses from the BCM2835 and BCM2836 peripherals manuals (QA7_rev3.4).
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
from kernmem.hardware.devices.mailbox import Mailbox, SimulatedMailbox
from kernmem.hardware.devices.pl011 import Pl011, SimulatedPl011
from kernmem.hardware.devices.semihosting import QEMU_SEMIHOSTING, Semihosting
from kernmem.hardware.peripherals import Bus, Peripheral
from kernmem.language import Image, Target, kernel, u64
from kernmem.memory.architecture import Hardware, MemoryMap, Places, Region

PROGRAM = Region(0x8_0000, 0x20_0000)  # the firmware loads kernel8.img at 0x80000
PERIPHERALS = Region(0x3F00_0000, 0x4000_0000)
LOCAL_PERIPHERALS = Region(0x4000_0000, 0x4020_0000)  # timers and mailboxes of the cores
UART = 0x3F20_1000
MAILBOX = 0x3F00_B880


class RaspberryPi3Map(MemoryMap):
    """The lowest GiB: RAM, then the VideoCore's share of it, then devices."""

    def __init__(self, image: Image, places: Places, mailbox: Mailbox) -> None:
        super().__init__(image, places)
        self.mailbox = mailbox

    @kernel
    def report(self) -> None:
        """The RAM that the firmware leaves to the Arm cores, but for where the others wait.

        It must be asked with the MMU off: the VideoCore does not see what is in the data cache.
        """
        self.ranges.add_ram(u64(PROGRAM.start), self.mailbox.memory_end())


def build(image: Image) -> Hardware:
    """The components of the board."""
    cpu = Instructions(image)
    entries = Granule64K(image, physical_bits=40)
    places = Places(
        program=PROGRAM,
        devices=(PERIPHERALS, LOCAL_PERIPHERALS),
        linear=Region(0, LOCAL_PERIPHERALS.end),
        segment=Region(PROGRAM.end, PERIPHERALS.start),
    )
    return Hardware(
        entries,
        Aarch64Mmu(image, cpu, entries),
        RaspberryPi3Map(image, places, Mailbox(image, cpu, MAILBOX)),
        Pl011(image, UART),
        Semihosting(image),
        Aarch64Probe(image),
    )


def peripherals(bus: Bus) -> tuple[Peripheral, ...]:
    """The devices of the board; the VideoCore keeps 48 MiB of the lower 1008 for itself."""
    return (
        SimulatedPl011(UART, bus.write_console),
        SimulatedMailbox(MAILBOX, bus, Region(0, 0x3C00_0000)),
    )


RPI3 = HardwareDescription(
    name="rpi3",
    title="Raspberry Pi 3, AArch64, 64 KiB pages",
    target=Target("aarch64", 8),
    build=build,
    ram=(Region(0, PERIPHERALS.start),),
    program=PROGRAM,
    simulated_mmu=SimulatedAarch64,
    peripherals=peripherals,
    boot=Boot(
        AARCH64,
        image_name="kernel8.img",  # the firmware's name for a 64-bit kernel
        entry_level=2,
        # One thread: otherwise the three parked cores wait busily beside the one that works.
        qemu=(
            *("qemu-system-aarch64", "-M", "raspi3b", "-accel", "tcg,thread=single"),
            *QEMU_SEMIHOSTING,
        ),
    ),
)
