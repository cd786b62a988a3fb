"""The simulated walk against Unicorn's, a descendant of QEMU's: the same random tables for both.

Left out is what Unicorn forgives, and the model does not: reserved bits, addresses wider than
the core's, blocks at levels that have none.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from unicorn import UC_HOOK_INTR, UC_HOOK_MEM_UNMAPPED, UcError
from unicorn import arm64_const as arm64

from hardware.aarch64.test_walk import tcr
from kernmem.hardware.aarch64.simulated import EVERY_GRANULE, SimulatedAarch64
from kernmem.hardware.aarch64.simulated.regime import Regime
from kernmem.hardware.simulation import Access
from kernmem.language import PageFault
from kernmem.machine.unicorn_aarch64 import SCR_EL3, SCTLR_EL1, TCR_EL1, Aarch64Cpu
from kernmem.memory.architecture import Region

RAM = 0x100_0000  # tables and code lie below; every random mapping leads above 4 GiB
CODE = 0  # ldr x1, [x0] ; str x1, [x0]
LOAD, STORE = 0xF940_0001, 0xF900_0001
NOWHERE = 0xFFFF_0000_0000_0000
MAIR = 0x04_FF
WALKS = 2000  # of each kind of tables
MANY_WALKS = 40_000
FEW_WALKS = 1000
SCTLR_ON = 0x30D0_1805
LONGEST = {"4K-48": (12, 48), "16K-48": (14, 48), "64K-48": (16, 48)}
SHORTER = {"4K-39": (12, 39), "16K-36": (14, 36), "16K-47": (14, 47), "64K-42": (16, 42)}

Result = tuple[str, int]
"""Where an access went: ("fault", syndrome) or ("memory", physical address)."""


@dataclass
class Tables:
    """Random tables, in an image of the RAM."""

    regime: Regime
    random: random.Random
    ram: bytearray = field(default_factory=lambda: bytearray(RAM))
    used: dict[int, list[tuple[int, int, int]]] = field(default_factory=dict)
    pages: int = 1

    def page(self) -> int:
        """A page for the next table."""
        address = self.pages << self.regime.page_bits
        self.pages += 1
        return address

    def set(self, table: int, index: int, entry: int) -> None:
        """Store an entry."""
        self.ram[table + 8 * index : table + 8 * index + 8] = entry.to_bytes(8, "little")

    def build(self) -> int:
        """The root: at index 0 the code, elsewhere anything."""
        root = self.fill(self.regime.start_level, 12)
        table, level = root, self.regime.start_level
        while level < 3:
            below = self.page()
            self.set(table, 0, below | 3)
            table, level = below, level + 1
        self.set(table, 0, CODE | 0b1_1_11_00_0_000_11)
        return root

    def fill(self, level: int, entries: int) -> int:
        """A table of ``level`` with random entries, none at index 0."""
        table = self.page()
        top = self.regime.input_bits if level == self.regime.start_level else 64
        bits = min(self.regime.stride, top - self.regime.shift(level))
        used = self.used.setdefault(table, [])
        for _ in range(entries):
            index = self.random.randrange(1, 1 << bits)
            kind = self.random.choice("tttlllli" if level < 3 else "lllllli")
            below = 0
            if kind == "t":
                below = self.fill(level + 1, self.random.randrange(2, 8))
                # APTable, UXNTable, PXNTable, mostly clear
                limits = self.random.getrandbits(4) & self.random.getrandbits(4)
                entry = below | 3 | limits << 59 | self.random.getrandbits(6) << 53
            elif kind == "l" and (level == 3 or level in self.regime.block_levels):
                entry = self.leaf(level)
            else:
                # Invalid: bit 0 clear, or the type that level 3 does not have.
                entry = self.random.getrandbits(64) & ~1
                if level == 3 and self.random.random() < 0.3:
                    entry = entry & ~2 | 1
            if any(known == index for known, _, _ in used):
                continue
            self.set(table, index, entry)
            used.append((index, level, below))
        return table

    def leaf(self, level: int) -> int:
        """A page or block with random permissions, now and then without the access flag."""
        number = self.random.randrange(1 << 32, 1 << 40)
        shift = self.regime.shift(level)
        output = max(number >> shift, (1 << 32) + (1 << shift) - 1 >> shift) << shift
        accessed = self.random.random() < 0.9
        return (
            output % (1 << 40)
            | (3 if level == 3 else 1)
            | self.random.choice((0b00, 0b10, 0b11)) << 8
            | self.random.getrandbits(2) << 6
            | accessed << 10
            | self.random.getrandbits(1) << 11
            | self.random.getrandbits(2) << 53
            | self.random.getrandbits(4) << 55
        )

    def address(self, root: int) -> int:
        """An address that leads somewhere, mostly; aligned to 8 bytes."""
        address, table, level = 0, root, self.regime.start_level
        while self.used.get(table) and self.random.random() < 0.95:
            index, level, below = self.random.choice(self.used[table])
            address |= index << self.regime.shift(level)
            table = below
        low = self.regime.shift(level)
        address |= self.random.getrandbits(low) & ~7
        if self.random.random() < 0.02:
            address |= 1 << self.random.randrange(self.regime.input_bits, 48 + 1)
        return address

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
        self.cpu = Aarch64Cpu(level=1)
        self.uc = self.cpu.uc
        self.uc.mem_map(0, RAM)
        self.result: Result = ("nothing", 0)
        self.uc.hook_add(UC_HOOK_INTR, self._fault)
        self.uc.hook_add(UC_HOOK_MEM_UNMAPPED, self._nothing_there)

    def _fault(self, uc: Any, number: int, _: Any) -> None:
        self.result = ("fault", self.cpu.exception().syndrome)
        uc.emu_stop()

    def _nothing_there(self, uc: Any, kind: int, address: int, *_: Any) -> bool:
        self.result = ("memory", address)
        return False

    def use(self, ram: bytes, tcr_value: int, root: int) -> None:
        """New tables; Unicorn drops all translations when SCTLR_EL1 is written."""
        self.uc.mem_write(0, ram)
        self.uc.mem_write(CODE, LOAD.to_bytes(4, "little") + STORE.to_bytes(4, "little"))
        self.cpu.write_system(SCTLR_EL1, SCTLR_ON & ~1)
        self.cpu.write_system(TCR_EL1, tcr_value)
        self.uc.reg_write(arm64.UC_ARM64_REG_MAIR_EL1, MAIR)
        self.uc.reg_write(arm64.UC_ARM64_REG_TTBR0_EL1, root)
        self.cpu.write_system(SCTLR_EL1, SCTLR_ON)

    def access(self, address: int, access: Access, user: bool) -> Result:
        """One instruction, in EL0 or EL1."""
        self.uc.reg_write(arm64.UC_ARM64_REG_PSTATE, 0x3C0 if user else 0x3C5)
        self.cpu.write_system(SCR_EL3, 0x401)  # Unicorn looks at PSTATE only now
        self.uc.reg_write(arm64.UC_ARM64_REG_X0, address)
        start = {Access.READ: CODE, Access.WRITE: CODE + 4, Access.EXECUTE: address}[access]
        self.result = ("nothing", 0)
        try:
            self.uc.emu_start(start, NOWHERE, count=1)
        except UcError:
            assert self.result[0] != "nothing"
        return self.result


def simulated(tables: Tables, tcr_value: int, root: int) -> SimulatedAarch64:
    """The model's core with those tables."""
    core = SimulatedAarch64(tables, Region(CODE, CODE + 0x1000), EVERY_GRANULE)
    for instruction in ("tlbi vmalle1", "ic iallu", "dsb nsh"):
        core.execute(instruction)
    core.execute("msr mair_el1", MAIR)
    core.execute("msr tcr_el1", tcr_value)
    core.execute("msr ttbr0_el1", root)
    core.execute("isb")
    core.execute("msr sctlr_el1", SCTLR_ON)
    core.execute("isb")
    return core


