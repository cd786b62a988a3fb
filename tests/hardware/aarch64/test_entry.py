"""The bits of AArch64 entries, against the manual's numbers (DDI 0487, D8.3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernmem.hardware.aarch64.entry import Granule, Granule64K
from kernmem.language import Image, PhysicalAddress, Target, u32, u64, usize
from kernmem.memory.architecture import Mapping

IMAGE = Image(Target("aarch64", 8))
GRANULE = Granule64K(IMAGE)

# Written out, as the manual prints them: UXN PXN … OA … nG AF SH[1:0] AP[2:1] 0 AttrIndx[2:0] type
UXN = 0x0040_0000_0000_0000
PXN = 0x0020_0000_0000_0000
NORMAL_PAGE = 0b1_1_11_00_0_000_11  # nG, AF, inner shareable, EL1 only, attribute 0, page
NORMAL_BLOCK = 0b1_1_11_00_0_000_01
DEVICE_PAGE = 0b1_1_00_00_0_001_11


def leaf(mapping: Mapping, physical: int = 0x1_2345_0000, level: int = 0) -> int:
    """An entry without its address."""
    return int(GRANULE.leaf(PhysicalAddress(physical), mapping, u32(level))) - physical


@pytest.mark.parametrize(
    ("mapping", "bits"),
    [
        (Mapping.KERNEL, NORMAL_PAGE | UXN),
        (Mapping.KERNEL | Mapping.NO_EXECUTE, NORMAL_PAGE | UXN | PXN),
        (Mapping.USER_READ_WRITE, NORMAL_PAGE | 0b01 << 6),
        (Mapping.USER_READ_ONLY, NORMAL_PAGE | 0b11 << 6),
        (Mapping.USER_READ_ONLY | Mapping.NO_EXECUTE, NORMAL_PAGE | 0b11 << 6 | UXN | PXN),
        (Mapping.USER_READ_WRITE | Mapping.NO_EXECUTE, NORMAL_PAGE | 0b01 << 6 | UXN | PXN),
        (Mapping.DEVICE, DEVICE_PAGE | UXN | PXN),
        (Mapping.DEVICE | Mapping.NO_EXECUTE, DEVICE_PAGE | UXN | PXN),
        (Mapping.DEVICE | Mapping.USER_READ_WRITE, DEVICE_PAGE | 0b01 << 6 | UXN | PXN),
    ],
)
def test_every_mapping(mapping: Mapping, bits: int) -> None:
    """The attributes of a page."""
    assert f"{leaf(mapping):#x}" == f"{bits:#x}"


def test_a_block_has_bit_1_clear() -> None:
    """Type 0b01 above level 0, 0b11 at it."""
    assert leaf(Mapping.KERNEL, 0x2000_0000, 1) == NORMAL_BLOCK | UXN


def test_a_table_is_its_address_and_0b11() -> None:
    """No APTable, no XNTable."""
    assert GRANULE.table(PhysicalAddress(0x8765_0000)) == 0x8765_0003


@pytest.mark.parametrize(
    ("page_bits", "address_bits", "levels", "shifts", "block_levels"),
    [
        (12, 39, 3, [12, 21, 30], 2),
        (12, 48, 4, [12, 21, 30, 39], 2),
        (12, 32, 3, [12, 21, 30], 2),
        (12, 30, 2, [12, 21], 1),
        (14, 36, 2, [14, 25], 1),
        (14, 47, 3, [14, 25, 36], 1),
        (14, 48, 4, [14, 25, 36, 47], 1),
        (16, 42, 2, [16, 29], 1),
        (16, 48, 3, [16, 29, 42], 1),
        (16, 29, 1, [16], 0),
    ],
)
def test_the_geometry_of_every_granule(
    page_bits: int, address_bits: int, levels: int, shifts: list[int], block_levels: int
) -> None:
    """Tables D8-11 to D8-30: which address bits each level resolves."""
    granule = Granule(IMAGE, page_bits, address_bits)
    assert granule.page_length == 1 << page_bits
    assert granule.levels == levels
    assert [int(granule.shift(u32(level))) for level in range(levels)] == shifts
    assert granule.block_levels == block_levels


def test_the_64k_granule() -> None:
    """What the boards use."""
    assert (GRANULE.page_length, GRANULE.levels, GRANULE.index_bits) == (65536, 2, 13)
    assert (GRANULE.address_bits, GRANULE.physical_bits, GRANULE.block_levels) == (42, 48, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((13, 39), "page_bits must be 12, 14 or 16, not 13"),
        ((12, 49), "address_bits must be 13 to 48, not 49"),
        ((16, 16), "address_bits must be 17 to 48, not 16"),
        ((16, 42, 52), "physical_bits must be 32 to 48, not 52"),
    ],
)
def test_impossible_granules(arguments: tuple[int, ...], message: str) -> None:
    """A refusal says what would be right."""
    with pytest.raises(ValueError, match=f"^{message}$"):
        Granule(IMAGE, *arguments)


MAPPINGS = st.builds(
    lambda access, flags: access | flags,
    st.sampled_from([Mapping.KERNEL, Mapping.USER_READ_ONLY, Mapping.USER_READ_WRITE]),
    st.sampled_from([Mapping(0), Mapping.NO_EXECUTE, Mapping.DEVICE | Mapping.NO_EXECUTE]),
)
SHAPES = st.sampled_from([(12, 39), (12, 48), (14, 36), (14, 48), (16, 42), (16, 48)])


@given(shape=SHAPES, mapping=MAPPINGS, number=st.integers(0, 2**48 - 1), data=st.data())
def test_a_leaf_can_be_read_back(
    shape: tuple[int, int], mapping: Mapping, number: int, data: st.DataObject
) -> None:
    """frame and mapping undo leaf, whatever the granule, level and address."""
    granule = Granule(IMAGE, *shape)
    level = u32(data.draw(st.integers(0, granule.block_levels)))
    shift = int(granule.shift(level))
    physical = PhysicalAddress(number >> shift << shift)
    entry = granule.leaf(physical, mapping, level)
    assert granule.is_valid(entry)
    assert granule.is_leaf(entry, level)
    assert granule.frame(entry, level) == physical
    assert granule.mapping(entry, level) == mapping
    assert entry < 1 << 55


@given(shape=SHAPES, number=st.integers(0, 2**48 - 1))
def test_a_table_entry_can_be_read_back(shape: tuple[int, int], number: int) -> None:
    """next_table undoes table; a table is no leaf, above level 0."""
    granule = Granule(IMAGE, *shape)
    physical = PhysicalAddress(number >> shape[0] << shape[0])
    entry = granule.table(physical)
    assert granule.is_valid(entry)
    assert granule.next_table(entry) == physical
    assert not granule.is_leaf(entry, u32(1))


@given(entry=st.integers(0, 2**64 - 1))
def test_bit_0_alone_makes_an_entry_valid(entry: int) -> None:
    """D8.3: bit 0 clear is invalid, whatever the others are."""
    assert GRANULE.is_valid(u64(entry)) == bool(entry & 1)


def test_entries_lie_8_bytes_apart() -> None:
    """read and write address the table by index."""
    seen = []

    class Recorder:
        def loader(self, size: int) -> object:
            return lambda address: seen.append(("load", size, address)) or 7

        def storer(self, size: int) -> object:
            return lambda address, value: seen.append(("store", size, address, value))

        def zero(self, address: int, length: int) -> None: ...

    granule = Granule64K(Image(Target("aarch64", 8), Recorder()))  # type: ignore[arg-type]
    assert granule.read(PhysicalAddress(0x30000), usize(8191)) == 7
    granule.write(PhysicalAddress(0x30000), usize(1), u64(9))
    assert seen == [("load", 8, 0x3FFF8), ("store", 8, 0x30008, 9)]
