"""Weaken the MMU driver by one instruction: the model must notice, whichever it is.

Each mutant of :class:`Armv7Mmu` lacks one instruction, or has a weaker one in its place.  All run
the same workload, in which the original is clean.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from hardware.armv7.bench import (
    NORMAL_PAGE,
    NORMAL_SECTION,
    OTHER_ROOT,
    PAGES,
    READ_ONLY,
    ROOT,
    SECTION,
    SPARE,
    TABLE,
    Bench,
)
from hardware.bench import STEPS, change_global_pages, made, written_out
from kernmem.hardware.armv7.mmu import Armv7Mmu
from kernmem.hardware.virt import PROGRAM
from kernmem.language import ModelViolation, PageFault, PhysicalAddress, VirtualAddress

MUST = "if not self.spaces.must_invalidate(table, is_global):"

WEAKER = [
    ("self.cpu.dsb_ish()", "self.cpu.dsb_ishst()"),
    ("self.cpu.dsb_nsh()", "self.cpu.dsb_ishst()"),
    ("self.use(from_linear(address_of(self.bridge)))", "pass"),
    ("self.build_bridge()", "pass"),
    ("self.spaces.forget(table)", "pass"),
    ("kept = self.spaces.enter(table)", "kept = self.spaces.enter(table) or True"),
    (MUST, "if False:"),
    (MUST, MUST.replace("is_global", "False")),
]
"""What is weaker than a line, but not nothing, or a line that is no instruction."""

PLAIN = "self.cpu.write_sctlr("
"""Without it nothing is done at all, which any test sees."""

CALLS = ("self.cpu.", *(f"self.{step}(" for step in STEPS))
"""What can be left out: an instruction, or a step."""


def mutations() -> Iterator[tuple[int, str, str]]:
    """The number of a line, what replaces it, and a name for the test."""
    method = ""
    for number, line in enumerate(lines()):
        words = line.strip()
        if words.startswith("def "):
            method = words[4:].partition("(")[0]
        for weaker in [weaker for text, weaker in WEAKER if text == words]:
            yield number, weaker, f"{method}: {weaker} for {words}"
        if words.startswith(CALLS) and not words.startswith(PLAIN):
            yield number, "pass", f"{method}: no {words}, line {number}"


def lines() -> list[str]:
    """The source of the class."""
    return ast.unparse(written_out(Armv7Mmu)).splitlines()


def mutant(number: int, replacement: str) -> type[Armv7Mmu]:
    """The class with one line replaced."""
    source = lines()
    line = source[number]
    source[number] = line[: len(line) - len(line.lstrip())] + replacement
    result: type[Armv7Mmu] = made("\n".join(source), Armv7Mmu)
    return result


def workload(mmu_class: type[Armv7Mmu]) -> None:
    """Everything that the interface promises, each followed by an access that relies on it."""
    bench = Bench(mmu_class)
    page = VirtualAddress(bench.virtual(0))
    # publish: a new entry is used; a new table is linked and used.
    bench.map(0, 1)
    assert bench.read(0) == 1
    bench.store(SPARE, 0, bench.page(2))
    bench.mmu.order_tables()
    bench.store(ROOT, PAGES // SECTION + 1, SPARE | 0b01)
    bench.publish()
    assert bench.model.load(PAGES + SECTION) == 2
    # retire_page: permissions, break before make, unmap.
    bench.set(0, bench.page(1, NORMAL_PAGE & ~0b11_0000 | READ_ONLY | 0b01_0000))
    bench.mmu.retire_page(bench.root, page, is_global=False)
    with pytest.raises(PageFault):
        bench.model.store(int(page), 1)
    bench.unmap(0)
    with pytest.raises(PageFault):
        bench.read(0)
    bench.map(0, 3)
    assert bench.read(0) == 3
    # retire_range: of many pages, as of few.
    for count in (8, 128):
        for number in range(2, 8):
            bench.map(number, number)
            assert bench.read(number) == number
        for number in range(2, 8):
            bench.set(number, 0)
        last = VirtualAddress(bench.virtual(count) - 1)
        bench.mmu.retire_range(bench.root, page, last, is_global=False)
        for number in range(2, 8):
            with pytest.raises(PageFault):
                bench.read(number)
    # retire_range: a table is unlinked, its page reused, its entry filled anew.
    bench.unmap(0)
    bench.store(ROOT, PAGES // SECTION, 0)
    bench.mmu.retire_range(bench.root, page, VirtualAddress(bench.virtual(1) - 1), is_global=False)
    with pytest.raises(PageFault):
        bench.read(0)
    bench.store(TABLE, 0, 0x1234_5678)
    bench.store(TABLE, 0, bench.page(4))
    bench.mmu.order_tables()
    bench.store(ROOT, PAGES // SECTION, TABLE | 0b01)
    bench.publish()
    assert bench.read(0) == 4
    # switch: to more spaces than have ASIDs, and back while the ASID is kept.
    for _ in range(3):
        for root in bench.other_roots:
            bench.mmu.switch(PhysicalAddress(root))
            with pytest.raises(PageFault):
                bench.model.load(PAGES + SECTION)
            bench.mmu.switch(bench.root)
            assert bench.model.load(PAGES + SECTION) == 2
    # retire what another space has, forget a space that is gone.
    for retire in ("retire_page", "retire_range"):
        bench.mmu.switch(PhysicalAddress(OTHER_ROOT))
        bench.set(0, 0)
        if retire == "retire_page":
            bench.mmu.retire_page(bench.root, page, is_global=False)
        else:
            bench.mmu.retire_range(
                bench.root, page, VirtualAddress(bench.virtual(1) - 1), is_global=False
            )
        bench.mmu.switch(bench.root)
        with pytest.raises(PageFault):
            bench.read(0)
        bench.map(0, 5)
        assert bench.read(0) == 5
    bench.mmu.forget(PhysicalAddress(OTHER_ROOT))
    bench.store(OTHER_ROOT, PROGRAM.start // SECTION, 0)
    bench.store(OTHER_ROOT, PROGRAM.start // SECTION, PROGRAM.start | NORMAL_SECTION)
    bench.publish()
    bench.mmu.switch(PhysicalAddress(OTHER_ROOT))
    with pytest.raises(PageFault):
        bench.read(0)
    spaces = [PhysicalAddress(root) for root in bench.other_roots[1:3]]
    change_global_pages(
        bench,
        spaces,
        OTHER_ROOT,
        lambda space, mapped: bench.set_global(space, mapped=mapped),
        reads=(1, 1),
        many=128,
    )


def test_the_original_is_clean() -> None:
    """No complaint at all."""
    workload(Armv7Mmu)


@pytest.mark.parametrize(
    ("number", "replacement"),
    [pytest.param(number, other, id=name) for number, other, name in mutations()],
)
def test_every_instruction_is_needed(number: int, replacement: str) -> None:
    """Without it, the model finds a violation."""
    with pytest.raises(ModelViolation):
        workload(mutant(number, replacement))
