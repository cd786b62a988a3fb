"""Arm's PL011 UART (DDI 0183), as far as a console goes."""

from __future__ import annotations

from collections.abc import Callable

from kernmem.hardware.devices.registers import DeviceRegisters
from kernmem.language import Image, VirtualAddress, kernel, u8, u32
from kernmem.memory.architecture import Console, Region

DATA = 0x00  # UARTDR (3.3.1)
FLAGS = 0x18  # UARTFR (3.3.3)
FULL = 1 << 5  # TXFF: the transmit FIFO is full


class Pl011(Console):
    """The driver; ``uart`` is the address of the registers."""

    c_module = "board"

    def __init__(self, image: Image, uart: int) -> None:
        super().__init__(image)
        self.registers = DeviceRegisters(image)
        self.uart = uart

    @kernel
    def put(self, character: u8) -> None:
        """Write one character to the console."""
        while self.registers.read_word(VirtualAddress(self.uart + FLAGS)) & FULL != 0:
            pass
        self.registers.write_word(VirtualAddress(self.uart + DATA), u32(character))


class SimulatedPl011:
    """What simulators have: it never makes the kernel wait."""

    def __init__(self, start: int, put: Callable[[str], None]) -> None:
        self.window = Region(start, start + 0x1000)
        self._put = put

    def load(self, offset: int, size: int) -> int:
        """All registers read as 0: there is room, and nothing was received."""
        return 0

    def store(self, offset: int, size: int, value: int) -> None:
        """A store to UARTDR is a character out."""
        if offset == DATA:
            self._put(chr(value & 0xFF))
