"""How an image for a hardware is built, and how its firmware enters it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FREESTANDING = Path(__file__).parent
"""The folder of the C that every image needs, whatever the processor."""


@dataclass(frozen=True)
class Boot:
    """One hardware, seen by the one who builds and starts its images.

    Attributes:
        sources: the folder with ``boot.S``, ``vectors.S``, ``exception.c`` and ``kernel.ld``.
        flags: the C compiler's target and processor.
        early_flags: what code needs besides that runs before the MMU is on.
        image_name: what the firmware calls the file that it loads.
        stack_length: bytes of the program window that the linker must leave for the stack.
        entry_level: the privilege that the firmware leaves the kernel with; on AArch64 the
            exception level.
        qemu: the command line of a QEMU that imitates the board; None if there is none.
    """

    sources: Path
    flags: tuple[str, ...]
    early_flags: tuple[str, ...]
    image_name: str
    stack_length: int
    entry_level: int
    qemu: tuple[str, ...] | None


def aarch64_boot(*, image_name: str, entry_level: int, qemu: tuple[str, ...] | None = None) -> Boot:
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
        qemu=qemu,
    )
