"""The self-test on every machine, in every paging mode, entered both ways; and what ends badly."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from tempfile import mkdtemp

import pytest

from kernmem.hardware import HardwareDescription, find
from kernmem.hardware.riscv64.entry import ACCESSED, DIRTY, PagedEntries
from kernmem.hardware.riscv64.simulated import SimulatedRiscv64
from kernmem.hardware.riscv_virt import (
    BOOT,
    FIRMWARE,
    PROGRAM,
    RAM,
    RISCV_VIRT,
    RISCV_VIRT_MMODE,
    RISCV_VIRT_SV48,
    RISCV_VIRT_SV57,
    TREE,
    TREE_LENGTH,
    build,
    device_tree,
)
from kernmem.language import (
    Image,
    KernelPanic,
    ModelViolation,
    PageFault,
    PhysicalAddress,
    u32,
    u64,
)
from kernmem.machine.build import build_image
from kernmem.machine.image import BuiltImage
from kernmem.machine.model import Model
from kernmem.machine.qemu import QemuMachine
from kernmem.machine.unicorn import UnicornMachine
from kernmem.machine.unicorn_core import UnicornCore
from kernmem.memory.architecture import Hardware, Mapping
from kernmem.memory.manager import MemoryManager
from kernmem.memory.profile import spec
from kernmem.selftest import run_model, selftest_kernel

needs_qemu = pytest.mark.skipif(
    shutil.which("qemu-system-riscv64") is None, reason="qemu-system-riscv64 is not installed"
)
VARIANTS = [RISCV_VIRT, RISCV_VIRT_SV48, RISCV_VIRT_SV57, RISCV_VIRT_MMODE]
variants = pytest.mark.parametrize("hardware", VARIANTS, ids=lambda each: each.name)


@cache
def built(name: str) -> BuiltImage:
    """The self-test's image."""
    return build_image(name, Path(mkdtemp(prefix="kernmem-test-")), selftest_kernel(spec()))


@cache
def expected(name: str = RISCV_VIRT.name) -> str:
    """What the model prints, which does not depend on the paging mode."""
    lines: list[str] = []
    assert run_model(find(name), spec(), lines.append) == 0
    return "".join(lines)


def manager(image: Image, hardware: Hardware) -> MemoryManager:
    """The memory manager alone."""
    return MemoryManager(image, hardware, spec())


def test_the_log_ends_well() -> None:
    """On the model, with the RAM around the device tree; without firmware, also below."""
    pages = (PROGRAM.start - FIRMWARE.end) // 4096 - 1  # one of them for the map of free pages
    pages += (TREE - PROGRAM.end) // 4096 - 1
    pages += (RAM.end - TREE - TREE_LENGTH) // 4096  # the map fits behind the tree
    assert f"physical: {pages} pages of 4096 bytes\n" in expected()
    pages += (FIRMWARE.end - RAM.start) // 4096
    assert f"physical: {pages} pages of 4096 bytes\n" in expected(RISCV_VIRT_MMODE.name)
    assert expected().endswith("PASS\n")


@pytest.mark.parametrize("hardware", [RISCV_VIRT_SV48, RISCV_VIRT_SV57], ids=lambda each: each.name)
def test_model(hardware: HardwareDescription) -> None:
    """The same log in every mode; how the kernel is entered the model cannot tell."""
    lines: list[str] = []
    assert run_model(hardware, spec(), lines.append) == 0
    assert "".join(lines) == expected()


@variants
def test_unicorn(hardware: HardwareDescription) -> None:
    """The same log as the model's."""
    with UnicornCore(built(hardware.name), seconds=60) as core:
        assert core.run() == 0
        assert core.console.text == expected(hardware.name)


@pytest.mark.qemu
@needs_qemu
@variants
def test_qemu(hardware: HardwareDescription) -> None:
    """The same log, after OpenSBI's own, if it is there."""
    machine = QemuMachine(built(hardware.name), seconds=60)
    assert machine.run() == 0
    before, log = re.split("^(?=kernmem self-test)", machine.console.text, flags=re.MULTILINE)
    assert ("OpenSBI" in before) == (hardware is not RISCV_VIRT_MMODE)
    assert log.replace("\r", "") == expected(hardware.name)


@pytest.mark.parametrize(
    ("hardware", "mode", "heap"),
    [
        (RISCV_VIRT, 8, 1 << 37),
        (RISCV_VIRT_SV48, 9, 1 << 46),
        (RISCV_VIRT_SV57, 10, 1 << 55),
    ],
    ids=lambda each: getattr(each, "name", None),
)
def test_each_mode_reaches_further(hardware: HardwareDescription, mode: int, heap: int) -> None:
    """satp says the mode, and the heap lies where the one before has no addresses."""
    with UnicornMachine(hardware, manager) as machine:
        machine.call("init_memory")
        assert machine.registers()["satp"] >> 60 == mode
        buffer = machine.call("kmalloc", 100)
        assert buffer >= heap
        machine.store(buffer, 0x1234)
        assert machine.load(buffer) == 0x1234


# Address spaces -----------------------------------------------------------------------------


