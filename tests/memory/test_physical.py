"""Physical: pages handed out and taken back."""

from __future__ import annotations

import pytest
from flat import PAGE, PROGRAM, Layout, flat
from machines import free_list, heap_pages, state, take_all_pages

from kernmem.hardware import find
from kernmem.language import KernelPanic
from kernmem.machine.model import Model
from kernmem.machine.port import Machine
from kernmem.memory.manager import MemoryManager
from kernmem.memory.profile import spec


def info(machine: Machine) -> dict[str, int]:
    """The registry as plain numbers."""
    fields = machine.physical_mem_info.layout.fields
    return {each.name: int(getattr(machine.physical_mem_info, each.name) or 0) for each in fields}


# physical_mem_info ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ends", "heap"),
    [
        # A record of 32 bytes and the map, 8 bytes for each 64 pages, lie after the program.
        ((0x2_0000, 0x2_0A00), (0x2_0100, 0x2_0A00)),
        ((0x2_0000, 0x2_0AFF), (0x2_0100, 0x2_0A00)),  # no part of a page at the end
        ((0x2_0001, 0x2_0A00), (0x2_0100, 0x2_0A00)),
        ((0x2_00D8, 0x2_0A00), (0x2_0100, 0x2_0A00)),  # they fill the page exactly
        ((0x2_00D9, 0x2_0A00), (0x2_0200, 0x2_0A00)),  # they take the first page
        ((0x2_0100, 0x2_0A00), (0x2_0200, 0x2_0A00)),
        ((0x2_0000, 0x2_0000 + 3000 * PAGE), (0x2_0200, 0x2_0000 + 3000 * PAGE)),
    ],
)
def test_registry_is_exact(ends: tuple[int, int], heap: tuple[int, int]) -> None:
    """The heap is every whole page between the map and the end of the RAM."""
    machine = flat(ends=ends, layout=Layout(devices=()))
    machine.init_physical_memory_manager()
    pages = (heap[1] - heap[0]) // PAGE
    assert info(machine) == {
        "program_end": ends[0],
        "physical_heap_start": heap[0],
        "physical_heap_end": heap[1],
        "physical_end": ends[1],
        "physical_heap_length": heap[1] - heap[0],
        "page_quantity": pages,
        "page_length": PAGE,
        "free_pages_list": heap[0],
        "free_pages_count": pages,
    }


@pytest.mark.parametrize(
    "ends",
    [(0x2_0000, 0x2_0000), (0x2_0000, 0x2_0001), (0x2_0000, 0x2_01FF), (0x2_0101, 0x2_02FF)],
)
def test_zero_pages(ends: tuple[int, int]) -> None:
    """RAM without room for a page gives an empty heap, within the RAM, that has no page."""
    machine = flat(ends=ends)
    before = machine.read_physical(ends[1], PAGE)
    machine.init_physical_memory_manager()
    found = info(machine)
    assert found["page_quantity"] == found["free_pages_count"] == found["free_pages_list"] == 0
    assert found["physical_heap_length"] == 0
    assert ends[0] <= found["physical_heap_start"] == found["physical_heap_end"] <= ends[1]
    assert machine.read_physical(ends[1], PAGE) == before, "something was stored past the RAM"
    assert machine.alloc_physical_page() is None
    with pytest.raises(KernelPanic, match="outside the regions of the physical heap"):
        machine.free_physical_page(found["physical_heap_start"])


def test_program_past_the_ram_panics() -> None:
    machine = flat(ends=(0x2_0100, 0x2_0000))
    with pytest.raises(KernelPanic, match="0x10000 to 0x20100, does not lie in free RAM"):
        machine.init_physical_memory_manager()


def test_registry_of_a_raspberry_pi() -> None:
    """The firmware says where the RAM ends: 48 of 1008 MiB are its own."""
    machine = Model(find("rpi3"), lambda image, built: MemoryManager(image, built, spec()))
    machine.init_physical_memory_manager()
    found = info(machine)
    assert (found["program_end"], found["physical_end"]) == (0x20_0000, 0x3C00_0000)
    assert (found["physical_heap_start"], found["physical_heap_end"]) == (0x21_0000, 0x3C00_0000)
    assert found["page_quantity"] == found["free_pages_count"] == 15327


