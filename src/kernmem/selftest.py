"""The self-test kernel on each machine: built, booted, its console handed on."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from kernmem.hardware import HardwareDescription
from kernmem.hardware.simulation import MachineExit
from kernmem.kernels.selftest import SelfTest
from kernmem.language import Component, Image
from kernmem.memory.architecture import Hardware
from kernmem.memory.profile import Profile

Sink = Callable[[str], None]


def selftest_kernel(profile: Profile) -> Callable[[Image, Hardware], Component]:
    """Puts the self-test together, with a heap of ``profile``."""
    return lambda image, hardware: SelfTest(image, hardware, profile)


def run_model(hardware: HardwareDescription, profile: Profile, sink: Sink) -> int:
    """Interpret the self-test; the kernel's exit status."""
    from kernmem.machine.model import Model

    machine = Model(hardware, selftest_kernel(profile))
    keep = machine.image.console

    def hand_on(text: str) -> None:
        keep(text)
        sink(text)

    machine.image.console = hand_on
    try:
        machine.call("kernel_main")
    except MachineExit as end:
        return end.status
    return 1  # kernel_main must not return


def run_image(
    hardware: HardwareDescription, machine: str, profile: Profile, sink: Sink, seconds: float
) -> int:
    """Build the self-test's image and boot it on ``unicorn`` or ``qemu``; its exit status."""
    from kernmem.machine.build import build_image
    from kernmem.machine.qemu import QemuMachine
    from kernmem.machine.unicorn_core import UnicornCore

    with tempfile.TemporaryDirectory(prefix="kernmem-") as place:
        built = build_image(hardware.name, Path(place), selftest_kernel(profile))
        if machine == "qemu":
            return QemuMachine(built, sink=sink, seconds=seconds).run()
        with UnicornCore(built, sink=sink, seconds=seconds) as core:
            return core.run()