@pytest.mark.parametrize("asid_bits", [0, 1])
def test_a_hart_with_few_asids(asid_bits: int) -> None:
    """The same log, if the switches forget what they must."""
    hart = replace(RISCV_VIRT, simulated_mmu=partial(SimulatedRiscv64, asid_bits=asid_bits))
    lines: list[str] = []
    assert run_model(hart, spec(), lines.append) == 0
    assert "".join(lines) == expected()


def fences(machine: Model, call: Callable[[], object]) -> list[str]:
    """What a call forgets."""
    log: list[str] = []
    simulated = machine.memory.mmu
    assert isinstance(simulated, SimulatedRiscv64)
    simulated.log = log.append
    call()
    simulated.log = None
    return [line for line in log if line.startswith("sfence")]


def test_with_asids_a_switch_forgets_nothing() -> None:
    """Into the linear space and back; and a page more in the kernel segment is one fence."""
    machine = Model(RISCV_VIRT, manager)
    machine.call("init_memory")
    machine.call("enter_linear_space")
    machine.call("leave_linear_space")
    assert fences(machine, lambda: machine.call("enter_linear_space")) == []
    assert fences(machine, lambda: machine.call("leave_linear_space")) == []
    assert len(fences(machine, lambda: machine.call("extend_kernel_segment"))) == 1


# Accessed and dirty -------------------------------------------------------------------------


@pytest.mark.parametrize("noted", [ACCESSED, DIRTY])
def test_the_model_faults_where_a_or_d_is_0(noted: int) -> None:
    """So a kernel that left either to the core would not get far there (Svade)."""

    class Forgetful(PagedEntries):
        """Entries without one of the two bits."""

        def leaf(self, physical: PhysicalAddress, mapping: Mapping, level: u32) -> u64:
            return u64(super().leaf(physical, mapping, level) ^ noted)

    def forgetful(image: Image) -> Hardware:
        return replace(build(image), format=Forgetful(image))

    with pytest.raises(ModelViolation, match=r"SELF_UNMAP.*the core does not set it \(Svade\)"):
        Model(replace(RISCV_VIRT, build=forgetful), manager).call("init_memory")


# The device tree ----------------------------------------------------------------------------


@pytest.mark.qemu
@needs_qemu
def test_more_memory() -> None:
    """The device tree says how much there is; the tree and the firmware are spared."""
    image = built(RISCV_VIRT.name)
    command = tuple("512" if word == "128" else word for word in BOOT.qemu or ())
    described = replace(image.hardware, boot=replace(BOOT, qemu=command))
    machine = QemuMachine(replace(image, hardware=described), seconds=60)
    assert machine.run() == 0
    found = re.search(r"physical: (\d+) pages", machine.console.text)
    assert found is not None
    assert 480 * 256 < int(found[1]) < 512 * 256


def test_an_image_without_a_good_tree_says_so() -> None:
    """The model with a tree that was overwritten."""
    model = Model(RISCV_VIRT, manager)
    model.write_physical(TREE, bytes(4))
    with pytest.raises(KernelPanic, match="no good device tree at 0x87e00000: status 1"):
        model.call("init_memory")


def test_a_program_where_memory_is_reserved_is_refused() -> None:
    """Rather than to run in memory that the firmware uses."""
    model = Model(RISCV_VIRT, manager)
    tree = device_tree().replace((0x8_0000).to_bytes(8, "big"), (0x20_1000).to_bytes(8, "big"), 1)
    model.write_physical(TREE, tree)
    with pytest.raises(
        KernelPanic, match="the program, 0x80200000 to 0x80400000, does not lie in free RAM"
    ):
        model.call("init_memory")


def test_functions_are_called_on_unicorn_as_on_the_model() -> None:
    """Arguments, results, faults and panics; the same RAM afterwards but for code and stacks.

    The tables are in it: Unicorn, which sets A and D, found nothing to set.
    """

    results = []
    kinds: tuple[type[Model] | type[UnicornMachine], ...] = (Model, UnicornMachine)
    for kind in kinds:
        machine = kind(RISCV_VIRT, manager)
        machine.call("init_memory")
        buffers = [machine.call("kmalloc", size) for size in (1, 100, 5000)]
        machine.call("kfree", buffers[1])
        with pytest.raises(KernelPanic) as panic:
            machine.call("free_physical_page", 0x1000)
        with pytest.raises(PageFault) as fault:
            machine.load(0x4000_0000)
        results.append((buffers, str(panic.value), fault.value.address))
        heap = int(machine.physical_mem_info.physical_heap_start)
        assert FIRMWARE.end < heap < PROGRAM.start
        results[-1] += (machine.read_physical(heap, 0x4_0000),)
        if isinstance(machine, UnicornMachine):
            assert machine.core.instructions > 0
            machine.close()
    assert results[0] == results[1]


def test_the_stack_of_an_image_has_a_bound() -> None:
    """Read from its machine code, with its calls."""
    use = built(RISCV_VIRT.name).stack_use
    assert use["kernel_main"].path[:2] == ("kernel_main", "heap_test_toggle")
    assert use["kernel_main"].bytes < 0x1_0000
