"""What the machines with a compiled kernel have in common: the port, over the memory manager."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kernmem.hardware import HARDWARE
from kernmem.hardware.simulation import MachineExit
from kernmem.kernels.selftest import SelfTest
from kernmem.language import (
    Component,
    Image,
    KernelPanic,
    PageFault,
    PhysicalAddress,
    Struct,
    api,
    u32,
    u64,
)
from kernmem.machine.errors import MachineError
from kernmem.machine.host import HostMachine
from kernmem.machine.unicorn import UnicornMachine
from kernmem.memory.architecture import Hardware
from kernmem.memory.manager import MemoryManager
from kernmem.memory.pagetable import PagetableStatus
from kernmem.memory.profile import tuned


class Weigher(Component):
    """A function with more arguments than registers have room for."""

    @api
    def weigh(
        self, a: u32, b: u32, c: u32, d: u32, e: u32, f: u32, g: u32, h: u32, i: u32, j: u32, k: u32
    ) -> u64:
        """Sensitive to every argument and to their order; longer than 32 bits."""
        low = a + b * 2 + c * 3 + d * 5 + e * 7 + f * 11 + g * 13 + h * 17 + i * 19 + j * 23
        return u64(k) << 32 | u64(low)


KINDS = {"unicorn": UnicornMachine, "host": HostMachine}
Compiled = UnicornMachine | HostMachine


def manager(image: Image, hardware: Hardware) -> Component:
    return MemoryManager(image, hardware, tuned())


@pytest.fixture(params=KINDS)
def machine(request: pytest.FixtureRequest) -> Iterator[Compiled]:
    with KINDS[request.param](HARDWARE["lab"], manager) as machine:
        machine.call("init_memory")
        yield machine


def test_results_have_their_types(machine: Compiled) -> None:
    assert machine.call("kmalloc", 0) is None
    assert isinstance(machine.call("kmalloc", 100), Struct)
    machine.call("enter_linear_space")
    page = machine.call("alloc_physical_page")
    assert type(page) is PhysicalAddress
    table = machine.call("create_pagetable")
    status = machine.call("pagetable_map", table, 0x10000, page)
    assert status is PagetableStatus.OK
    assert machine.call("pagetable_map", table, 0x10000, page) is PagetableStatus.ALREADY_MAPPED


def test_statics_and_memory_can_be_read(machine: Compiled) -> None:
    info = machine.static("physical_mem_info")
    assert info.program_end == HARDWARE["lab"].program.end
    assert info.page_length == 0x10000
    buffer = int(machine.call("kmalloc", 64))
    machine.write_virtual(buffer, b"kernel heap")
    assert machine.read_virtual(buffer, 11) == b"kernel heap"
    assert machine.load(buffer, 1) == ord("k")
    translation = machine.registers()["ttbr0_el1"]
    assert translation & 0xFFFF_FFFF_FFFF == machine.static("virtual_mem_info").current_pagetable


def test_a_bad_free_is_a_panic_and_not_the_end(machine: Compiled) -> None:
    buffer = machine.call("kmalloc", 100)
    with pytest.raises(KernelPanic, match=f"{int(buffer) + 8:#x} is inside the buffer"):
        machine.call("kfree", int(buffer) + 8)
    machine.call("kfree", buffer)


def test_an_unmapped_address_is_a_page_fault(machine: Compiled) -> None:
    outside = HARDWARE["lab"].ram[0].end + 0x1000_0000_0000
    with pytest.raises(PageFault, match=f"{outside:#x}"):
        machine.read_virtual(outside, 8)


def test_a_snapshot_is_a_place_to_return_to(machine: Compiled) -> None:
    machine.call("kmalloc", 1000)
    before = machine.snapshot()
    first = [machine.call("kmalloc", size) for size in (10, 100_000, 1000)]
    machine.restore(before)
    assert [machine.call("kmalloc", size) for size in (10, 100_000, 1000)] == first


@pytest.mark.parametrize("kind", KINDS)
def test_the_selftest_passes(kind: str) -> None:
    lines: list[str] = []
    make = KINDS[kind]
    with make(HARDWARE["lab"], lambda i, h: SelfTest(i, h, tuned()), sink=lines.append) as machine:
        with pytest.raises(MachineExit) as end:
            machine.call("kernel_main")
        assert end.value.status == 0
        assert lines[-1] == "PASS\n"
        assert machine.console == "".join(lines)


@pytest.mark.parametrize("board", ["lab", "armv7-virt", "pc", "riscv-virt"])
def test_arguments_and_results_keep_to_the_convention(board: str) -> None:
    """In registers and on the stack, and back."""
    with UnicornMachine(HARDWARE[board], lambda image, _: Weigher(image)) as machine:
        words = (1_000_000, 20, 300, 4000, 50_000, 6, 7, 8, 9, 10, 0x1234_5678)
        weights = (1, 2, 3, 5, 7, 11, 13, 17, 19, 23)
        low = sum(word * weight for word, weight in zip(words[:-1], weights, strict=True))
        assert machine.call("weigh", *words) == 0x1234_5678 << 32 | low


def test_unicorn_counts_instructions_and_stack() -> None:
    with UnicornMachine(HARDWARE["lab"], manager) as machine:
        machine.call("init_memory")
        for _ in range(3):
            machine.call("kmalloc", 100)
        calls = machine.calls["kmalloc"]
        assert calls.count == 3
        assert 10 < calls.mean <= calls.worst < 100_000
        assert (
            0
            < machine.core.deepest_stack()
            <= max(use.bytes for use in machine.built.stack_use.values())
        )


def test_the_host_refuses_a_board_whose_ram_it_cannot_have() -> None:
    with pytest.raises(MachineError, match="rpi3 has RAM below 0x100000000"):
        HostMachine(HARDWARE["rpi3"], manager)
