"""Leave out, or weaken, one call of the MMU driver where page tables change: the model notices.

The counterpart of each architecture's ``test_mutations.py``, one floor up: there an instruction is
left out of the driver, here a call of the driver out of what is written once for all hardware.
"""

from __future__ import annotations

import ast
import inspect
import random
import textwrap
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import pytest

from kernmem.hardware import find
from kernmem.language import ModelViolation, PageFault, u32
from kernmem.machine.model import Model
from kernmem.memory import leaves, manager, tables, virtual
from kernmem.memory.architecture import Mapping
from kernmem.memory.manager import MemoryManager
from kernmem.memory.pagetable import PagetableStatus
from kernmem.memory.profile import spec

OK = PagetableStatus.OK
GLOBAL = Mapping.GLOBAL
BOARDS = (
    *("lab", "virt", "virt-16k", "virt-64k"),
    *("pc", "pc-la57"),
    *("riscv-virt", "riscv-virt-sv48", "riscv-virt-sv57"),
    "armv7-virt",
)

CLASSES = {
    tables.Tables: virtual,
    leaves.Leaves: virtual,
    virtual.VirtualMemory: manager,
}
"""The classes that call the driver, and the module that makes an instance of each."""

EQUIVALENT = {
    "split: no order_tables": "the retire that follows has the same barrier",
    "split: no publish_range": "the change that follows publishes as much",
    "split: one space for retire_page": "the change that follows is of a part of the block",
    "enable_pagetable: no enable": "then there is no MMU to complain",
}
"""Mutants that do nothing wrong on any hardware."""

NOT_GLOBAL = "one space"
"""A weaker call: the same, but for nothing that is global."""

ARM = {
    "one space for publish_page": "what was invalid is not cached in any",
    "one space for publish_range": "the same",
}

HARMLESS = {
    "lab": ARM,
    "virt": ARM,
    "pc": {
        "order_tables": "walks see stores in the order of the program",
        "publish_page": "the same, and what is not present is not cached",
        "publish_range": "the same",
        "split: no retire_page": "INVLPG for a page of the block, which follows, drops it",
    },
    "riscv-virt": {
        "order_tables": "the fence that publishes orders all stores on one hart",
        "split: no retire_page": "the fence that publishes the table drops the block",
        "protect_leaves: no publish_range": "no leaf is ever broken",
        "protect_leaves: one space for publish_range": "the same",
        "delete_pagetable: no forget": "the first mapping in a new table is fenced",
    },
    "armv7": ARM | {"delete_pagetable: no forget": "the ASID is not used again before it is clean"},
}
"""Mutants, by what their titles end with, that make no difference on an architecture."""


class Mutant(NamedTuple):
    """One statement of a class, and what is done instead, if anything.

    That is another method of the driver, or the same as if nothing were global.
    """

    owner: type
    number: int
    weaker: str | None
    title: str


def calls(tree: ast.AST) -> Iterator[ast.Expr]:
    """Every statement ``self.mmu.method(…)``, in order."""
    for node in sorted(
        (each for each in ast.walk(tree) if isinstance(each, ast.Expr)),
        key=lambda each: each.lineno,
    ):
        match node:
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Attribute(attr="mmu")))):
                yield node


def parse(owner: type) -> ast.Module:
    """The source of a class."""
    return ast.parse(textwrap.dedent(inspect.getsource(owner)))


def called(statement: ast.Expr) -> ast.Attribute:
    """The ``self.mmu.method`` of such a statement."""
    assert isinstance(statement.value, ast.Call)
    assert isinstance(statement.value.func, ast.Attribute)
    return statement.value.func


def mutants() -> Iterator[Mutant]:
    """Each call left out, of a range only done for its first page, or not done for all spaces."""
    for owner in CLASSES:
        tree = parse(owner)
        method = {
            call: node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef)
            for call in calls(node)
        }
        for number, call in enumerate(calls(tree)):
            name = called(call).attr
            weaker_ones: list[str | None] = [None]
            if name == "retire_range":
                weaker_ones.append("retire_page")
            if name.startswith(("retire", "publish")):
                weaker_ones.append(NOT_GLOBAL)
            for weaker in weaker_ones:
                title = f"{method[call]}: " + (f"{weaker} for {name}" if weaker else f"no {name}")
                if title not in EQUIVALENT:
                    yield Mutant(owner, number, weaker, title)


