"""Devices as simulators see them: loads and stores at physical addresses that answer."""

from __future__ import annotations

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
