"""The simulated walker: faults by kind and level, permissions, reserved bits."""

from __future__ import annotations

from itertools import product

import pytest

from kernmem.hardware.aarch64.simulated.regime import Regime
from kernmem.hardware.aarch64.simulated.walk import Fault, FaultKind, Leaf, permitted, walk
from kernmem.hardware.simulation import Access
from kernmem.language import ModelViolation

BASE_TCR = 0b01 << 8 | 0b01 << 10 | 0b11 << 12 | 1 << 23 | 5 << 32
GRANULES = {12: 0b00, 14: 0b10, 16: 0b01}
AF, NORMAL = 1 << 10, 1 << 10 | 0b11 << 8


def tcr(page_bits: int, address_bits: int, physical_size: int = 5) -> int:
    """TCR_EL1 for a granule."""
    return (
        (64 - address_bits)
        | GRANULES[page_bits] << 14
        | (BASE_TCR & ~(7 << 32))
        | physical_size << 32
    )


class Tables:
    """Tables in a dictionary."""

    def __init__(self, page_bits: int = 16, address_bits: int = 42, physical: int = 48) -> None:
        sizes = {32: 0, 36: 1, 40: 2, 42: 3, 44: 4, 48: 5}
        self.regime = Regime.of(tcr(page_bits, address_bits, sizes[physical]), 48)
        self.memory: dict[int, int] = {}
        self.root = 0x100_0000

    def set(self, table: int, index: int, entry: int) -> None:
        """Store an entry."""
        self.memory[table + 8 * index] = entry

    def end(self, address: int) -> Fault | Leaf:
        """The one outcome of a walk."""
        (outcome,) = walk(
            self.regime, self.root, address, lambda place: [(self.memory.get(place, 0), None)]
        )
        return outcome.end


@pytest.mark.parametrize(
    ("page_bits", "address_bits", "level"),
    [
        (12, 48, 0), (12, 40, 0), (12, 39, 1), (12, 31, 1), (12, 30, 2), (12, 25, 2),
        (14, 48, 0), (14, 47, 1), (14, 37, 1), (14, 36, 2), (14, 26, 2), (14, 25, 3),
        (16, 48, 1), (16, 43, 1), (16, 42, 2), (16, 30, 2), (16, 29, 3), (16, 25, 3),
    ],
)  # fmt: skip
def test_the_start_level(page_bits: int, address_bits: int, level: int) -> None:
    """Each level resolves page_bits - 3 bits; the root what is left."""
    regime = Regime.of(tcr(page_bits, address_bits), 48)
    assert regime.start_level == level
    top = regime.shift(level) + page_bits - 3
    assert regime.shift(level) < address_bits <= top


def test_a_page_and_a_block() -> None:
    """Both levels of the 64 KiB granule."""
    tables = Tables()
    tables.set(tables.root, 3, 0x200_0003)
    tables.set(0x200_0000, 5, 0x1234_0000 | NORMAL | 3)
    tables.set(tables.root, 4, 0x4000_0000 | NORMAL | 1)
    page = tables.end(3 << 29 | 5 << 16 | 0x1234)
    block = tables.end(4 << 29 | 0x123_4567)
    assert isinstance(page, Leaf)
    assert (page.physical, page.level, page.start, page.length) == (
        0x1234_1234, 3, 3 << 29 | 5 << 16, 1 << 16,
    )  # fmt: skip
    assert isinstance(block, Leaf)
    assert (block.physical, block.level, block.length) == (0x4123_4567, 2, 1 << 29)


def test_every_level_of_4k() -> None:
    """Four levels, each entry found by its 9 bits."""
    tables = Tables(12, 48)
    tables.set(tables.root, 1, 0x200_0003)
    tables.set(0x200_0000, 2, 0x300_0003)
    tables.set(0x300_0000, 3, 0x400_0003)
    tables.set(0x400_0000, 4, 0x500_0000 | NORMAL | 3)
    end = tables.end(1 << 39 | 2 << 30 | 3 << 21 | 4 << 12 | 5)
    assert isinstance(end, Leaf)
    assert end.physical == 0x500_0005
    assert tables.end(2 << 39) == Fault(FaultKind.TRANSLATION, 0)
    assert tables.end(1 << 39) == Fault(FaultKind.TRANSLATION, 1)
    assert tables.end(1 << 39 | 2 << 30) == Fault(FaultKind.TRANSLATION, 2)
    assert tables.end(1 << 39 | 2 << 30 | 3 << 21) == Fault(FaultKind.TRANSLATION, 3)


