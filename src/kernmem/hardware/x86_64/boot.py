"""How images for boards with an x86-64 processor are built."""

from __future__ import annotations

from pathlib import Path

from kernmem.hardware.boot import Boot
from kernmem.hardware.x86_64 import BOOT_LINEAR_GIB


def x86_64_boot(*, image_name: str, levels: int = 4, qemu: tuple[str, ...] | None = None) -> Boot:
    """A board with an x86-64 processor, a PVH loader, and QEMU's isa-debug-exit."""
    return Boot(
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
        image_name=image_name,
        entry_level=0,
        qemu=qemu,
        qemu_status=_debug_exit_status,
        loads_elf=True,
        link_flags=("--emit-relocs",),  # by which calls are found: instructions vary in length
    )


def _debug_exit_status(status: int) -> int:
    """isa-debug-exit ends QEMU with status << 1 | 1; an even one means that it ended by itself."""
    return status >> 1 if status % 2 else status or 1
