"""The self-test on QEMU's AArch64 board: every granule, core and way to be entered."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from tempfile import mkdtemp

import pytest

from kernmem.hardware import HardwareDescription, find
from kernmem.hardware.aarch64.simulated import SimulatedAarch64
from kernmem.hardware.virt import PROGRAM, RAM, TREE, TREE_LENGTH, build, peripherals
from kernmem.language import KernelPanic, ModelViolation, PageFault
from kernmem.machine.build import build_kernel, put_together
from kernmem.machine.image import BuiltImage
from kernmem.machine.model import Model
from kernmem.machine.qemu import QemuMachine
from kernmem.machine.unicorn import UnicornMachine
from kernmem.machine.unicorn_core import UnicornCore
from kernmem.memory.architecture import Region
from kernmem.memory.manager import MemoryManager
from kernmem.memory.profile import spec
from kernmem.selftest import run_model, selftest_kernel

needs_qemu = pytest.mark.skipif(
    shutil.which("qemu-system-aarch64") is None, reason="qemu-system-aarch64 is not installed"
)
GRANULES = {"virt": 12, "virt-16k": 14, "virt-64k": 16}
IMAGE_PROGRAM = Region(0x4008_0000, 0x4028_0000)  # where QEMU loads a plain image
IMAGE_TREE = 0x4400_0000  # where it puts the tree then, with 128 MiB


@cache
def built(hardware: HardwareDescription) -> BuiltImage:
    """The self-test's image."""
    _, _, root = put_together(hardware, selftest_kernel(spec()))
    return build_kernel(hardware, root, Path(mkdtemp(prefix="kernmem-test-")))


@cache
def plain_image(name: str) -> HardwareDescription:
    """The board as Linux is loaded on it: no ELF file, and the tree's address in x0."""
    hardware = find(name)
    boot = replace(hardware.boot, loads_elf=False, arguments=(IMAGE_TREE,))
    return replace(
        hardware,
        build=partial(build, page_bits=GRANULES[name], program=IMAGE_PROGRAM),
        program=IMAGE_PROGRAM,
        peripherals=partial(peripherals, place=IMAGE_TREE),
        boot=boot,
    )


def pages_between(start: int, end: int, page_bits: int) -> int:
    """Whole pages in a stretch of RAM, one of which the map of free pages takes."""
    return (end - start >> page_bits) - 1


def pages_of_plain_image(page_bits: int) -> int:
    """Below the program, between it and the tree, and above the tree."""
    return (
        pages_between(RAM.start, IMAGE_PROGRAM.start, page_bits)
        + pages_between(IMAGE_PROGRAM.end, IMAGE_TREE, page_bits)
        + pages_between(IMAGE_TREE + TREE_LENGTH, RAM.end, page_bits)
    )


@cache
def expected(name: str) -> str:
    """What the model prints."""
    lines: list[str] = []
    assert run_model(find(name), spec(), lines.append) == 0
    return "".join(lines)


def qemu(image: BuiltImage, *words: tuple[str, str]) -> tuple[int, str]:
    """Status and log of a run, with words of QEMU's command line replaced."""
    boot = image.hardware.boot
    assert boot.qemu is not None
    command = tuple(dict(words).get(word, word) for word in boot.qemu)
    described = replace(image.hardware, boot=replace(boot, qemu=command))
    machine = QemuMachine(replace(image, hardware=described), seconds=60)
    status = machine.run()
    return status, machine.console.text.replace("\r", "")


@pytest.mark.parametrize(("name", "page_bits"), GRANULES.items())
def test_the_log_ends_well(name: str, page_bits: int) -> None:
    """On the model, with the RAM around the program, and above the tree."""
    pages = pages_between(TREE + TREE_LENGTH, PROGRAM.start, page_bits)
    pages += pages_between(PROGRAM.end, RAM.end, page_bits)
    assert f"physical: {pages} pages of {1 << page_bits} bytes\n" in expected(name)
    assert expected(name).endswith("PASS\n")


def test_the_log_is_that_of_every_hardware() -> None:
    """But for the number of pages and their length."""
    logs = {re.sub(r"\d+ pages of \d+", "", expected(name)) for name in GRANULES}
    lines: list[str] = []
    assert run_model(find("lab"), spec(), lines.append) == 0
    assert logs == {re.sub(r"\d+ pages of \d+", "", "".join(lines))}


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("name", GRANULES)
def test_unicorn(name: str, level: int) -> None:
    """The same log as the model's, entered at every exception level."""
    image = built(find(name))
    entered = replace(image.hardware, boot=replace(image.hardware.boot, entry_level=level))
    with UnicornCore(replace(image, hardware=entered), seconds=60) as core:
        assert core.run() == 0
        assert core.console.text == expected(name)


@pytest.mark.qemu
@needs_qemu
@pytest.mark.parametrize("name", GRANULES)
@pytest.mark.parametrize(
    "board", ["virt", "virt,virtualization=on", "virt,secure=on,virtualization=on"]
)
def test_qemu(name: str, board: str) -> None:
    """The same log, entered at EL1, EL2 and EL3."""
    assert qemu(built(find(name)), ("virt", board)) == (0, expected(name))


