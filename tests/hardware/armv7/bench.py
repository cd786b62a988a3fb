"""A model machine whose tables a test changes by hand, one store and one barrier at a time."""

from __future__ import annotations

import dataclasses

from kernmem.hardware.armv7.mmu import Armv7Mmu
from kernmem.hardware.armv7_virt import ARMV7_VIRT
from kernmem.hardware.virt import PROGRAM
from kernmem.language import (
    Component,
    Image,
    ModelViolation,
    PhysicalAddress,
    VirtualAddress,
    usize,
)
from kernmem.machine.model import Model
from kernmem.memory.address_spaces import SPACES
from kernmem.memory.architecture import Hardware

ROOT = 0x4100_0000
OTHER_ROOT = 0x4101_0000  # the first of several
TABLE = 0x4108_0000  # the level 2 table of the addresses from PAGES on
SPARE = 0x4109_0000  # a page that is no table yet
FRAMES = 0x4200_0000
PAGE = 0x1000
SECTION = 0x10_0000
PAGES = 0xC000_0000  # an address that nothing else uses

# Attributes, as the manual prints them: nG S AP[2] TEX AP[1:0] C B type, and XN in the type
NORMAL_PAGE = 0b1_1_0_001_01_1_1_10
NORMAL_SECTION = 0b1_1_0_001_01_0_0000_0_1_1_10
READ_ONLY = 1 << 9
NOT_GLOBAL = 1 << 11
SECTION_NOT_GLOBAL = 1 << 17
EXECUTE_NEVER = 1 << 0


class Kernel(Component):
    """No kernel at all: the test calls the hardware's parts itself."""

    def __init__(self, image: Image, hardware: Hardware) -> None:
        super().__init__(image)
        self.hardware = hardware


class Bench:
    """The board with its MMU on: the program linear in each root, and a table for a few pages.

    ``virtual(i)`` is the i-th of those pages, unmapped; ``frame(i)`` a page of memory, in which
    the number ``i`` is stored.
    """

    root = PhysicalAddress(ROOT)

    def __init__(self, mmu_class: type[Armv7Mmu] = Armv7Mmu, *, enable: bool = True) -> None:
        def build(image: Image) -> Hardware:
            built = ARMV7_VIRT.build(image)
            if mmu_class is Armv7Mmu:
                return built
            mmu = mmu_class.__new__(mmu_class)  # with the state that was reserved already
            vars(mmu).update(vars(built.mmu))
            return dataclasses.replace(built, mmu=mmu)

        self.model = Model(dataclasses.replace(ARMV7_VIRT, build=build), Kernel)
        assert isinstance(self.model.kernel, Kernel)
        self.hardware = self.model.kernel.hardware
        self.mmu = self.hardware.mmu
        self.simulated = self.model.memory.mmu
        for number in range(8):
            self.model.write_physical(self.frame(number), number.to_bytes(8, "little"))
        self.other_roots = [OTHER_ROOT + number * 0x4000 for number in range(SPACES + 1)]
        # The program in sections, and so the tables, which the tests store to.
        linear = range(PROGRAM.start, PROGRAM.end, SECTION), range(ROOT, ROOT + SECTION, SECTION)
        for root in (ROOT, *self.other_roots):
            for address in (*linear[0], *linear[1]):
                self.store(root, address // SECTION, address | NORMAL_SECTION)
        self.store(ROOT, PAGES // SECTION, TABLE | 0b01)
        if enable:
            self.mmu.enable(self.root)

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

    def publish(self) -> None:
        """Publish whatever was changed."""
        self.mmu.publish_range(
            self.root, VirtualAddress(0), VirtualAddress(0xFFFF_FFFF), is_global=False
        )

    def map(self, number: int, frame: int, bits: int = NORMAL_PAGE) -> None:
        """Map a page correctly."""
        self.set(number, self.page(frame, bits))
        self.mmu.publish_page(self.root, VirtualAddress(self.virtual(number)), is_global=False)

    def unmap(self, number: int) -> None:
        """Unmap a page correctly."""
        self.set(number, 0)
        self.mmu.retire_page(self.root, VirtualAddress(self.virtual(number)), is_global=False)

    def set_global(self, root: int, *, mapped: bool) -> None:
        """Map the pages in a root by a global section, or unmap them, and nothing more."""
        section = FRAMES | NORMAL_SECTION & ~SECTION_NOT_GLOBAL
        self.store(root, PAGES // SECTION, section if mapped else 0)

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
