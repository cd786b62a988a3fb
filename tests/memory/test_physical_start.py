"""Physical: what starting costs does not depend on how much RAM there is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from flat import Layout, flat
from machines import regions

from kernmem.hardware.description import HardwareDescription
from kernmem.hardware.flat_tree import wide
from kernmem.hardware.peripherals import Bus, Peripheral
from kernmem.hardware.riscv_virt import RAM, RISCV_VIRT_SV48, TREE, device_tree, peripherals
from kernmem.language import Image
from kernmem.machine.model import Model
from kernmem.machine.unicorn import UnicornMachine
from kernmem.memory.architecture import Hardware, Region
from kernmem.memory.manager import MemoryManager
from kernmem.memory.profile import spec

GIB = 1 << 30
TIB = 1 << 40


def board(length: int) -> HardwareDescription:
    """A RISC-V board with that much RAM, says its device tree; simulated is the first GiB."""

    def devices(bus: Bus) -> tuple[Peripheral, ...]:
        found = peripherals(bus)
        at = device_tree().index(wide(RAM.start, RAM.end - RAM.start)) + 8
        bus.store_physical(TREE + at, 8, int.from_bytes(wide(length), "little"))
        return found

    ram = (Region(RAM.start, RAM.start + GIB),)
    return replace(RISCV_VIRT_SV48, ram=ram, peripherals=devices)


def manager(image: Image, hardware: Hardware) -> MemoryManager:
    """The memory manager alone."""
    return MemoryManager(image, hardware, spec())


def test_a_tebibyte_takes_as_many_instructions_as_a_gibibyte() -> None:
    """4 KiB pages, on a processor: exactly as many, and the next pages cost the same, too."""
    counts = []
    for length in (GIB, TIB):
        with UnicornMachine(board(length), manager) as machine:
            machine.call("init_physical_memory_manager")
            pages = [machine.call("alloc_physical_page") for _ in range(100)]
            for page in pages:
                machine.call("free_physical_page", page)
            assert length - GIB // 4 < machine.physical_mem_info.page_quantity * 4096 < length
            counts.append({name: each.mean * each.count for name, each in machine.calls.items()})
    assert counts[0] == counts[1]
    assert counts[0]["init_physical_memory_manager"] > 0


def test_a_tebibyte_touches_as_much_memory_as_a_gibibyte() -> None:
    """In the model: a record for each region, and one marker."""
    touched = []
    for length in (GIB, TIB):
        machine = Model(board(length), manager)
        before = len(machine.memory.chunks)
        machine.init_physical_memory_manager()
        touched.append(len(machine.memory.chunks) - before)
        assert len(regions(machine)) == 3
    assert touched[0] == touched[1] <= 1 + 2 * 3, "statics, a record and a marker each"


@pytest.mark.parametrize("pointer_bytes", [4, 8])
def test_starting_makes_as_many_accesses_whatever_the_length(pointer_bytes: int) -> None:
    """Every load and store counted."""
    counts = []
    for pages in (64, 1 << 20):
        layout = Layout(linear_end=1 << 32, devices=())
        ram = [(1 << 24, (1 << 24) + pages * 256)]
        machine = flat(pointer_bytes=pointer_bytes, layout=layout, ram=ram, counting=True)
        before = machine.memory.mmu.accesses  # type: ignore[attr-defined]
        machine.init_physical_memory_manager()
        counts.append(machine.memory.mmu.accesses - before)  # type: ignore[attr-defined]
    assert counts[0] == counts[1] > 0


def test_a_page_gets_its_marker_when_it_can_be_reached() -> None:
    """The pages above the fresh one are as they were."""
    machine = flat(pages=64)
    machine.write_physical(0x2_0000, b"\xa5" * 66 * 256)
    machine.init_physical_memory_manager()
    for _ in range(10):
        machine.alloc_physical_page()
    ((start, end, fresh),) = regions(machine)
    assert fresh == start + 10 * 256
    assert machine.physical_mem_info.free_pages_list == fresh
    assert machine.read_physical(fresh, 16) == bytes(16)
    assert machine.read_physical(fresh + 256, end - fresh - 256) == b"\xa5" * (end - fresh - 256)
