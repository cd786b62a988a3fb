"""The PC: the self-test on every machine, the loader's memory map, exceptions, the exit status."""

from __future__ import annotations

import re
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kernmem.hardware import HardwareDescription
from kernmem.hardware.pc import MAGIC, PC, PC_LA57, PROGRAM, START_INFO, peripherals
from kernmem.hardware.simulation import MachineExit
from kernmem.hardware.x86_64.simulated import SimulatedX86
from kernmem.inspect.pages import read_regions
from kernmem.language import (
    Component,
    Image,
    KernelPanic,
    PhysicalAddress,
    api,
    linear,
    panic,
    u32,
    u64,
    usize,
)
from kernmem.machine.build import build_image, build_kernel, put_together
from kernmem.machine.image import BuiltImage, link_image
from kernmem.machine.model import Model
from kernmem.machine.qemu import QemuMachine
from kernmem.machine.symbols import StackError
from kernmem.machine.unicorn import UnicornMachine
from kernmem.machine.unicorn_core import UnicornCore
from kernmem.memory.architecture import Fault, Hardware, Region
from kernmem.memory.manager import MemoryManager
from kernmem.memory.profile import tuned
from kernmem.selftest import run_image, run_model, selftest_kernel

needs_qemu = pytest.mark.skipif(
    shutil.which("qemu-system-x86_64") is None, reason="qemu-system-x86_64 is not installed"
)


@pytest.mark.parametrize(
    "machine", ["unicorn", pytest.param("qemu", marks=[pytest.mark.qemu, needs_qemu])]
)
@pytest.mark.parametrize("hardware", [PC, PC_LA57], ids=lambda each: each.name)
def test_the_self_test_says_the_same_as_on_the_model(
    hardware: HardwareDescription, machine: str
) -> None:
    """Line for line, numbers of pages and all."""
    model: list[str] = []
    lines: list[str] = []
    assert run_model(hardware, tuned(), model.append) == 0
    assert run_image(hardware, machine, tuned(), lines.append, 60) == 0
    assert "".join(lines) == "".join(model)
    assert "".join(lines).endswith("PASS\n")


# 5 levels -----------------------------------------------------------------------------------

NO_LA57 = r"CR4 is 0x[0-9a-f]+: the processor does not have the 5 levels of this kernel"


def manager(image: Image, hardware: Hardware) -> MemoryManager:
    """The memory manager alone."""
    return MemoryManager(image, hardware, tuned())


def test_five_levels_reach_what_four_do_not() -> None:
    """The heap lies above 2^47, where 4 levels have no addresses, and CR4.LA57 is on."""
    with UnicornMachine(PC_LA57, manager) as machine:
        machine.call("init_memory")
        buffer = machine.call("kmalloc", 100)
        assert buffer >= 1 << 47
        machine.store(buffer, 0x1234)
        assert machine.load(buffer) == 0x1234
        assert machine.registers()["cr4"] & 1 << 12


def test_a_processor_with_four_levels_is_found_out() -> None:
    """The kernel stops before its tables are in use."""
    model = Model(replace(PC_LA57, simulated_mmu=SimulatedX86), manager)
    with pytest.raises(KernelPanic, match=NO_LA57):
        model.call("init_memory")


@pytest.mark.qemu
@needs_qemu
def test_a_processor_with_four_levels_is_found_out_in_qemu(tmp_path: Path) -> None:
    """The same, and by the boot code too, which keeps to 4."""
    built = build_image(PC_LA57.name, tmp_path, selftest_kernel(tuned()))
    command = tuple(
        "qemu64" if word == "qemu64,+la57" else word for word in PC_LA57.boot.qemu or ()
    )
    old = replace(PC_LA57, boot=replace(PC_LA57.boot, qemu=command))
    machine = QemuMachine(replace(built, hardware=old), seconds=30)
    assert machine.run() == 1
    assert re.search("panic: " + NO_LA57, machine.console.text)


# The loader's memory map --------------------------------------------------------------------


class Asker(Component):
    """A kernel that asks for the RAM."""

    def __init__(self, image: Image, hardware: Hardware) -> None:
        super().__init__(image)
        self.memory_map = hardware.memory_map

    @api
    def report(self) -> None:
        """Ask the loader."""
        self.memory_map.report()


