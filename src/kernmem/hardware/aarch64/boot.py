"""How code for AArch64 cores is compiled."""

from __future__ import annotations

from pathlib import Path

from kernmem.hardware.boot import Code

AARCH64 = Code(
    sources=Path(__file__).parent,
    flags=(
        "-target",
        "aarch64-freestanding-none",
        "-mcpu=generic-neon-fp_armv8",  # Armv8.0; floating point is off
    ),
    # With the MMU off all memory is device memory, and an unaligned access to it faults.
    early_flags=("-mstrict-align",),
)
