"""The simulated walk against Unicorn's, a descendant of QEMU's: the same random tables for both.

Left out is what Unicorn forgives, and the model does not: reserved bits.  And the order of faults
where Unicorn's is not the manual's (DDI 0406, B3.13.2): it checks the domain before it reads the
second level, and XN before the access flag.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from unicorn import UC_CTL_IO_WRITE, UC_CTL_TLB_FLUSH, UC_HOOK_INTR, UC_HOOK_MEM_UNMAPPED, UcError
from unicorn import arm_const as arm

from kernmem.hardware.armv7.simulated import SimulatedArmv7
from kernmem.hardware.simulation import Access
from kernmem.language import PageFault
from kernmem.machine.unicorn_arm import PREFETCH_ABORT
from kernmem.machine.unicorn_armv7 import DACR, MASKED, SCTLR, SUPERVISOR, TTBR0, USER, Armv7Cpu
from kernmem.memory.architecture import Region

RAM = 0x10_0000  # tables and code lie below; every random mapping leads above
CODE = 0x0
LOAD, STORE = 0xE590_1000, 0xE580_1000  # ldr r1, [r0]; str r1, [r0]
NOWHERE = 0xFFFF_FFFC
ROOT = 0x4000
SCTLR_ON = 0x00C5_0079
ACCESS_FLAG = 1 << 29
WALKS = 100_000  # with the access flag, and as many without
SEED = 1  # in the message of a failure
PER_TABLES = 100

WALKS_IN_CACHE = 0x6A
TYPES = (0b000_00, 0b000_01, 0b000_10, 0b000_11, 0b001_00, 0b001_11, 0b010_00, 0b100_00, 0b111_11)
"""TEX, C and B that are not reserved."""
NO_ACCESS, CLIENT, MANAGER = 0b00, 0b01, 0b11

Result = tuple[str, int, int]
"""Where an access went: ("fault", status, address) or ("memory", physical address, 0)."""


@dataclass
class Tables:
    """Random tables, in an image of the RAM."""

    random: random.Random
    access_flag: bool
    ram: bytearray = field(default_factory=lambda: bytearray(RAM))
    sections: list[int] = field(default_factory=list)
    pages: list[tuple[int, int]] = field(default_factory=list)
    next_table: int = 0x8000

    def set(self, place: int, entry: int) -> None:
        """Store a descriptor."""
        self.ram[place : place + 4] = entry.to_bytes(4, "little")

    def build(self) -> None:
        """The root: at index 0 the code, elsewhere anything."""
        self.set(ROOT, 0b11 << 10 | 0b10)
        for _ in range(24):
            index = self.random.randrange(1, 4096)
            kind = self.random.choice("tttllli")
            domain = self.random.randrange(16) << 5
            if kind == "t":
                entry = self.table() | domain | self.random.getrandbits(1) << 2 | 0b01  # PXN
                table = self.next_table - 0x400
                self.pages += [(index, page) for page in range(256) if self.ram[table + 4 * page]]
            elif kind == "l":
                entry = self.section() | domain
                self.sections.append(index)
            else:
                entry = self.random.getrandbits(30) << 2
                self.sections.append(index)
            self.set(ROOT + 4 * index, entry)

    def table(self) -> int:
        """A table of pages."""
        table = self.next_table
        self.next_table += 0x400
        for _ in range(self.random.randrange(2, 12)):
            index = self.random.randrange(256)
            if self.random.random() < 0.1:
                entry = self.random.getrandbits(30) << 2 | 0x80
            else:
                kind = self.random.choice(TYPES)
                entry = (
                    self.random.randrange(RAM, 1 << 32) >> 12 << 12
                    | self.random.getrandbits(2) << 10  # nG, S
                    | kind >> 2 << 6
                    | (kind & 0b11) << 2
                    | self.permission(9, 4)
                    | 0b10
                    | self.random.getrandbits(1)  # XN
                )
            self.set(table + 4 * index, entry)
        return table

    def section(self) -> int:
        """A section."""
        kind = self.random.choice(TYPES)
        return (
            self.random.randrange(RAM, 1 << 32) >> 20 << 20
            | self.random.getrandbits(2) << 16  # nG, S
            | kind >> 2 << 12
            | (kind & 0b11) << 2
            | self.permission(15, 10)
            | self.random.getrandbits(1) << 4  # XN
            | 0b10
            | self.random.getrandbits(1)  # PXN
        )

    def permission(self, high: int, low: int) -> int:
        """AP[2:0] that is not reserved; with the access flag, mostly set."""
        if self.access_flag:
            bits = self.random.getrandbits(2) << 1 | (self.random.random() < 0.9)
        else:
            bits = self.random.choice((0, 1, 2, 3, 5, 6, 7))
        return bits >> 2 << high | (bits & 0b11) << low

    def address(self) -> int:
        """An address that leads somewhere, mostly; aligned to 4 bytes."""
        low = self.random.getrandbits(20) & ~3
        if self.random.random() < 0.5:
            index, page = self.random.choice(self.pages)
            return index << 20 | page << 12 | low & 0xFFF
        index = self.random.choice(self.sections)
        return (
            index if self.random.random() < 0.95 else self.random.randrange(1, 4096)
        ) << 20 | low

    # What the simulated MMU asks for
    def peek(self, address: int, length: int) -> bytes:
        """RAM."""
        return bytes(self.ram[address : address + length])

    def forget(self) -> None:
        """Nothing is remembered."""

    forget_writes = forget


class Unicorn:
    """Unicorn's core with those tables."""

    def __init__(self) -> None:
        self.cpu = Armv7Cpu()
        self.uc = self.cpu.uc
        self.uc.mem_map(0, RAM)
        self.result: Result = ("nothing", 0, 0)
        self.uc.hook_add(UC_HOOK_INTR, self._fault)
        self.uc.hook_add(UC_HOOK_MEM_UNMAPPED, self._nothing_there)

    def _fault(self, uc: Any, number: int, _: Any) -> None:
        _, status, address = self.cpu.exception()
        # Unicorn gives a prefetch abort the domain, too, which IFSR has no room for.
        self.result = ("fault", status & ~0xF0 if number == PREFETCH_ABORT else status, address)
        uc.emu_stop()

    def _nothing_there(self, uc: Any, kind: int, address: int, *_: Any) -> bool:
        self.result = ("memory", address, 0)
        return False

    def use(self, tables: Tables, dacr: int) -> None:
        """New tables."""
        self.uc.mem_write(0, bytes(tables.ram))
        self.uc.mem_write(CODE, LOAD.to_bytes(4, "little") + STORE.to_bytes(4, "little"))
        self.uc.reg_write(arm.UC_ARM_REG_CPSR, MASKED | SUPERVISOR)
        self.cpu.write_system(DACR, dacr)
        self.cpu.write_system(TTBR0, ROOT)
        self.cpu.write_system(SCTLR, SCTLR_ON | (ACCESS_FLAG if tables.access_flag else 0))
        self.uc.ctl(UC_CTL_TLB_FLUSH, UC_CTL_IO_WRITE)

    def access(self, address: int, access: Access, user: bool) -> Result:
        """One instruction, in user or supervisor mode."""
        self.uc.reg_write(arm.UC_ARM_REG_CPSR, MASKED | (USER if user else SUPERVISOR))
        self.uc.reg_write(arm.UC_ARM_REG_R0, address)
        start = {Access.READ: CODE, Access.WRITE: CODE + 4, Access.EXECUTE: address}[access]
        self.result = ("nothing", 0, 0)
        try:
            self.uc.emu_start(start, NOWHERE, count=1)
        except UcError:
            assert self.result[0] != "nothing"
        return self.result


