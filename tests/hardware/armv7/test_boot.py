"""The self-test on every machine, entered both ways; the same bytes; and what ends badly."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from unicorn import UC_HOOK_CODE

from kernmem.hardware import HARDWARE, HardwareDescription
from kernmem.hardware.armv7_virt import ARMV7_VIRT
from kernmem.hardware.virt import PROGRAM, RAM, TREE, TREE_LENGTH, peripherals
from kernmem.language import Component, Image, KernelPanic, PageFault, api, panic, u8, u32, u64
from kernmem.machine.build import build_kernel, put_together
from kernmem.machine.compare import first_difference
from kernmem.machine.image import BuiltImage
from kernmem.machine.model import Model
from kernmem.machine.qemu import QemuMachine
from kernmem.machine.toolchain import ToolchainError
from kernmem.machine.unicorn import UnicornMachine
from kernmem.machine.unicorn_core import UnicornCore
from kernmem.memory.architecture import Hardware, Mapping
from kernmem.memory.gap import Gap
from kernmem.memory.manager import MemoryManager
from kernmem.memory.profile import Profile, spec, tuned
from kernmem.selftest import run_model, selftest_kernel
from machine.test_same_bytes import Runner, heap_calls

needs_qemu = pytest.mark.skipif(
    shutil.which("qemu-system-arm") is None, reason="qemu-system-arm is not installed"
)
KINDS: list[type[Model] | type[UnicornMachine]] = [Model, UnicornMachine]


@cache
def built() -> BuiltImage:
    """The self-test's image."""
    _, _, root = put_together(ARMV7_VIRT, selftest_kernel(spec()))
    return build_kernel(ARMV7_VIRT, root, Path(mkdtemp(prefix="kernmem-test-")))


@cache
def expected() -> str:
    """What the model prints."""
    lines: list[str] = []
    assert run_model(ARMV7_VIRT, spec(), lines.append) == 0
    return "".join(lines)


def manager(profile: Profile) -> Any:
    """Puts a memory manager together."""
    return lambda image, parts: MemoryManager(image, parts, profile)


def on_qemu(
    machine_options: str = "virt", memory: str = "128", semihosting: str = "on,target=native"
) -> HardwareDescription:
    """The board with other options for QEMU."""
    words = {
        "virt": machine_options,
        "128": memory,
        "enable=on,target=native": f"enable={semihosting}",
    }
    command = tuple(words.get(word, word) for word in ARMV7_VIRT.boot.qemu or ())
    return replace(ARMV7_VIRT, boot=replace(ARMV7_VIRT.boot, qemu=command))


