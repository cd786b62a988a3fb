"""Weaken the MMU driver by one instruction: the model must notice, whichever it is.

Each mutant of :class:`X86Mmu` lacks one call of an instruction.  All run the same workload, in
which the original is clean.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator

import pytest

from hardware.x86_64.bench import (  # fmt: skip
    BLOCK,
    DIRECTORY,
    KERNEL_PAGE,
    LINK,
    NEVER,
    OTHER_ROOT,
    PAGES,
    ROOT,
    TABLE,
    WRITABLE,
    Bench,
)
from kernmem.hardware.x86_64 import mmu
from kernmem.hardware.x86_64.mmu import X86Mmu
from kernmem.language import ModelViolation, PageFault, PhysicalAddress, VirtualAddress

EXEMPT = ("rdmsr", "read_cr0", "read_cr4", "compiler_barrier")
"""Reads; and what is no instruction: the model interprets, and no compiler reorders."""


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    """Every ``self.cpu.instruction(…)`` in the class that a mutant can lack, in order."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Attribute(attr="cpu"), attr=name)):
                if name not in EXEMPT:
                    yield node


def parse() -> ast.Module:
    """The source of the class."""
    return ast.parse(textwrap.dedent(inspect.getsource(X86Mmu)))


def mutations() -> Iterator[tuple[int, str]]:
    """The number of a call, and a name for the test."""
    tree = parse()
    for method in ast.walk(tree):
        if isinstance(method, ast.FunctionDef):
            for call in calls(method):
                assert isinstance(call.func, ast.Attribute)
                number = [each.lineno for each in calls(tree)].index(call.lineno)
                yield number, f"{method.name}: no {call.func.attr}"


def mutant(number: int) -> type[X86Mmu]:
    """The class without one call."""
    tree = parse()
    call = list(calls(tree))[number]
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and node.value is call:
            node.value = ast.Constant(None)
    namespace = dict(vars(mmu))
    exec(compile(ast.fix_missing_locations(tree), mmu.__file__, "exec"), namespace)
    result: type[X86Mmu] = namespace["X86Mmu"]
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


def workload(mmu_class: type[X86Mmu]) -> None:
    """Everything that the interface promises, each followed by an access that relies on it."""
    bench = Bench(mmu_class)
    page = VirtualAddress(bench.virtual(0))
    # enable: the new table is in use, R/W binds the kernel, XD is known.
    bench.map(0, 1)
    assert bench.read(0) == 1
    bench.map(1, 2, KERNEL_PAGE & ~WRITABLE | NEVER)
    assert bench.read(1) == 2
    refused(bench, bench.virtual(1), 1)
    # retire_page: permissions, another frame, unmap.
    bench.set(0, bench.page(1, KERNEL_PAGE & ~WRITABLE))
    bench.mmu.retire_page(bench.root, page)
    refused(bench, int(page), 1)
    bench.unmap(0)
    refused(bench, int(page))
    # retire_range: of many pages, as of few.
    for number in range(2, 8):
        bench.map(number, number)
        assert bench.read(number) == number
    for number in range(2, 8):
        bench.set(number, 0)
    bench.mmu.retire_range(bench.root, page, VirtualAddress(bench.virtual(63)))
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
    bench.mmu.switch(PhysicalAddress(OTHER_ROOT))
    refused(bench, PAGES + BLOCK)
    bench.mmu.switch(PhysicalAddress(ROOT))
    assert bench.model.load(PAGES + BLOCK) == 4


def test_the_original_is_clean() -> None:
    """No complaint at all."""
    workload(X86Mmu)


@pytest.mark.parametrize("number", [pytest.param(number, id=name) for number, name in mutations()])
def test_every_instruction_is_needed(number: int) -> None:
    """Without it, the model finds a violation, or an access ends otherwise."""
    with pytest.raises((ModelViolation, PageFault, Noticed)):
        workload(mutant(number))