def expected(core: SimulatedAarch64, address: int, access: Access, user: bool) -> Result:
    """What the model says."""
    try:
        return ("memory", core.translate(address, access, 8, user=user).physical)
    except PageFault as fault:
        return ("fault", fault.syndrome or 0)


@pytest.mark.parametrize("granule", [*LONGEST, *SHORTER])
def test_random_walks(granule: str) -> None:
    """The same physical address, or the same syndrome, for every access."""
    compare_walks(*(LONGEST | SHORTER)[granule], WALKS, seed=1)


@pytest.mark.parametrize(
    ("page_bits", "address_bits"),
    [
        *((12, 40), (12, 39), (12, 31), (12, 30), (12, 25)),
        *((14, 48), (14, 47), (14, 37), (14, 36), (14, 26), (14, 25)),
        *((16, 43), (16, 42), (16, 30), (16, 29), (16, 25)),
    ],
)
def test_walks_on_both_sides_of_where_a_level_is_saved(page_bits: int, address_bits: int) -> None:
    """T0SZ decides where walks start, and how long the root is: down to 128 bytes."""
    compare_walks(page_bits, address_bits, FEW_WALKS, seed=3)


@pytest.mark.slow
@pytest.mark.parametrize("granule", LONGEST)
def test_many_random_walks(granule: str) -> None:
    """Others each time; the message of a failure has the seed."""
    seed = random.SystemRandom().getrandbits(32)
    compare_walks(*LONGEST[granule], MANY_WALKS, seed)


def compare_walks(page_bits: int, address_bits: int, walks: int, seed: int) -> None:
    """Accesses of all kinds from both privilege levels, by random tables."""
    unicorn = Unicorn()
    kinds: set[Result] = set()
    generator = random.Random(seed)
    done = 0
    while done < walks:
        tcr_value = tcr(page_bits, address_bits, physical_size=2)
        tables = Tables(Regime.of(tcr_value, 40), generator)
        root = tables.build()
        if tables.pages << tables.regime.page_bits > RAM:
            continue
        unicorn.use(bytes(tables.ram), tcr_value, root)
        core = simulated(tables, tcr_value, root)
        for _ in range(100):
            address = tables.address(root)
            access = generator.choice(list(Access))
            user = generator.random() < 0.5
            if address >> page_bits == 0:
                continue  # the code, which would be executed
            want = expected(core, address, access, user)
            got = unicorn.access(address, access, user)
            assert (got[0], f"{got[1]:#x}") == (want[0], f"{want[1]:#x}"), (
                f"{access.name} of {address:#x} in EL{0 if user else 1}, seed {seed}"
            )
            kinds.add(want if want[0] == "fault" else ("memory", 0))
            done += 1
    # All kinds of ends were met: memory, and translation, access flag and permission faults.
    statuses = {syndrome & 0x3C for kind, syndrome in kinds if kind == "fault"}
    assert ("memory", 0) in kinds
    assert statuses == {0b0001 << 2, 0b0010 << 2, 0b0011 << 2}
