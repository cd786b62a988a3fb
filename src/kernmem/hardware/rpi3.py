"""The Raspberry Pi 3: four Cortex-A53, of which one is used, and a VideoCore that owns the RAM.

Addresses from the BCM2835 and BCM2836 peripherals manuals (QA7_rev3.4).
"""

from __future__ import annotations

from kernmem.hardware.aarch64.board import Aarch64Board
from kernmem.hardware.aarch64.entry import Granule64K
from kernmem.hardware.aarch64.instructions import Instructions
from kernmem.hardware.aarch64.mmu import Aarch64Mmu
from kernmem.hardware.aarch64.simulated import SimulatedAarch64
from kernmem.hardware.boot import aarch64_boot
from kernmem.hardware.description import HardwareDescription
from kernmem.hardware.peripherals import Bus, Peripheral, Pl011, VideoCoreMailbox
from kernmem.language import (
    Image,
    PhysicalAddress,
    Target,
    VirtualAddress,
    address_of,
    kernel,
    panic,
    u32,
    u64,
)
from kernmem.memory.architecture import Hardware, MemoryMap, Region

PROGRAM = Region(0x8_0000, 0x20_0000)  # the firmware loads kernel8.img at 0x80000
PERIPHERALS = Region(0x3F00_0000, 0x4000_0000)
LOCAL_PERIPHERALS = Region(0x4000_0000, 0x4020_0000)  # timers and mailboxes of the cores
UART = 0x3F20_1000
MAILBOX = 0x3F00_B880

# The mailbox's registers (BCM2835 firmware wiki, "Accessing mailboxes")
MAILBOX_READ = MAILBOX + 0x00
MAILBOX_READ_STATUS = MAILBOX + 0x18
MAILBOX_WRITE = MAILBOX + 0x20
MAILBOX_WRITE_STATUS = MAILBOX + 0x38
MAILBOX_FULL = 1 << 31
MAILBOX_EMPTY = 1 << 30
PROPERTIES = 8  # the channel that answers questions
GET_ARM_MEMORY = 0x0001_0005
SUCCESS = 0x8000_0000


class RaspberryPi3Map(MemoryMap):
    """The lowest GiB: RAM, then the VideoCore's share of it, then devices."""

    c_module = "physical"

    def __init__(self, image: Image, cpu: Instructions) -> None:
        super().__init__(image)
        self.cpu = cpu
        self.devices = (PERIPHERALS, LOCAL_PERIPHERALS)
        self.linear_start = 0
        self.linear_end = LOCAL_PERIPHERALS.end
        self.segment_start = PROGRAM.end
        self.segment_end = PERIPHERALS.start
        self.program_start = PROGRAM.start
        self.message = self.static_array(u32, 8, "mailbox_message", alignment=64)

    @kernel
    def program_end(self) -> PhysicalAddress:
        """The first byte after the kernel image, its stack and its variables."""
        return PhysicalAddress(PROGRAM.end)

    @kernel
    def report(self) -> None:
        """The RAM that the firmware leaves to the Arm cores, but for where the others wait.

        It must be asked with the MMU off: the VideoCore does not see what is in the data cache.
        """
        self.ranges.add_ram(u64(PROGRAM.start), self.ask_firmware())

    @kernel
    def ask_firmware(self) -> u64:
        """The end of the Arm's memory, asked through the property mailbox."""
        self.message[0] = u32(32)  # bytes of this message
        self.message[1] = u32(0)  # a request
        self.message[2] = u32(GET_ARM_MEMORY)
        self.message[3] = u32(8)  # bytes of room for the answer
        self.message[4] = u32(0)
        self.message[5] = u32(0)  # answer: the base
        self.message[6] = u32(0)  # answer: the length
        self.message[7] = u32(0)  # no further tags
        address = u32(u64(address_of(self.message)))
        self.cpu.dsb_sy()
        while self.cpu.read_register(VirtualAddress(MAILBOX_WRITE_STATUS)) & MAILBOX_FULL != 0:
            pass
        self.cpu.write_register(VirtualAddress(MAILBOX_WRITE), address | PROPERTIES)
        while True:
            while self.cpu.read_register(VirtualAddress(MAILBOX_READ_STATUS)) & MAILBOX_EMPTY != 0:
                pass
            if self.cpu.read_register(VirtualAddress(MAILBOX_READ)) == address | PROPERTIES:
                break
        self.cpu.dsb_sy()
        status = self.message[1]
        if status != SUCCESS:
            panic(f"the firmware answered {status:#x} when asked for the memory's length")
        return u64(self.message[5]) + u64(self.message[6])


def build(image: Image) -> Hardware:
    """The components of the board."""
    cpu = Instructions(image)
    entries = Granule64K(image, physical_bits=40)
    return Hardware(
        entries,
        Aarch64Mmu(image, cpu, entries),
        RaspberryPi3Map(image, cpu),
        Aarch64Board(image, cpu, UART),
    )


def peripherals(bus: Bus) -> tuple[Peripheral, ...]:
    """The devices of the board; the VideoCore keeps 48 MiB of the lower 1008 for itself."""
    return (
        Pl011(UART, bus.write_console),
        VideoCoreMailbox(MAILBOX, bus, Region(0, 0x3C00_0000)),
    )


RPI3 = HardwareDescription(
    name="rpi3",
    title="Raspberry Pi 3, AArch64, 64 KiB pages",
    target=Target("aarch64", 8),
    build=build,
    ram=(Region(0, PERIPHERALS.start),),
    program_start=PROGRAM.start,
    program_end=PROGRAM.end,
    statics_base=0x10_0000,
    stack_top=PROGRAM.end,
    simulated_mmu=SimulatedAarch64,
    peripherals=peripherals,
    boot=aarch64_boot(
        image_name="kernel8.img",  # the firmware's name for a 64-bit kernel
        entry_level=2,
        # One thread: otherwise the three parked cores wait busily beside the one that works.
        qemu=("qemu-system-aarch64", "-M", "raspi3b", "-accel", "tcg,thread=single"),
    ),
)
