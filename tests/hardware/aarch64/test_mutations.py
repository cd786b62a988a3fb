"""Weaken the MMU driver by one instruction: the model must notice, whichever it is.

Each mutant of :class:`Aarch64Mmu` lacks one call of an instruction, or has a weaker one in its
place.  All run the same workload, in which the original is clean.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from hardware.aarch64.bench import (
    BLOCK,
    NORMAL_PAGE,
    OTHER_ROOT,
    PAGES,
    READ_ONLY,
    ROOT,
    SPARE,
    TABLE,
    Bench,
)
from hardware.bench import STEPS, change_global_pages, made, written_out
from kernmem.hardware.aarch64.mmu import Aarch64Mmu
from kernmem.language import ModelViolation, PageFault, PhysicalAddress, VirtualAddress
from kernmem.memory.address_spaces import SPACES

WEAKER = {
    "dsb_ish": ["self.cpu.dsb_ishst()"],
    "dsb_nsh": ["self.cpu.dsb_ishst()"],
    "tlbi_vaae1is": ["self.cpu.tlbi_vaale1is(usize(address) >> PAGE_SHIFT)"],
    "invalidate": ["self.invalidate_leaf(address)"],
    "must_invalidate": ["True", "self.spaces.must_invalidate(table, False)"],
}
"""What is weaker than a call, but not nothing."""

VALUES = ("read_sctlr", "read_memory_features", "must_invalidate")
"""Calls for the sake of a value, which cannot be left out."""

PLAIN = ("write_sctlr", "switch: no write_ttbr0")
"""Without these nothing is done at all, which any test sees."""


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    """Every ``self.cpu.instruction(…)`` and step, and what gives up an ASID, in order."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Attribute(attr="cpu"))):
                yield node
            case ast.Call(func=ast.Attribute(attr="forget" | "must_invalidate")):
                yield node
            case ast.Call(func=ast.Attribute(value=ast.Name("self"), attr=name)) if name in STEPS:
                yield node


def mutations() -> Iterator[tuple[int, str, str]]:
    """The number of a call, what replaces it, and a name for the test."""
    tree = written_out(Aarch64Mmu)
    owner = {
        call: method.name
        for method in ast.walk(tree)
        if isinstance(method, ast.FunctionDef)
        for call in calls(method)
    }
    for number, call in enumerate(calls(tree)):
        assert isinstance(call.func, ast.Attribute)
        name = call.func.attr
        without = f"{owner[call]}: no {name} (line {call.lineno})"
        if name not in VALUES and not any(each in without for each in PLAIN):
            yield number, "None", without
        for weaker in WEAKER.get(name, ()):
            yield number, weaker, f"{owner[call]}: {weaker} for {name}"


def mutant(number: int, replacement: str) -> type[Aarch64Mmu]:
    """The class with one call replaced."""
    tree = written_out(Aarch64Mmu)
    call = list(calls(tree))[number]
    for node in ast.walk(tree):
        for field, value in ast.iter_fields(node):
            if value is call:
                setattr(node, field, ast.parse(replacement, mode="eval").body)
    result: type[Aarch64Mmu] = made(tree, Aarch64Mmu)
    return result


