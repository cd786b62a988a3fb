"""QEMU's RISC-V machine ``virt``: one hart, a 16550, a test finisher, and a device tree.

Addresses from QEMU's ``hw/riscv/virt.c``; the kernel is entered as Linux is, by OpenSBI in
supervisor mode at the first 2 MiB border above it, or in machine mode without any firmware.

=====================  ===============  =========================================
hardware               paging           entered
=====================  ===============  =========================================
``riscv-virt``         Sv39             from OpenSBI, in supervisor mode
``riscv-virt-sv48``    Sv48             the same
``riscv-virt-sv57``    Sv57             the same
``riscv-virt-mmode``   Sv39             from reset, in machine mode
=====================  ===============  =========================================
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from kernmem.hardware.boot import Boot
from kernmem.hardware.description import HardwareDescription
from kernmem.hardware.devices.finisher import Finisher, SimulatedFinisher
from kernmem.hardware.devices.ns16550 import Ns16550, SimulatedNs16550
from kernmem.hardware.devices.registers import DeviceRegisters
from kernmem.hardware.flat_tree import TreeNode, cells, flatten, wide
from kernmem.hardware.peripherals import Bus, Peripheral
from kernmem.hardware.riscv64.boot import RISCV64
from kernmem.hardware.riscv64.entry import PagedEntries
from kernmem.hardware.riscv64.instructions import Instructions
from kernmem.hardware.riscv64.mmu import Riscv64Mmu
from kernmem.hardware.riscv64.probe import Riscv64Probe
from kernmem.hardware.riscv64.simulated import SimulatedRiscv64
from kernmem.hardware.tree_map import TreeMap
from kernmem.language import Image, Target
from kernmem.memory.architecture import Hardware, Places, Region

RAM = Region(0x8000_0000, 0x8800_0000)  # what the simulators have: QEMU's -m 128
FIRMWARE = Region(0x8000_0000, 0x8008_0000)  # OpenSBI's, and so said in the tree that it passes
PROGRAM = Region(0x8020_0000, 0x8040_0000)
TREE = 0x87E0_0000  # where simulators put the device tree, as QEMU does
TREE_LENGTH = 0x1800  # about what QEMU's has, with what OpenSBI adds
FINISHER = 0x0010_0000
UART = 0x1000_0000
SEGMENT_LENGTH = 0x10_0000_0000


class VirtMap(TreeMap):
    """The device tree is where a1 said at the entry."""

    passed_to_model = TREE


def device_tree(*, firmware: bool = True) -> bytes:
    """The tree that simulators pass: what of QEMU's and OpenSBI's is about memory."""
    size = {"#address-cells": cells(2), "#size-cells": cells(2)}
    kept = {"reg": wide(FIRMWARE.start, FIRMWARE.end - FIRMWARE.start), "no-map": b""}
    keeps = (TreeNode(f"mmode_resv0@{FIRMWARE.start:x}", kept),) if firmware else ()
    ram = {"device_type": b"memory\0", "reg": wide(RAM.start, RAM.end - RAM.start)}
    return flatten(
        TreeNode(
            "",
            {**size, "compatible": b"riscv-virtio\0", "model": b"riscv-virtio,qemu\0"},
            (
                TreeNode("reserved-memory", {**size, "ranges": b""}, keeps),
                TreeNode("chosen", {"stdout-path": f"/soc/serial@{UART:x}\0".encode()}),
                TreeNode(f"memory@{RAM.start:x}", ram),
            ),
        ),
        least=TREE_LENGTH,
    )


def build(image: Image, levels: int = 3) -> Hardware:
    """The components of the board."""
    cpu = Instructions(image)
    entries = PagedEntries(image, levels)
    # Half of the addresses are for what is linear, RAM above them not used.
    half = 1 << entries.address_bits - 1
    places = Places(
        program=PROGRAM,
        devices=(Region(FINISHER, FINISHER + 0x1000), Region(UART, UART + 0x1000)),
        linear=Region(0, half),
        segment=Region(half, half + SEGMENT_LENGTH),
    )
    return Hardware(
        entries,
        Riscv64Mmu(image, cpu, entries),
        VirtMap(image, places),
        Ns16550(image, DeviceRegisters(image), UART),
        Finisher(image, FINISHER),
        Riscv64Probe(image),
    )


def peripherals(bus: Bus, *, firmware: bool = True) -> tuple[Peripheral, ...]:
    """The devices of the board.  Its firmware, or QEMU, has left the device tree in the RAM."""
    tree = device_tree(firmware=firmware)
    bus.store_physical(TREE, len(tree), int.from_bytes(tree, "little"))
    return (SimulatedNs16550(UART, bus.write_console), SimulatedFinisher(FINISHER))


QEMU = ("qemu-system-riscv64", "-M", "virt", "-m", "128")
BOOT = Boot(
    RISCV64,
    image_name="kernel.img",
    entry_level=1,  # supervisor mode
    arguments=(0, TREE),  # the number of the hart, the device tree
    qemu=QEMU,
)

MACHINE_MODE_BOOT = replace(
    BOOT,
    entry_level=3,  # machine mode: no firmware at all
    loads_elf=True,  # a plain image would go to the start of the RAM
    # Reset goes to the start of the RAM, where two instructions lead on: auipc t0, 0x200; jr t0.
    qemu=(
        *(*QEMU, "-bios", "none"),
        *("-device", f"loader,addr={RAM.start:#x},data=0x0002806700200297,data-len=8"),
    ),
)

RISCV_VIRT = HardwareDescription(
    name="riscv-virt",
    title="QEMU's RISC-V virt, Sv39, 4 KiB pages",
    target=Target("riscv64", 8),
    build=build,
    ram=(RAM,),
    program=PROGRAM,
    simulated_mmu=SimulatedRiscv64,
    peripherals=peripherals,
    boot=BOOT,
)

RISCV_VIRT_SV48 = replace(
    RISCV_VIRT,
    name="riscv-virt-sv48",
    title="the same board, Sv48",
    build=partial(build, levels=4),
)

RISCV_VIRT_SV57 = replace(
    RISCV_VIRT,
    name="riscv-virt-sv57",
    title="the same board, Sv57",
    build=partial(build, levels=5),
)

RISCV_VIRT_MMODE = replace(
    RISCV_VIRT,
    name="riscv-virt-mmode",
    title="the same board, Sv39, without firmware",
    peripherals=partial(peripherals, firmware=False),
    boot=MACHINE_MODE_BOOT,
)