def simulated(tables: Tables, dacr: int) -> SimulatedArmv7:
    """The model's core with those tables."""
    core = SimulatedArmv7(tables, Region(CODE, CODE + 0x1000))
    for instruction in ("tlbiall", "bpiall", "iciallu", "dsb nsh"):
        core.execute(instruction)
    core.execute("mcr ttbcr", 0)
    core.execute("mcr contextidr", 0)
    core.execute("mcr dacr", dacr)
    core.execute("mcr ttbr0", ROOT | WALKS_IN_CACHE)
    core.execute("isb")
    core.execute("mcr sctlr", SCTLR_ON | (ACCESS_FLAG if tables.access_flag else 0))
    core.execute("isb")
    return core


def expected(core: SimulatedArmv7, address: int, access: Access, user: bool) -> Result:
    """What the model says."""
    try:
        return ("memory", core.translate(address, access, 4, user=user).physical, 0)
    except PageFault as fault:
        return ("fault", fault.syndrome or 0, fault.address)


def another_order(result: Result, access: Access, domain: int) -> bool:
    """Whether Unicorn looks for this fault only after another that there may be."""
    status = result[1] & 0xF
    if result[0] == "memory" or status not in (0b0011, 0b0110, 0b0111):
        return False
    if domain != CLIENT:
        return True
    return status != 0b0111 and access is Access.EXECUTE


@pytest.mark.parametrize("access_flag", [False, True], ids=["AP[2:0]", "access flag"])
def test_random_walks(access_flag: bool) -> None:
    """Physical address, or status and address of the fault: every AP, XN, PXN, domain, mode."""
    seed = f"{SEED}-{access_flag}"
    generator = random.Random(seed)
    unicorn = Unicorn()
    met: set[int | None] = set()
    done = 0
    while done < WALKS:
        tables = Tables(generator, access_flag)
        tables.build()
        domains = [CLIENT, *generator.choices((CLIENT, MANAGER, NO_ACCESS), (6, 1, 1), k=15)]
        dacr = sum(each << 2 * number for number, each in enumerate(domains))
        if not tables.pages or not tables.sections:
            continue
        unicorn.use(tables, dacr)
        core = simulated(tables, dacr)
        for _ in range(PER_TABLES):
            address = tables.address()
            access = generator.choice(list(Access))
            user = generator.random() < 0.5
            first = int.from_bytes(tables.peek(ROOT + (address >> 20) * 4, 4), "little")
            wanted = expected(core, address, access, user)
            if another_order(wanted, access, domains[first >> 5 & 0xF]):
                continue
            found = unicorn.access(address, access, user)
            assert tuple(map(str, found)) == tuple(map(str, wanted)), (
                f"seed {seed}: {access.name} of {address:#x}, user {user}: Unicorn {found}, "
                f"model {wanted}"
            )
            met.add(wanted[1] & 0xF if wanted[0] == "fault" else None)
            done += 1
    # All kinds of ends were met, at both levels.
    faults = {0b0101, 0b0111, 0b1001, 0b1011, 0b1101, 0b1111}
    assert met == {None, *faults, *((0b0011, 0b0110) if access_flag else ())}
