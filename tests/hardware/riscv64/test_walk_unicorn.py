"""The simulated walk against Unicorn's, a descendant of QEMU's: the same random tables for both.

Left out is what Unicorn forgives, and the model does not: reserved bits, and A and D, which
Unicorn sets itself.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from unicorn import UC_CTL_IO_WRITE, UC_CTL_TLB_FLUSH, UC_HOOK_INTR, UC_HOOK_MEM_UNMAPPED, UcError
from unicorn import riscv_const as riscv

from hardware.riscv64.bench import A, D, G, R, U, V, W, X, entry
from kernmem.hardware.riscv64.mmu import MODES
from kernmem.hardware.riscv64.simulated import SimulatedRiscv64
from kernmem.hardware.simulation import Access
from kernmem.language import PageFault
from kernmem.machine.unicorn_riscv import RiscvCpu
from kernmem.memory.architecture import Region

RAM = 0x20_0000  # tables and code lie below; every random mapping leads above 4 GiB
CODE = {False: 0x0, True: 0x1000}  # the supervisor's page, and the user's
LOAD, STORE = 0x0005_3583, 0x00B5_3023  # ld a1, 0(a0); sd a1, 0(a0)
NOWHERE = 0x7FFF_FFFF_0000
SUM, MXR = 1 << 18, 1 << 19
WALKS = 100_000  # of each scheme
SEED = 1  # in the message of a failure
PER_TABLES = 100

Result = tuple[str, int]
"""Where an access went: ("fault", cause) or ("memory", physical address)."""


@dataclass
class Tables:
    """Random tables, in an image of the RAM."""

    levels: int
    random: random.Random
    ram: bytearray = field(default_factory=lambda: bytearray(RAM))
    used: dict[int, list[tuple[int, int, int]]] = field(default_factory=dict)
    pages: int = 2

    def page(self) -> int:
        """A page for the next table."""
        self.pages += 1
        return (self.pages - 1) << 12

    def set(self, table: int, index: int, value: int) -> None:
        """Store an entry."""
        self.ram[table + 8 * index : table + 8 * index + 8] = value.to_bytes(8, "little")

    def build(self) -> int:
        """The root: at the lowest addresses the code, elsewhere anything."""
        root = table = self.fill(self.levels - 1, 16)
        for _ in range(self.levels - 1):
            below = self.page()
            self.set(table, 0, entry(below, V))
            table = below
        self.set(table, 0, entry(CODE[False], V | R | W | X | A | D))
        self.set(table, 1, entry(CODE[True], V | R | W | X | A | D | U))
        return root

    def fill(self, level: int, entries: int) -> int:
        """A table of ``level`` with random entries, none at index 0."""
        table = self.page()
        used = self.used.setdefault(table, [])
        for index in self.random.sample(range(1, 512), entries):
            kind = self.random.choice("tttllllim" if level else "llllllit")
            below = 0
            value = self.random.getrandbits(64) & ~V
            if kind == "t" and level:
                below = self.fill(level - 1, self.random.randrange(2, 8))
                value = entry(below, V | self.random.choice((0, 0, 0, G)))
            elif kind == "t":
                value = entry(self.random.getrandbits(20) << 12, V)  # too deep
            elif kind == "l":
                value = self.leaf(level)
            elif kind == "m":
                value = self.leaf(level) | 1 << 10 + self.random.randrange(9 * level)
            self.set(table, index, value)
            used.append((index, level, below))
        return table

    def leaf(self, level: int) -> int:
        """A page or block with random permissions, some of them reserved."""
        shift = 12 + 9 * level
        number = self.random.randrange(1, 1 << 44 - shift) if shift < 43 else 1
        flags = self.random.choice((R, R | W, X, R | X, R | W | X, W, W | X))
        flags |= self.random.getrandbits(1) * U | self.random.getrandbits(1) * G
        software = self.random.getrandbits(2) << 8
        return entry((1 << 32) + (number << shift) >> shift << shift, V | A | D | flags) | software

    def address(self, root: int) -> int:
        """An address that leads somewhere, mostly; aligned to 8 bytes."""
        address, table, level = 0, root, self.levels - 1
        while self.used.get(table) and self.random.random() < 0.95:
            index, level, below = self.random.choice(self.used[table])
            address |= index << 12 + 9 * level
            table = below
        address |= self.random.getrandbits(12 + 9 * level) & ~7
        width = 12 + 9 * self.levels
        if address >> width - 1:
            address |= (1 << 64) - (1 << width)  # the upper half
        if self.random.random() < 0.02:
            address ^= 1 << self.random.randrange(width, 64)
        return address

    # What the simulated MMU asks for
    def peek(self, address: int, length: int) -> bytes:
        """RAM; zeros outside."""
        return bytes(self.ram[address : address + length]).ljust(length, b"\0")

    def forget(self) -> None:
        """Nothing is remembered."""

    forget_writes = forget


class Unicorn:
    """Unicorn's hart with those tables."""

    def __init__(self) -> None:
        self.cpu = RiscvCpu(1)
        self.uc = self.cpu.uc
        self.uc.mem_map(0, RAM)
        self.result: Result = ("nothing", 0)
        self.uc.hook_add(UC_HOOK_INTR, self._fault)
        self.uc.hook_add(UC_HOOK_MEM_UNMAPPED, self._nothing_there)

    def _fault(self, uc: Any, number: int, _: Any) -> None:
        self.result = ("fault", number)
        uc.emu_stop()

    def _nothing_there(self, uc: Any, kind: int, address: int, *_: Any) -> bool:
        self.result = ("memory", address)
        return False

    def use(self, ram: bytes, satp: int) -> None:
        """New tables."""
        self.uc.mem_write(0, ram)
        for start in CODE.values():
            self.uc.mem_write(start, LOAD.to_bytes(4, "little") + STORE.to_bytes(4, "little"))
        with self.cpu.as_machine():
            self.uc.reg_write(riscv.UC_RISCV_REG_SATP, satp)
        self.uc.ctl(UC_CTL_TLB_FLUSH, UC_CTL_IO_WRITE)

    def access(self, address: int, access: Access, user: bool, status: int) -> Result:
        """One instruction, in user or supervisor mode."""
        with self.cpu.as_machine():
            self.uc.reg_write(riscv.UC_RISCV_REG_MSTATUS, status)
        self.uc.reg_write(riscv.UC_RISCV_REG_PRIV, 0 if user else 1)
        self.uc.reg_write(riscv.UC_RISCV_REG_A0, address)
        code = CODE[user]
        start = {Access.READ: code, Access.WRITE: code + 4, Access.EXECUTE: address}[access]
        self.result = ("nothing", 0)
        try:
            self.uc.emu_start(start, NOWHERE, count=1)
        except UcError:
            assert self.result[0] != "nothing"
        return self.result


