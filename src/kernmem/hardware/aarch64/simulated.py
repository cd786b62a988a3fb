"""The simulated MMU of AArch64."""

from __future__ import annotations

from typing import Any

from kernmem.hardware.simulation import Access, SimulatedMmu, SimulatedRam, Translation
from kernmem.memory.architecture import Region


class SimulatedAarch64(SimulatedMmu):
    """Being written: addresses are not translated yet."""

    def __init__(self, ram: SimulatedRam, program: Region) -> None:
        self.enabled = False

    def execute(self, instruction: str, operand: int = 0) -> int:
        return 0

    def translate(
        self, address: int, access: Access, size: int = 1, *, user: bool = False
    ) -> Translation:
        return Translation(address, False, False)

    def before_store(self, physical: int, new: bytes) -> bool:
        return True

    def registers(self) -> dict[str, int]:
        return {}

    def snapshot(self) -> Any:
        return None

    def restore(self, state: Any) -> None:
        pass
