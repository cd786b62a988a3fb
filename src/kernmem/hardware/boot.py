"""How an image for a hardware is built, and how its firmware enters it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FREESTANDING = Path(__file__).parent
"""The folder of the C and the linker script that every image needs, whatever the processor."""


@dataclass(frozen=True)
class Code:
    """How code for an architecture is compiled.

    Attributes:
        sources: the folder with ``boot.S``, ``vectors.S`` and ``exception.c``.
        flags: the C compiler's target and processor.
        early_flags: what code needs besides that runs before the MMU is on.
        link_flags: what the linker needs besides the script.
    """

    sources: Path
    flags: tuple[str, ...]
    early_flags: tuple[str, ...] = ()
    link_flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Boot:
    """One board, seen by the one who builds and starts its images.

    Attributes:
        code: how they are compiled.
        image_name: what the firmware calls the file that it loads.
        entry_level: the privilege that the firmware leaves the kernel with; on AArch64 the
            exception level.
        arguments: what the firmware passes in the first registers of the calling convention.
        qemu: the command line of a QEMU that imitates the board; None if there is none.
        stack_length: bytes of the program window that the linker must leave for the stack.
        qemu_status: what QEMU's exit status says about the kernel's.
        loads_elf: whether the firmware loads the ELF file, not the bytes that it describes.
    """

    code: Code
    image_name: str
    entry_level: int
    arguments: tuple[int, ...] = ()
    qemu: tuple[str, ...] | None = None
    stack_length: int = 0x1_0000
    qemu_status: Callable[[int], int] = int
    loads_elf: bool = False