def loaded(
    kernel: Callable[[Image, Hardware], Component],
    *ranges: tuple[int, int, int],
    magic: int = MAGIC,
    version: int = 1,
    hardware: HardwareDescription = PC,
) -> Model:
    """A PC whose loader left a memory map of (start, length, type)."""
    model = Model(hardware, kernel)
    table = START_INFO + 0x200
    info = struct.pack("<4I4Q2I", magic, version, 0, 0, 0, 0, 0, table, len(ranges), 0)
    model.write_physical(START_INFO, info)
    for number, each in enumerate(ranges):
        model.write_physical(table + 24 * number, struct.pack("<QQII", *each, 0))
    return model


ALL = (1 << 64) - 1


def test_the_memory_map_is_taken_as_it_is() -> None:
    """What is not RAM is reserved, in low memory everything; a length may wrap around."""
    model = loaded(
        Asker,
        *((1 << 32, 1 << 33, 1), (0x10_0000, 0x500_0000, 2), (0x10_0000, 0xF_FFFF, 1)),
        *((0x1000, ALL, 1), (0x10_0000, 0, 1), (0, ALL, 1), (0x700_0000, 0x1000, 3)),
        (0xFFFF_0000, ALL, 2),
    )
    model.report()
    info = model.memory_ranges_info
    ram, reserved = model.memory_ranges_ram, model.memory_ranges_reserved
    assert [int(ram[number]) for number in range(2 * int(info.ram_count))] == [
        *(1 << 32, 3 << 32, 0x10_0000, 0x1F_FFFF, 0, ALL)
    ]
    assert info.broken_count == 2
    assert [int(reserved[number]) for number in range(2 * int(info.reserved_count))] == [
        *(0, 0x10_0000, 0x10_0000, 0x510_0000, 0x700_0000, 0x700_1000, 0xFFFF_0000, ALL)
    ]


def test_the_heap_has_what_the_tables_of_the_boot_code_reach() -> None:
    """Up to 64 GiB, without a hole for ACPI, and not what is below 1 MiB."""
    start, reached = (64 << 30) - (1 << 24), 64 << 30
    model = loaded(
        manager,
        *((0, 0xA_0000, 1), (0x10_0000, 0x200_0000, 1), (start, 1 << 32, 1)),
        *((0x100_0000, 0x1_0000, 3), (0xF_0000, 0x1_0000, 2)),
        hardware=replace(PC, ram=(*PC.ram, Region(start, start + (1 << 32)))),
    )
    model.init_physical_memory_manager()
    assert [(each.start, each.end) for each in read_regions(model)] == [
        (0x20_1000, 0x100_0000),
        (0x101_1000, 0x210_0000),
        (start + 0x1000, reached),
    ]
    assert model.memory_ranges_info.outside_bytes == (1 << 32) - (1 << 24)


# RAM above 4 GiB ----------------------------------------------------------------------------

HIGH = Region(5 << 30, (5 << 30) + 0x800_0000)


class HighMemory(MemoryManager):
    """A kernel that uses RAM above 4 GiB: a run of ``pages`` that there is no room for below."""

    def __init__(self, image: Image, hardware: Hardware, pages: int) -> None:
        super().__init__(image, hardware, tuned())
        self.probe = hardware.probe
        self.power = hardware.power
        self.pages = pages

    @api
    def kernel_main(self) -> None:
        """Write to both ends of the run, and have every page back in the end."""
        self.init_memory()
        self.linear_space.enter_linear_space()
        free = self.physical.info.free_pages_count
        run = self.physical.alloc_physical_pages(usize(self.pages), usize(0), PhysicalAddress(0))
        if run is None:
            panic("there is no run of pages above 4 GiB")
        last = run + (usize(self.pages) * self.physical.page_length - 8)
        self.print(f"from {run:#x} to {last:#x}")
        if self.probe.write(linear(run), u64(1)) != Fault.NONE:
            panic(f"{run:#x} cannot be written to")
        if self.probe.write(linear(last), u64(1)) != Fault.NONE:
            panic(f"{last:#x} cannot be written to")
        self.physical.free_physical_pages(run, usize(self.pages))
        if self.physical.info.free_pages_count != free:
            panic("not all pages came back")
        self.linear_space.leave_linear_space()
        self.power.exit(u32(0))


