"""Kernel segment: the kernel's own space, and the segment that grows in it."""

from __future__ import annotations

from typing import Any

import pytest
from flat import PAGE, PROGRAM, SEGMENT, Layout, flat
from machines import booted as booted_machine
from machines import free_list, leaves_of, state, take_all_pages

from kernmem.language import KernelPanic, PageFault
from kernmem.machine.port import Machine
from kernmem.memory.architecture import Mapping, Region
from kernmem.memory.pagetable import PagetableStatus

OK = PagetableStatus.OK
WITH_MMU = ("model", "unicorn")  # the flat machine has none, the host maps all RAM for itself


def page_of(machine: Machine) -> int:
    """The length of a page."""
    return int(machine.physical_mem_info.page_length)


def segment(machine: Machine) -> tuple[int, int, int]:
    """Start, end and limit."""
    info = machine.kernel_segment_info
    return int(info.segment_start), int(info.segment_end), int(info.segment_limit)


def ready(pages: int = 64, *, leave: int | None = None, layout: Layout | None = None) -> Machine:
    """A flat machine in the kernel's space, its segment empty, with ``leave`` pages left."""
    machine = flat(pages, layout=layout)
    machine.init_physical_memory_manager()
    assert machine.init_linear_space() == OK
    assert machine.init_kernel_segment() == OK
    machine.enable_linear_space()
    if leave is not None:
        take_all_pages(machine, leave=leave)
    machine.enable_kernel_segment()
    return machine


# init_kernel_segment ----------------------------------------------------------------------------


