"""The simulated walk, its faults and permissions, against the manual (SDM 4.5 to 4.7)."""

from __future__ import annotations

from itertools import product

import pytest

from kernmem.hardware.pc import PC
from kernmem.hardware.simulation import Access
from kernmem.hardware.x86_64.simulated import SimulatedX86
from kernmem.hardware.x86_64.simulated.walk import (
    Fault,
    Leaf,
    Regime,
    Rights,
    Start,
    error_code,
    permitted,
    walk,
)
from kernmem.language import PageFault

P, RSVD = 1, 8
ALL = 0x27
PAGE, BLOCK = 0x67, 0xE7
XD = 1 << 63
ROOT = 0x10_0000


class Tables:
    """Tables in a dictionary: the walk for address 0 goes through one table a level."""

    def __init__(self, levels: int = 4, **registers: bool) -> None:
        self.regime = Regime(levels, **registers)  # type: ignore[arg-type]
        self.memory = {
            ROOT - 0x1000 * (levels - 1 - level): ROOT - 0x1000 * (levels - level) | ALL
            for level in range(1, levels)
        }
        self.memory[self.table(0)] = 0x1234_5000 | PAGE

    def table(self, level: int) -> int:
        """The table of a level."""
        return ROOT - 0x1000 * (self.regime.levels - 1 - level)

    def set(self, level: int, entry: int) -> None:
        """The entry for address 0."""
        self.memory[self.table(level)] = entry

    def end(self, address: int = 0) -> Fault | Leaf:
        """Where a walk ends."""
        start = Start(ROOT, self.regime.levels - 1)
        return walk(self.regime, start, address, lambda place: self.memory.get(place, 0))

    def leaf(self, address: int = 0) -> Leaf:
        """Where a walk ends, in memory."""
        end = self.end(address)
        assert isinstance(end, Leaf), end
        return end


@pytest.mark.parametrize("levels", [4, 5])
def test_every_level(levels: int) -> None:
    """Nine bits a level; blocks at levels 1 and 2."""
    tables = Tables(levels, gigabyte_blocks=True)
    assert tables.leaf(0x678).physical == 0x1234_5678
    tables.set(1, 0x4020_0000 | BLOCK)
    assert tables.leaf(0x1_2345).physical == 0x4021_2345
    tables.set(2, 0x8000_0000 | BLOCK)
    leaf = tables.leaf(0x3123_4567)
    assert (leaf.physical, leaf.level, leaf.length) == (0xB123_4567, 2, 1 << 30)
    for level in range(levels):
        tables = Tables(levels)
        tables.set(level, 0xFFFF_FFFF_FFFF_FFFE)  # not present, whatever else
        assert tables.end() == Fault(0, level, f"not present, level {level}")


@pytest.mark.parametrize(
    ("level", "entry", "bits"),
    [
        (0, PAGE | 1 << 40, 1 << 40),  # above MAXPHYADDR
        (0, PAGE | 1 << 51, 1 << 51),
        (1, ALL | 1 << 45, 1 << 45),
        (1, BLOCK | 1 << 13, 1 << 13),  # a block's address below its size
        (1, BLOCK | 1 << 20, 1 << 20),
        (2, BLOCK | 1 << 13, 1 << 13),
        (2, BLOCK | 1 << 29, 1 << 29),
        (3, BLOCK, 1 << 7),  # no blocks of 512 GiB
    ],
)
def test_reserved_bits(level: int, entry: int, bits: int) -> None:
    """P and RSVD in the error code (4.7)."""
    tables = Tables(gigabyte_blocks=True)
    tables.set(level, entry)
    assert tables.end() == Fault(P | RSVD, level, f"reserved bits {bits:#x}, level {level}")


@pytest.mark.parametrize("level", [1, 2])
def test_each_bit_of_a_blocks_address_below_its_size_is_reserved(level: int) -> None:
    """From 13 up; bit 12 is PAT."""
    for bit in range(13, 12 + 9 * level):
        tables = Tables(gigabyte_blocks=True)
        tables.set(level, BLOCK | 1 << bit)
        reason = f"reserved bits {1 << bit:#x}, level {level}"
        assert tables.end() == Fault(P | RSVD, level, reason)
    tables.set(level, BLOCK | 1 << 12)
    assert tables.leaf().physical == 0


def test_bits_that_depend_on_features() -> None:
    """XD without NXE, and a block of 1 GiB without Page1GB, are reserved."""
    tables = Tables(no_execute=False)
    tables.set(0, PAGE | XD)
    assert tables.end() == Fault(P | RSVD, 0, f"reserved bits {XD:#x}, level 0")
    tables = Tables()
    tables.set(2, BLOCK)
    assert tables.end() == Fault(P | RSVD, 2, "reserved bits 0x80, level 2")


@pytest.mark.parametrize(
    ("level", "entry", "index"),
    [
        (0, PAGE, 0), (0, PAGE | 1 << 3, 1), (0, PAGE | 1 << 4, 2), (0, PAGE | 3 << 3, 3),
        (0, PAGE | 1 << 7, 4), (0, PAGE | 1 << 7 | 3 << 3, 7),
        (1, BLOCK, 0), (1, BLOCK | 1 << 12, 4), (1, BLOCK | 1 << 12 | 1 << 3, 5),
    ],
)  # fmt: skip
def test_memory_types(level: int, entry: int, index: int) -> None:
    """4 PAT + 2 PCD + PWT, with PAT in bit 7 or 12 (4.9.2)."""
    tables = Tables()
    tables.set(level, entry)
    assert tables.leaf().memory_type == index