@pytest.mark.parametrize("address", [1 << 42, 1 << 55, 0xFFFF_FFFF_FFFF_0000, (1 << 55) - 1])
def test_addresses_outside_fault_at_level_0(address: int) -> None:
    """The hole, and the half of TTBR1, whose walks EPD1 forbids."""
    assert Tables().end(address) == Fault(FaultKind.TRANSLATION, 0)


def test_reserved_types_are_invalid() -> None:
    """L3 0b01; blocks where the granule has none: 4K level 0, 16K level 1, 64K level 1."""
    tables = Tables()
    tables.set(tables.root, 0, 0x200_0003)
    tables.set(0x200_0000, 0, NORMAL | 1)
    assert tables.end(0) == Fault(FaultKind.TRANSLATION, 3)
    for page_bits, level in ((12, 0), (14, 1), (16, 1)):
        tables = Tables(page_bits, 48 if page_bits != 14 else 47)
        tables.set(tables.root, 0, NORMAL | 1)
        assert tables.end(0) == Fault(FaultKind.TRANSLATION, level)


def test_address_size_faults() -> None:
    """At the level of the descriptor that holds the address; 0 for the root."""
    tables = Tables(physical=36)
    tables.set(tables.root, 0, 1 << 36 | 3)
    tables.set(tables.root, 1, 1 << 36 | NORMAL | 1)
    tables.set(tables.root, 2, 0x200_0003)
    tables.set(0x200_0000, 0, 1 << 36 | NORMAL | 3)
    assert tables.end(0) == Fault(FaultKind.ADDRESS_SIZE, 2)
    assert tables.end(1 << 29) == Fault(FaultKind.ADDRESS_SIZE, 2)
    assert tables.end(2 << 29) == Fault(FaultKind.ADDRESS_SIZE, 3)
    tables.root = 1 << 36
    assert tables.end(0) == Fault(FaultKind.ADDRESS_SIZE, 0)


def test_the_access_flag() -> None:
    """AF = 0 faults, after the address was checked."""
    tables = Tables()
    tables.set(tables.root, 0, 0b11 << 8 | 1)
    assert tables.end(0) == Fault(FaultKind.ACCESS_FLAG, 2)


@pytest.mark.parametrize(
    ("status", "fault"),
    [
        (0x00, Fault(FaultKind.ADDRESS_SIZE, 0)),
        (0x07, Fault(FaultKind.TRANSLATION, 3)),
        (0x0A, Fault(FaultKind.ACCESS_FLAG, 2)),
        (0x0F, Fault(FaultKind.PERMISSION, 3)),
    ],
)
def test_fault_status_codes(status: int, fault: Fault) -> None:
    """As EncodeLDFSC gives them."""
    assert fault.status == status


@pytest.mark.parametrize(
    ("entry", "bits"),
    [
        (NORMAL | 1 | 1 << 17, 1 << 17),  # a block's address below its size
        (NORMAL | 1 | 1 << 28, 1 << 28),
        (NORMAL | 1 | 1 << 16, 1 << 16),  # nT without FEAT_BBM
        (NORMAL | 1 | 1 << 12, 1 << 12),
        (NORMAL | 1 | 1 << 48, 1 << 48),
        (NORMAL | 1 | 1 << 50, 1 << 50),  # GP without FEAT_BTI
        (AF | 0b01 << 8 | 1, 1 << 8),  # the reserved shareability
        (NORMAL | 1 | 1 << 5, 1 << 5),  # NS outside of Secure state
        (0x200_0003 | 1 << 12, 1 << 12),
        (0x200_0003 | 1 << 63, 1 << 63),
    ],
)
def test_reserved_bits_are_refused(entry: int, bits: int) -> None:
    """Silicon ignores them today; the model does not."""
    tables = Tables()
    tables.set(tables.root, 0, entry)
    with pytest.raises(ModelViolation, match=f"reserved bits {bits:#x}") as caught:
        tables.end(0x1234)
    assert caught.value.rule == "RES0_SET"


def test_ignored_bits_are_ignored() -> None:
    """Software bits of leaves, and the many of table descriptors."""
    tables = Tables()
    tables.set(tables.root, 0, 0x200_0003 | 0b111111 << 53 | 1 << 51 | 0b1111_1100 | 1 << 10)
    tables.set(0x200_0000, 0, NORMAL | 3 | 0b1111 << 55 | 0b1111 << 59)
    assert isinstance(tables.end(0), Leaf)


# Permissions: the manual's table (ASL S1DirectBasePermissions), for AP[2:1] as
# (EL1 reads, EL1 writes, EL0 reads, EL0 writes).
DATA = {
    0b00: (True, True, False, False),
    0b01: (True, True, True, True),
    0b10: (True, False, False, False),
    0b11: (True, False, True, False),
}


