"""National Semiconductor's 16550 UART, as far as a console goes; its registers are bytes."""

from __future__ import annotations

from collections.abc import Callable

from kernmem.hardware.devices.registers import ByteRegisters
from kernmem.language import Image, VirtualAddress, kernel, u8
from kernmem.memory.architecture import Console, Region

TRANSMIT = 0  # THR (its data sheet, table 4)
LINE_STATUS = 5  # LSR
EMPTY = 1 << 5  # THRE: there is room for a character


class Ns16550(Console):
    """The driver; ``uart`` is the address of the registers, or the first port."""

    c_module = "board"

    def __init__(self, image: Image, registers: ByteRegisters, uart: int) -> None:
        super().__init__(image)
        self.registers = registers
        self.uart = uart

    @kernel
    def put(self, character: u8) -> None:
        """Write one character to the console."""
        while self.registers.read_byte(VirtualAddress(self.uart + LINE_STATUS)) & EMPTY == 0:
            pass
        self.registers.write_byte(VirtualAddress(self.uart + TRANSMIT), character)


class SimulatedNs16550:
    """What simulators have: it never makes the kernel wait."""

    def __init__(self, start: int, put: Callable[[str], None]) -> None:
        self.window = Region(start, start + 0x100)
        self._put = put

    def load(self, offset: int, size: int) -> int:
        """There is room for a character, and none was received."""
        return EMPTY if offset == LINE_STATUS else 0

    def store(self, offset: int, size: int, value: int) -> None:
        """A store to THR is a character out."""
        if offset == TRANSMIT:
            self._put(chr(value & 0xFF))
