"""The instructions of a processor that C has no words for, as each architecture lists them."""

from __future__ import annotations

from typing import cast

from kernmem.hardware.simulation import SimulatedMmu
from kernmem.language import Component


class ProcessorInstructions(Component):
    """One method an instruction; the model's MMU executes it by the manual's name."""

    c_module = "virtual"

    def _execute(self, instruction: str, operand: int = 0) -> int:
        mmu: SimulatedMmu = cast("_Simulated", self.image.memory).mmu
        return mmu.execute(instruction, operand)


class _Simulated:
    """The memory of the model machine, which has an MMU."""

    mmu: SimulatedMmu
