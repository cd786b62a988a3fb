"""QEMU's AArch64 machine ``virt``: one core, a PL011, semihosting or PSCI, a device tree.

Addresses from QEMU's ``hw/arm/virt.c``.  Page tables translate 48 bits of address; there is a
description for each granule, since not every core has all three.
"""

from __future__ import annotations

from functools import partial

from kernmem.hardware.aarch64.boot import AARCH64
from kernmem.hardware.aarch64.entry import Granule
from kernmem.hardware.aarch64.instructions import Instructions
from kernmem.hardware.aarch64.mmu import Aarch64Mmu
from kernmem.hardware.aarch64.probe import Aarch64Probe
from kernmem.hardware.aarch64.simulated import EVERY_GRANULE, SimulatedAarch64
from kernmem.hardware.boot import Boot
from kernmem.hardware.description import HardwareDescription
from kernmem.hardware.devices.pl011 import Pl011, SimulatedPl011
from kernmem.hardware.devices.psci import SemihostingOrPsci
from kernmem.hardware.devices.semihosting import QEMU_SEMIHOSTING
from kernmem.hardware.flat_tree import TreeNode, cells, flatten, wide
from kernmem.hardware.peripherals import Bus, Peripheral
from kernmem.hardware.tree_map import TreeMap
from kernmem.language import Image, PhysicalAddress, Target, kernel
from kernmem.memory.architecture import Hardware, Places, Region

RAM = Region(0x4000_0000, 0x4800_0000)  # what the simulators have: QEMU's -m 128
TREE = RAM.start  # where QEMU puts the device tree of an ELF file, below what it loads
PROGRAM = Region(0x4020_0000, 0x4040_0000)
UART = 0x0900_0000
TREE_LENGTH = 0x10_0000  # of QEMU's, whatever is in it
LINEAR_END = 0x40_0000_0000  # QEMU has room for 255 GiB of RAM before its other device windows
SEGMENT = Region(0x8000_0000_0000, 0x8010_0000_0000)  # in the upper half of the 48 bits


class VirtMap(TreeMap):
    """RAM as the device tree tells it."""

    @kernel
    def firmware_tree(self) -> PhysicalAddress:
        """Where Linux's boot protocol says; who loads an ELF file says nothing."""
        passed = self.passed()
        if passed == PhysicalAddress(0):
            return PhysicalAddress(TREE)
        return passed


def build(image: Image, page_bits: int, program: Region = PROGRAM) -> Hardware:
    """The components of the board."""
    cpu = Instructions(image)
    entries = Granule(image, page_bits, address_bits=48, physical_bits=40)
    places = Places(
        program=program,
        devices=(Region(UART, UART + 0x1_0000),),
        linear=Region(0, LINEAR_END),
        segment=SEGMENT,
    )
    return Hardware(
        entries,
        Aarch64Mmu(image, cpu, entries),
        VirtMap(image, places),
        Pl011(image, UART),
        SemihostingOrPsci(image),
        Aarch64Probe(image),
    )


def device_tree() -> bytes:
    """The tree that simulators pass: what of QEMU's is about memory."""
    ram = {"device_type": b"memory\0", "reg": wide(RAM.start, RAM.end - RAM.start)}
    root = {
        "#address-cells": cells(2),
        "#size-cells": cells(2),
        "compatible": b"linux,dummy-virt\0",
    }
    chosen = {"stdout-path": f"/pl011@{UART:x}\0".encode()}
    nodes = (TreeNode(f"memory@{RAM.start:x}", ram), TreeNode("chosen", chosen))
    return flatten(TreeNode("", root, nodes), least=TREE_LENGTH)


def peripherals(bus: Bus, place: int = TREE) -> tuple[Peripheral, ...]:
    """The devices of the board.  The firmware has left the device tree at a ``place`` in RAM."""
    tree = device_tree()
    bus.store_physical(place, len(tree), int.from_bytes(tree, "little"))
    return (SimulatedPl011(UART, bus.write_console),)


def virt(name: str, page_bits: int) -> HardwareDescription:
    """The board with tables of one granule."""
    return HardwareDescription(
        name=name,
        title=f"QEMU's AArch64 virt, 48-bit addresses, {1 << page_bits >> 10} KiB pages",
        target=Target("aarch64", 8),
        build=partial(build, page_bits=page_bits),
        ram=(RAM,),
        program=PROGRAM,
        simulated_mmu=partial(SimulatedAarch64, features=EVERY_GRANULE),
        peripherals=peripherals,
        boot=Boot(
            AARCH64,
            image_name=f"{name}.elf",
            entry_level=1,
            qemu=(
                *("qemu-system-aarch64", "-M", "virt", "-cpu", "max", "-m", "128"),
                *QEMU_SEMIHOSTING,
            ),
            loads_elf=True,
        ),
    )


VIRT = virt("virt", 12)
VIRT_16K = virt("virt-16k", 14)
VIRT_64K = virt("virt-64k", 16)