@pytest.mark.parametrize("level", range(4))
def test_rights_are_combined_over_all_levels(level: int) -> None:
    """U/S and R/W ANDed, XD ORed (4.6)."""
    base = PAGE | 0x1234_5000 if level == 0 else Tables().memory[Tables().table(level)]
    for bit, rights in (
        (1 << 1, Rights(True, False, False)),
        (1 << 2, Rights(False, True, False)),
        (XD, Rights(True, True, True)),
    ):
        tables = Tables()
        tables.set(level, base ^ bit)
        assert tables.leaf().rights == rights


SWITCHES = ("write_protect", "smep", "smap")


@pytest.mark.parametrize("switches", list(product((False, True), repeat=3)))
@pytest.mark.parametrize("bits", list(product((False, True), repeat=3)))
def test_the_permission_matrix(
    bits: tuple[bool, bool, bool], switches: tuple[bool, bool, bool]
) -> None:
    """Section 4.6.1, sentence by sentence."""
    rights = Rights(*bits)
    wp, smep, smap = switches
    regime = Regime(write_protect=wp, smep=smep, smap=smap)

    def allowed(access: Access, user: bool) -> bool:
        return permitted(regime, rights, access, user=user)

    supervisor_data = not (rights.user and smap)
    assert allowed(Access.READ, False) == supervisor_data
    assert allowed(Access.WRITE, False) == (supervisor_data and (rights.writable or not wp))
    assert allowed(Access.EXECUTE, False) == (not rights.never and not (rights.user and smep))
    assert allowed(Access.READ, True) == rights.user
    assert allowed(Access.WRITE, True) == (rights.user and rights.writable)
    assert allowed(Access.EXECUTE, True) == (rights.user and not rights.never)


@pytest.mark.parametrize(
    ("found", "access", "user", "code"),
    [
        (0, Access.READ, False, 0x0), (0, Access.WRITE, False, 0x2), (1, Access.WRITE, True, 0x7),
        (0, Access.EXECUTE, False, 0x10), (1, Access.EXECUTE, True, 0x15),
        (9, Access.READ, True, 0xD),
    ],
)  # fmt: skip
def test_error_codes(found: int, access: Access, user: bool, code: int) -> None:
    """P, W/R, U/S, RSVD, I/D are bits 0 to 4 (4.7)."""
    assert error_code(Regime(), found, access, user=user) == code


def test_fetches_are_told_from_reads_only_with_nxe_or_smep() -> None:
    """Bit 4 of the error code (4.7)."""
    assert error_code(Regime(no_execute=False), 0, Access.EXECUTE, user=False) == 0
    assert error_code(Regime(no_execute=False, smep=True), 0, Access.EXECUTE, user=False) == 0x10


@pytest.mark.parametrize(
    ("levels", "address", "canonical"),
    [
        (4, (1 << 47) - 1, True), (4, 1 << 47, False), (4, (1 << 64) - (1 << 47), True),
        (4, (1 << 64) - (1 << 47) - 1, False), (4, 1 << 63, False),
        (5, 1 << 47, True), (5, (1 << 56) - 1, True), (5, 1 << 56, False),
        (5, (1 << 64) - (1 << 56), True), (5, (1 << 64) - (1 << 56) - 1, False),
    ],
)  # fmt: skip
def test_canonical_addresses(levels: int, address: int, canonical: bool) -> None:
    """All bits from 47, or 56, up are equal (3.3.7.1)."""
    assert Regime(levels).is_canonical(address) == canonical


class Ram:
    """Nothing but zeros."""

    def peek(self, address: int, length: int) -> bytes:
        return bytes(length)

    def poke(self, address: int, data: bytes) -> None: ...
    def forget(self) -> None: ...
    def forget_writes(self) -> None: ...


def test_before_the_first_cr3_all_is_linear() -> None:
    """The boot code's table: 64 GiB, and no more; other addresses fault as in any table."""
    core = SimulatedX86(Ram(), PC.program)
    assert core.translate(0xF_FFFF_FFFF, Access.WRITE).physical == 0xF_FFFF_FFFF
    with pytest.raises(PageFault) as caught:
        core.translate(1 << 36, Access.WRITE)
    assert caught.value.syndrome == 14 << 32 | 2
    with pytest.raises(PageFault, match="general protection") as caught:
        core.translate(1 << 47, Access.READ)
    assert caught.value.syndrome == 13 << 32


@pytest.mark.parametrize(
    ("instruction", "operand"),
    [("mov cr4", 1 << 5 | 1 << 22), ("mov cr0", 0), ("wrmsr 0x10", 0), ("invpcid", 0)],
)
def test_what_is_not_simulated_is_refused(instruction: str, operand: int) -> None:
    """Protection keys, paging off, other registers."""
    with pytest.raises(ValueError, match=r"not simulated|does not know"):
        SimulatedX86(Ram(), PC.program).execute(instruction, operand)
