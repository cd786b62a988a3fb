"""A model machine whose tables a test changes by hand, one store and one instruction at a time.

Each architecture has a bench of its own, which says where things are and fills the first tables.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
import textwrap
from collections.abc import Callable
from typing import Any

from kernmem.hardware import HardwareDescription
from kernmem.language import (
    Component,
    Image,
    ModelViolation,
    PageFault,
    PhysicalAddress,
    VirtualAddress,
    usize,
)
from kernmem.machine.model import Model
from kernmem.memory.architecture import Hardware, Mmu


class Kernel(Component):
    """No kernel at all: the test calls the hardware's parts itself."""

    def __init__(self, image: Image, hardware: Hardware) -> None:
        super().__init__(image)
        self.hardware = hardware


class TableBench:
    """A board, and a table for a few pages.

    ``virtual(i)`` is the i-th of those pages, unmapped; ``frame(i)`` a page of memory, in which
    the number ``i`` is stored.

    Args:
        mmu_class: the driver, if not the board's own.
        root: the root table of all the pages.
        table: the lowest table, whose first entry is for the address ``pages``.
        frames: where the frames are, of ``page_length`` bytes each.
        normal: what an entry says of an ordinary page, beside its address.
    """

    def __init__(
        self,
        board: HardwareDescription,
        mmu_class: type[Mmu] | None,
        *,
        root: int,
        table: int,
        pages: int,
        frames: int,
        page_length: int,
        normal: int,
    ) -> None:
        self.root = PhysicalAddress(root)
        self.table = table
        self.pages = pages
        self.frames = frames
        self.page_length = page_length
        self.normal = normal

        def build(image: Image) -> Hardware:
            built = board.build(image)
            if mmu_class is None:
                return built
            mmu = mmu_class.__new__(mmu_class)  # with the state that was reserved already
            vars(mmu).update(vars(built.mmu))
            return dataclasses.replace(built, mmu=mmu)

        self.model = Model(dataclasses.replace(board, build=build), Kernel)
        assert isinstance(self.model.kernel, Kernel)
        self.hardware = self.model.kernel.hardware
        self.mmu = self.hardware.mmu
        self.simulated = self.model.memory.mmu
        for number in range(16):
            self.model.write_physical(self.frame(number), number.to_bytes(8, "little"))

    # Numbers ------------------------------------------------------------------------------

    def virtual(self, number: int) -> int:
        """The address of a page."""
        return self.pages + number * self.page_length

    def frame(self, number: int) -> int:
        """The physical address of a page of memory."""
        return self.frames + number * self.page_length

    def page(self, number: int, bits: int | None = None) -> int:
        """The entry that maps a frame, where addresses stand in it as they are."""
        return self.frame(number) | (self.normal if bits is None else bits)

    # Actions ------------------------------------------------------------------------------

    def store(self, table: int, index: int, entry: int) -> None:
        """Store an entry, and nothing more."""
        self.hardware.format.write(PhysicalAddress(table), usize(index), usize(entry))

    def set(self, number: int, entry: int) -> None:
        """Store the entry of a page, and nothing more."""
        self.store(self.table, number, entry)

    def do(self, *instructions: str) -> None:
        """Execute instructions; an operand, in hex, follows a comma."""
        for instruction in instructions:
            name, _, operand = instruction.partition(",")
            self.simulated.execute(name, int(operand or "0", 16))

    def map(self, number: int, frame: int, bits: int | None = None) -> None:
        """Map a page correctly."""
        self.set(number, self.page(frame, bits))
        self.mmu.publish_page(self.root, VirtualAddress(self.virtual(number)), is_global=False)

    def unmap(self, number: int) -> None:
        """Unmap a page correctly."""
        self.set(number, 0)
        self.mmu.retire_page(self.root, VirtualAddress(self.virtual(number)), is_global=False)

    def publish(self) -> None:
        """Let the walker see new entries, of tables too."""
        first = VirtualAddress(self.pages)
        self.mmu.publish_range(self.root, first, first, is_global=False)

    def retire_range(self, address: int) -> None:
        """Forget what was known of an address, tables too."""
        place = VirtualAddress(address)
        self.mmu.retire_range(self.root, place, place, is_global=False)

    def read(self, number: int) -> int:
        """What the memory behind a page says: the number of its frame."""
        return self.model.load(self.virtual(number))

    def answers(self, number: int) -> bool:
        """Whether a page can be read."""
        try:
            self.read(number)
        except PageFault:
            return False
        return True