def test_ram_above_four_gib_is_used() -> None:
    """The boot code's table reaches it, as the memory manager lists its pages there."""
    large = replace(PC, ram=(*PC.ram, HIGH), peripherals=lambda bus: peripherals(bus, HIGH))
    for kind in (Model, UnicornMachine):
        machine = kind(large, lambda image, parts: HighMemory(image, parts, 0x7000))
        with machine, pytest.raises(MachineExit) as end:
            machine.call("kernel_main")
        assert end.value.status == 0
        assert machine.console == "from 0x140002000 to 0x147001ff8\n"


@pytest.mark.slow
@pytest.mark.qemu
@needs_qemu
def test_ram_above_four_gib_is_used_in_qemu(tmp_path: Path) -> None:
    """Of 5 GiB, 3 are above."""
    command = tuple("5G" if word == "64M" else word for word in PC.boot.qemu or ())
    large = replace(PC, boot=replace(PC.boot, qemu=command))
    _, _, root = put_together(large, lambda image, parts: HighMemory(image, parts, 0xA_0000))
    machine = QemuMachine(build_kernel(large, root, tmp_path), seconds=60)
    assert machine.run() == 0
    assert machine.console.text.startswith("from 0x1000")


@pytest.mark.parametrize(
    ("ranges", "magic", "version", "message"),
    [
        ([], MAGIC, 1, "the program, 0x100000 to 0x200000, does not lie in free RAM"),
        ([(0x10_1000, 0x700_0000, 1)], MAGIC, 1, "does not lie in free RAM"),
        ([(0, ALL, 1), (0x1F_FFFF, 1, 5)], MAGIC, 1, "does not lie in free RAM"),
        ([(0x10_0000, 0x700_0000, 1)], MAGIC, 0, "no start info with a memory map at 0x7000"),
        ([(0x10_0000, 0x700_0000, 1)], 0x2BAD_B002, 1, "no start info with a memory map"),
    ],
)
def test_a_memory_map_that_is_none(
    ranges: list[tuple[int, int, int]], magic: int, version: int, message: str
) -> None:
    """The kernel says so and stops."""
    model = loaded(manager, *ranges, magic=magic, version=version)
    with pytest.raises(KernelPanic, match=message):
        model.init_physical_memory_manager()


# Exceptions and exit ------------------------------------------------------------------------

STUB = """
#include <stdint.h>
#include "kernmem_base.h"
void kernmem_put(uint8_t character);
void kernmem_exit(uint32_t status);
void kernel_main(void);
uint64_t recurse(uint64_t depth);
uint64_t (*volatile pointer)(uint64_t);

void kernmem_put(uint8_t character)
{
    __asm__ volatile("outb %0, %1" :: "a"(character), "d"((uint16_t)0x3f8));
}

void kernmem_exit(uint32_t status)
{
    __asm__ volatile("outl %0, %1" :: "a"(status), "d"((uint16_t)0xf4));
}

#if MODE == 8
uint64_t recurse(uint64_t depth) { return depth ? recurse(depth - 1) * recurse(depth / 2) : 1; }
#else
uint64_t recurse(uint64_t depth) { return depth; }
#endif

void kernel_main(void)
{
    kernmem_print("hello %llu\\n", 42ull);
#if MODE == 1
    kernmem_panic("mode %llu", 1ull);
#elif MODE == 2
    *(volatile uint64_t *)0x123456789008 = 1;
#elif MODE == 3
    __asm__ volatile("mov $0x123456789000, %rsp\\n push %rax");
#elif MODE == 4
    ((void (*)(void))0x123456789010)();
#elif MODE == 5
    __asm__ volatile("ud2");
#elif MODE == 6
    *(volatile uint64_t *)0x8000000000000000 = 1;
#elif MODE == 7
    pointer = recurse;
#elif MODE == 8
    recurse(3);
#endif
    kernmem_exit(7);
}
"""
BASE = """
_Noreturn void kernmem_panic(const char *format, ...);
void kernmem_print(const char *format, ...);
"""
PAGE_FAULT = "exception: page fault\n  not present, {} of {}\n  vector 14, error code {}, CR2 {}\n"
ENDS = {
    0: (7, ""),
    1: (1, "panic: mode 1\n"),
    2: (1, PAGE_FAULT.format("write", "0x123456789008", "0x2", "0x123456789008")),
    4: (1, PAGE_FAULT.format("execute", "0x123456789010", "0x0", "0x123456789010")),
    5: (1, "exception: undefined instruction\n  vector 6, error code 0x0, CR2 0x0\n"),
    6: (1, "exception: general protection\n  vector 13, error code 0x0, CR2 0x0\n"),
}
"""Status and console by mode.  NXE is off in the stub, so a fetch looks like a read."""


