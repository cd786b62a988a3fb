"""A model machine whose tables a test changes by hand, one store and one barrier at a time."""

from __future__ import annotations

from hardware.bench import TableBench
from kernmem.hardware.armv7.mmu import Armv7Mmu
from kernmem.hardware.armv7_virt import ARMV7_VIRT
from kernmem.hardware.virt import PROGRAM
from kernmem.memory.address_spaces import SPACES

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


class Bench(TableBench):
    """The board with its MMU on: the program linear in each root, and a table for a few pages."""

    def __init__(self, mmu_class: type[Armv7Mmu] | None = None, *, enable: bool = True) -> None:
        super().__init__(
            ARMV7_VIRT,
            mmu_class,
            root=ROOT,
            table=TABLE,
            pages=PAGES,
            frames=FRAMES,
            page_length=PAGE,
            normal=NORMAL_PAGE,
        )
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

    # Actions ------------------------------------------------------------------------------

    def set_global(self, root: int, *, mapped: bool) -> None:
        """Map the pages in a root by a global section, or unmap them, and nothing more."""
        section = FRAMES | NORMAL_SECTION & ~SECTION_NOT_GLOBAL
        self.store(root, PAGES // SECTION, section if mapped else 0)
