"""The bits of x86-64 entries, against the manual's numbers (SDM 4.5, tables 4-15 to 4-20)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernmem.hardware.x86_64.entry import LongMode
from kernmem.language import Image, PhysicalAddress, Target, u32, usize
from kernmem.memory.architecture import Mapping

IMAGE = Image(Target("x86_64", 8))
FORMAT = LongMode(IMAGE, gigabyte_blocks=True)

# Written out, as the manual prints them: XD … PS D A PCD PWT U/S R/W P
XD = 0x8000_0000_0000_0000
PAGE = 0b0_1_1_0_0_0_0_1  # dirty, accessed, present
BLOCK = 0b1_1_1_0_0_0_0_1
UNCACHEABLE = 0b11 << 3  # PCD, PWT


@pytest.mark.parametrize(
    ("mapping", "bits"),
    [
        (Mapping.KERNEL, PAGE | 0b010),
        (Mapping.KERNEL | Mapping.NO_EXECUTE, PAGE | 0b010 | XD),
        (Mapping.USER_READ_WRITE, PAGE | 0b110),
        (Mapping.USER_READ_ONLY, PAGE | 0b100),
        (Mapping.USER_READ_ONLY | Mapping.NO_EXECUTE, PAGE | 0b100 | XD),
        (Mapping.USER_READ_WRITE | Mapping.NO_EXECUTE, PAGE | 0b110 | XD),
        (Mapping.DEVICE, PAGE | 0b010 | UNCACHEABLE | XD),
        (Mapping.DEVICE | Mapping.NO_EXECUTE, PAGE | 0b010 | UNCACHEABLE | XD),
        (Mapping.DEVICE | Mapping.USER_READ_WRITE, PAGE | 0b110 | UNCACHEABLE | XD),
    ],
)
def test_every_mapping(mapping: Mapping, bits: int) -> None:
    """The attributes of a page."""
    entry = int(FORMAT.leaf(PhysicalAddress(0x1_2345_6000), mapping, u32(0)))
    assert f"{entry:#x}" == f"{bits | 0x1_2345_6000:#x}"


@pytest.mark.parametrize("level", [1, 2])
def test_a_block_has_bit_7_set(level: int) -> None:
    """PS, which at level 0 would be PAT."""
    entry = FORMAT.leaf(PhysicalAddress(0x4000_0000), Mapping.KERNEL, u32(level))
    assert entry == 0x4000_0000 | BLOCK | 0b010
    assert FORMAT.is_leaf(entry, u32(level))


def test_a_table_gives_all_rights() -> None:
    """A, U/S, R/W, P; neither PS nor XD: the leaf decides."""
    entry = FORMAT.table(PhysicalAddress(0x8765_4000))
    assert entry == 0x8765_4000 | 0b0010_0111
    assert not FORMAT.is_leaf(entry, u32(1))
    assert FORMAT.next_table(entry) == PhysicalAddress(0x8765_4000)


@pytest.mark.parametrize(
    ("levels", "address_bits", "shifts"),
    [(4, 47, [12, 21, 30, 39]), (5, 56, [12, 21, 30, 39, 48])],
)
def test_the_geometry(levels: int, address_bits: int, shifts: list[int]) -> None:
    """Figures 4-8 and 4-11; addresses of the lower half."""
    entries = LongMode(IMAGE, levels)
    assert [int(entries.shift(u32(level))) for level in range(levels)] == shifts
    assert entries.address_bits == address_bits
    assert entries.block_levels == 1
    assert (entries.page_length, entries.index_bits) == (4096, 9)


def test_the_pat_bit_is_no_address_and_no_table() -> None:
    """Bit 7 of a page, bit 12 of a block (4.9.2)."""
    assert FORMAT.is_leaf(usize(0x1000 | 0xE3), u32(0))
    assert FORMAT.frame(usize(0x1000 | 0xE3), u32(0)) == PhysicalAddress(0x1000)
    assert FORMAT.frame(usize(0x20_0000 | 1 << 12 | 0xE3), u32(1)) == PhysicalAddress(0x20_0000)
    assert FORMAT.frame(usize(0x4000_0000 | 1 << 12 | 0xE3), u32(2)) == PhysicalAddress(0x4000_0000)


def test_not_present_is_not_valid_whatever_else() -> None:
    """Bit 0 alone decides."""
    assert not FORMAT.is_valid(usize((1 << 64) - 2))
    assert FORMAT.is_valid(usize(1))


@given(
    access=st.sampled_from([Mapping.KERNEL, Mapping.USER_READ_ONLY, Mapping.USER_READ_WRITE]),
    never=st.booleans(),
    device=st.booleans(),
    level=st.integers(0, 2),
    number=st.integers(0, (1 << 40) - 1),
    ignored=st.integers(0, 7),
    software=st.integers(0, 127),
)
def test_mapping_is_the_inverse_of_leaf(
    access: Mapping,
    never: bool,
    device: bool,
    level: int,
    number: int,
    ignored: int,
    software: int,
) -> None:
    """Frame and mapping come back, and software's bits 11:9 and 58:52 do not matter."""
    length = 1 << 12 + 9 * level
    physical = PhysicalAddress(number - number % length)
    mapping = access
    if never:
        mapping |= Mapping.NO_EXECUTE
    if device:
        mapping |= Mapping.DEVICE
    entry = FORMAT.leaf(physical, mapping, u32(level))
    marked = entry | usize(ignored << 9 | software << 52)
    assert FORMAT.is_valid(marked)
    assert FORMAT.is_leaf(marked, u32(level))
    assert FORMAT.frame(marked, u32(level)) == physical
    found = FORMAT.mapping(marked, u32(level))
    assert found == (mapping | Mapping.NO_EXECUTE if device else mapping)
    assert FORMAT.leaf(physical, found, u32(level)) == entry


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": 3}, "levels must be 4 or 5, not 3"),
        ({"physical_bits": 53}, "physical_bits must be 32 to 52, not 53"),
    ],
)
def test_what_there_is_not(arguments: dict[str, int], message: str) -> None:
    """Refused with its value."""
    with pytest.raises(ValueError, match=message):
        LongMode(IMAGE, **arguments)  # type: ignore[arg-type]
