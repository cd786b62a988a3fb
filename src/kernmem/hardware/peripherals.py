"""Devices as simulators see them: loads and stores at physical addresses that answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from kernmem.memory.architecture import Region


class Bus(Protocol):
    """What a device may reach: the RAM, by physical address, and the console."""

    def load_physical(self, address: int, size: int) -> int:
        """Load ``size`` bytes, little-endian."""

    def store_physical(self, address: int, size: int, value: int) -> None:
        """Store ``size`` bytes, little-endian."""

    def write_console(self, text: str) -> None:
        """Add ``text`` to the console."""


class Peripheral(Protocol):
    """A device behind a range of physical addresses."""

    @property
    def window(self) -> Region:
        """The addresses that it answers."""

    def load(self, offset: int, size: int) -> int:
        """The answer to a load at ``offset`` into the window."""

    def store(self, offset: int, size: int, value: int) -> None:
        """What a store at ``offset`` into the window does."""


class Pl011:
    """Arm's PL011 UART (DDI 0183), as far as a console goes: it never makes the kernel wait."""

    DATA = 0x00  # UARTDR
    FLAGS = 0x18  # UARTFR; bit 5 TXFF: the transmit FIFO is full

    def __init__(self, start: int, put: Callable[[str], None]) -> None:
        self.window = Region(start, start + 0x1000)
        self._put = put

    def load(self, offset: int, size: int) -> int:
        """All registers read as 0: there is room, and nothing was received."""
        return 0

    def store(self, offset: int, size: int, value: int) -> None:
        """A store to UARTDR is a character out."""
        if offset == self.DATA:
            self._put(chr(value & 0xFF))


class VideoCoreMailbox:
    """The Raspberry Pi's property mailbox, answering the question for the Arm's memory.

    Source: the firmware wiki, "Mailbox property interface"; tag 0x00010005, channel 8.
    """

    READ, READ_STATUS, WRITE, WRITE_STATUS = 0x00, 0x18, 0x20, 0x38
    EMPTY = 1 << 30
    GET_ARM_MEMORY = 0x0001_0005
    SUCCESS = 0x8000_0000
    FAILURE = 0x8000_0001

    def __init__(self, start: int, bus: Bus, memory: Region) -> None:
        self.window = Region(start, start + 0x40)
        self._bus = bus
        self._memory = memory
        self._answers: list[int] = []

    def load(self, offset: int, size: int) -> int:
        """Read an answer, or whether there is one."""
        if offset == self.READ:
            return self._answers.pop(0) if self._answers else 0
        if offset == self.READ_STATUS:
            return 0 if self._answers else self.EMPTY
        return 0

    def store(self, offset: int, size: int, value: int) -> None:
        """A message's address, its low 4 bits the channel: answered in place, at once."""
        if offset == self.WRITE:
            self._answer(value & ~0xF)
            self._answers.append(value)

    def _answer(self, message: int) -> None:
        """Message: size, status, then tags of (tag, room, length, values…), then 0."""

        def word(index: int) -> int:
            return self._bus.load_physical(message + 4 * index, 4)

        def write(index: int, value: int) -> None:
            self._bus.store_physical(message + 4 * index, 4, value)

        status = self.SUCCESS
        tag = 2
        while word(tag):
            if word(tag) == self.GET_ARM_MEMORY:
                write(tag + 2, self.SUCCESS | 8)
                write(tag + 3, self._memory.start)
                write(tag + 4, self._memory.end - self._memory.start)
            else:
                status = self.FAILURE
            tag += 3 + word(tag + 1) // 4
        write(1, status)
