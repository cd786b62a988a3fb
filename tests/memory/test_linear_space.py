"""Linear space: entered, nested, left; and what it maps."""

from __future__ import annotations

from typing import Any

import pytest
from flat import DEVICES, LINEAR_END, PAGE, Layout, flat
from machines import free_list, leaves_of, state, take_all_pages

from kernmem.language import KernelPanic
from kernmem.machine.port import Machine
from kernmem.memory.architecture import Mapping, Region
from kernmem.memory.pagetable import PagetableStatus

OK = PagetableStatus.OK


def current(machine: Machine) -> int:
    """The table that the MMU translates by."""
    return int(machine.virtual_mem_info.current_pagetable or 0)


def in_linear_space(machine: Machine) -> bool:
    """Whether the MMU translates by the table of the linear space, and the registries say so."""
    linear = current(machine) == machine.linear_space_info.pagetable
    assert bool(machine.physical_mem_state.addressable) == linear
    return linear


def another_space(machine: Machine) -> int:
    """A table that the kernel can run in, made in the linear space."""
    table = machine.create_pagetable()
    assert machine.map_kernel(table) == OK
    return int(table)


# init_linear_space ------------------------------------------------------------------------------


def test_every_address_maps_to_itself_with_its_memory_type(machine: Machine) -> None:
    """Devices as device memory that is never executed, all else as normal memory."""
    assert machine.init_linear_space() == OK
    hardware: Any = machine.kernel.linear_space  # type: ignore[attr-defined]
    entries: Any = machine.kernel.virtual.entries  # type: ignore[attr-defined]
    table = machine.linear_space_info.pagetable
    assert machine.virtual_mem_info.linear_pagetable == table
    covered = hardware.start
    for virtual, (physical, entry, level) in leaves_of(machine, table).items():
        assert virtual == physical == covered
        covered += 1 << int(entries.shift(level))
        device = any(each.start <= virtual < each.end for each in hardware.devices)
        expected = Mapping.DEVICE | Mapping.NO_EXECUTE if device else Mapping.KERNEL
        assert entries.mapping(entry, level) == expected
    assert covered == hardware.end


@pytest.mark.parametrize(
    "devices",
    [
        (),
        (Region(0, PAGE),),
        (Region(LINEAR_END - PAGE, LINEAR_END),),
        (Region(0x8_2000, 0x8_4000), Region(0x8_0000, 0x8_2000)),  # side by side, in any order
    ],
)
def test_devices_anywhere(devices: tuple[Region, ...]) -> None:
    """At either end, none at all, side by side, listed in any order."""
    machine = flat(layout=Layout(devices=devices))
    test_every_address_maps_to_itself_with_its_memory_type(_with_pages(machine))


def _with_pages(machine: Machine) -> Machine:
    machine.init_physical_memory_manager()
    return machine


def test_init_out_of_memory_at_every_page() -> None:
    """One page too few, or all: nothing is kept, and the free list is in the old order."""
    needed = _tables_needed()
    for pages in range(needed + 2):
        machine = flat(64)
        machine.init_physical_memory_manager()
        take_all_pages(machine, leave=pages)
        before = state(machine)
        status = machine.init_linear_space()
        if pages < needed:
            assert status == PagetableStatus.OUT_OF_MEMORY
            assert state(machine) == before
        else:
            assert status == OK
    assert needed >= 3


def _tables_needed() -> int:
    machine = _with_pages(flat(64))
    before = len(free_list(machine))
    machine.init_linear_space()
    return before - len(free_list(machine))


@pytest.mark.parametrize(
    "layout",
    [
        Layout(devices=(Region(0x8_0000, 0x8_0010),)),
        Layout(linear_end=LINEAR_END + 8),
        Layout(devices=(*DEVICES, Region(DEVICES[0].start, DEVICES[0].end + PAGE))),
        Layout(linear_end=(1 << 23) + PAGE),
    ],
)
def test_init_of_a_map_that_cannot_be_mapped(layout: Layout) -> None:
    """Parts of pages, overlaps, too long: a status, and nothing is kept."""
    machine = _with_pages(flat(64, layout=layout))
    before = state(machine)
    assert machine.init_linear_space() not in (OK, PagetableStatus.OUT_OF_MEMORY)
    assert state(machine) == before