def stub(directory: Path, mode: int = 0) -> BuiltImage:
    """A kernel in C that ends in a way of its own."""
    files = {"kernmem_base.h": BASE, "board.c": f"#define MODE {mode}\n{STUB}"}
    return link_image(PC, files, directory, ["recurse"])


def check(mode: int, status: int, console: str) -> None:
    """The end that was meant."""
    want, text = ENDS[mode]
    if mode == 4:
        text = text.replace("execute", "read")
    assert status == want
    assert console.startswith("hello 42\n" + text)
    assert console.count("\n") == 1 + text.count("\n") + text.startswith("exception")


@pytest.mark.parametrize("mode", ENDS)
def test_how_a_kernel_ends_in_unicorn(tmp_path: Path, mode: int) -> None:
    """Its status, or what it met."""
    with UnicornCore(stub(tmp_path, mode)) as core:
        status = core.run()
        check(mode, status, core.console.text)


@pytest.mark.qemu
@needs_qemu
@pytest.mark.parametrize("mode", ENDS)
def test_how_a_kernel_ends_in_qemu(tmp_path: Path, mode: int) -> None:
    """The same."""
    machine = QemuMachine(stub(tmp_path, mode), seconds=30)
    check(mode, machine.run(), machine.console.text)


@pytest.mark.qemu
@needs_qemu
def test_a_lost_stack_is_reported_from_another(tmp_path: Path) -> None:
    """Exceptions have a stack of their own: a fault of push is not a triple fault."""
    machine = QemuMachine(stub(tmp_path, 3), seconds=30)
    assert machine.run() == 1
    assert "write of 0x123456788ff8" in machine.console.text
    assert "sp 0x123456789000" in machine.console.text


def test_a_reset_is_a_failure() -> None:
    """QEMU ends with 0 when the processor shuts down; isa-debug-exit makes every status odd."""
    assert [PC.boot.qemu_status(each) for each in (0, 1, 2, 3, 15)] == [1, 0, 2, 1, 7]


# Figures ------------------------------------------------------------------------------------


def test_the_stack_has_a_bound(tmp_path: Path) -> None:
    """Frames and return addresses; recursion and pointers have none."""
    use = stub(tmp_path).stack_use["kernel_main"]
    assert use.path[:2] == ("kernel_main", "kernmem_print")
    assert 8 * len(use.path) < use.bytes < 1000
    with pytest.raises(StackError, match="recurse may be called through a register"):
        _ = stub(tmp_path, 7).stack_use
    with pytest.raises(StackError, match="recurse -> recurse is recursion"):
        _ = stub(tmp_path, 8).stack_use


def test_functions_can_be_called_in_unicorn() -> None:
    """Arguments, results, page faults, panics and instruction counts."""
    with UnicornMachine(PC, lambda image, parts: MemoryManager(image, parts, tuned())) as machine:
        machine.call("init_memory")
        first = machine.call("kmalloc", 100)
        second = machine.call("kmalloc", 200)
        assert second != first
        machine.call("kfree", first)
        assert machine.calls["kmalloc"].count == 2
        assert 0 < machine.calls["kmalloc"].mean < 100_000
        with pytest.raises(KernelPanic, match="kfree"):
            machine.call("kfree", first)
        assert machine.registers()["cr3"] != 0
    assert machine.built.symbols["_start"].address == PROGRAM.start
