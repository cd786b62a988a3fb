"""What the views of a kernel show, and that damage is reported, not followed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import kernmem
from kernmem.inspect import (
    page_map,
    read_free_list,
    read_pagetable,
    read_regions,
    show_registries,
    show_registry,
)
from kernmem.machine.port import Machine
from kernmem.memory.architecture import Mapping

PAGE = 0x1_0000
KERNEL = Mapping.KERNEL
DEVICE = Mapping.DEVICE | Mapping.NO_EXECUTE


@pytest.fixture(scope="module", params=["model", "host", "unicorn"])
def shared(request: pytest.FixtureRequest) -> Iterator[tuple[Machine, object]]:
    """A booted machine of each kind, and its state."""
    machine = kernmem.boot("lab", request.param)
    yield machine, machine.snapshot()
    if hasattr(machine, "close"):
        machine.close()


@pytest.fixture
def machine(shared: tuple[Machine, object]) -> Machine:
    """As it was when it had booted."""
    shared[0].restore(shared[1])
    return shared[0]


# Page tables ------------------------------------------------------------------------------------


def test_the_space_in_use(machine: Machine) -> None:
    """The image, a device, and the segment, each as one range."""
    machine.kmalloc(3 * PAGE)
    table = read_pagetable(machine)
    assert table.root == machine.virtual_mem_info.current_pagetable
    found = [(each.virtual, each.length, each.mapping, each.level) for each in table.ranges]
    start = int(machine.kernel_segment_info.segment_start)
    image = int(machine.hardware.program.start)
    device = (0x900_0000, PAGE, DEVICE, 0)
    assert found[:2] == [device, (image, 32 * PAGE, KERNEL, 0)]
    assert (found[2][0], found[2][2]) == (start, KERNEL)
    assert sum(length for _, length, _, _ in found[2:]) == 4 * PAGE
    assert table.problems == ()


def test_linear_blocks_and_text(machine: Machine) -> None:
    table = read_pagetable(machine, machine.linear_space_info.pagetable)
    assert {each.level for each in table.ranges} == {0, 1}
    assert all(each.virtual == each.physical for each in table.ranges)
    text = str(table)
    assert "kernel rw user -- - device    page  (level 0)" in text
    assert "kernel rw user -- x normal    block (level 1)" in text
    header, *lines = text.splitlines()[1:]
    assert {line.index("0x", 3) for line in lines} == {header.index("physical")}


def test_user_mappings(machine: Machine) -> None:
    machine.enter_linear_space()
    table = machine.create_pagetable()
    mappings = [Mapping.USER_READ_ONLY, Mapping.USER_READ_WRITE | Mapping.NO_EXECUTE]
    for number, mapping in enumerate(mappings, 1):
        machine.pagetable_map(table, number * PAGE, 7 * PAGE, mapping)
    found = read_pagetable(machine, table)
    assert [each.mapping for each in found.ranges] == mappings
    assert "kernel r- user r- x normal" in str(found)
    assert "kernel rw user rw - normal" in str(found)


def test_an_empty_table(machine: Machine) -> None:
    machine.enter_linear_space()
    table = read_pagetable(machine, machine.create_pagetable())
    assert (table.ranges, table.problems, len(table.tables)) == ((), (), 1)


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ("root", "is reached again, for 0x20000000"),
        ("low", "the table 0x1230000, for 0x20000000, is not in RAM"),
    ],
)
def test_damaged_tables_are_not_followed(machine: Machine, entry: str, text: str) -> None:
    """A table that leads to itself, and one that leads out of the RAM."""
    machine.enter_linear_space()
    table = int(machine.create_pagetable())
    machine.leave_linear_space()
    leads_to = {"root": table, "low": 0x123_0000}[entry]
    machine.write_physical(table + 8, (leads_to | 0b11).to_bytes(8, "little"))
    found = read_pagetable(machine, table)
    assert len(found.problems) == 1
    assert text in found.problems[0]
    assert f"PROBLEM: {found.problems[0]}" in str(found)


def test_with_the_mmu_off_a_table_must_be_named() -> None:
    from kernmem.hardware import find
    from kernmem.machine.model import Model
    from kernmem.memory.manager import MemoryManager
    from kernmem.memory.profile import spec

    machine = Model(find("lab"), lambda image, parts: MemoryManager(image, parts, spec()))
    with pytest.raises(ValueError, match="the MMU is off: say which table to read"):
        read_pagetable(machine)


# Pages ------------------------------------------------------------------------------------------


def test_free_list(machine: Machine) -> None:
    info = machine.physical_mem_info
    found = read_free_list(machine)
    assert (len(found.pages), found.problems) == (info.free_pages_count, ())
    assert found.pages[0] == int(info.free_pages_list)
    used_pages = int(info.page_quantity - info.free_pages_count)
    assert f"{used_pages} used, {len(found.pages)} free" in str(found)
    assert page_map(machine, width=8, rows=8).count("\n") == 8


def test_a_map_with_holes() -> None:
    """Each region begins a row of its own."""
    machine = kernmem.boot("riscv-virt")
    regions = read_regions(machine)
    assert len(regions) == 3
    assert [region.end for region in regions] == [0x8020_0000, 0x87E0_0000, 0x8800_0000]
    rows = [line.split() for line in page_map(machine, width=16, rows=16).splitlines()[1:]]
    starts = [int(row[0], 16) for row in rows]
    assert {region.start for region in regions} <= set(starts)
    assert starts == sorted(starts)
    assert all(any(each.start <= start < each.end for each in regions) for start in starts)
    assert rows[0][1][0] == "+", "tables and the first pages of the heap"
    assert {mark for row in rows[1:] for mark in row[1]} == {"."}


def test_a_damaged_record_of_a_region(machine: Machine) -> None:
    """It is reported, and what it says is not believed."""
    record = int(machine.page_regions.lowest)
    end = int(machine.physical_mem_info.physical_heap_end)
    machine.write_physical(record, record.to_bytes(8, "little"))
    found = read_free_list(machine)
    assert len(found.pages) == machine.physical_mem_info.free_pages_count
    assert found.problems == (f"the list of regions leads to {record:#x}, from below {end:#x}",)
    machine.write_physical(record + 16, (end + PAGE).to_bytes(8, "little"))
    assert read_regions(machine) == ()
    assert f"the region at {record:#x} is from" in read_free_list(machine).problems[0]
    assert f"to {end + PAGE:#x}, fresh from" in page_map(machine)


def test_a_cycle_in_the_free_list(machine: Machine) -> None:
    machine.enter_linear_space()
    second, first = machine.alloc_physical_page(), machine.alloc_physical_page()
    machine.free_physical_page(second)
    machine.free_physical_page(first)
    machine.write_physical(second, first.to_bytes(8, "little"))
    assert (
        f"the list comes back to {first:#x}, from {second:#x}" in read_free_list(machine).problems
    )


def test_a_wild_link_in_the_free_list(machine: Machine) -> None:
    first = read_free_list(machine).pages[0]
    machine.write_physical(first, (0x1234).to_bytes(8, "little"))
    problems = read_free_list(machine).problems
    assert problems[0] == f"the list leads to 0x1234, which is no page, from {first:#x}"


# Registries -------------------------------------------------------------------------------------


def test_registries_are_aligned_text(machine: Machine) -> None:
    info = machine.physical_mem_info
    lines = show_registry(machine, "physical_mem_info").splitlines()
    assert lines[0] == f"physical_mem_info at {int(info):#x}"
    assert lines[1] == f"  program_end           {int(info.program_end):#x}"
    assert lines[-1] == f"  free_pages_count      {int(info.free_pages_count)}"
    text = show_registries(machine)
    for name in ("kernel_heap_info", "linear_space_info", "virtual_mem_info"):
        assert f"\n{name} at 0x" in text
    assert "  previous_pagetable  None" in text
