"""How an image for a hardware is built, and how its firmware enters it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kernmem.hardware.x86_64 import BOOT_LINEAR_GIB

FREESTANDING = Path(__file__).parent
"""The folder of the C and the linker script that every image needs, whatever the processor."""


@dataclass(frozen=True)
class Boot:
    """One hardware, seen by the one who builds and starts its images.

    Attributes:
        sources: the folder with ``boot.S``, ``vectors.S`` and ``exception.c``.
        flags: the C compiler's target and processor.
        early_flags: what code needs besides that runs before the MMU is on.
        image_name: what the firmware calls the file that it loads.
        stack_length: bytes of the program window that the linker must leave for the stack.
        entry_level: the privilege that the firmware leaves the kernel with; on AArch64 the
            exception level.
        arguments: what the firmware passes in the first registers of the calling convention.
        qemu: the command line of a QEMU that imitates the board; None if there is none.
        qemu_status: what QEMU's exit status says about the kernel's.
        loads_elf: whether the firmware loads the ELF file, not the bytes that it describes.
        link_flags: what the linker needs besides the script.
    """

    sources: Path
    flags: tuple[str, ...]
    early_flags: tuple[str, ...]
    image_name: str
    stack_length: int
    entry_level: int
    qemu: tuple[str, ...] | None
    qemu_status: Callable[[int], int] = int
    loads_elf: bool = False
    link_flags: tuple[str, ...] = ()
    arguments: tuple[int, ...] = ()


SEMIHOSTING = ("-semihosting-config", "enable=on,target=native")  # how kernels for Arm exit


def aarch64_boot(
    *,
    image_name: str,
    entry_level: int,
    qemu: tuple[str, ...] | None = None,
    loads_elf: bool = False,
) -> Boot:
    """A board with AArch64 cores."""
    return Boot(
        sources=Path(__file__).parent / "aarch64",
        flags=(
            "-target",
            "aarch64-freestanding-none",
            "-mcpu=generic-neon-fp_armv8",  # Armv8.0; floating point is off
        ),
        # With the MMU off all memory is device memory, and an unaligned access to it faults.
        early_flags=("-mstrict-align",),
        image_name=image_name,
        stack_length=0x1_0000,
        entry_level=entry_level,
        qemu=None if qemu is None else (*qemu, *SEMIHOSTING),
        loads_elf=loads_elf,
    )


def armv7_boot(*, image_name: str, qemu: tuple[str, ...] | None = None) -> Boot:
    """A board with an ARMv7-A core that divides, as a Cortex-A7 or A15 does."""
    return Boot(
        sources=Path(__file__).parent / "armv7",
        flags=(
            "-target",
            "arm-freestanding-gnueabi",
            "-mcpu=cortex_a15+soft_float-neon",  # floating point is off
            "-fno-unwind-tables",
        ),
        # With the MMU off all memory is strongly ordered, and an unaligned access to it faults.
        early_flags=("-mno-unaligned-access",),
        image_name=image_name,
        stack_length=0x1_0000,
        entry_level=1,
        qemu=None if qemu is None else (*qemu, *SEMIHOSTING),
        loads_elf=True,
    )


def x86_64_boot(*, image_name: str, levels: int = 4, qemu: tuple[str, ...] | None = None) -> Boot:
    """A board with an x86-64 processor, a PVH loader, and QEMU's isa-debug-exit."""
    return Boot(
        sources=Path(__file__).parent / "x86_64",
        flags=(
            "-target",
            "x86_64-freestanding-none",
            # What every one has; but vector and floating point registers are off.
            "-mcpu=x86_64-mmx-sse-sse2-x87+soft_float",
            "-mno-red-zone",  # so that a debugger, or a nested handler, may use the stack
            "-fno-pic",
            f"-DPAGING_LEVELS={levels}",  # boot.S chooses them, once for all
            f"-DLINEAR_GIB={BOOT_LINEAR_GIB}",
        ),
        early_flags=(),
        image_name=image_name,
        stack_length=0x1_0000,
        entry_level=0,
        qemu=qemu,
        qemu_status=_debug_exit_status,
        loads_elf=True,
        link_flags=("--emit-relocs",),  # by which calls are found: instructions vary in length
    )


def _debug_exit_status(status: int) -> int:
    """isa-debug-exit ends QEMU with status << 1 | 1; an even one means that it ended by itself."""
    return status >> 1 if status % 2 else status or 1
