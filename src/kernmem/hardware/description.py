"""What kernmem must know of a hardware besides the kernel code that it brings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kernmem.hardware.boot import Boot
from kernmem.hardware.peripherals import Bus, Peripheral
from kernmem.hardware.simulation import SimulatedMmu, SimulatedRam
from kernmem.language import Image, Target
from kernmem.memory.architecture import Hardware, Region


@dataclass(frozen=True)
class HardwareDescription:
    """One hardware: what a kernel is built from, and what a machine must imitate.

    Attributes:
        name: how people call it, e.g. ``"rpi3"``.
        title: one line for lists.
        target: what kernel code is compiled for.
        build: makes the components of the hardware for one image.
        ram: the memory that a simulator must provide, in physical addresses.
        program_start, program_end: the window that the linker script reserves for code,
            statics and stack.  It is a fixed one, so that the physical heap begins at the
            same page on every machine.
        statics_base: where the model puts statics, inside the window.
        stack_top: where the model's stack begins, going down; the end of the window.
        simulated_mmu: makes the MMU of the model machine.
        peripherals: makes the devices that a simulator must provide.
        boot: how an image is built, and how the firmware enters it.
    """

    name: str
    title: str
    target: Target
    build: Callable[[Image], Hardware]
    ram: tuple[Region, ...]
    program_start: int
    program_end: int
    statics_base: int
    stack_top: int
    simulated_mmu: Callable[[SimulatedRam, Region], SimulatedMmu]
    peripherals: Callable[[Bus], tuple[Peripheral, ...]]
    boot: Boot

    def __post_init__(self) -> None:
        if not self.program_start <= self.statics_base < self.stack_top <= self.program_end:
            raise ValueError(
                f"{self.name}: statics_base {self.statics_base:#x} and stack_top "
                f"{self.stack_top:#x} must lie in this order within the program window "
                f"{self.program_start:#x} to {self.program_end:#x}"
            )

    @property
    def program(self) -> Region:
        """The program window."""
        return Region(self.program_start, self.program_end)