def test_the_log_ends_well() -> None:
    """On the model; the RAM is what device tree and program leave of it."""
    stretches = ((TREE + TREE_LENGTH, PROGRAM.start), (PROGRAM.end, RAM.end))
    pages = sum((end - start) // 4096 - 1 for start, end in stretches)  # each with its map
    assert f"physical: {pages} pages of 4096 bytes\n" in expected()
    assert expected().endswith("PASS\n")


def test_unicorn() -> None:
    """The same log as the model's."""
    with UnicornCore(built(), seconds=60) as core:
        assert core.run() == 0
        assert core.console.text == expected()


@pytest.mark.qemu
@needs_qemu
@pytest.mark.parametrize("options", ["virt", "virt,virtualization=on"], ids=["SVC", "Hyp"])
def test_qemu(options: str) -> None:
    """The same log, entered in supervisor mode and in Hyp mode."""
    machine = QemuMachine(replace(built(), hardware=on_qemu(options)), seconds=60)
    assert machine.run() == 0
    assert machine.console.text.replace("\r", "") == expected()


@pytest.mark.qemu
@needs_qemu
def test_without_a_debugger_the_firmware_is_asked_to_power_off() -> None:
    """PSCI, which has no status; the log says how it went."""
    machine = QemuMachine(replace(built(), hardware=on_qemu(semihosting="off")), seconds=60)
    assert machine.run() == 0
    assert machine.console.text.replace("\r", "") == expected()


@pytest.mark.qemu
@needs_qemu
def test_more_memory() -> None:
    """The device tree says how much there is."""
    machine = QemuMachine(replace(built(), hardware=on_qemu(memory="512")), seconds=60)
    assert machine.run() == 0
    found = re.search(r"physical: (\d+) pages", machine.console.text)
    assert found is not None
    assert 500 * 256 < int(found[1]) < 512 * 256


def test_the_tree_that_the_firmware_passes() -> None:
    """In r2, as Linux's boot protocol has it, wherever it is."""
    place = RAM.start + 0x100_0000
    described = replace(
        ARMV7_VIRT,
        peripherals=partial(peripherals, place=place),
        boot=replace(ARMV7_VIRT.boot, arguments=(0, 0, place)),
    )
    with UnicornCore(replace(built(), hardware=described), seconds=60) as core:
        assert core.run() == 0
        found = re.search(r"physical: (\d+) pages", core.console.text)
    stretches = ((RAM.start, PROGRAM.start), (PROGRAM.end, place), (place + TREE_LENGTH, RAM.end))
    assert found is not None
    assert int(found[1]) == sum((end - start) // 4096 - 1 for start, end in stretches)


def test_an_image_without_a_good_tree_says_so() -> None:
    """The model with a tree that was overwritten."""
    model = Model(ARMV7_VIRT, manager(spec()))
    model.write_physical(TREE, bytes(4))
    with pytest.raises(KernelPanic, match="no good device tree at 0x40000000: status 1"):
        model.call("init_memory")


def test_the_record_of_a_gap_is_32_bytes() -> None:
    """As the specification's is 60 where pointers have 8; and the heap lives with it."""
    model = Model(ARMV7_VIRT, manager(spec()))
    model.call("init_memory")
    assert model.kernel.sizeof(Gap) == 32
    buffer = model.call("kmalloc", 1)
    model.call("kfree", model.call("kmalloc", 1))
    assert int(model.call("kmalloc", 1)) - int(buffer) == 32


@pytest.mark.parametrize("profile", [spec(), tuned()], ids=["spec", "tuned"])
def test_unicorn_leaves_the_bytes_that_the_model_leaves(profile: Profile) -> None:
    """Results of heap calls and page-table calls; then heap, registries and tables."""
    model = Model(ARMV7_VIRT, manager(profile))
    with UnicornMachine(ARMV7_VIRT, manager(profile)) as unicorn:
        machines = (model, unicorn)
        results = []
        for machine in machines:
            machine.call("init_memory")
            runner = Runner(machine)
            done = runner.run(list(heap_calls(2000, seed=2026)))
            machine.enter_linear_space()
            done += runner.run(list(pagetable_calls()))
            machine.leave_linear_space()
            results.append(done)
        assert results[0] == results[1]
        assert first_difference(*machines) is None


def pagetable_calls() -> Iterator[tuple[Any, ...]]:
    """Pages and sections mapped, sections split."""
    for number in range(200):
        table, page, section = number % 4, number * 0x3000, number << 21
        yield "map", table, 0x1000_0000 + page, page, Mapping.USER_READ_WRITE
        yield "map_linear", table, 0x2000_0000 + section, 0x2010_1000 + section
        yield "unmap", table, 0x2000_3000 + (number // 2 << 21)
        yield "translate", table, 0x1000_0005 + page


class Words(Component):
    """Functions whose arguments are longer than a register, or more than there are."""

    def __init__(self, image: Image, hardware: Hardware) -> None:
        super().__init__(image)
        self.seen = self.static_array(u64, 1, "seen")

    @api
    def mix(self, first: u32, wide: u64, last: u8, wider: u64) -> u64:
        """r0, r2 and r3, then the stack."""
        self.seen[0] = wide
        return wide - wider + u64(first) * u64(last)

    @api
    def refuse(self, number: u32, wide: u64) -> None:
        """A panic with numbers of both lengths."""
        panic(f"refused: {number}, {wide:#x}")


@pytest.mark.parametrize("kind", KINDS)
def test_arguments_and_results_of_two_words(kind: type[Model] | type[UnicornMachine]) -> None:
    """By the procedure call standard: wide ones begin at an even register (AAPCS32, 6.5)."""
    with kind(ARMV7_VIRT, Words) as machine:
        wide = 0x1234_5678_9ABC_DEF0
        assert machine.call("mix", 3, wide, 5, 0x1_0000_0001) == wide - 0x1_0000_0001 + 15
        with pytest.raises(KernelPanic, match="refused: 7, 0x123456789abcdef0"):
            machine.call("refuse", 7, wide)


class Divides(Component):
    """A kernel that a 32-bit core cannot compute by itself."""

    def __init__(self, image: Image, hardware: Hardware) -> None:
        super().__init__(image)

    @api
    def tenth(self, number: u64) -> u64:
        """Needs a division of 64 bits."""
        return number // u64(10)


def test_a_kernel_that_needs_a_library_does_not_link(tmp_path: Path) -> None:
    """There is none in an image: what is missing is named."""
    _, _, root = put_together(ARMV7_VIRT, Divides)
    with pytest.raises(ToolchainError, match="undefined symbol: __aeabi_uldivmod"):
        build_kernel(ARMV7_VIRT, root, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_faults_and_panics_are_exceptions(kind: type[Model] | type[UnicornMachine]) -> None:
    """With the same address, access and text."""
    with kind(ARMV7_VIRT, manager(spec())) as machine:
        machine.call("init_memory")
        with pytest.raises(KernelPanic, match="physical memory is not addressable here"):
            machine.call("free_physical_page", 0x1000)
        with pytest.raises(PageFault) as fault:
            machine.load(0x5000_0000, 4)
        assert fault.value.address == 0x5000_0000
        assert machine.registers()["ttbr0"] & 0x7F == 0x6A


def test_the_stack_of_an_image_has_a_bound() -> None:
    """Read from its machine code, with its calls."""
    use = built().stack_use
    assert use["kernel_main"].path[:2] == ("kernel_main", "heap_test_toggle")
    with UnicornCore(built(), seconds=60) as core:
        core.boot()
        with pytest.raises(Exception, match="status 0"):
            core.call("kernel_main")
        assert 0 < core.deepest_stack() <= use["kernel_main"].bytes


def test_the_count_of_instructions_is_exact() -> None:
    """Against a hook on each."""
    with UnicornMachine(ARMV7_VIRT, manager(spec())) as machine:
        counted = 0

        def count(*_: object) -> None:
            nonlocal counted
            counted += 1

        machine.core.cpu.uc.hook_add(UC_HOOK_CODE, count)
        before = machine.core.instructions
        machine.call("init_memory")
        machine.call("kfree", machine.call("kmalloc", 100))
        assert machine.core.instructions - before == counted > 1000


def test_a_machine_of_another_width_may_run_beside_it() -> None:
    """Each call is made with the pointers of its own machine."""
    with (
        Model(ARMV7_VIRT, manager(tuned())) as narrow,
        Model(HARDWARE["riscv-virt"], manager(tuned())) as wide,
    ):
        for machine in (narrow, wide, narrow, wide):
            if machine.physical_mem_info.page_quantity == 0:
                machine.call("init_memory")
            buffer = machine.call("kmalloc", 1000)
            machine.call("kfree", buffer)
            assert machine.kernel_heap_info.live_buffers == 0
        assert wide.kernel_heap_info.heap_end > 1 << 32 > narrow.kernel_heap_info.heap_end
