"""The bits of ARMv7's short descriptors, against the manual's numbers (DDI 0406, B3.5.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernmem.hardware.armv7.entry import ShortDescriptors
from kernmem.language import (
    Image,
    PhysicalAddress,
    Target,
    VirtualAddress,
    set_pointer_bytes,
    u32,
    usize,
)
from kernmem.memory.architecture import Mapping

FORMAT = ShortDescriptors(Image(Target("armv7", 4)))

# Written out, as the manual prints them.
# A small page:   nG S AP[2] TEX[2:0] AP[1:0] C B 1 XN
# A section:      NS 0 nG S AP[2] TEX[2:0] AP[1:0] IMP domain[3:0] XN C B 1 PXN
PAGES = {
    Mapping.KERNEL: 0b1_1_0_001_01_1_1_1_0,
    Mapping.KERNEL | Mapping.NO_EXECUTE: 0b1_1_0_001_01_1_1_1_1,
    Mapping.USER_READ_WRITE: 0b1_1_0_001_11_1_1_1_0,
    Mapping.USER_READ_WRITE | Mapping.NO_EXECUTE: 0b1_1_0_001_11_1_1_1_1,
    Mapping.USER_READ_ONLY: 0b1_1_1_001_11_1_1_1_0,
    Mapping.USER_READ_ONLY | Mapping.NO_EXECUTE: 0b1_1_1_001_11_1_1_1_1,
    Mapping.DEVICE: 0b1_1_0_000_01_0_1_1_1,
    Mapping.DEVICE | Mapping.USER_READ_WRITE: 0b1_1_0_000_11_0_1_1_1,
    Mapping.READ_ONLY: 0b1_1_1_001_01_1_1_1_0,
    Mapping.GLOBAL: 0b0_1_0_001_01_1_1_1_0,
    Mapping.UNCACHED: 0b1_1_0_001_01_0_0_1_0,
    Mapping.NO_ACCESS: 0b1_1_0_001_01_1_1_0_0,
    Mapping.NO_ACCESS | Mapping.NO_EXECUTE: 0b1_1_0_101_01_1_1_0_0,
}
SECTIONS = {
    Mapping.KERNEL: 0b0_0_1_1_0_001_01_0_0000_0_1_1_1_0,
    Mapping.KERNEL | Mapping.NO_EXECUTE: 0b0_0_1_1_0_001_01_0_0000_1_1_1_1_0,
    Mapping.USER_READ_WRITE: 0b0_0_1_1_0_001_11_0_0000_0_1_1_1_0,
    Mapping.USER_READ_WRITE | Mapping.NO_EXECUTE: 0b0_0_1_1_0_001_11_0_0000_1_1_1_1_0,
    Mapping.USER_READ_ONLY: 0b0_0_1_1_1_001_11_0_0000_0_1_1_1_0,
    Mapping.USER_READ_ONLY | Mapping.NO_EXECUTE: 0b0_0_1_1_1_001_11_0_0000_1_1_1_1_0,
    Mapping.DEVICE: 0b0_0_1_1_0_000_01_0_0000_1_0_1_1_0,
    Mapping.DEVICE | Mapping.USER_READ_WRITE: 0b0_0_1_1_0_000_11_0_0000_1_0_1_1_0,
    Mapping.READ_ONLY: 0b0_0_1_1_1_001_01_0_0000_0_1_1_1_0,
    Mapping.GLOBAL: 0b0_0_0_1_0_001_01_0_0000_0_1_1_1_0,
    Mapping.UNCACHED: 0b0_0_1_1_0_001_01_0_0000_0_0_0_1_0,
    Mapping.NO_ACCESS: 0b0_0_1_1_0_001_01_0_0000_0_1_1_0_0,
    Mapping.NO_ACCESS | Mapping.NO_EXECUTE: 0b0_0_1_1_0_001_01_0_0000_1_1_1_0_0,
}


@pytest.fixture(autouse=True)
def narrow_pointers() -> None:
    """Of 4 bytes."""
    set_pointer_bytes(4)


def leaf(physical: int, mapping: Mapping, level: int) -> int:
    """An entry."""
    return int(FORMAT.leaf(PhysicalAddress(physical), mapping, u32(level)))


@pytest.mark.parametrize("mapping", PAGES)
def test_a_page(mapping: Mapping) -> None:
    """Its attributes, below the address in bits 31:12."""
    assert f"{leaf(0xFEDC_B000, mapping, 0):#x}" == f"{0xFEDC_B000 | PAGES[mapping]:#x}"


@pytest.mark.parametrize("mapping", SECTIONS)
def test_a_section(mapping: Mapping) -> None:
    """Its attributes, below the address in bits 31:20."""
    assert f"{leaf(0xFED0_0000, mapping, 1):#x}" == f"{0xFED0_0000 | SECTIONS[mapping]:#x}"


def test_an_entry_that_leads_to_a_table() -> None:
    """Its address and type 01: domain 0, no PXN."""
    entry = FORMAT.table(PhysicalAddress(0x8765_4000))
    assert entry == 0x8765_4001
    assert FORMAT.next_table(entry) == 0x8765_4000
    assert FORMAT.is_valid(entry) and not FORMAT.is_leaf(entry, u32(1))


def test_types() -> None:
    """00 is invalid, whatever else is there; in the root only 01 leads to a table."""
    for entry in (0, 0xFFFF_FFFC):
        assert not FORMAT.is_valid(usize(entry))
    for level, entry, is_leaf in ((1, 0b01, False), (1, 0b10, True), (0, 0b10, True), (0, 3, True)):
        assert FORMAT.is_valid(usize(entry))
        assert FORMAT.is_leaf(usize(entry), u32(level)) == is_leaf


def test_the_geometry() -> None:
    """4096 entries for 1 MiB each, and 256 for 4 KiB each; a root is four pages."""
    assert (FORMAT.levels, FORMAT.page_length, FORMAT.entry_length) == (2, 0x1000, 4)
    assert [int(FORMAT.shift(u32(level))) for level in (0, 1)] == [12, 20]
    assert [int(FORMAT.table_length(u32(level))) for level in (0, 1)] == [256, 4096]
    assert FORMAT.root_pages == 4
    assert FORMAT.last_virtual == 0xFFFF_FFFF
    address = VirtualAddress(0xFEDC_BA98)
    assert [int(FORMAT.index(address, u32(level))) for level in (0, 1)] == [0xCB, 0xFED]


@given(st.integers(0, 0xFFFF_FFFF), st.sampled_from(sorted(PAGES)), st.integers(0, 1))
def test_what_was_put_in_comes_out(address: int, mapping: Mapping, level: int) -> None:
    """The address and the mapping; a device is never executed, and says so."""
    shift = 20 if level else 12
    physical = PhysicalAddress(address >> shift << shift)
    entry = FORMAT.leaf(physical, mapping, u32(level))
    assert FORMAT.is_valid(entry) == (Mapping.NO_ACCESS not in mapping)
    assert FORMAT.is_leaf(entry, u32(level))
    assert FORMAT.frame(entry, u32(level)) == physical
    found = FORMAT.mapping(entry, u32(level))
    never = Mapping.NO_EXECUTE if Mapping.DEVICE in mapping else Mapping.KERNEL
    assert found == mapping | never
    assert FORMAT.leaf(physical, found, u32(level)) == entry
