"""Leave out, or weaken, one call of the MMU driver in ``memory/virtual.py``: the model notices.

The counterpart of ``test_mutations.py``, one floor up.
"""

from __future__ import annotations

import ast
import inspect
import random
import textwrap
from collections.abc import Iterator

import pytest

from kernmem.hardware import find
from kernmem.language import ModelViolation, PageFault, u32
from kernmem.machine.model import Model
from kernmem.memory import manager, virtual
from kernmem.memory.manager import MemoryManager
from kernmem.memory.profile import spec
from kernmem.memory.virtual import PagetableStatus, VirtualMemory

BOARDS = ("lab", "virt", "virt-16k", "virt-64k")  # from 2 levels of tables to 4
PAGES = 0x80_0000_0000  # above every linear space, and within the width of physical addresses

EQUIVALENT = {
    "_split: no order_tables": "the retire that follows has the same barrier",
    "_split: no publish_range": "the retire that follows, of the page unmapped, does as much",
    "delete_pagetable: no forget": "there is nothing to forget",
    "enable_pagetable: no enable": "then there is no MMU to complain",
}
"""Mutants that do nothing wrong."""


def calls(tree: ast.AST) -> Iterator[ast.Expr]:
    """Every statement ``self.mmu.method(…)``, in order."""
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Attribute(attr="mmu")))):
                yield node


def parse() -> ast.Module:
    """The source of the class."""
    return ast.parse(textwrap.dedent(inspect.getsource(VirtualMemory)))


def called(statement: ast.Expr) -> ast.Attribute:
    """The ``self.mmu.method`` of such a statement."""
    assert isinstance(statement.value, ast.Call)
    assert isinstance(statement.value.func, ast.Attribute)
    return statement.value.func


def mutants() -> Iterator[tuple[int, str | None, str]]:
    """The number of a call, what replaces it, and a name."""
    tree = parse()
    owner = {
        call: method.name
        for method in ast.walk(tree)
        if isinstance(method, ast.FunctionDef)
        for call in calls(method)
    }
    for number, call in enumerate(calls(tree)):
        name = called(call).attr
        for weaker in (None, "retire_page") if name == "retire_range" else (None,):
            title = f"{owner[call]}: " + (f"{weaker} for {name}" if weaker else f"no {name}")
            if title not in EQUIVALENT:
                yield number, weaker, title


def mutant(number: int, weaker: str | None) -> type[VirtualMemory]:
    """The class with one call changed."""
    tree = parse()
    call = list(calls(tree))[number]
    if weaker is None:
        call.value = ast.Constant(None)
    else:
        called(call).attr = weaker
        assert isinstance(call.value, ast.Call)
        del call.value.args[2:]
    namespace = dict(vars(virtual))
    exec(compile(ast.fix_missing_locations(tree), virtual.__file__, "exec"), namespace)
    result: type[VirtualMemory] = namespace["VirtualMemory"]
    return result


def readable(machine: Model, address: int) -> bool:
    """Whether an address is translated; there need not be memory."""
    try:
        machine.load(address)
    except PageFault as fault:
        return fault.syndrome is None
    return True


def workload(monkeypatch: pytest.MonkeyPatch, board: str, mutated: type[VirtualMemory]) -> None:
    """Change the linear space while it is in use, and rely on every change."""
    monkeypatch.setattr(manager, "VirtualMemory", mutated)
    hardware = find(board)
    machine = Model(hardware, lambda image, parts: MemoryManager(image, parts, spec()))
    parts = machine.kernel
    assert isinstance(parts, MemoryManager)
    page = parts.virtual.entries.page_length
    block_length = 1 << int(parts.virtual.entries.shift(u32(1)))
    machine.init_memory()
    machine.enter_linear_space()
    table = machine.linear_space_info.pagetable
    frame = machine.alloc_physical_page()
    generator = random.Random(5)
    for _ in range(150):
        address = PAGES + generator.randrange(2) * block_length + generator.randrange(4) * page
        if generator.random() < 0.5:
            machine.pagetable_map(table, address, frame)
        else:
            machine.pagetable_unmap(table, address)
        assert readable(machine, address) == bool(machine.pagetable_get_translation(table, address))
    block = PAGES + 8 * block_length
    for start, end in (
        (block, block + block_length),
        (block + block_length, block + block_length + 2 * page),
    ):
        assert machine.pagetable_map_linear(table, start, end) == PagetableStatus.OK
        assert readable(machine, start)
    assert machine.pagetable_unmap(table, block + 5 * page) == PagetableStatus.OK
    assert readable(machine, block)
    assert not readable(machine, block + 5 * page)
    other = machine.create_pagetable()
    (ram,), (device,) = hardware.ram, parts.linear_space.devices
    for start, end in ((ram.start, ram.end), (device.start, device.end)):
        assert machine.pagetable_map_linear(other, start, end) == PagetableStatus.OK
    machine.switch_pagetable(other)
    if readable(machine, block):
        raise ModelViolation("NOT_SWITCHED", "the old address space is still in use")
    machine.switch_pagetable(table)


@pytest.mark.parametrize("board", BOARDS)
def test_the_original_is_clean(monkeypatch: pytest.MonkeyPatch, board: str) -> None:
    """No complaint at all."""
    workload(monkeypatch, board, VirtualMemory)


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize(
    ("number", "weaker"),
    [pytest.param(number, weaker, id=name) for number, weaker, name in mutants()],
)
def test_every_call_is_needed(
    monkeypatch: pytest.MonkeyPatch, board: str, number: int, weaker: str | None
) -> None:
    """Without it, the model finds a violation."""
    with pytest.raises(ModelViolation):
        workload(monkeypatch, board, mutant(number, weaker))
