"""A model machine whose tables a test changes by hand, one store and one fence at a time."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from hardware.bench import TableBench
from kernmem.hardware.riscv64.mmu import Riscv64Mmu
from kernmem.hardware.riscv64.simulated import SimulatedRiscv64
from kernmem.hardware.riscv_virt import PROGRAM, RISCV_VIRT
from kernmem.language import PhysicalAddress

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


def entry(physical: int, flags: int) -> int:
    """An entry by its address and flags."""
    return physical >> 12 << 10 | flags


class Bench(TableBench):
    """The board with RAM linear in one block of each root, and a table for a few pages."""

    def __init__(
        self,
        mmu_class: type[Riscv64Mmu] | None = None,
        *,
        enable: bool = True,
        **simulated: Any,
    ) -> None:
        super().__init__(
            replace(RISCV_VIRT, simulated_mmu=partial(SimulatedRiscv64, **simulated)),
            mmu_class,
            root=ROOT,
            table=TABLE,
            pages=PAGES,
            frames=FRAMES,
            page_length=PAGE,
            normal=FULL,
        )
        for root in (ROOT, OTHER_ROOT):
            self.store(root, PROGRAM.start // GIB, entry(PROGRAM.start // GIB * GIB, FULL))
        self.store(ROOT, PAGES // GIB, entry(MIDDLE, V))
        self.store(MIDDLE, 0, entry(TABLE, V))
        if enable:
            self.mmu.enable(PhysicalAddress(ROOT))

    # Numbers ------------------------------------------------------------------------------

    @property
    def asid(self) -> int:
        """The ASID of the space in use."""
        return self.simulated.registers()["satp"] >> 44 & 0xFFFF

    # Actions ------------------------------------------------------------------------------

    def page(self, number: int, bits: int | None = None) -> int:
        """The entry that maps a frame."""
        return entry(self.frame(number), FULL if bits is None else bits)

    def fence(self, address: int | None = None, asid: int | None = None) -> None:
        """SFENCE.VMA in one of its four forms."""
        rs1 = "zero" if address is None else f"{address:#x}"
        self.simulated.execute(f"sfence.vma {rs1}, {'zero' if asid is None else f'{asid:#x}'}")

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
