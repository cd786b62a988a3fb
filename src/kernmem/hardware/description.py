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
        program: the window that the linker script reserves for code, statics and, going down
            from its end, the stack.  It is a fixed one, so that the physical heap begins at the
            same page on every machine.
        simulated_mmu: makes the MMU of the model machine.
        peripherals: makes the devices that a simulator must provide.
        boot: how an image is built, and how the firmware enters it.
    """

    name: str
    title: str
    target: Target
    build: Callable[[Image], Hardware]
    ram: tuple[Region, ...]
    program: Region
    simulated_mmu: Callable[[SimulatedRam, Region], SimulatedMmu]
    peripherals: Callable[[Bus], tuple[Peripheral, ...]]
    boot: Boot

    @property
    def statics_base(self) -> int:
        """Where the model, which has no code, puts statics: in the middle of the window."""
        return (self.program.start + self.program.end) // 2
