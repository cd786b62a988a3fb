"""Address spaces on every architecture: visited, changed, deleted, more than have an identifier.

Who is lent an identifier, and when, is specified in ``tests/memory/test_address_spaces.py``.
"""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from kernmem.hardware import HARDWARE, HardwareDescription, find
from kernmem.hardware.riscv64.simulated import SimulatedRiscv64
from kernmem.hardware.x86_64.simulated import SimulatedX86
from kernmem.language import PageFault
from kernmem.machine.model import Model
from kernmem.machine.port import Machine
from kernmem.machine.unicorn import UnicornMachine
from kernmem.memory.address_spaces import SPACES
from kernmem.memory.architecture import Mapping
from kernmem.memory.manager import MemoryManager
from kernmem.memory.pagetable import PagetableStatus
from kernmem.memory.profile import tuned

PAGES = 6


class Crowd:
    """Spaces that all have a page at the same address, or none; the linear space is in between."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        machine.init_memory()
        machine.enter_linear_space()
        parts: Any = machine.kernel
        places = parts.physical.memory_map
        self.devices = places.devices
        self.page = int(machine.physical_mem_info.page_length)
        self.address = int(places.segment_start)
        for each in sorted([*machine.hardware.ram, *self.devices], key=lambda each: each.start):
            if each.start <= self.address < each.end:  # then what lies behind it
                self.address = -(-each.end // self.page) * self.page
        self.linear = machine.linear_space_info.pagetable
        first = int(machine.alloc_physical_pages(PAGES, 0, 0))
        self.frames = [first + number * self.page for number in range(PAGES)]
        for number, frame in enumerate(self.frames):
            machine.write_physical(frame, number.to_bytes(8, "little"))
        self.known: dict[int, int | None] = {}

    def create(self) -> int:
        """A space with all RAM, and nothing else."""
        table = self.machine.create_pagetable()
        for ram in self.machine.hardware.ram:
            start, end = (each // self.page * self.page for each in (ram.start, ram.end))
            status = self.machine.pagetable_map_linear(table, start, end)
            assert status == PagetableStatus.OK
        for device in self.devices:
            kind = Mapping.DEVICE | Mapping.NO_EXECUTE
            status = self.machine.pagetable_map_linear(table, device.start, device.end, kind)
            assert status == PagetableStatus.OK
        self.known[table] = None
        return int(table)

    def change(self, table: int, number: int | None) -> None:
        """Another page at the address, or none."""
        if self.known[table] is not None:
            status = self.machine.pagetable_unmap(table, self.address)
            assert status == PagetableStatus.OK
        if number is not None:
            status = self.machine.pagetable_map(table, self.address, self.frames[number])
            assert status == PagetableStatus.OK
        self.known[table] = number

    def visit(self, table: int) -> None:
        """What is at the address there must be what was mapped there last."""
        self.machine.switch_pagetable(table)
        number = self.known[table]
        if number is None:
            with pytest.raises(PageFault):
                self.machine.load(self.address)
        else:
            assert self.machine.load(self.address) == number

    def delete(self, table: int) -> None:
        """Its pages may be those of the next."""
        self.machine.delete_pagetable(table)
        del self.known[table]

    def mill_about(self, steps: int, seed: int) -> None:
        """At random; some spaces are visited one after another."""
        chosen = random.Random(seed)
        for _ in range(SPACES + 2):
            self.change(self.create(), chosen.randrange(PAGES))
        for _ in range(steps):
            table = chosen.choice(list(self.known))
            match chosen.randrange(6):
                case 0:
                    self.delete(table)
                    self.change(self.create(), chosen.randrange(PAGES))
                case 1 | 2:
                    self.change(table, chosen.choice((None, chosen.randrange(PAGES))))
                case _:
                    for each in chosen.sample(list(self.known), 3):
                        self.visit(each)
                    self.machine.switch_pagetable(self.linear)


def without_identifiers(hardware: str) -> HardwareDescription:
    """A board whose processor has no identifiers of address spaces, or only one."""
    without = {
        "pc": partial(SimulatedX86, pcids=False),
        "riscv-virt": partial(SimulatedRiscv64, asid_bits=0),
        "riscv-virt-sv48": partial(SimulatedRiscv64, asid_bits=1),
    }
    return replace(find(hardware), simulated_mmu=without[hardware])


EVERY_FORM = [
    name
    if name in ("virt", "pc", "riscv-virt", "armv7-virt")
    else pytest.param(name, marks=pytest.mark.slow)
    for name in HARDWARE
]


@pytest.mark.parametrize("hardware", EVERY_FORM)
def test_more_spaces_than_identifiers(hardware: str) -> None:
    """Whatever is visited, changed and deleted, in whatever order; the MMU complains of nothing."""
    machine = Model(find(hardware), lambda image, parts: MemoryManager(image, parts, tuned()))
    Crowd(machine).mill_about(80, seed=4)


@pytest.mark.parametrize("hardware", ["pc", "riscv-virt", "riscv-virt-sv48"])
def test_spaces_on_a_processor_with_one_identifier_or_two(hardware: str) -> None:
    """Without PCIDs; with an ASIDLEN of 0, and of 1."""
    description = without_identifiers(hardware)
    machine = Model(description, lambda image, parts: MemoryManager(image, parts, tuned()))
    Crowd(machine).mill_about(80, seed=5)


@pytest.mark.parametrize("hardware", ["virt", "pc", "riscv-virt", "armv7-virt"])
def test_the_same_on_an_emulated_processor(hardware: str) -> None:
    """Compiled, with the TLB of Unicorn, which keeps what is not invalidated."""
    machine = UnicornMachine(
        find(hardware), lambda image, parts: MemoryManager(image, parts, tuned())
    )
    with machine:
        Crowd(machine).mill_about(80, seed=6)
