"""The same calls leave the same bytes, whichever machine runs them.

100,000 heap calls, 10,000 page-table calls and as many for physical pages, made once at random, are
given to each machine.
Every result must be the same, and in the end every byte of the registries, the page tables and
the heap.  On a difference the first call after which the machines differ is looked for and named.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

import kernmem
from kernmem.hardware import HARDWARE
from kernmem.hardware.pc import PC
from kernmem.hardware.x86_64.simulated import SimulatedX86
from kernmem.machine.compare import first_difference
from kernmem.machine.port import Machine
from kernmem.memory.architecture import Mapping

HEAP_CALLS = 100_000
PAGETABLE_CALLS = 10_000
PAGE = 0x1_0000

Call = tuple[Any, ...]  # the name of an operation, and its operands


def heap_calls(count: int, seed: int) -> Iterator[Call]:
    """kmalloc into a slot, or kfree of it; sizes spread over the powers of two."""
    chance = random.Random(seed)
    live: list[int] = []
    slots = iter(range(count))
    for _ in range(count):
        if live and chance.random() < (0.4 if len(live) < 400 else 0.6):
            yield "kfree", live.pop(chance.randrange(len(live)))
        else:
            slot = next(slots)
            live.append(slot)
            yield "kmalloc", slot, chance.randrange(1, 1 << chance.randrange(3, 13))


def pagetable_calls(count: int, seed: int) -> Iterator[Call]:
    """Map, map linearly, unmap, look up, and now and then a new table or one less."""
    chance = random.Random(seed)
    tables = 4
    mappings = [Mapping.KERNEL, Mapping.USER_READ_ONLY, Mapping.USER_READ_WRITE]
    for number in range(count):
        table = chance.randrange(tables)
        virtual = chance.randrange(64) * PAGE + chance.randrange(3) * (1 << 29)
        kind = chance.random()
        if kind < 0.45:
            mapping = chance.choice(mappings) | chance.choice([0, Mapping.NO_EXECUTE])
            yield "map", table, virtual, chance.randrange(1 << 12) * PAGE, Mapping(mapping)
        elif kind < 0.85:
            yield "unmap", table, virtual
        elif kind < 0.9:
            yield "map_linear", table, virtual, virtual + chance.randrange(1, 40) * PAGE
        elif kind < 0.995 or number < 10:
            yield "translate", table, virtual + chance.randrange(PAGE)
        else:
            yield "renew", table


def page_calls(count: int, seed: int) -> Iterator[Call]:
    """Physical pages and aligned runs into slots; now and then one is given back."""
    chance = random.Random(seed)
    live: list[int] = []
    for slot in range(count):
        if live and chance.random() < 0.45:
            yield "free_pages", live.pop(chance.randrange(len(live)))
        else:
            live.append(slot)
            pages = chance.choice([1, 1, 1, 2, 3, 5, 9])
            yield "alloc_pages", slot, pages, chance.choice([0, 1, 4]) * PAGE


class Runner:
    """Gives the calls to one machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.buffers: dict[int, Any] = {}
        self.pages: dict[int, tuple[Any, int]] = {}
        machine.enter_linear_space()
        self.tables = [machine.create_pagetable() for _ in range(4)]
        machine.leave_linear_space()

    def run(self, calls: list[Call]) -> list[Any]:
        """The results of the calls, in order."""
        return [getattr(self, call[0])(*call[1:]) for call in calls]

    def kmalloc(self, slot: int, length: int) -> Any:
        self.buffers[slot] = self.machine.kmalloc(length)
        return self.buffers[slot]

    def kfree(self, slot: int) -> None:
        self.machine.kfree(self.buffers.pop(slot))

    def map(self, table: int, virtual: int, physical: int, mapping: Mapping) -> Any:
        return self.machine.pagetable_map(self.tables[table], virtual, physical, mapping)

    def unmap(self, table: int, virtual: int) -> Any:
        return self.machine.pagetable_unmap(self.tables[table], virtual)

    def map_linear(self, table: int, start: int, end: int) -> Any:
        return self.machine.pagetable_map_linear(self.tables[table], start, end, Mapping.KERNEL)

    def translate(self, table: int, virtual: int) -> Any:
        return self.machine.pagetable_get_translation(self.tables[table], virtual)

    def alloc_pages(self, slot: int, pages: int, alignment: int) -> Any:
        """One without an alignment is taken off the list, anything else searched for."""
        if pages == 1 and alignment == 0:
            base = self.machine.alloc_physical_page()
        else:
            base = self.machine.alloc_physical_pages(pages, alignment, 0)
        self.pages[slot] = base, pages
        return base

    def free_pages(self, slot: int) -> None:
        base, pages = self.pages.pop(slot)
        if base is not None:
            self.machine.free_physical_pages(base, pages)

    def renew(self, table: int) -> Any:
        self.machine.delete_pagetable(self.tables[table])
        self.tables[table] = self.machine.create_pagetable()
        return self.tables[table]


