from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from unicorn import UC_HOOK_CODE
from unicorn.arm64_const import UC_ARM64_REG_VBAR_EL1

from kernmem.hardware import HARDWARE
from kernmem.hardware.simulation import MachineExit
from kernmem.language import KernelPanic, PageFault
from kernmem.machine.errors import MachineError, MachineTimeout
from kernmem.machine.image import BuiltImage, link_image
from kernmem.machine.unicorn_core import UnicornCore
from machine.stub import ENDS, FUNCTIONS, STATUS, expected_console, stub_files

NOWHERE = 0x3FF_0000_0000


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> BuiltImage:
    return link_image(HARDWARE["lab"], stub_files("lab"), tmp_path_factory.mktemp("lab"), FUNCTIONS)


@pytest.fixture
def core(built: BuiltImage) -> Iterator[UnicornCore]:
    with UnicornCore(built, seconds=20) as core:
        core.boot()
        core.call("mmu_on")
        yield core


# Whole runs ------------------------------------------------------------------------------


@pytest.mark.parametrize("hardware", ["rpi3", "lab"])
@pytest.mark.parametrize("mode", ENDS)
def test_an_image_runs_to_its_exit_status(tmp_path: Path, hardware: str, mode: int) -> None:
    built = link_image(HARDWARE[hardware], stub_files(hardware, mode), tmp_path)
    lines: list[str] = []
    with UnicornCore(built, sink=lines.append, seconds=20) as core:
        assert core.run() == STATUS.get(mode, 1)
        assert core.console.text == "".join(lines)
        assert expected_console(mode).fullmatch(core.console.text), core.console.text
        assert all(line.endswith("\n") for line in lines)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_every_exception_level_is_a_place_to_start(tmp_path: Path, level: int) -> None:
    hardware = HARDWARE["rpi3"]
    hardware = replace(hardware, boot=replace(hardware.boot, entry_level=level))
    with UnicornCore(link_image(hardware, stub_files("rpi3"), tmp_path)) as core:
        assert core.run() == 7


def test_a_kernel_that_does_not_end_is_stopped(tmp_path: Path) -> None:
    built = link_image(HARDWARE["lab"], stub_files("lab", mode=4), tmp_path)
    with (
        UnicornCore(built, seconds=0.2) as core,
        pytest.raises(MachineTimeout, match=r"the kernel: no end after 0\.2 s"),
    ):
        core.run()


# Calls -----------------------------------------------------------------------------------


def test_a_call_returns_a_word(core: UnicornCore) -> None:
    assert core.call("add", 2, 3) == 5
    assert core.call("add", 2**64 - 1, 1) == 0


def test_a_panic_has_its_text(core: UnicornCore) -> None:
    with pytest.raises(KernelPanic) as caught:
        core.call("broken", 255)
    assert caught.value.message == "value 255 is 0xff and 000000ff, said the test (1 2 3 4 5)"
    assert core.call("add", 1, 1) == 2, "calls go on after a panic"
    assert core.console.text == ""


def test_a_page_fault_has_address_and_syndrome(core: UnicornCore) -> None:
    with pytest.raises(PageFault) as caught:
        core.call("poke", NOWHERE + 8, 1)
    fault = caught.value
    assert (fault.address, fault.access) == (NOWHERE + 8, "write")
    assert (fault.reason, fault.syndrome) == ("translation fault, level 2", 0x96000046)
    with pytest.raises(PageFault, match="read of 0x3ff00000010: translation fault, level 2"):
        core.call("peek", NOWHERE + 16)
    assert core.call("add", 1, 1) == 2, "calls go on after a fault"


def test_an_expected_fault_is_the_kernels_own_business(core: UnicornCore) -> None:
    assert core.call("probe", NOWHERE) == 0x96000006
    assert core.call("probe", HARDWARE["lab"].program.start) == 0


def test_an_exit_while_a_function_is_called(core: UnicornCore) -> None:
    with pytest.raises(MachineExit) as caught:
        core.call("kernmem_exit", 9)
    assert caught.value.status == 9
    assert core.call("add", 1, 1) == 2


def test_a_core_that_faults_at_its_own_vector_is_stopped(core: UnicornCore) -> None:
    """It executes no instruction, and so never looks at the clock."""
    core.cpu.uc.reg_write(UC_ARM64_REG_VBAR_EL1, NOWHERE)
    core.seconds = 0.2
    with pytest.raises(MachineTimeout, match=r"probe: no end after 0\.2 s"):
        core.call("probe", NOWHERE)


def test_a_call_that_does_not_end_is_stopped(core: UnicornCore) -> None:
    core.seconds = 0.2
    with pytest.raises(MachineTimeout, match=r"hang: no end after 0\.2 s"):
        core.call("hang")
    assert core.call("add", 1, 1) == 2


def test_a_call_before_boot_is_refused(built: BuiltImage) -> None:
    with UnicornCore(built) as core, pytest.raises(MachineError, match=r"call boot\(\) first"):
        core.call("add", 1, 1)


def test_an_access_outside_of_ram_and_devices_is_named(built: BuiltImage) -> None:
    with UnicornCore(built) as core:
        core.boot()  # the MMU is off
        with pytest.raises(MachineError, match="peek met what no exception describes"):
            core.call("peek", 0x5000_0000)


# Memory ----------------------------------------------------------------------------------


def test_memory_is_seen_through_the_guests_tables(core: UnicornCore) -> None:
    start = core.built.symbols["variable"].address
    core.store(start, bytes(range(32)))
    assert core.load(start, 32) == bytes(range(32)) == core.static("variable")
    assert core.call("peek", start + 8) == 0x0F0E0D0C0B0A0908
    with pytest.raises(PageFault, match="read of 0x3ff00000000"):
        core.load(NOWHERE, 1)
    with pytest.raises(PageFault, match="write of 0x3ff00000000"):
        core.store(NOWHERE, b"x")


def test_a_snapshot_is_a_place_to_return_to(core: UnicornCore) -> None:
    core.call("count_down", 1)
    before = core.snapshot()
    assert [core.call("count_down", 1) for _ in range(3)] == [1, 2, 3]
    core.restore(before)
    assert core.call("count_down", 1) == 1
    core.restore(before)
    assert core.call("count_down", 1) == 1
    assert core.call("probe", NOWHERE) == 0x96000006, "the MMU is on"


# Figures ---------------------------------------------------------------------------------


def test_the_count_of_instructions_is_exact(core: UnicornCore) -> None:
    counted = 0

    def count(*_: object) -> None:
        nonlocal counted
        counted += 1

    core.cpu.uc.hook_add(UC_HOOK_CODE, count)
    for name, argument in (("count_down", 1000), ("add", 1), ("probe", NOWHERE), ("deep", 5)):
        counted = 0
        before = core.instructions
        core.call(name, argument)
        assert core.instructions - before == counted, name


def test_calls_are_counted_by_function(core: UnicornCore) -> None:
    for rounds in (10, 20, 300):
        core.call("count_down", rounds)
    calls = core.calls["count_down"]
    assert calls.count == 3
    assert calls.worst == pytest.approx(2 * 300, abs=20)  # subtract, branch
    assert calls.mean == calls.instructions / 3


def test_the_deepest_stack_is_what_was_used(core: UnicornCore) -> None:
    core.call("add", 1, 1)
    shallow = core.deepest_stack()
    core.call("deep", 1)
    assert shallow < 128 <= core.deepest_stack() <= core.built.stack_use["deep"].bytes
