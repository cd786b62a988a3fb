"""The simulated walk against Unicorn's, a descendant of QEMU's: the same random tables for both.

Unicorn's MAXPHYADDR is 40, and its processor has blocks of 1 GiB.  Left out is that it sets A in
one of them even if it then refuses the access: here A is set in all of them before.
"""

from __future__ import annotations

import ctypes
import random
import struct
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from unicorn import UC_HOOK_INTR, UC_HOOK_MEM_UNMAPPED, UcError
from unicorn import x86_const as x86

from kernmem.hardware.simulation import Access
from kernmem.hardware.x86_64.simulated import SimulatedX86
from kernmem.language import PageFault
from kernmem.machine.unicorn_x86 import X86Cpu
from kernmem.memory.architecture import Region

RAM = 0x20_0000  # tables and code lie below; every random mapping leads above 4 GiB
CODE, USER_CODE = 0x1000, 0x2000  # two addresses of one page
LOAD, STORE, IRETQ = b"\x48\x8b\x07", b"\x48\x89\x07", b"\x48\xcf"  # at 0, 3 and 6: rax, [rdi]
DESCRIPTORS, STACK = CODE + 0x100, CODE + 0x200
NOWHERE = 0x7FFF_FFFF_0000
PHYSICAL_BITS = 40
WALKS = 20_000  # for each setting of the registers
WP, NXE, LA57, SMEP, SMAP = 1 << 16, 1 << 11, 1 << 12, 1 << 20, 1 << 21
SETTINGS = {
    "plain": (0, 0, 0),
    "WP NXE": (WP, NXE, 0),
    "WP NXE SMEP": (WP, NXE, SMEP),
    "WP NXE SMAP": (WP, NXE, SMAP),
    "SMEP SMAP": (0, 0, SMEP | SMAP),
}

Result = tuple[str, int]
"""Where an access went: ("fault", vector << 32 | error code) or ("memory", physical address)."""


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
        address = self.pages << 12
        self.pages += 1
        return address

    def set(self, table: int, index: int, entry: int) -> None:
        """Store an entry."""
        self.ram[table + 8 * index : table + 8 * index + 8] = entry.to_bytes(8, "little")

    def build(self) -> int:
        """The root: at index 0 the code, elsewhere anything."""
        root = table = self.fill(self.levels - 1, 10)
        for _ in range(self.levels - 1):
            below = self.page()
            self.set(table, 0, below | 0x27)
            table = below
        self.set(table, CODE >> 12, CODE | 0x61)
        self.set(table, USER_CODE >> 12, CODE | 0x65)
        code = LOAD + STORE + IRETQ
        self.ram[CODE : CODE + len(code)] = code
        user_code, user_data = 0x00AF_FB00_0000_FFFF, 0x00CF_F300_0000_FFFF
        struct.pack_into("<6Q", self.ram, DESCRIPTORS, 0, 0, 0, 0, user_code, user_data)
        struct.pack_into("<5Q", self.ram, STACK, USER_CODE, 0x23, 2, 0, 0x2B)
        return root

    def fill(self, level: int, entries: int) -> int:
        """A table of ``level`` with random entries, none at index 0."""
        table = self.page()
        used = self.used.setdefault(table, [])
        for _ in range(entries):
            index = self.random.randrange(1, 512)
            if any(known == index for known, _, _ in used):
                continue
            kind = self.random.choice("tttllli" if level else "llllli")
            below = 0
            if kind == "i":
                entry = self.random.getrandbits(64) & ~1
            elif kind == "t" or level > 2:
                below = self.fill(level - 1, self.random.randrange(2, 6)) if level else 0
                entry = below | 1 | self.rights()
                if self.random.random() < 0.03:
                    entry |= 1 << self.random.choice((7 if level > 2 else 40, 45, 51))
            else:
                entry = self.leaf(level)
            self.set(table, index, entry)
            used.append((index, level, below))
        return table

    def rights(self) -> int:
        """R/W and U/S, mostly set; XD, mostly clear; the rest as it comes."""
        bits = self.random.getrandbits(64) & 0x07F0_0000_0000_0E38  # PWT, PCD, A, software's
        bits |= (self.random.random() < 0.75) << 1 | (self.random.random() < 0.7) << 2
        return bits | (self.random.random() < 0.15) << 63

    def leaf(self, level: int) -> int:
        """A page or block, now and then with a reserved bit."""
        shift = 12 + 9 * level
        number = self.random.randrange((1 << 32) >> shift, 1 << PHYSICAL_BITS - shift)
        entry = number << shift | 1 | self.rights()
        entry |= self.random.getrandbits(1) << 6 | self.random.getrandbits(1) << 8
        entry |= 1 << 7 if level else self.random.getrandbits(1) << 7
        if level:
            entry |= self.random.getrandbits(1) << 12  # PAT
        if level == 2:
            entry |= 1 << 5  # A
        if self.random.random() < 0.05:
            entry |= 1 << self.random.choice((13, 20, 29, 40, 51) if level else (40, 51))
        return entry

    def address(self, root: int) -> int:
        """An address that leads somewhere, mostly; aligned to 8 bytes."""
        address, table, level = 0, root, self.levels - 1
        while self.used.get(table) and self.random.random() < 0.96:
            index, level, below = self.random.choice(self.used[table])
            address |= index << 12 + 9 * level
            table = below
        address |= self.random.getrandbits(12 + 9 * level) & ~7
        top = 11 + 9 * self.levels  # all bits from it up are equal in a canonical address
        if address >> top:
            address |= (1 << 64) - (1 << top)
        if self.random.random() < 0.02:
            address ^= 1 << self.random.randrange(top, 64)
        return address

    # What the simulated MMU asks for
    def peek(self, address: int, length: int) -> bytes:
        """RAM."""
        return bytes(self.ram[address : address + length])

    def poke(self, address: int, data: bytes) -> None:
        """RAM."""
        self.ram[address : address + len(data)] = data

    def forget(self) -> None:
        """Nothing is remembered."""

    forget_writes = forget


