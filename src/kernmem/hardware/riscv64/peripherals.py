"""The devices of RISC-V boards, as simulators see them."""

from __future__ import annotations

from collections.abc import Callable

from kernmem.hardware.riscv64.board import (
    FINISHER_FAIL,
    FINISHER_PASS,
    LINE_STATUS,
    TRANSMIT,
    TRANSMIT_EMPTY,
)
from kernmem.hardware.simulation import MachineExit
from kernmem.memory.architecture import Region


class Ns16550:
    """National Semiconductor's 16550 UART, as far as a console goes: it is always ready."""

    def __init__(self, start: int, put: Callable[[str], None]) -> None:
        self.window = Region(start, start + 0x100)
        self._put = put

    def load(self, offset: int, size: int) -> int:
        """There is room for a character, and none was received."""
        return TRANSMIT_EMPTY if offset == LINE_STATUS else 0

    def store(self, offset: int, size: int, value: int) -> None:
        """A store to THR is a character out."""
        if offset == TRANSMIT:
            self._put(chr(value & 0xFF))


class TestFinisher:
    """SiFive's test device: a store ends the run."""

    def __init__(self, start: int) -> None:
        self.window = Region(start, start + 0x1000)

    def load(self, offset: int, size: int) -> int:
        """Nothing is there to be read."""
        return 0

    def store(self, offset: int, size: int, value: int) -> None:
        """The low half says whether all went well, the high half gives the status."""
        if offset == 0 and value & 0xFFFF == FINISHER_PASS:
            raise MachineExit(0)
        if offset == 0 and value & 0xFFFF == FINISHER_FAIL:
            raise MachineExit(value >> 16)