# enable_linear_space ----------------------------------------------------------------------------


def test_enable_sets_up_the_mmu(machine: Machine) -> None:
    machine.init_linear_space()
    machine.init_kernel_segment()
    machine.enable_linear_space()
    assert in_linear_space(machine)
    assert machine.alloc_physical_page() is not None


def test_enable_twice_panics(booted: Machine) -> None:
    with pytest.raises(KernelPanic, match="the MMU is on already; use switch_pagetable"):
        booted.enable_linear_space()


def test_enable_before_init_panics(machine: Machine) -> None:
    with pytest.raises(KernelPanic, match="call init_linear_space first"):
        machine.enable_linear_space()


# enter_linear_space, leave_linear_space ---------------------------------------------------------


def test_enter_and_leave_restore_the_space_in_use(booted: Machine) -> None:
    kernel_space = current(booted)
    assert not in_linear_space(booted)
    booted.enter_linear_space()
    assert in_linear_space(booted)
    booted.leave_linear_space()
    assert current(booted) == kernel_space
    assert not in_linear_space(booted)


def test_they_nest_and_only_the_outermost_switches(booted: Machine) -> None:
    kernel_space = current(booted)
    for depth in range(1, 6):
        booted.enter_linear_space()
        assert in_linear_space(booted)
        assert booted.linear_space_info.depth == depth
    for depth in range(4, -1, -1):
        assert in_linear_space(booted)
        booted.leave_linear_space()
        assert booted.linear_space_info.depth == depth
    assert current(booted) == kernel_space
    assert booted.linear_space_info.previous_pagetable is None


def test_any_space_is_restored(booted: Machine) -> None:
    """Not only the kernel's own."""
    booted.enter_linear_space()
    table = another_space(booted)
    booted.switch_pagetable(table)
    booted.linear_space_drop()
    booted.enter_linear_space()
    booted.enter_linear_space()
    assert in_linear_space(booted)
    booted.leave_linear_space()
    booted.leave_linear_space()
    assert current(booted) == table


def test_entered_from_the_linear_space_it_stays_there(machine: Machine) -> None:
    machine.init_linear_space()
    machine.init_kernel_segment()
    machine.enable_linear_space()
    machine.enter_linear_space()
    machine.leave_linear_space()
    assert in_linear_space(machine)


def test_leave_without_enter_panics(booted: Machine) -> None:
    with pytest.raises(KernelPanic, match="leave_linear_space without enter_linear_space"):
        booted.leave_linear_space()
    booted.enter_linear_space()
    booted.leave_linear_space()
    with pytest.raises(KernelPanic, match="leave_linear_space without enter_linear_space"):
        booted.leave_linear_space()


def test_enter_with_the_mmu_off_panics(machine: Machine) -> None:
    machine.init_linear_space()
    with pytest.raises(KernelPanic, match="the MMU is off; call enable_linear_space first"):
        machine.enter_linear_space()


# linear_space_drop ------------------------------------------------------------------------------


def test_drop_forgets_every_enter(booted: Machine) -> None:
    """After a switch out of the linear space, the next enter notes the space of now."""
    booted.enter_linear_space()
    booted.enter_linear_space()
    table = another_space(booted)
    booted.switch_pagetable(table)
    booted.linear_space_drop()
    assert booted.linear_space_info.depth == 0
    assert booted.linear_space_info.previous_pagetable is None
    with pytest.raises(KernelPanic, match="leave_linear_space without enter_linear_space"):
        booted.leave_linear_space()
    booted.enter_linear_space()
    booted.leave_linear_space()
    assert current(booted) == table


def test_drop_without_enter_does_nothing(booted: Machine) -> None:
    before = state(booted)
    booted.linear_space_drop()
    assert state(booted) == before
