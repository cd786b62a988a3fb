"""How code for an x86-64 processor is compiled."""

from __future__ import annotations

from pathlib import Path

from kernmem.hardware.boot import Code
from kernmem.hardware.x86_64 import BOOT_LINEAR_GIB


def x86_64(levels: int) -> Code:
    """For paging with so many levels."""
    return Code(
        sources=Path(__file__).parent,
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
        link_flags=("--emit-relocs",),  # by which calls are found: instructions vary in length
    )