def test_every_whole_page_is_linked_ascending_and_none_outside(machine: Machine) -> None:
    found = machine.physical_mem_info
    pages = heap_pages(machine)
    assert free_list(machine) == pages
    assert len(pages) == found.page_quantity == found.free_pages_count
    assert (pages[0], pages[-1]) == (
        found.physical_heap_start,
        found.physical_heap_end - found.page_length,
    )


def test_nothing_is_stored_at_or_past_the_end_of_the_heap() -> None:
    """The known trap: a marker linked one page past the end."""
    machine = flat(ends=(0x2_0000, 0x2_0A00 + 100))
    machine.write_physical(0x2_0A00, b"\xa5" * 2 * PAGE)
    machine.init_physical_memory_manager()
    take_all_pages(machine)
    assert machine.read_physical(0x2_0A00, 2 * PAGE) == b"\xa5" * 2 * PAGE


def test_nothing_is_stored_before_the_end_of_the_program() -> None:
    machine = flat(ends=(0x2_0005, 0x2_0A00))
    machine.write_physical(0x1_F000, b"\xa5" * 0x1005)
    machine.init_physical_memory_manager()
    assert machine.read_physical(0x1_F000, 0x1005) == b"\xa5" * 0x1005


def test_init_does_not_depend_on_what_the_ram_holds() -> None:
    machine = flat(130)
    machine.write_physical(PROGRAM.end, b"\xff" * 140 * PAGE)
    machine.init_physical_memory_manager()
    assert len(free_list(machine)) == 130
    pages = take_all_pages(machine)
    for page in pages:
        machine.free_physical_page(page)
    assert sorted(free_list(machine)) == pages


# alloc_physical_page, free_physical_page --------------------------------------------------------


def test_pages_are_handed_out_ascending_then_none(machine: Machine) -> None:
    expected = free_list(machine)[:20]
    assert [machine.alloc_physical_page() for _ in range(20)] == expected


@pytest.mark.parametrize("pages", [1, 2, 63, 64, 65, 128, 129])
def test_none_when_no_page_is_left(pages: int) -> None:
    """Every page comes out once, then None, again and again, and nothing changes."""
    machine = flat(pages)
    machine.init_physical_memory_manager()
    expected = free_list(machine)
    assert len(expected) == pages
    assert [machine.alloc_physical_page() for _ in range(pages)] == expected
    before = state(machine)
    assert machine.alloc_physical_page() is None
    assert machine.alloc_physical_page() is None
    assert state(machine) == before
    assert machine.physical_mem_info.free_pages_count == 0


def test_the_page_freed_last_is_handed_out_first(machine: Machine) -> None:
    pages = [machine.alloc_physical_page() for _ in range(5)]
    for page in (pages[1], pages[4], pages[0]):
        machine.free_physical_page(page)
    assert [machine.alloc_physical_page() for _ in range(3)] == [pages[0], pages[4], pages[1]]


def test_counters_follow_every_call(machine: Machine) -> None:
    found = machine.physical_mem_info
    quantity = found.page_quantity
    page = machine.alloc_physical_page()
    machine.alloc_physical_page()
    assert (found.page_quantity, found.free_pages_count) == (quantity, quantity - 2)
    machine.free_physical_page(page)
    assert (found.page_quantity, found.free_pages_count) == (quantity, quantity - 1)
    assert len(free_list(machine)) == quantity - 1


def test_a_page_is_the_callers_alone(machine: Machine) -> None:
    """What a caller stores in its pages, alloc and free leave alone, and it harms neither."""
    length = int(machine.physical_mem_info.page_length)
    pages = [machine.alloc_physical_page() for _ in range(4)]
    for page in pages:
        machine.write_physical(page, b"\xee" * length)
    machine.free_physical_page(pages[1])
    machine.free_physical_page(pages[2])
    assert machine.alloc_physical_page() == pages[2]
    for page in (pages[0], pages[3]):
        assert machine.read_physical(page, length) == b"\xee" * length
    free_list(machine)


