"""The bits of RISC-V entries, against the manual's numbers (Priv, "Page-Based 39-bit …")."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernmem.hardware.riscv64.entry import PagedEntries
from kernmem.language import Image, PhysicalAddress, Target, u32, u64, usize
from kernmem.memory.architecture import Mapping

IMAGE = Image(Target("riscv64", 8))
SV39 = PagedEntries(IMAGE)

# Written out, as the manual prints them: RSW D A G U X W R V
KERNEL = 0b00_1100_1111


def leaf(mapping: Mapping) -> int:
    """A page's entry without its address."""
    return int(SV39.leaf(PhysicalAddress(0), mapping, u32(0)))


@pytest.mark.parametrize(
    ("mapping", "bits"),
    [
        (Mapping.KERNEL, KERNEL),
        (Mapping.KERNEL | Mapping.NO_EXECUTE, 0b00_1100_0111),
        (Mapping.USER_READ_WRITE, 0b00_1101_1111),
        (Mapping.USER_READ_ONLY, 0b00_1101_1011),
        (Mapping.USER_READ_ONLY | Mapping.NO_EXECUTE, 0b00_1101_0011),
        (Mapping.USER_READ_WRITE | Mapping.NO_EXECUTE, 0b00_1101_0111),
        (Mapping.DEVICE, 0b01_1100_0111),
        (Mapping.DEVICE | Mapping.NO_EXECUTE, 0b01_1100_0111),
        (Mapping.DEVICE | Mapping.USER_READ_WRITE, 0b01_1101_0111),
    ],
)
def test_every_mapping(mapping: Mapping, bits: int) -> None:
    """The flags of a page."""
    assert f"{leaf(mapping):#b}" == f"{bits:#b}"


def test_where_the_page_number_is() -> None:
    """PPN in bits 53:10, for a page, a block and a table alike; nothing else in a table's."""
    highest = PhysicalAddress((1 << 56) - 0x1000)
    assert SV39.leaf(highest, Mapping.KERNEL, u32(0)) == 0x003F_FFFF_FFFF_FC00 | KERNEL
    assert SV39.leaf(PhysicalAddress(0x4000_0000), Mapping.KERNEL, u32(2)) == 0x1000_0000 | KERNEL
    assert SV39.table(PhysicalAddress(0x8765_4000)) == 0x21D9_5001


@pytest.mark.parametrize(
    ("levels", "address_bits", "shifts"),
    [(3, 38, [12, 21, 30]), (4, 47, [12, 21, 30, 39]), (5, 56, [12, 21, 30, 39, 48])],
)
def test_the_geometry(levels: int, address_bits: int, shifts: list[int]) -> None:
    """The lower half of Sv39, Sv48 and Sv57; blocks at every level but the lowest."""
    entries = PagedEntries(IMAGE, levels)
    assert entries.page_length == 4096
    assert entries.levels == levels
    assert entries.address_bits == address_bits
    assert entries.physical_bits == 56
    assert entries.block_levels == levels - 1
    assert [int(entries.shift(u32(level))) for level in range(levels)] == shifts


def test_what_cannot_be_is_refused() -> None:
    """With the rule and the value."""
    with pytest.raises(ValueError, match=r"levels must be 3 \(Sv39\), .* not 2"):
        PagedEntries(IMAGE, 2)
    with pytest.raises(ValueError, match="block_levels must be 0 to 2, not 3"):
        PagedEntries(IMAGE, 3, block_levels=3)
    assert PagedEntries(IMAGE, 5, block_levels=1).block_levels == 1


def test_which_entries_walks_go_on_from() -> None:
    """V says so; X, W, R all 0 lead to a table."""
    assert not SV39.is_valid(u64(0xFFFF_FFFF_FFFF_FFFE))
    assert SV39.is_valid(u64(1))
    assert not SV39.is_leaf(u64(0b0001), u32(1))
    for flags in (0b0011, 0b0111, 0b1001, 0b1011, 0b1111):
        assert SV39.is_leaf(u64(flags), u32(1))


MAPPINGS = st.sampled_from([Mapping(bits) for bits in range(16) if bits & 3 != 3])


@given(MAPPINGS, st.integers(0, 4), st.integers(0, (1 << 44) - 1))
def test_an_entry_says_what_made_it(mapping: Mapping, level: int, number: int) -> None:
    """``frame`` and ``mapping`` undo ``leaf``; ``next_table`` undoes ``table``."""
    entries = PagedEntries(IMAGE, 5)
    physical = PhysicalAddress((number >> 9 * level << 9 * level) << 12)
    entry = entries.leaf(physical, mapping, u32(level))
    assert entries.is_valid(entry)
    assert entries.is_leaf(entry, u32(level))
    assert entries.frame(entry, u32(level)) == physical
    again = entries.mapping(entry, u32(level))
    assert entries.leaf(physical, again, u32(level)) == entry
    assert mapping in again
    assert again & ~mapping in (Mapping(0), Mapping.NO_EXECUTE)
    table = PhysicalAddress(number << 12)
    assert entries.next_table(entries.table(table)) == table
    assert not entries.is_leaf(entries.table(table), u32(4))


def test_indices_are_of_eight_bytes() -> None:
    """An entry is 8 bytes at ``table + 8 * index``."""
    stored: dict[int, int] = {}

    class Memory:
        def loader(self, size: int) -> object:
            return stored.__getitem__

        def storer(self, size: int) -> object:
            return stored.__setitem__

    entries = PagedEntries(Image(Target("riscv64", 8), Memory()))  # type: ignore[arg-type]
    entries.write(PhysicalAddress(0x1000), usize(511), u64(7))
    assert stored == {0x1FF8: 7}
    assert entries.read(PhysicalAddress(0x1000), usize(511)) == 7
