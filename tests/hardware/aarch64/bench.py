"""A model machine whose tables a test changes by hand, one store and one barrier at a time."""

from __future__ import annotations

from hardware.bench import TableBench
from kernmem.hardware.aarch64.mmu import Aarch64Mmu
from kernmem.hardware.lab import LAB
from kernmem.language import PhysicalAddress, u32
from kernmem.memory.architecture import Mapping

ROOT = 0x10_0100_0000
TABLE = 0x10_0200_0000  # the level 3 table of the addresses from PAGES on
SPARE = 0x10_0300_0000  # a page that is no table yet
OTHER_ROOT = 0x10_0400_0000
FRAMES = 0x10_0500_0000
ROOTS = 0x10_0600_0000
PAGE = 0x1_0000
BLOCK = 0x2000_0000
PAGES = 0x20_0000_0000  # an address that nothing else uses
NORMAL_PAGE = 0b1_1_11_00_0_000_11  # nG, AF, inner shareable, EL1 reads and writes, page
READ_ONLY = 1 << 7
NOT_GLOBAL = 1 << 11
ACCESSED = 1 << 10


class Bench(TableBench):
    """The lab with its MMU on: RAM linear in one block, and a table for a few pages."""

    def __init__(self, mmu_class: type[Aarch64Mmu] | None = None, *, enable: bool = True) -> None:
        super().__init__(
            LAB,
            mmu_class,
            root=ROOT,
            table=TABLE,
            pages=PAGES,
            frames=FRAMES,
            page_length=PAGE,
            normal=NORMAL_PAGE,
        )
        for root in (ROOT, OTHER_ROOT):
            self.store(root, LAB.program.start // BLOCK, self.block(LAB.program.start))
        self.store(ROOT, PAGES // BLOCK, self.link(TABLE))
        if enable:
            self.mmu.enable(PhysicalAddress(ROOT))

    # Numbers ------------------------------------------------------------------------------

    def block(self, physical: int) -> int:
        """The entry that maps 512 MiB."""
        return int(self.hardware.format.leaf(PhysicalAddress(physical), Mapping.KERNEL, u32(1)))

    def link(self, table: int) -> int:
        """The entry that leads to a table."""
        return int(self.hardware.format.table(PhysicalAddress(table)))

    # Actions ------------------------------------------------------------------------------

    def tlbi(self, operation: str, address: int, asid: int = 0, hint: int = 0) -> None:
        """Invalidate by address."""
        operand = asid << 48 | hint << 44 | address >> 12
        self.simulated.execute(f"tlbi {operation}", operand)

    def new_root(self, number: int, frame: int) -> PhysicalAddress:
        """A root of its own for one of a few spaces, whose first page is one of the frames."""
        root = ROOTS + number * 2 * PAGE
        self.store(root, LAB.program.start // BLOCK, self.block(LAB.program.start))
        self.store(root + PAGE, 0, self.page(frame))
        self.store(root, PAGES // BLOCK, self.link(root + PAGE))
        self.mmu.order_tables()
        return PhysicalAddress(root)

    def set_global(self, root: PhysicalAddress, frame: int | None) -> None:
        """Map the first page of one of those roots global, or unmap it, and nothing more."""
        entry = 0 if frame is None else self.page(frame, NORMAL_PAGE & ~NOT_GLOBAL)
        self.store(int(root) + PAGE, 0, entry)
