"""Weaken the MMU driver by one instruction: the model must notice, whichever it is.

Each mutant of :class:`X86Mmu` lacks one call of an instruction, or has something weaker in a
place.  All run the same workload, in which the original is clean.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from hardware.bench import STEPS, change_global_pages, made, written_out
from hardware.x86_64.bench import (  # fmt: skip
    BLOCK,
    DIRECTORY,
    KERNEL_PAGE,
    LINK,
    NEVER,
    OTHER_ROOT,
    PAGES,
    PGE,
    ROOT,
    TABLE,
    WRITABLE,
    Bench,
)
from kernmem.hardware.x86_64.mmu import X86Mmu
from kernmem.language import ModelViolation, PageFault, PhysicalAddress, VirtualAddress
from kernmem.memory.address_spaces import SPACES

BARRIERS = (
    "self.cpu.compiler_barrier()",
    "self.order_tables()",
    "self.complete()",
    "self.publish_page(table, start, is_global)",
)
"""No instruction in any: the model interprets, and no compiler reorders."""


MUST = "self.spaces.must_invalidate(table, is_global)"

WEAKER = [
    ("enable", "cr4 | PGE", "cr4"),
    ("enable", "self.spaces.start(pcids)", "self.spaces.start(usize(8))"),
    ("switch", "kept and ", ""),
    ("switch", "self.spaces.info.current", "0"),
    ("retire_page", MUST, "True"),
    ("retire_page", MUST, MUST.replace("is_global", "False")),
    ("retire_range", MUST, "True"),
    ("retire_range", MUST, MUST.replace("is_global", "False")),
    ("invalidate_all", "if is_global", "if False"),
    ("forget", "self.spaces.forget(table)", "pass"),
]
"""A method, a text in it, and what takes its place."""


def missing() -> Iterator[tuple[str, str, str]]:
    """Every ``self.cpu.instruction(…)`` and step that stands alone, to be left out."""
    for method in ast.walk(written_out(X86Mmu)):
        if isinstance(method, ast.FunctionDef):
            for node in ast.walk(method):
                match node:
                    case ast.Expr(ast.Call(ast.Attribute(value=ast.Attribute(attr="cpu")))):
                        pass
                    case ast.Expr(ast.Call(ast.Attribute(ast.Name("self"), attr=name))):
                        if name not in STEPS:
                            continue
                    case _:
                        continue
                text = ast.unparse(node)
                if text not in BARRIERS:
                    yield method.name, text, "pass"


def mutant(method: str, old: str, new: str) -> type[X86Mmu]:
    """The class with one place changed."""
    tree = written_out(X86Mmu)
    (found,) = (
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == method
    )
    body = ast.unparse(found.body[1:])  # without its docstring
    assert body.count(old) == 1, f"{method} has {old!r} not once: mend the list of mutations"
    found.body = ast.parse(body.replace(old, new)).body
    result: type[X86Mmu] = made(tree, X86Mmu)
    return result


class Noticed(Exception):
    """An access did not do what the interface promises."""


def refused(bench: Bench, address: int, value: int | None = None) -> None:
    """A load, or a store, must fault."""
    try:
        if value is None:
            bench.model.load(address)
        else:
            bench.model.store(address, value)
    except PageFault:
        return
    raise Noticed(f"{address:#x}")


def workload(mmu_class: type[X86Mmu], *, pcids: bool) -> None:
    """Everything that the interface promises, each followed by an access that relies on it."""
    bench = Bench(mmu_class, pcids=pcids)
    page = VirtualAddress(bench.virtual(0))
    # enable: the new table is in use, R/W binds the kernel, XD is known.
    bench.map(0, 1)
    assert bench.read(0) == 1
    bench.map(1, 2, KERNEL_PAGE & ~WRITABLE | NEVER)
    assert bench.read(1) == 2
    refused(bench, bench.virtual(1), 1)
    # retire_page: permissions, another frame, unmap.
    bench.set(0, bench.page(1, KERNEL_PAGE & ~WRITABLE))
    bench.mmu.retire_page(bench.root, page, is_global=False)
    refused(bench, int(page), 1)
    bench.unmap(0)
    refused(bench, int(page))
    # retire_range: of many pages, as of few.
    for number in range(2, 8):
        bench.map(number, number)
        assert bench.read(number) == number
    for number in range(2, 8):
        bench.set(number, 0)
    bench.mmu.retire_range(bench.root, page, VirtualAddress(bench.virtual(63)), is_global=False)
    for number in range(2, 8):
        refused(bench, bench.virtual(number))
    # retire_range: an empty table is unlinked, its page used for something else.
    bench.unmap(1)
    bench.store(DIRECTORY, 0, 0)
    bench.retire_range(page)
    bench.store(TABLE, 0, 0x1234_5678)
    bench.store(TABLE, 0, bench.page(4))
    bench.store(DIRECTORY, 1, TABLE | LINK)
    bench.publish()
    assert bench.model.load(PAGES + BLOCK) == 4
    # switch: nothing of the other table is left.
    for _ in range(2):
        bench.mmu.switch(PhysicalAddress(OTHER_ROOT))
        refused(bench, PAGES + BLOCK)
        bench.mmu.switch(PhysicalAddress(ROOT))
        assert bench.model.load(PAGES + BLOCK) == 4
    # A space that is not in use is changed all the same, a leaf or a whole table.
    bench.mmu.switch(PhysicalAddress(OTHER_ROOT))
    bench.set(0, 0)
    bench.mmu.retire_page(bench.root, VirtualAddress(PAGES + BLOCK), is_global=False)
    bench.mmu.switch(PhysicalAddress(ROOT))
    refused(bench, PAGES + BLOCK)
    bench.map(0, 4)
    bench.mmu.switch(PhysicalAddress(OTHER_ROOT))
    bench.store(DIRECTORY, 1, 0)
    bench.retire_range(PAGES + BLOCK)
    bench.mmu.switch(PhysicalAddress(ROOT))
    refused(bench, PAGES + BLOCK)
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

    def set_global(space: PhysicalAddress, mapped: bool) -> None:
        assert bench.simulated.registers()["cr4"] & PGE, "the last retirement left PGE clear"
        bench.set_global(space, 6 if mapped else None)

    change_global_pages(bench, spaces, OTHER_ROOT, set_global, reads=(0, 6), many=64)
    assert bench.simulated.registers()["cr4"] & PGE, "the last retirement left PGE clear"


def workloads(mmu_class: type[X86Mmu]) -> None:
    """On processors with PCIDs and without."""
    for pcids in (True, False):
        workload(mmu_class, pcids=pcids)


def test_the_original_is_clean() -> None:
    """No complaint at all."""
    workloads(X86Mmu)


@pytest.mark.parametrize(
    ("method", "old", "new"),
    [
        pytest.param(*each, id=f"{each[0]}: {each[2]} for {each[1]}")
        for each in (*missing(), *WEAKER)
    ],
)
def test_every_instruction_is_needed(method: str, old: str, new: str) -> None:
    """Without it, the model finds a violation, or an access ends otherwise."""
    weaker = mutant(method, old, new)
    with pytest.raises((ModelViolation, PageFault, Noticed, AssertionError)):
        workloads(weaker)