def workload(mmu_class: type[Aarch64Mmu]) -> None:
    """Everything that the interface promises, each followed by an access that relies on it."""
    bench = Bench(mmu_class)
    page = VirtualAddress(bench.virtual(0))
    # publish: a new entry is used; a new table is linked and used.
    bench.map(0, 1)
    assert bench.read(0) == 1
    bench.store(SPARE, 0, bench.page(2))
    bench.mmu.order_tables()
    bench.store(ROOT, PAGES // BLOCK + 1, bench.link(SPARE))
    bench.publish()
    assert bench.model.load(PAGES + BLOCK) == 2
    # retire_page: permissions, break before make, unmap.
    bench.set(0, bench.page(1, NORMAL_PAGE | READ_ONLY))
    bench.mmu.retire_page(bench.root, page, is_global=False)
    with pytest.raises(PageFault):
        bench.model.store(int(page), 1)
    bench.unmap(0)
    with pytest.raises(PageFault):
        bench.read(0)
    bench.map(0, 3)
    assert bench.read(0) == 3
    # retire_range: of many pages, as of few.
    for number in range(2, 8):
        bench.map(number, number)
        assert bench.read(number) == number
    for number in range(2, 8):
        bench.set(number, 0)
    bench.mmu.retire_range(bench.root, page, VirtualAddress(bench.virtual(63)), is_global=False)
    for number in range(2, 8):
        with pytest.raises(PageFault):
            bench.read(number)
    # retire_range: a table is unlinked, its page reused, its entry filled anew.
    bench.unmap(0)
    bench.store(ROOT, PAGES // BLOCK, 0)
    bench.retire_range(page)
    with pytest.raises(PageFault):
        bench.read(0)
    bench.store(TABLE, 0, 0x1234_5678)
    bench.store(TABLE, 0, bench.page(4))
    bench.mmu.order_tables()
    bench.store(ROOT, PAGES // BLOCK, bench.link(TABLE))
    bench.publish()
    assert bench.read(0) == 4
    # switch: there and back.
    for _ in range(2):
        bench.mmu.switch(PhysicalAddress(OTHER_ROOT))
        with pytest.raises(PageFault):
            bench.model.load(PAGES + BLOCK)
        bench.mmu.switch(PhysicalAddress(ROOT))
        assert bench.model.load(PAGES + BLOCK) == 2
    # A space that is not in use is changed all the same.
    bench.mmu.switch(PhysicalAddress(OTHER_ROOT))
    bench.set(0, 0)
    bench.mmu.retire_page(bench.root, page, is_global=False)
    bench.mmu.switch(PhysicalAddress(ROOT))
    with pytest.raises(PageFault):
        bench.read(0)
    bench.mmu.switch(PhysicalAddress(OTHER_ROOT))
    bench.set(1, bench.page(5))
    bench.mmu.publish_page(bench.root, VirtualAddress(bench.virtual(1)), is_global=False)
    bench.mmu.switch(PhysicalAddress(ROOT))
    assert bench.read(1) == 5
    bench.mmu.switch(PhysicalAddress(OTHER_ROOT))
    bench.store(ROOT, PAGES // BLOCK + 1, 0)
    bench.retire_range(PAGES + BLOCK)
    bench.mmu.switch(PhysicalAddress(ROOT))
    with pytest.raises(PageFault):
        bench.model.load(PAGES + BLOCK)
    # More spaces than identifiers; each maps the page to a frame of its own.
    roots = [bench.new_root(number, number) for number in range(SPACES + 2)]
    for _ in range(2):
        for number, root in enumerate(roots):
            bench.mmu.switch(root)
            assert bench.read(0) == number
    # forget: the page of a root that is gone becomes another root.
    bench.mmu.switch(bench.root)
    bench.mmu.forget(roots[-1])
    bench.mmu.switch(bench.new_root(SPACES + 1, 1))
    assert bench.read(0) == 1
    spaces = [bench.new_root(SPACES + 2 + number, 0) for number in range(2)]
    change_global_pages(
        bench,
        spaces,
        OTHER_ROOT,
        lambda space, mapped: bench.set_global(space, 6 if mapped else None),
        reads=(0, 6),
        many=64,
    )


def test_the_original_is_clean() -> None:
    """No complaint at all."""
    workload(Aarch64Mmu)


@pytest.mark.parametrize(
    ("number", "replacement"),
    [pytest.param(number, other, id=name) for number, other, name in mutations()],
)
def test_every_instruction_is_needed(number: int, replacement: str) -> None:
    """Without it, the model finds a violation."""
    with pytest.raises(ModelViolation):
        workload(mutant(number, replacement))