@pytest.mark.qemu
@needs_qemu
def test_without_a_debugger_the_firmware_is_asked_to_power_off() -> None:
    """PSCI, which has no status; the log says how it went."""
    no_debugger = ("enable=on,target=native", "enable=off")
    assert qemu(built(find("virt")), no_debugger) == (0, expected("virt"))


@pytest.mark.qemu
@needs_qemu
@pytest.mark.parametrize("name", ["virt", "virt-64k"])
@pytest.mark.parametrize("core", ["cortex-a53", "cortex-a57", "cortex-a72", "cortex-a76"])
def test_qemu_with_the_core(name: str, core: str) -> None:
    """Armv8.0 and later."""
    assert qemu(built(find(name)), ("max", core)) == (0, expected(name))


@pytest.mark.qemu
@needs_qemu
def test_a_core_without_the_granule_is_told_so() -> None:
    """Before the MMU is on: a Cortex-A53 has no 16 KiB pages."""
    status, log = qemu(built(find("virt-16k")), ("max", "cortex-a53"))
    assert status == 1
    assert "panic: this core has no pages of 16384 bytes: ID_AA64MMFR0_EL1 is 0x1122" in log


@pytest.mark.parametrize(
    ("name", "features", "text"),
    [
        ("virt", 0xF000_1122, "no pages of 4096 bytes: ID_AA64MMFR0_EL1 is 0xf0001122; build"),
        ("virt-16k", 0x1122, "no pages of 16384 bytes: ID_AA64MMFR0_EL1 is 0x1122; build"),
        ("virt-64k", 0x0F00_1122, "no pages of 65536 bytes: ID_AA64MMFR0_EL1 is 0xf001122; build"),
        ("virt", 0x1121, "have less than 40 bits: ID_AA64MMFR0_EL1 is 0x1121; build"),
    ],
)
def test_what_the_core_must_have(name: str, features: int, text: str) -> None:
    """The model with other cores: a panic, and the MMU stays off."""
    hardware = replace(find(name), simulated_mmu=partial(SimulatedAarch64, features=features))
    model = Model(hardware, lambda image, parts: MemoryManager(image, parts, spec()))
    with pytest.raises(KernelPanic, match=re.escape(text)):
        model.call("init_memory")
    assert not model.memory.mmu.enabled


def test_the_model_refuses_what_the_core_has_not() -> None:
    """A driver that does not look is found out when it turns the MMU on."""
    core = partial(SimulatedAarch64, features=0x1122)
    hardware = replace(find("virt-16k"), simulated_mmu=core)
    model = Model(hardware, lambda image, parts: MemoryManager(image, parts, spec()))
    vars(model.kernel.virtual.mmu)["require_features"] = lambda: None
    with pytest.raises(ModelViolation, match="pages of 16384 bytes, which this core has not"):
        model.call("init_memory")


@pytest.mark.parametrize("name", GRANULES)
def test_a_plain_image_finds_the_tree_in_x0(name: str) -> None:
    """In Unicorn; the tree is not overwritten."""
    with UnicornCore(built(plain_image(name)), seconds=60) as core:
        assert core.run() == 0
        log = core.console.text
    assert f"physical: {pages_of_plain_image(GRANULES[name])} pages" in log
    assert log.endswith("PASS\n")


@pytest.mark.qemu
@needs_qemu
def test_a_plain_image_in_qemu() -> None:
    """As in Unicorn."""
    status, log = qemu(built(plain_image("virt")))
    assert (status, f"physical: {pages_of_plain_image(12)} pages" in log) == (0, True)


@pytest.mark.qemu
@needs_qemu
def test_more_memory() -> None:
    """The device tree says how much there is."""
    status, log = qemu(built(find("virt")), ("128", "512"))
    found = re.search(r"physical: (\d+) pages", log)
    assert found is not None
    assert (status, int(found[1]) >> 8) == (0, 512 - 1 - 2 - 1)  # the tree, the program, maps


def test_an_image_without_a_good_tree_says_so() -> None:
    """The model with a tree that was overwritten."""
    model = Model(find("virt"), lambda image, parts: MemoryManager(image, parts, spec()))
    model.write_physical(TREE, bytes(4))
    with pytest.raises(KernelPanic, match="no good device tree at 0x40000000: status 1"):
        model.call("init_memory")


@pytest.mark.parametrize("name", GRANULES)
def test_functions_are_called_on_unicorn_as_on_the_model(name: str) -> None:
    """Arguments, results, faults and panics; the same RAM afterwards but for code and stacks."""
    results = []
    for kind in (Model, UnicornMachine):
        machine = kind(find(name), lambda image, parts: MemoryManager(image, parts, spec()))
        with machine:
            machine.call("init_memory")
            buffers = [machine.call("kmalloc", size) for size in (1, 100, 5000)]
            machine.call("kfree", buffers[1])
            with pytest.raises(KernelPanic) as panic:
                machine.call("free_physical_page", 0x1000)
            with pytest.raises(PageFault) as fault:
                machine.load(0x7000_0000_0000)
            heap = int(machine.physical_mem_info.physical_heap_start)
            assert TREE < heap < PROGRAM.start
            content = machine.read_physical(heap, PROGRAM.start - heap)
            results.append((buffers, str(panic.value), fault.value.address, content))
            assert machine.registers()["tcr_el1"] & 0x3F == 64 - 48
    assert results[0] == results[1]
