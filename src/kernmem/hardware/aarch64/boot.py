"""How images for boards with AArch64 cores are built."""

from __future__ import annotations

from pathlib import Path

from kernmem.hardware.boot import Boot
from kernmem.hardware.devices.semihosting import QEMU_SEMIHOSTING


def aarch64_boot(
    *,
    image_name: str,
    entry_level: int,
    qemu: tuple[str, ...] | None = None,
    loads_elf: bool = False,
) -> Boot:
    """A board with AArch64 cores."""
    return Boot(
        sources=Path(__file__).parent,
        flags=(
            "-target",
            "aarch64-freestanding-none",
            "-mcpu=generic-neon-fp_armv8",  # Armv8.0; floating point is off
        ),
        # With the MMU off all memory is device memory, and an unaligned access to it faults.
        early_flags=("-mstrict-align",),
        image_name=image_name,
        entry_level=entry_level,
        qemu=None if qemu is None else (*qemu, *QEMU_SEMIHOSTING),
        loads_elf=loads_elf,
    )