# Broken contracts -------------------------------------------------------------------------------


def refused(machine: Machine, page: int, reason: str) -> None:
    """free_physical_page panics with the address and the reason, and changes nothing."""
    before = state(machine)
    with pytest.raises(KernelPanic) as caught:
        machine.free_physical_page(page)
    assert caught.value.message == f"physical page {page:#x} cannot be freed: {reason}"
    assert state(machine) == before


def test_free_outside_the_heap_panics(machine: Machine) -> None:
    """The known trap among them: the page at physical_heap_end."""
    found = machine.physical_mem_info
    start, end = int(found.physical_heap_start), int(found.physical_heap_end)
    length = int(found.page_length)
    reason = f"it is outside the regions of the physical heap, which lie in {start:#x} to {end:#x}"
    for page in (0, length, start - length, start - 1, end, end + length, 2**64 - length):
        refused(machine, page, reason)


def test_free_of_a_misaligned_address_panics(machine: Machine) -> None:
    page = machine.alloc_physical_page()
    for offset in (1, 8, int(machine.physical_mem_info.page_length) - 1):
        refused(machine, page + offset, "not a multiple of the page length")


def test_free_of_a_page_never_allocated_panics(machine: Machine) -> None:
    refused(machine, free_list(machine)[3], "it is free already")


def test_second_free_panics(machine: Machine) -> None:
    pages = [machine.alloc_physical_page() for _ in range(3)]
    for page in pages:
        machine.free_physical_page(page)
    for page in pages:
        refused(machine, page, "it is free already")


def test_a_used_page_that_imitates_a_free_one_can_be_freed(machine: Machine) -> None:
    """Whether a page is free does not depend on what its owner stores in it."""
    used = machine.alloc_physical_page()
    size = machine.hardware.target.pointer_bytes
    head = free_list(machine)[0]
    machine.write_physical(used, head.to_bytes(size, "little") + bytes(size))
    machine.free_physical_page(used)
    assert free_list(machine)[:2] == [used, head]


def test_second_free_is_found_whatever_the_free_page_holds() -> None:
    """A free page's marker damaged by a late store does not hide the second free."""
    machine = flat(8)
    machine.init_physical_memory_manager()
    page = machine.alloc_physical_page()
    machine.free_physical_page(page)
    machine.write_physical(page, b"\xee" * 16)
    with pytest.raises(KernelPanic, match=f"{page:#x} cannot be freed: it is free already"):
        machine.free_physical_page(page)


def test_a_list_that_leads_out_of_the_heap_panics() -> None:
    machine = flat(8)
    machine.init_physical_memory_manager()
    pages = [machine.alloc_physical_page() for _ in range(2)]
    for page in pages:
        machine.free_physical_page(page)
    machine.write_physical(pages[1], (0x6_0000).to_bytes(8, "little"))
    machine.alloc_physical_page()
    with pytest.raises(KernelPanic, match="the list of free pages leads to 0x60000, which is outs"):
        machine.alloc_physical_page()


NOT_ADDRESSABLE = "physical memory is not addressable here: the MMU must be off or the linear "


def test_calls_outside_the_linear_space_panic(booted: Machine) -> None:
    page = int(booted.physical_mem_info.physical_heap_start)
    with pytest.raises(KernelPanic, match=NOT_ADDRESSABLE):
        booted.alloc_physical_page()
    with pytest.raises(KernelPanic, match=NOT_ADDRESSABLE):
        booted.free_physical_page(page)


def test_calls_in_the_linear_space_work(booted: Machine) -> None:
    booted.enter_linear_space()
    page = booted.alloc_physical_page()
    booted.free_physical_page(page)
    booted.leave_linear_space()


def test_calls_before_init_panic() -> None:
    with pytest.raises(KernelPanic, match=NOT_ADDRESSABLE):
        flat().alloc_physical_page()