def test_the_image_and_the_devices_are_mapped_and_nothing_else(machine: Machine) -> None:
    """Linearly, with their memory types; not the physical heap, and nothing of the segment."""
    assert machine.init_kernel_segment() == OK
    parts: Any = machine.kernel.kernel_segment  # type: ignore[attr-defined]
    entries: Any = machine.kernel.virtual.entries  # type: ignore[attr-defined]
    info, page = machine.physical_mem_info, page_of(machine)
    image = range(parts.program_start // page * page, int(info.program_end), page)
    expected = dict.fromkeys(image, Mapping.KERNEL)
    for device in parts.devices:
        for at in range(device.start, device.end, page):
            expected[at] = Mapping.DEVICE | Mapping.NO_EXECUTE
    found = {}
    leaves = leaves_of(machine, machine.kernel_segment_info.pagetable)
    for virtual, (physical, entry, level) in leaves.items():
        assert virtual == physical
        for offset in range(0, 1 << int(entries.shift(level)), page):
            found[virtual + offset] = entries.mapping(entry, level)
    assert found == expected
    heap = range(int(info.physical_heap_start), int(info.physical_heap_end))
    assert not any(at in heap for at in found)
    start, end, limit = segment(machine)
    assert (start, end, limit) == (parts.segment_start, parts.segment_start, parts.segment_limit)


@pytest.mark.parametrize("name", WITH_MMU)
def test_the_heap_cannot_be_reached_from_the_kernels_space(name: str) -> None:
    machine = booted_machine(name)
    page = int(machine.physical_mem_info.physical_heap_end) - page_of(machine)
    with pytest.raises(PageFault):
        machine.read_virtual(page, 8)
    machine.enter_linear_space()
    machine.read_virtual(page, 8)


def test_an_image_that_ends_within_a_page_is_mapped_whole() -> None:
    machine = flat(ends=(PROGRAM.end - PAGE + 1, PROGRAM.end + 40 * PAGE))
    machine.init_physical_memory_manager()
    assert machine.init_kernel_segment() == OK
    table = machine.kernel_segment_info.pagetable
    last = PROGRAM.end - 1
    assert machine.pagetable_get_translation(table, last) == last
    assert machine.pagetable_get_translation(table, PROGRAM.end) is None


def test_init_out_of_memory_at_every_page() -> None:
    machine = flat(64)
    machine.init_physical_memory_manager()
    before = len(free_list(machine))
    machine.init_kernel_segment()
    needed = before - len(free_list(machine))
    assert needed >= 3
    for pages in range(needed):
        machine = flat(64)
        machine.init_physical_memory_manager()
        take_all_pages(machine, leave=pages)
        state_before = state(machine)
        assert machine.init_kernel_segment() == PagetableStatus.OUT_OF_MEMORY
        assert state(machine) == state_before


# enable_kernel_segment --------------------------------------------------------------------------


def test_enable_goes_to_the_kernels_space(machine: Machine) -> None:
    """From the linear space, however often it was entered."""
    machine.init_linear_space()
    machine.init_kernel_segment()
    machine.enable_linear_space()
    machine.enter_linear_space()
    machine.enable_kernel_segment()
    table = machine.kernel_segment_info.pagetable
    assert machine.virtual_mem_info.current_pagetable == table
    assert machine.linear_space_info.depth == 0
    with pytest.raises(KernelPanic, match="leave_linear_space without"):
        machine.leave_linear_space()


def test_enable_before_init_panics(machine: Machine) -> None:
    with pytest.raises(KernelPanic, match="call init_kernel_segment first"):
        machine.enable_kernel_segment()


# extend_kernel_segment --------------------------------------------------------------------------


def test_the_segment_grows_contiguously(booted: Machine) -> None:
    """Each page follows the last, is a page of its own, and keeps what is stored in it."""
    page = page_of(booted)
    start, end, _ = segment(booted)
    assert start == end
    tables = booted.kernel.virtual.entries.levels - 1  # type: ignore[attr-defined]
    for number in range(5):
        free = booted.physical_mem_info.free_pages_count
        address = booted.extend_kernel_segment()
        assert address == start + number * page
        assert segment(booted)[1] == address + page
        taken = free - booted.physical_mem_info.free_pages_count
        assert taken == (tables + 1 if number == 0 else 1)
        booted.write_virtual(int(address), bytes([number + 1]) * page)
    for number in range(5):
        at = start + number * page
        assert booted.read_virtual(at, page) == bytes([number + 1]) * page
    table = booted.kernel_segment_info.pagetable
    booted.enter_linear_space()
    physical = [booted.pagetable_get_translation(table, start + n * page) for n in range(5)]
    assert len(set(physical)) == 5
    if booted.hardware.name != "flat":
        for number, at in enumerate(physical):
            assert booted.read_physical(at, page) == bytes([number + 1]) * page


def test_the_pages_are_kernel_memory(booted: Machine) -> None:
    booted.extend_kernel_segment()
    entries: Any = booted.kernel.virtual.entries  # type: ignore[attr-defined]
    leaves = leaves_of(booted, booted.kernel_segment_info.pagetable)
    _, entry, level = leaves[segment(booted)[0]]
    assert (entries.mapping(entry, level), int(level)) == (Mapping.KERNEL, 0)


def test_extend_works_in_the_linear_space_too(booted: Machine) -> None:
    """It comes back to where it was called."""
    booted.enter_linear_space()
    linear = booted.virtual_mem_info.current_pagetable
    assert booted.extend_kernel_segment() == segment(booted)[0]
    assert booted.virtual_mem_info.current_pagetable == linear
    assert booted.linear_space_info.depth == 1


@pytest.mark.parametrize("spare", [0, 1, PAGE - 1])
def test_the_segment_never_passes_its_limit(spare: int) -> None:
    """None, with everything as before; a limit within a page is not passed either."""
    layout = Layout(segment=Region(SEGMENT.start, SEGMENT.start + 3 * PAGE + spare))
    machine = ready(layout=layout)
    for _ in range(3):
        assert machine.extend_kernel_segment() is not None
    before = state(machine)
    assert machine.extend_kernel_segment() is None
    assert state(machine) == before


def test_a_segment_up_to_the_top_of_the_address_space() -> None:
    """Its limit is less than a page below the last address; nothing overflows."""
    top = (1 << 23) - PAGE
    machine = ready(layout=Layout(segment=Region(top, 1 << 23)))
    assert machine.extend_kernel_segment() == top
    assert machine.extend_kernel_segment() is None
    machine.shrink_kernel_segment()


def test_extend_never_takes_what_is_mapped_already() -> None:
    """Something in the way within the limits: None, and everything is as before."""
    machine = ready()
    machine.extend_kernel_segment()
    table = machine.kernel_segment_info.pagetable
    machine.enter_linear_space()
    assert machine.pagetable_map(table, SEGMENT.start + PAGE, 5 * PAGE) == OK
    machine.leave_linear_space()
    before = state(machine)
    assert machine.extend_kernel_segment() is None
    assert state(machine) == before


@pytest.mark.parametrize("pages", [0, 1, 2])
def test_extend_out_of_memory_at_every_page(pages: int) -> None:
    """The first page needs two tables besides: with fewer pages nothing changes."""
    machine = ready(leave=pages)
    before = state(machine)
    assert machine.extend_kernel_segment() is None
    assert state(machine) == before


def test_extend_with_just_enough_pages() -> None:
    machine = ready(leave=3)
    assert machine.extend_kernel_segment() == SEGMENT.start
    before = state(machine)
    assert machine.extend_kernel_segment() is None
    assert state(machine) == before


def test_extend_with_the_mmu_off_panics(machine: Machine) -> None:
    machine.init_linear_space()
    machine.init_kernel_segment()
    with pytest.raises(KernelPanic, match="the MMU is off"):
        machine.extend_kernel_segment()


# shrink_kernel_segment --------------------------------------------------------------------------


def test_shrink_undoes_extend_exactly(booted: Machine) -> None:
    """Pages and tables come back, in the order in which they would be taken again."""
    states = []
    # In the flat machine, past the 32 pages that one table maps.
    for _ in range(34 if booted.hardware.name == "flat" else 3):
        states.append((segment(booted), free_list(booted)))
        booted.extend_kernel_segment()
    for expected in reversed(states):
        booted.shrink_kernel_segment()
        assert (segment(booted), free_list(booted)) == expected


@pytest.mark.parametrize("name", WITH_MMU)
def test_shrink_unmaps_the_page(name: str) -> None:
    machine = booted_machine(name)
    address = int(machine.extend_kernel_segment())
    machine.store(address, 1)
    machine.shrink_kernel_segment()
    with pytest.raises(PageFault):
        machine.load(address)


def test_shrink_of_an_empty_segment_panics(booted: Machine) -> None:
    with pytest.raises(KernelPanic, match="shrink_kernel_segment: the segment is empty"):
        booted.shrink_kernel_segment()