def leaf_of(ap: int, uxn: int, pxn: int, table: int = 0) -> Leaf:
    """A page with these permissions under a table descriptor with bits 62:59 ``table``."""
    tables = Tables()
    tables.set(tables.root, 0, 0x200_0003 | table << 59)
    tables.set(0x200_0000, 0, NORMAL | 3 | ap << 6 | uxn << 54 | pxn << 53)
    end = tables.end(0)
    assert isinstance(end, Leaf)
    return end


@pytest.mark.parametrize(("ap", "uxn", "pxn", "wxn", "pan"), list(product(range(4), *[(0, 1)] * 4)))
def test_the_permission_matrix(ap: int, uxn: int, pxn: int, wxn: int, pan: int) -> None:
    """Every combination, for EL1 and EL0, reading, writing and executing."""
    leaf = leaf_of(ap, uxn, pxn)
    reads1, writes1, reads0, writes0 = DATA[ap]

    def allowed(access: Access, user: bool) -> bool:
        return permitted(leaf, access, user=user, wxn=bool(wxn), pan=bool(pan))

    denied = bool(pan and reads0)
    assert allowed(Access.READ, False) == (reads1 and not denied)
    assert allowed(Access.WRITE, False) == (writes1 and not denied)
    assert allowed(Access.READ, True) == reads0
    assert allowed(Access.WRITE, True) == writes0
    assert allowed(Access.EXECUTE, True) == (not uxn and not (wxn and writes0))
    assert allowed(Access.EXECUTE, False) == (not pxn and not writes0 and not (wxn and writes1))


@pytest.mark.parametrize(("ap", "table"), list(product(range(4), range(16))))
def test_table_descriptors_take_permissions_away(ap: int, table: int) -> None:
    """APTable[1:0], UXNTable, PXNTable are bits 62:59."""
    no_write, no_user, user_never, never = (bool(table >> bit & 1) for bit in (3, 2, 1, 0))
    leaf = leaf_of(ap, 0, 0, table)
    reads1, writes1, reads0, writes0 = DATA[ap]
    reads0, writes0 = reads0 and not no_user, writes0 and not no_user and not no_write
    assert permitted(leaf, Access.READ, user=False) == reads1
    assert permitted(leaf, Access.WRITE, user=False) == (writes1 and not no_write)
    assert permitted(leaf, Access.READ, user=True) == reads0
    assert permitted(leaf, Access.WRITE, user=True) == writes0
    assert permitted(leaf, Access.EXECUTE, user=True) == (not user_never)
    assert permitted(leaf, Access.EXECUTE, user=False) == (not never and not writes0)


def test_without_hardware_dirty_state_dbm_makes_nothing_writable() -> None:
    """TCR_EL1.HD = 0: bit 51 is one that hardware does not look at (D8.5.5)."""
    tables = Tables()
    tables.set(tables.root, 0, NORMAL | 1 | 1 << 51 | 1 << 7)
    end = tables.end(0)
    assert isinstance(end, Leaf)
    assert not permitted(end, Access.WRITE, user=False)


def test_a_leaf_that_is_one_of_a_contiguous_group_is_refused() -> None:
    """Bit 52 speaks for its neighbours too, whose entries the model does not look at."""
    tables = Tables()
    tables.set(tables.root, 0, NORMAL | 1 | 1 << 52)
    with pytest.raises(ModelViolation, match=r"CONTIGUOUS: .* for 0x1234 is contiguous"):
        tables.end(0x1234)


def test_hpd_switches_table_permissions_off() -> None:
    """TCR_EL1.HPD0."""
    tables = Tables()
    tables.regime = Regime.of(tcr(16, 42) | 1 << 41, 48)
    tables.set(tables.root, 0, 0x200_0003 | 0b1111 << 59)
    tables.set(0x200_0000, 0, NORMAL | 3)
    end = tables.end(0)
    assert isinstance(end, Leaf)
    assert permitted(end, Access.WRITE, user=False)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (tcr(16, 42) | 0b11 << 14, "TG0 .* is reserved"),
        (tcr(16, 42) - 7, "T0SZ .* is 15"),
        (tcr(16, 42) & ~(1 << 23), "set EPD1"),
        (tcr(16, 42) & ~(0b11 << 8), "IRGN0 .* is 0b0"),
        (tcr(16, 42) & ~(0b11 << 12), "SH0 .* is 0b0"),
        (tcr(16, 42) | 1 << 37, "not simulated"),
        (tcr(16, 42) | 7 << 32, "IPS .* is reserved"),
    ],
)
def test_what_tcr_may_not_say(value: int, message: str) -> None:
    """Refused with the field and its value."""
    with pytest.raises(ModelViolation, match=message):
        Regime.of(value, 48)