def mutated(mutant: Mutant) -> type:
    """The class with one call changed."""
    tree = parse(mutant.owner)
    call = list(calls(tree))[mutant.number]
    if mutant.weaker is None:
        call.value = ast.Constant(None)
    else:
        assert isinstance(call.value, ast.Call)
        if mutant.weaker == NOT_GLOBAL:
            call.value.args[-1] = ast.Constant(False)
        else:
            called(call).attr = mutant.weaker
            del call.value.args[2:-1]
    module = inspect.getmodule(mutant.owner)
    assert module is not None
    namespace = dict(vars(module))
    exec(compile(ast.fix_missing_locations(tree), str(module.__file__), "exec"), namespace)
    result: type = namespace[mutant.owner.__name__]
    return result


class Wrong(Exception):
    """An access did not do what the page table says."""


class Bench:
    """A machine in its linear space, whose table a test changes while it is in use."""

    def __init__(self, board: str) -> None:
        self.machine = Model(find(board), lambda image, parts: MemoryManager(image, parts, spec()))
        parts: Any = self.machine.kernel
        self.parts = parts
        entries = parts.virtual.entries
        self.page = entries.page_length
        self.block = 1 << int(entries.shift(u32(1)))
        top = 1 << int(entries.shift(u32(2 if entries.levels > 2 else 1)))
        places = parts.physical.memory_map
        highest = max(places.linear_end, places.segment_end)
        self.start = -(-highest // top) * top  # beyond all that is mapped
        self.machine.init_memory()
        self.machine.enter_linear_space()
        self.table = self.machine.linear_space_info.pagetable
        highest_ram = max(ram.end for ram in find(board).ram)
        self.hole = -(-highest_ram // self.block) * self.block  # where no memory is

    def new_space(self) -> int:
        """A table with RAM and devices."""
        machine = self.machine
        table: int = machine.create_pagetable()
        for ram in machine.hardware.ram:
            assert machine.pagetable_map_linear(table, ram.start, ram.end) == OK
        for device in self.parts.linear_space.devices:
            kind = Mapping.DEVICE | Mapping.NO_EXECUTE
            assert machine.pagetable_map_linear(table, device.start, device.end, kind) == OK
        return table

    def is_readable(self, address: int) -> bool:
        """Whether an address is translated; there need not be memory."""
        try:
            self.machine.load(address)
        except PageFault as fault:
            return fault.syndrome is None
        return True

    def require(self, address: int, *, readable: bool) -> None:
        """An address must be translated, or not."""
        if self.is_readable(address) != readable:
            raise Wrong(f"{address:#x}")

    def require_pages(self, table: int, start: int, status: PagetableStatus, mapped: str) -> None:
        """A change of another table was done; in its space, the pages are mapped ("m") or not."""
        assert status == OK
        self.machine.switch_pagetable(table)
        for number, letter in enumerate(mapped):
            self.require(start + number * self.page, readable=letter == "m")
        self.machine.switch_pagetable(self.table)

    def refuse_write(self, address: int) -> None:
        """A store must fault."""
        try:
            self.machine.store(address, 1)
        except PageFault:
            return
        raise Wrong(f"{address:#x}")


def pages_come_and_go(bench: Bench) -> None:
    """One at a time, in two tables that fill and empty."""
    generator = random.Random(5)
    machine, table = bench.machine, bench.table
    for _ in range(150):
        number = generator.randrange(2) * bench.block + generator.randrange(4) * bench.page
        address = bench.start + number
        if generator.random() < 0.5:
            machine.pagetable_map(table, address, bench.hole)
        else:
            machine.pagetable_unmap(table, address)
        known = machine.pagetable_get_translation(table, address) is not None
        bench.require(address, readable=known)


def ranges_come_and_go(bench: Bench) -> None:
    """Three pages without and with their table, in two tables, and in the midst of a block."""
    machine, table, page, block = bench.machine, bench.table, bench.page, bench.block
    start = bench.start + 4 * block
    for offset, pages, kept in ((0, 3, 1), (0, 3, 0), (block - page, 3, 0)):
        at = start + offset
        assert machine.pagetable_map_range(table, at, bench.hole, (pages + kept) * page) == OK
        for number in range(pages):
            bench.require(at + number * page, readable=True)
        assert machine.pagetable_unmap_range(table, at, pages * page) == OK
        for number in range(pages):
            bench.require(at + number * page, readable=False)
        if kept:
            machine.pagetable_unmap(table, at + pages * page)
    start += 4 * block
    assert machine.pagetable_map_range(table, start, bench.hole, block) == OK
    bench.require(start, readable=True)
    assert machine.pagetable_unmap_range(table, start + 5 * page, 2 * page) == OK
    for number in range(8):
        bench.require(start + number * page, readable=number not in (5, 6))


def protections_change(bench: Bench) -> None:
    """Permissions at once, memory types by way of nothing; guards made and opened again."""
    machine, table, page = bench.machine, bench.table, bench.page
    start = bench.start + 12 * bench.block
    assert machine.pagetable_map_range(table, start, bench.hole, 3 * page) == OK
    for mapping in (Mapping.READ_ONLY, Mapping.KERNEL, Mapping.DEVICE, Mapping.NO_ACCESS):
        assert machine.pagetable_protect_range(table, start, 3 * page, mapping) == OK
        for number in range(3):
            bench.require(start + number * page, readable=mapping != Mapping.NO_ACCESS)
            if mapping == Mapping.READ_ONLY:
                bench.refuse_write(start + number * page)
    assert machine.pagetable_protect_range(table, start, 3 * page, Mapping.KERNEL) == OK
    bench.require(start, readable=True)
    assert machine.pagetable_unmap_range(table, start, 3 * page) == OK


def spaces_change(bench: Bench) -> None:
    """To another table and back; that table goes, and one of other contents takes its place."""
    machine, table, page = bench.machine, bench.table, bench.page
    start = bench.start + 12 * bench.block
    assert machine.pagetable_map(table, start, bench.hole) == OK
    for mapped in (True, False):
        other = bench.new_space()
        if mapped:
            assert machine.pagetable_map(other, start + page, bench.hole) == OK
        for _ in range(2):
            machine.switch_pagetable(other)
            bench.require(start, readable=False)
            bench.require(start + page, readable=mapped)
            machine.switch_pagetable(table)
            bench.require(start, readable=True)
            bench.require(start + page, readable=False)
        machine.delete_pagetable(other)


def global_pages_change(bench: Bench) -> None:
    """In the space in use, and in another that was, and is again after each change."""
    machine, page, block = bench.machine, bench.page, bench.block
    for table, start in (
        (bench.table, bench.start + 16 * block),
        (bench.new_space(), bench.start + 17 * block),
    ):
        seen = partial(bench.require_pages, table, start)
        seen(machine.pagetable_map(table, start, bench.hole, GLOBAL), "m.")
        second = start + page
        seen(machine.pagetable_map(table, second, bench.hole, GLOBAL), "mm.")
        third = second + page
        seen(machine.pagetable_map_range(table, third, bench.hole, 2 * page, GLOBAL), "mmmm.")
        for mapping, shown in (
            (Mapping.NO_ACCESS, "...m"),
            (Mapping.DEVICE, "mmmm"),
            (Mapping.KERNEL, "mmmm"),
        ):
            seen(machine.pagetable_protect_range(table, start, 3 * page, mapping | GLOBAL), shown)
        seen(machine.pagetable_unmap(table, start), ".mmm")
        seen(machine.pagetable_unmap_range(table, second, 3 * page), "....")
        seen(machine.pagetable_map_range(table, start, bench.hole, block, GLOBAL), "mmmm")
        seen(machine.pagetable_unmap(table, second), "m.mm")


def workload(board: str) -> None:
    """Change the linear space while it is in use, and rely on every change."""
    bench = Bench(board)
    pages_come_and_go(bench)
    ranges_come_and_go(bench)
    protections_change(bench)
    spaces_change(bench)
    global_pages_change(bench)


def matters(mutant: Mutant, board: str) -> bool:
    """Whether the mutant is wrong there."""
    harmless = next((each for name, each in HARMLESS.items() if board.startswith(name)), {})
    return not mutant.title.endswith(tuple(harmless))


@pytest.mark.parametrize("board", BOARDS)
def test_the_original_is_clean(board: str) -> None:
    """No complaint at all."""
    workload(board)


@pytest.mark.parametrize(
    ("board", "mutant"),
    [
        pytest.param(board, each, id=f"{board}: {each.title}")
        for board in BOARDS
        for each in mutants()
        if matters(each, board)
    ],
)
def test_every_call_is_needed(monkeypatch: pytest.MonkeyPatch, board: str, mutant: Mutant) -> None:
    """Without it, the model finds a violation, or an access does not do what it should."""
    monkeypatch.setattr(CLASSES[mutant.owner], mutant.owner.__name__, mutated(mutant))
    with pytest.raises((ModelViolation, Wrong)):
        workload(board)
