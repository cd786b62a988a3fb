"""How code for a 64-bit RISC-V hart is compiled."""

from __future__ import annotations

from pathlib import Path

from kernmem.hardware.boot import Code

RISCV64 = Code(
    sources=Path(__file__).parent,
    flags=(
        "-target",
        "riscv64-freestanding-none",
        "-mcpu=generic_rv64+m+a+c",  # what every one that runs Linux has; floating point is off
        "-mcmodel=medany",  # the program lies above 2 GiB
    ),
)
