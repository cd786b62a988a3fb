"""A model machine whose tables a test changes by hand, one store and one barrier at a time."""

from __future__ import annotations

import dataclasses

from kernmem.hardware.aarch64.mmu import Aarch64Mmu
from kernmem.hardware.lab import LAB
from kernmem.language import (
    Component,
    Image,
    ModelViolation,
    PhysicalAddress,
    VirtualAddress,
    u32,
    usize,
)
from kernmem.machine.model import Model
from kernmem.memory.architecture import Hardware, Mapping

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


class Kernel(Component):
    """No kernel at all: the test calls the hardware's parts itself."""

    def __init__(self, image: Image, hardware: Hardware) -> None:
        super().__init__(image)
        self.hardware = hardware


class Bench:
    """The lab with its MMU on: RAM linear in one block, and a table for a few pages.

    ``virtual(i)`` is the i-th of those pages, unmapped; ``frame(i)`` a page of memory, in which
    the number ``i`` is stored.
    """

    def __init__(self, mmu_class: type[Aarch64Mmu] = Aarch64Mmu, *, enable: bool = True) -> None:
        def build(image: Image) -> Hardware:
            built = LAB.build(image)
            if mmu_class is Aarch64Mmu:
                return built
            mmu = mmu_class.__new__(mmu_class)  # with the state that was reserved already
            vars(mmu).update(vars(built.mmu))
            return dataclasses.replace(built, mmu=mmu)

        hardware = dataclasses.replace(LAB, build=build)
        self.model = Model(hardware, Kernel)
        assert isinstance(self.model.kernel, Kernel)
        self.hardware = self.model.kernel.hardware
        self.mmu = self.hardware.mmu
        self.simulated = self.model.memory.mmu
        for number in range(16):
            self.model.write_physical(self.frame(number), number.to_bytes(8, "little"))
        for root in (ROOT, OTHER_ROOT):
            self.store(root, LAB.program.start // BLOCK, self.block(LAB.program.start))
        self.store(ROOT, PAGES // BLOCK, self.link(TABLE))
        if enable:
            self.mmu.enable(PhysicalAddress(ROOT))

    # Numbers ------------------------------------------------------------------------------

    def virtual(self, number: int) -> int:
        """The address of a page."""
        return PAGES + number * PAGE

    def frame(self, number: int) -> int:
        """The physical address of a page of memory."""
        return FRAMES + number * PAGE

    def page(self, number: int, bits: int = NORMAL_PAGE) -> int:
        """The entry that maps a frame."""
        return self.frame(number) | bits

    def block(self, physical: int) -> int:
        """The entry that maps 512 MiB."""
        return int(self.hardware.format.leaf(PhysicalAddress(physical), Mapping.KERNEL, u32(1)))

    def link(self, table: int) -> int:
        """The entry that leads to a table."""
        return int(self.hardware.format.table(PhysicalAddress(table)))

    # Actions ------------------------------------------------------------------------------

    def store(self, table: int, index: int, entry: int) -> None:
        """Store an entry, and nothing more."""
        self.hardware.format.write(PhysicalAddress(table), usize(index), usize(entry))

    def set(self, number: int, entry: int) -> None:
        """Store the entry of a page, and nothing more."""
        self.store(TABLE, number, entry)

    def do(self, *instructions: str) -> None:
        """Execute instructions; an operand, in hex, follows a comma."""
        for instruction in instructions:
            name, _, operand = instruction.partition(",")
            self.simulated.execute(name, int(operand or "0", 16))

    def tlbi(self, operation: str, address: int, asid: int = 0, hint: int = 0) -> None:
        """Invalidate by address."""
        operand = asid << 48 | hint << 44 | address >> 12
        self.simulated.execute(f"tlbi {operation}", operand)

    def map(self, number: int, frame: int, bits: int = NORMAL_PAGE) -> None:
        """Map a page correctly."""
        self.set(number, self.page(frame, bits))
        self.mmu.publish_page(self.root, VirtualAddress(self.virtual(number)), is_global=False)

    def unmap(self, number: int) -> None:
        """Unmap a page correctly."""
        self.set(number, 0)
        self.mmu.retire_page(self.root, VirtualAddress(self.virtual(number)), is_global=False)

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

    def read(self, number: int) -> int:
        """What the memory behind a page says: the number of its frame."""
        return self.model.load(self.virtual(number))


class Broken:
    """``with broken("RULE") as facts:`` the block must raise this violation."""

    def __init__(self, rule: str) -> None:
        self.rule = rule
        self.text = ""

    def __enter__(self) -> Broken:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> bool:
        assert isinstance(error, ModelViolation), f"{self.rule} was not noticed: {error!r}"
        assert error.rule == self.rule, f"{self.rule} was noticed as {error}"
        self.text = str(error)
        return True
