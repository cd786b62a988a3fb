"""The self-test on every machine, in every paging mode, entered both ways; and what ends badly."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from tempfile import mkdtemp

import pytest

from kernmem.hardware import HardwareDescription
from kernmem.hardware.riscv_virt import (
    BOOT,
    MACHINE_MODE_BOOT,
    PROGRAM,
    RAM,
    RISCV_VIRT,
    TREE,
    build,
    device_tree,
)
from kernmem.language import KernelPanic, PageFault
from kernmem.machine.build import build_kernel, put_together
from kernmem.machine.image import BuiltImage
from kernmem.machine.model import Model
from kernmem.machine.qemu import QemuMachine
from kernmem.machine.unicorn import UnicornMachine
from kernmem.machine.unicorn_core import UnicornCore
from kernmem.memory.manager import MemoryManager
from kernmem.memory.profile import spec
from kernmem.selftest import run_model, selftest_kernel

needs_qemu = pytest.mark.skipif(
    shutil.which("qemu-system-riscv64") is None, reason="qemu-system-riscv64 is not installed"
)
BOOTS = {"OpenSBI": BOOT, "machine mode": MACHINE_MODE_BOOT}


def hardware(levels: int = 3, boot: str = "OpenSBI") -> HardwareDescription:
    """The board with a paging mode and a way to be entered."""
    return replace(RISCV_VIRT, build=partial(build, levels=levels), boot=BOOTS[boot])


@cache
def built(levels: int, boot: str) -> BuiltImage:
    """The self-test's image."""
    description = hardware(levels, boot)
    _, _, root = put_together(description, selftest_kernel(spec()))
    return build_kernel(description, root, Path(mkdtemp(prefix="kernmem-test-")))


@cache
def expected() -> str:
    """What the model prints, which does not depend on the paging mode but for numbers."""
    lines: list[str] = []
    assert run_model(hardware(), spec(), lines.append) == 0
    return "".join(lines)


def test_the_log_ends_well() -> None:
    """On the model; the RAM ends where the device tree lies."""
    pages = (TREE - PROGRAM.end) // 4096 - 1  # one of them for the map of free pages
    assert f"physical: {pages} pages of 4096 bytes\n" in expected()
    assert expected().endswith("PASS\n")


@pytest.mark.parametrize("boot", BOOTS)
@pytest.mark.parametrize("levels", [3, 4])  # Unicorn has no Sv57
def test_unicorn(levels: int, boot: str) -> None:
    """The same log as the model's."""
    with UnicornCore(built(levels, boot), seconds=60) as core:
        assert core.run() == 0
        assert core.console.text == expected()


@pytest.mark.qemu
@needs_qemu
@pytest.mark.parametrize("boot", BOOTS)
@pytest.mark.parametrize("levels", [3, 4, 5])
def test_qemu(levels: int, boot: str) -> None:
    """The same log, after OpenSBI's own."""
    machine = QemuMachine(built(levels, boot), seconds=60)
    assert machine.run() == 0
    log = machine.console.text
    assert log[log.index("kernmem self-test") :].replace("\r", "") == expected()


@pytest.mark.qemu
@needs_qemu
def test_more_memory() -> None:
    """The device tree says how much there is; the tree and the firmware are spared."""
    image = built(3, "OpenSBI")
    command = tuple("512" if word == "128" else word for word in BOOT.qemu or ())
    described = replace(image.hardware, boot=replace(BOOT, qemu=command))
    machine = QemuMachine(replace(image, hardware=described), seconds=60)
    assert machine.run() == 0
    found = re.search(r"physical: (\d+) pages", machine.console.text)
    assert found is not None
    assert 480 * 256 < int(found[1]) < 512 * 256


def test_an_image_without_a_good_tree_says_so() -> None:
    """The model with a tree that was overwritten."""
    model = Model(RISCV_VIRT, lambda image, parts: MemoryManager(image, parts, spec()))
    model.write_physical(TREE, bytes(4))
    with pytest.raises(KernelPanic, match="no good device tree at 0x87e00000: status 1"):
        model.call("init_memory")


def test_a_program_where_memory_is_reserved_is_refused() -> None:
    """Rather than to run in memory that the firmware uses."""
    model = Model(RISCV_VIRT, lambda image, parts: MemoryManager(image, parts, spec()))
    tree = device_tree().replace((0x20_0000).to_bytes(8, "big"), (0x20_1000).to_bytes(8, "big"), 1)
    model.write_physical(TREE, tree)
    with pytest.raises(KernelPanic, match="the firmware reserved 0x80000000, where the program is"):
        model.call("init_memory")


def test_functions_are_called_on_unicorn_as_on_the_model() -> None:
    """Arguments, results, faults and panics; the same RAM afterwards but for code and stacks."""

    def make(kind: type[Model] | type[UnicornMachine]) -> Model | UnicornMachine:
        return kind(RISCV_VIRT, lambda image, parts: MemoryManager(image, parts, spec()))

    results = []
    for kind in (Model, UnicornMachine):
        machine = make(kind)
        machine.call("init_memory")
        buffers = [machine.call("kmalloc", size) for size in (1, 100, 5000)]
        machine.call("kfree", buffers[1])
        with pytest.raises(KernelPanic) as panic:
            machine.call("free_physical_page", 0x1000)
        with pytest.raises(PageFault) as fault:
            machine.load(0x4000_0000)
        results.append((buffers, str(panic.value), fault.value.address))
        heap = int(machine.physical_mem_info.physical_heap_start)
        assert PROGRAM.end < heap < RAM.end
        results[-1] += (machine.read_physical(heap, 0x4_0000),)
        if isinstance(machine, UnicornMachine):
            assert machine.registers()["satp"] >> 60 == 8
            assert machine.core.instructions > 0
            machine.close()
    assert results[0] == results[1]


def test_the_stack_of_an_image_has_a_bound() -> None:
    """Read from its machine code, with its calls."""
    use = built(3, "OpenSBI").stack_use
    assert use["kernel_main"].path[:2] == ("kernel_main", "heap_test_toggle")
    assert use["kernel_main"].bytes < 0x1_0000
