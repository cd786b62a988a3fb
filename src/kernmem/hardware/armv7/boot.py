"""How images for boards with an ARMv7-A core are built."""

from __future__ import annotations

from pathlib import Path

from kernmem.hardware.boot import Boot
from kernmem.hardware.devices.semihosting import QEMU_SEMIHOSTING


def armv7_boot(*, image_name: str, qemu: tuple[str, ...] | None = None) -> Boot:
    """A board with an ARMv7-A core that divides, as a Cortex-A7 or A15 does."""
    return Boot(
        sources=Path(__file__).parent,
        flags=(
            "-target",
            "arm-freestanding-gnueabi",
            "-mcpu=cortex_a15+soft_float-neon",  # floating point is off
            "-fno-unwind-tables",
        ),
        # With the MMU off all memory is strongly ordered, and an unaligned access to it faults.
        early_flags=("-mno-unaligned-access",),
        image_name=image_name,
        entry_level=1,
        qemu=None if qemu is None else (*qemu, *QEMU_SEMIHOSTING),
        loads_elf=True,
    )
