"""A model machine whose tables a test changes by hand, one store and one fence at a time."""

from __future__ import annotations

import dataclasses
from typing import Any

from kernmem.hardware.riscv64.mmu import Riscv64Mmu
from kernmem.hardware.riscv64.simulated import SimulatedRiscv64
from kernmem.hardware.riscv_virt import PROGRAM, RISCV_VIRT
from kernmem.language import Component, Image, PhysicalAddress, VirtualAddress, usize
from kernmem.machine.model import Model
from kernmem.memory.architecture import Hardware

V, R, W, X, U, G, A, D = (1 << bit for bit in range(8))
FULL = V | R | W | X | A | D

ROOT = 0x8100_0000
MIDDLE = 0x8100_1000  # the level 1 table of the addresses from PAGES on
TABLE = 0x8100_2000  # the level 0 table of them
SPARE = 0x8100_3000
OTHER_ROOT = 0x8100_4000
FRAMES = 0x8200_0000
ROOTS = 0x8300_0000
PAGE = 0x1000
GIB = 0x4000_0000
PAGES = 0x20_0000_0000  # an address that nothing else uses


class Kernel(Component):
    """No kernel at all: the test calls the hardware's parts itself."""

    def __init__(self, image: Image, hardware: Hardware) -> None:
        super().__init__(image)
        self.hardware = hardware


def entry(physical: int, flags: int) -> int:
    """An entry by its address and flags."""
    return physical >> 12 << 10 | flags


class Bench:
    """The board with RAM linear in one block of each root, and a table for a few pages.

    ``virtual(i)`` is the i-th of those pages, unmapped; ``frame(i)`` a page of memory, in which
    the number ``i`` is stored.
    """

    def __init__(
        self,
        mmu_class: type[Riscv64Mmu] = Riscv64Mmu,
        *,
        enable: bool = True,
        **simulated: Any,
    ) -> None:
        def build(image: Image) -> Hardware:
            built = RISCV_VIRT.build(image)
            mmu = mmu_class.__new__(mmu_class)  # with the state that was reserved already
            vars(mmu).update(vars(built.mmu))
            return dataclasses.replace(built, mmu=mmu)

        hardware = dataclasses.replace(
            RISCV_VIRT,
            build=build,
            simulated_mmu=lambda ram, program: SimulatedRiscv64(ram, program, **simulated),
        )
        self.model = Model(hardware, Kernel)
        assert isinstance(self.model.kernel, Kernel)
        self.hardware = self.model.kernel.hardware
        self.mmu = self.hardware.mmu
        self.simulated = self.model.memory.mmu
        for number in range(16):
            self.model.write_physical(self.frame(number), number.to_bytes(8, "little"))
        for root in (ROOT, OTHER_ROOT):
            self.store(root, PROGRAM.start // GIB, entry(PROGRAM.start // GIB * GIB, FULL))
        self.store(ROOT, PAGES // GIB, entry(MIDDLE, V))
        self.store(MIDDLE, 0, entry(TABLE, V))
        if enable:
            self.mmu.enable(PhysicalAddress(ROOT))

    # Numbers ------------------------------------------------------------------------------

    def virtual(self, number: int) -> int:
        """The address of a page."""
        return PAGES + number * PAGE

    def frame(self, number: int) -> int:
        """The physical address of a page of memory."""
        return FRAMES + number * PAGE

    @property
    def asid(self) -> int:
        """The ASID of the space in use."""
        return self.simulated.registers()["satp"] >> 44 & 0xFFFF

    # Actions ------------------------------------------------------------------------------

    def store(self, table: int, index: int, value: int) -> None:
        """Store an entry, and nothing more."""
        self.hardware.format.write(PhysicalAddress(table), usize(index), usize(value))

    def set(self, number: int, frame: int, flags: int = FULL) -> None:
        """Store the entry of a page, and nothing more."""
        self.store(TABLE, number, entry(self.frame(frame), flags))

    def clear(self, number: int) -> None:
        """Make the entry of a page invalid, and nothing more."""
        self.store(TABLE, number, 0)

    def fence(self, address: int | None = None, asid: int | None = None) -> None:
        """SFENCE.VMA in one of its four forms."""
        rs1 = "zero" if address is None else f"{address:#x}"
        self.simulated.execute(f"sfence.vma {rs1}, {'zero' if asid is None else f'{asid:#x}'}")

    @property
    def root(self) -> PhysicalAddress:
        """The root of all the pages."""
        return PhysicalAddress(ROOT)

    def publish(self) -> None:
        """Let the walker see new entries, of tables too."""
        self.mmu.publish_range(
            self.root, VirtualAddress(PAGES), VirtualAddress(PAGES), is_global=False
        )

    def retire_range(self, address: int) -> None:
        """Forget what was known of an address, tables too."""
        self.mmu.retire_range(
            self.root, VirtualAddress(address), VirtualAddress(address), is_global=False
        )

    def read(self, number: int) -> int:
        """What the memory behind a page says: the number of its frame."""
        return self.model.load(self.virtual(number))

    def write(self, number: int) -> None:
        """Store to a page, beside its number."""
        self.model.store(self.virtual(number) + 8, 1)

    def new_root(self, number: int, frame: int) -> PhysicalAddress:
        """A root of its own for one of a few spaces, whose first page is one of the frames."""
        base = ROOTS + number * 3 * PAGE
        root, middle, table = base, base + PAGE, base + 2 * PAGE
        self.store(root, PROGRAM.start // GIB, entry(PROGRAM.start // GIB * GIB, FULL))
        self.store(table, 0, entry(self.frame(frame), FULL))
        self.store(middle, 0, entry(table, V))
        self.store(root, PAGES // GIB, entry(middle, V))
        return PhysicalAddress(root)

    def set_global(self, root: PhysicalAddress, frame: int | None) -> None:
        """Map the first page of one of those roots global, or unmap it, and nothing more."""
        value = 0 if frame is None else entry(self.frame(frame), FULL | G)
        self.store(int(root) + 2 * PAGE, 0, value)