class Unicorn:
    """Unicorn's processor with those tables."""

    def __init__(self, cr0: int, efer: int, cr4: int) -> None:
        self.cpu = X86Cpu()
        self.uc = self.cpu.uc
        self.uc.mem_map(0, RAM)
        self.registers = (cr0, efer, cr4)
        self.reset = self.uc.context_save()
        self.result: Result = ("nothing", 0)
        self.uc.hook_add(UC_HOOK_INTR, self._fault)
        self.uc.hook_add(UC_HOOK_MEM_UNMAPPED, self._nothing_there)

    def _fault(self, uc: Any, number: int, _: Any) -> None:
        self.result = ("fault", number << 32 | self.cpu.take_error_code())
        uc.emu_stop()

    def _nothing_there(self, uc: Any, kind: int, address: int, *_: Any) -> bool:
        self.result = ("memory", address)
        return False

    def use(self, ram: bytes, root: int) -> None:
        """New tables; writing CR3 drops all translations."""
        cr0, efer, cr4 = self.registers
        self.uc.context_restore(self.reset)
        self.uc.mem_write(0, ram)
        self.uc.reg_write(x86.UC_X86_REG_MSR, (0xC0000080, 1 << 10 | 1 << 8 | efer))
        self.uc.reg_write(x86.UC_X86_REG_CR4, 1 << 5 | cr4)
        self.uc.reg_write(x86.UC_X86_REG_CR3, root)
        self.uc.reg_write(x86.UC_X86_REG_CR0, 1 << 31 | 1 | cr0)
        kernel = self.uc.context_save()
        self.uc.reg_write(x86.UC_X86_REG_GDTR, (0, DESCRIPTORS, 0x2F, 0))
        self.uc.reg_write(x86.UC_X86_REG_RSP, STACK)
        self.uc.emu_start(CODE + 6, NOWHERE, count=1)  # iretq, to privilege level 3
        self.cpu.take_error_code()  # nothing may be under way in what is restored later
        self.contexts = (kernel, self.uc.context_save())
        self.uc.context_restore(kernel)

    def access(self, address: int, access: Access, user: bool) -> Result:
        """One instruction, at privilege level 3 or 0."""
        self.uc.context_restore(self.contexts[user])
        self.uc.reg_write(x86.UC_X86_REG_RDI, address)
        code = USER_CODE if user else CODE
        start = {Access.READ: code, Access.WRITE: code + 3, Access.EXECUTE: address}[access]
        self.result = ("nothing", 0)
        try:
            self.uc.emu_start(start, NOWHERE, count=1)
        except UcError:
            assert self.result[0] != "nothing", f"{access.name} of {address:#x}"
        return self.result


def expected(core: SimulatedX86, address: int, access: Access, user: bool) -> Result:
    """What the model says."""
    try:
        return ("memory", core.translate(address, access, 8, user=user).physical)
    except PageFault as fault:
        return ("fault", fault.syndrome or 0)


@pytest.mark.parametrize("levels", [4, 5])
@pytest.mark.parametrize("setting", SETTINGS)
def test_random_walks(setting: str, levels: int) -> None:
    """The same physical address, or the same vector and error code, for every access."""
    cr0, efer, cr4 = SETTINGS[setting]
    unicorn = Unicorn(cr0, efer, cr4 | (LA57 if levels == 5 else 0))
    seed = f"{setting}, {levels} levels"
    generator = random.Random(seed)
    kinds: set[Result] = set()
    done = 0
    while done < WALKS:
        tables = Tables(levels, generator)
        root = tables.build()
        if tables.pages << 12 > RAM:
            continue
        program = Region(CODE, CODE + 0x1000)
        core = SimulatedX86(tables, program, levels=levels, gigabyte_blocks=True)
        for register, value in (("cr0", cr0), ("cr4", cr4)):
            core.execute(f"mov {register}", core.execute(f"mov r, {register}") | value)
        core.execute("wrmsr 0xc0000080", core.execute("rdmsr 0xc0000080") | efer)
        core._check_program = lambda: None  # type: ignore[method-assign]
        core.execute("mov cr3", root)
        unicorn.use(bytes(tables.ram), root)
        for _ in range(100):
            address, access = tables.address(root), generator.choice(list(Access))
            user = generator.random() < 0.5
            if address >> 12 in (CODE >> 12, USER_CODE >> 12):
                continue
            canonical = core._regime.is_canonical(address)
            if access is Access.EXECUTE and not canonical:
                continue  # the fault is the jump's, not the fetch's
            want = expected(core, address, access, user)
            got = unicorn.access(address, access, user)
            assert (got[0], f"{got[1]:#x}") == (want[0], f"{want[1]:#x}"), (
                f"{access.name} of {address:#x}, user {user}, seed {seed!r}, walk {done}"
            )
            kinds.add(want if want[0] == "fault" else ("memory", 0))
            done += 1
        written = bytes(cast(ctypes.Array[ctypes.c_char], unicorn.uc.mem_read(0, RAM)))
        assert written == bytes(tables.ram), f"accessed and dirty bits, seed {seed!r}"
    # All kinds of ends were met: memory, and not present, permission and reserved bits.
    codes = {syndrome & 0b1001 for kind, syndrome in kinds if kind == "fault"}
    assert ("memory", 0) in kinds
    assert ("fault", 13 << 32) in kinds
    assert codes == {0b0000, 0b0001, 0b1001}
