"""The hardware that kernmem runs on.  To add one: a folder or file here, and a line below."""

from __future__ import annotations

from kernmem.hardware.armv7_virt import ARMV7_VIRT
from kernmem.hardware.description import HardwareDescription
from kernmem.hardware.lab import LAB
from kernmem.hardware.pc import PC, PC_LA57
from kernmem.hardware.riscv_virt import (
    RISCV_VIRT,
    RISCV_VIRT_MMODE,
    RISCV_VIRT_SV48,
    RISCV_VIRT_SV57,
)
from kernmem.hardware.rpi3 import RPI3
from kernmem.hardware.virt import VIRT, VIRT_16K, VIRT_64K

BOARDS = (
    RPI3,
    LAB,
    VIRT,
    VIRT_16K,
    VIRT_64K,
    ARMV7_VIRT,
    PC,
    PC_LA57,
    RISCV_VIRT,
    RISCV_VIRT_SV48,
    RISCV_VIRT_SV57,
    RISCV_VIRT_MMODE,
)

HARDWARE: dict[str, HardwareDescription] = {each.name: each for each in BOARDS}


def find(name: str) -> HardwareDescription:
    """The hardware called ``name``."""
    try:
        return HARDWARE[name]
    except KeyError:
        known = ", ".join(HARDWARE)
        raise ValueError(f"hardware must be one of {known}, not {name!r}") from None


__all__ = ["HARDWARE", "HardwareDescription", "find"]
