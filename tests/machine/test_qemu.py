from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from kernmem.hardware import HARDWARE
from kernmem.machine.errors import MachineError, MachineMissing, MachineTimeout
from kernmem.machine.image import link_image
from kernmem.machine.qemu import QemuMachine
from machine.stub import ENDS, STATUS, expected_console, stub_files

needs_qemu = pytest.mark.skipif(
    shutil.which("qemu-system-aarch64") is None, reason="qemu-system-aarch64 is not installed"
)


@pytest.mark.qemu
@needs_qemu
@pytest.mark.parametrize("mode", ENDS)
def test_an_image_runs_to_its_exit_status(tmp_path: Path, mode: int) -> None:
    built = link_image(HARDWARE["rpi3"], stub_files("rpi3", mode), tmp_path)
    lines: list[str] = []
    machine = QemuMachine(built, sink=lines.append, seconds=30)
    assert machine.run() == STATUS.get(mode, 1)
    assert machine.console.text == "".join(lines)
    assert expected_console(mode).fullmatch(machine.console.text), machine.console.text


@pytest.mark.qemu
@needs_qemu
def test_the_elf_file_boots_from_el3(tmp_path: Path) -> None:
    # QEMU starts all four cores of an ELF file at EL3: three are parked, one goes down to EL1.
    built = link_image(HARDWARE["rpi3"], stub_files("rpi3"), tmp_path)
    machine = QemuMachine(replace(built, image=built.elf), seconds=30)
    assert machine.run() == 7
    assert expected_console(0).fullmatch(machine.console.text)


@pytest.mark.qemu
@needs_qemu
def test_a_kernel_that_does_not_end_is_stopped(tmp_path: Path) -> None:
    built = link_image(HARDWARE["rpi3"], stub_files("rpi3", mode=4), tmp_path)
    machine = QemuMachine(built, seconds=1.5)
    with pytest.raises(MachineTimeout, match=r"the kernel in QEMU: no end after 1\.5 s"):
        machine.run()
    assert machine.console.text.startswith("hello board")


def test_without_qemu_the_error_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = link_image(HARDWARE["rpi3"], stub_files("rpi3"), tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineMissing) as caught:
        QemuMachine(built)
    assert str(caught.value) == (
        "qemu-system-aarch64 is not installed: install it with  "
        "apt-get install qemu-system-arm  (Debian, Ubuntu),  "
        "dnf install qemu-system-aarch64  (Fedora)  or  brew install qemu  (macOS); "
        "the unicorn machine needs nothing installed"
    )


def test_a_hardware_that_qemu_does_not_have_is_refused(tmp_path: Path) -> None:
    built = link_image(HARDWARE["lab"], stub_files("lab"), tmp_path)
    with pytest.raises(MachineError, match="QEMU has no board like 'lab': use rpi3"):
        QemuMachine(built)
