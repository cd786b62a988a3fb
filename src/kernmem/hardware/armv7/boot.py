"""How code for ARMv7-A cores that divide, as a Cortex-A7 or A15 does, is compiled."""

from __future__ import annotations

from pathlib import Path

from kernmem.hardware.boot import Code

ARMV7 = Code(
    sources=Path(__file__).parent,
    flags=(
        "-target",
        "arm-freestanding-gnueabi",
        "-mcpu=cortex_a15+soft_float-neon",  # floating point is off
        "-fno-unwind-tables",
    ),
    # With the MMU off all memory is strongly ordered, and an unaligned access to it faults.
    early_flags=("-mno-unaligned-access",),
)