def scenario(heap: int, pagetable: int, seed: int = 2026) -> list[tuple[str, list[Call]]]:
    """Heap calls in the kernel's space, calls about tables and pages in the linear space."""
    return [
        ("heap", list(heap_calls(heap, seed))),
        ("pagetable", list(pagetable_calls(pagetable, seed))),
        ("pages", list(page_calls(pagetable, seed))),
    ]


def play(machine: Machine, parts: list[tuple[str, list[Call]]]) -> list[Any]:
    """All calls on one machine; their results."""
    runner = Runner(machine)
    results: list[Any] = []
    for part, calls in parts:
        if part != "heap":
            machine.enter_linear_space()
        results += runner.run(calls)
        if part != "heap":
            machine.leave_linear_space()
    return results


def first_differing_call(
    make: Callable[[], tuple[Machine, Machine]], parts: list[tuple[str, list[Call]]]
) -> str:
    """Bisect: the first call after which the bytes of two fresh machines differ."""
    calls = [(part, call) for part, part_calls in parts for call in part_calls]
    low, high = 0, len(calls)  # equal after `low` calls, different after `high`
    while high - low > 1:
        middle = (low + high) // 2
        prefix = [
            (part, [call for owner, call in calls[:middle] if owner == part]) for part, _ in parts
        ]
        one, other = make()
        with one, other:
            play(one, prefix)
            play(other, prefix)
            differ = first_difference(one, other) is not None
        low, high = (low, middle) if differ else (middle, high)
    return f"call {high} of {len(calls)}, {calls[high - 1]}"


def assert_same(
    others: Sequence[str], heap: int, pagetable: int, board: str = "lab", **options: Any
) -> None:
    """Run the scenario on the model, once, and on other kinds of machine, and compare."""

    def make(other: str) -> tuple[Machine, Machine]:
        return kernmem.boot(board, "model", **options), kernmem.boot(board, other, **options)

    parts = scenario(heap, pagetable)
    with kernmem.boot(board, "model", **options) as model:
        expected = play(model, parts)
        for other in others:
            with kernmem.boot(board, other, **options) as machine:
                found = play(machine, parts)
                difference = first_difference(model, machine)
            if difference is not None:
                where = first_differing_call(partial(make, other), parts)
                pytest.fail(f"model and {other} differ after {where}: {difference}")
            for number, (left, right) in enumerate(zip(expected, found, strict=True), 1):
                assert left == right, f"call {number}: {left!r} on model, {right!r} on {other}"


@pytest.mark.slow
def test_long_run_leaves_the_same_bytes() -> None:
    assert_same(("host", "unicorn"), HEAP_CALLS, PAGETABLE_CALLS, profile="spec")


@pytest.mark.parametrize(
    "options",
    [
        {"profile": "spec", "no_void": False},
        {"profile": "tuned"},
        {"profile": "tuned", "checks": "none"},
        {"profile": "tuned", "checks": "full"},
        {"profile": "spec", "no_void": False, "checks": "full"},
        {"profile": "aligned", "placement": "first"},
        {"profile": "spec", "placement": "largest"},
    ],
    ids=lambda options: "-".join(str(value) for value in options.values()),
)
def test_every_profile_leaves_the_same_bytes(options: dict[str, Any]) -> None:
    assert_same(("host", "unicorn"), 2_000, 500, **options)


@pytest.mark.parametrize("board", ["rpi3", "virt", "armv7-virt", "pc", "riscv-virt"])
def test_every_architecture_leaves_the_same_bytes(
    board: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In all RAM: on these boards the kernel uses what lies below the program, too."""
    without = replace(PC, simulated_mmu=partial(SimulatedX86, pcids=False))  # as in Unicorn
    monkeypatch.setitem(HARDWARE, "pc", without)
    assert_same(("unicorn",), 1_000, 300, board)


def test_a_difference_below_the_program_is_found() -> None:
    one, other = (kernmem.boot("pc", "model") for _ in range(2))
    assert first_difference(one, other) is None
    other.write_physical(0x9_0000, b"!")
    difference = first_difference(one, other)
    assert difference is not None
    assert (difference.place, difference.address) == ("physical memory", 0x9_0000)


def test_a_difference_is_found_and_named() -> None:
    one, other = (kernmem.boot("lab", "model") for _ in range(2))
    buffer = one.kmalloc(100)
    assert other.kmalloc(100) == buffer
    assert first_difference(one, other) is None
    other.store(int(buffer) + 8, 0xFF, 1)
    difference = first_difference(one, other)
    assert difference is not None
    assert difference.place == "physical memory"
    assert (difference.one[0], difference.other[0]) == (0, 0xFF)
