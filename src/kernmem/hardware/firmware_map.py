"""The memory map of a board whose firmware passes, in a register, where it left what it knows."""

from __future__ import annotations

from kernmem.language import PhysicalAddress, intrinsic
from kernmem.memory.architecture import MemoryMap


class FirmwareMap(MemoryMap):
    """RAM as the firmware tells it.

    Attributes:
        passed_to_model: what the firmware of the model machine passes.
    """

    passed_to_model = 0

    @intrinsic(c="extern const uintptr_t boot_argument;\nreturn boot_argument;")
    def passed(self) -> PhysicalAddress:
        """What the boot code was passed, and passed on to ``kernmem_start``."""
        return PhysicalAddress(self.passed_to_model)