def change_global_pages(
    bench: TableBench,
    spaces: list[PhysicalAddress],
    elsewhere: int,
    set_global: Callable[[PhysicalAddress, bool], None],
    *,
    reads: tuple[int, int],
    many: int,
) -> None:
    """A page that two spaces have is mapped and unmapped in both, while neither is in use.

    Args:
        elsewhere: the root of a space that does not have it.
        set_global: stores the entry of a space, or clears it; for the first of the bench's pages.
        reads: the number of the page that is read, and what the frame behind it says.
        many: how many pages the longest range has that is told to the MMU.
    """
    page = VirtualAddress(bench.virtual(0))
    for pages in (0, 1, many):
        for space in spaces:
            set_global(space, True)
            bench.mmu.publish_page(space, page, is_global=True)
        for space in spaces:
            bench.mmu.switch(space)
            assert bench.read(reads[0]) == reads[1]
        bench.mmu.switch(PhysicalAddress(elsewhere))
        for space in spaces:
            set_global(space, False)
            if pages == 0:
                bench.mmu.retire_page(space, page, is_global=True)
            else:
                last = VirtualAddress(bench.virtual(pages) - 1)
                bench.mmu.retire_range(space, page, last, is_global=True)
        for space in spaces:
            bench.mmu.switch(space)
            assert not bench.answers(reads[0]), "a page is read that was unmapped in every space"
        bench.mmu.switch(PhysicalAddress(elsewhere))


# A driver, to be weakened -----------------------------------------------------------------------

STEPS = (
    "order_tables",
    "publish_page",
    "invalidate_leaf",
    "invalidate",
    "invalidate_all",
    "complete",
)
"""What drivers are made of; a call of one can be left out, as an instruction can."""


def written_out(driver: type[Mmu]) -> ast.Module:
    """The source of a driver's class, with all methods that it inherits in it."""
    tree = class_source(driver)
    (body,) = (each.body for each in tree.body if isinstance(each, ast.ClassDef))
    for base in bases(driver):
        known = {each.name for each in body if isinstance(each, ast.FunctionDef)}
        (inherited,) = class_source(base).body
        assert isinstance(inherited, ast.ClassDef)
        body += [
            each
            for each in inherited.body
            if isinstance(each, ast.FunctionDef) and each.name not in known
        ]
    return tree


def class_source(cls: type) -> ast.Module:
    """The source of one class alone."""
    return ast.parse(textwrap.dedent(inspect.getsource(cls)))


def bases(driver: type[Mmu]) -> tuple[type, ...]:
    """The drivers that a driver inherits from, the nearest first."""
    return driver.__mro__[1 : driver.__mro__.index(Mmu)]


def made(tree: ast.Module | str, driver: type[Mmu]) -> Any:
    """The class of changed source, which was :func:`written_out` of a driver."""
    names: dict[str, Any] = {}
    for each in reversed((driver, *bases(driver))):
        names.update(vars(sys.modules[each.__module__]))
    if isinstance(tree, ast.Module):
        tree = ast.unparse(tree)
    file = inspect.getfile(driver)
    exec(compile("from __future__ import annotations\n" + tree, file, "exec"), names)
    return names[driver.__name__]


class Broken:
    """``with Broken("RULE") as facts:`` the block must raise this violation."""

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
