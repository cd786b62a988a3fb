"""A model machine whose tables a test changes by hand, one store and one instruction at a time."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from hardware.bench import TableBench
from kernmem.hardware.pc import PC
from kernmem.hardware.simulation import Access
from kernmem.hardware.x86_64.mmu import X86Mmu
from kernmem.hardware.x86_64.simulated import SimulatedX86
from kernmem.language import PhysicalAddress

ROOT, POINTERS, DIRECTORY, TABLE, SPARE = 0x20_1000, 0x20_2000, 0x20_3000, 0x20_4000, 0x20_5000
OTHER_ROOT, LOW_POINTERS, LOW_DIRECTORY = 0x20_6000, 0x20_7000, 0x20_8000
FRAMES = 0x30_0000
ROOTS = 0x40_0000
PAGE, BLOCK = 0x1000, 0x20_0000
PAGES = 0x80_0000_0000  # an address that nothing else uses: index 1 of the root
LINK = 0x27  # A, U/S, R/W, P
KERNEL_PAGE = 0x63  # D, A, R/W, P
KERNEL_BLOCK = 0xE3
WRITABLE, USER, ACCESSED, DIRTY, GLOBAL, NEVER = 1 << 1, 1 << 2, 1 << 5, 1 << 6, 1 << 8, 1 << 63
PGE = 1 << 7


class Bench(TableBench):
    """The PC with paging on: the first GiB linear in blocks, and a table for a few pages."""

    def __init__(self, mmu_class: type[X86Mmu] | None = None, *, pcids: bool = True) -> None:
        super().__init__(
            replace(PC, simulated_mmu=partial(SimulatedX86, pcids=pcids)),
            mmu_class,
            root=ROOT,
            table=TABLE,
            pages=PAGES,
            frames=FRAMES,
            page_length=PAGE,
            normal=KERNEL_PAGE,
        )
        for index in range(512):
            self.store(LOW_DIRECTORY, index, index * BLOCK | KERNEL_BLOCK)
        self.store(LOW_POINTERS, 0, LOW_DIRECTORY | LINK)
        for root in (ROOT, OTHER_ROOT):
            self.store(root, 0, LOW_POINTERS | LINK)
        self.store(ROOT, 1, POINTERS | LINK)
        self.store(POINTERS, 0, DIRECTORY | LINK)
        self.store(DIRECTORY, 0, TABLE | LINK)
        self.mmu.enable(PhysicalAddress(ROOT))

    def entry(self, number: int) -> int:
        """The entry of a page, as it stands in memory."""
        return int.from_bytes(self.model.read_physical(TABLE + 8 * number, 8), "little")

    def invlpg(self, number: int) -> None:
        """Invalidate a page."""
        self.simulated.execute("invlpg", self.virtual(number))

    def set_pge(self, on: bool) -> None:
        """Global pages on or off."""
        cr4 = self.simulated.execute("mov r, cr4")
        self.simulated.execute("mov cr4", cr4 | PGE if on else cr4 & ~PGE)

    def new_root(self, number: int, frame: int) -> PhysicalAddress:
        """A root of its own for one of a few spaces, whose first page is one of the frames."""
        base = ROOTS + number * 4 * PAGE
        self.store(base, 0, LOW_POINTERS | LINK)
        self.store(base + 3 * PAGE, 0, self.page(frame))
        self.store(base + 2 * PAGE, 0, base + 3 * PAGE | LINK)
        self.store(base + PAGE, 0, base + 2 * PAGE | LINK)
        self.store(base, 1, base + PAGE | LINK)
        return PhysicalAddress(base)

    def set_global(self, root: PhysicalAddress, frame: int | None) -> None:
        """Map the first page of one of those roots global, or unmap it, and nothing more."""
        entry = 0 if frame is None else self.page(frame, KERNEL_PAGE | GLOBAL)
        self.store(int(root) + 3 * PAGE, 0, entry)

    def write(self, number: int, value: int = 99) -> None:
        """Store to a page, away from its number."""
        self.model.store(self.virtual(number) + 8, value)

    def translate(self, number: int, access: Access, *, user: bool = False) -> int:
        """Where an access goes."""
        return self.simulated.translate(self.virtual(number), access, user=user).physical