def expected(hart: SimulatedRiscv64, address: int, access: Access, user: bool) -> Result:
    """What the model says."""
    try:
        return ("memory", hart.translate(address, access, 8, user=user).physical)
    except PageFault as fault:
        return ("fault", fault.syndrome or -1)


@pytest.mark.parametrize("levels", MODES)
def test_random_walks(levels: int) -> None:
    """Address or cause, for loads, stores and fetches of both modes, with and without SUM, MXR."""
    seed = f"{SEED}-{levels}"
    generator = random.Random(seed)
    unicorn = Unicorn()
    kinds = {"fault": 0, "memory": 0}
    for _ in range(WALKS // PER_TABLES):
        tables = Tables(levels, generator)
        root = tables.build()
        satp = MODES[levels] << 60 | root >> 12
        unicorn.use(bytes(tables.ram), satp)
        hart = SimulatedRiscv64(tables, Region(0, 0x1000))
        hart.execute("sfence.vma zero, zero")
        hart.execute("csrw satp", satp)
        for _ in range(PER_TABLES):
            address, access = tables.address(root), generator.choice(list(Access))
            user, status = generator.random() < 0.5, generator.choice((0, SUM, MXR, SUM | MXR))
            hart.execute("csrc sstatus", SUM | MXR)
            hart.execute("csrs sstatus", status)
            found = unicorn.access(address, access, user, status)
            wanted = expected(hart, address, access, user)
            assert found == wanted, (
                f"seed {seed}: {access.name} of {address:#x}, user {user}, status {status:#x}"
            )
            kinds[found[0]] += 1
    assert min(kinds.values()) > WALKS // 10, kinds
