"""What surrounds the processor in Unicorn: the RAM and the devices of a hardware."""

from __future__ import annotations

from typing import Any

from kernmem.hardware import HardwareDescription
from kernmem.hardware.peripherals import Peripheral
from kernmem.machine.console import Console
from kernmem.machine.ram import Ram

PAGE = 0x1000
"""The engine maps devices in units of this many bytes."""


class UnicornBoard:
    """A hardware's RAM and devices, connected to an engine.

    Attributes:
        console: takes what the kernel writes.
        ram: one for each region of the hardware.
    """

    def __init__(self, engine: Any, hardware: HardwareDescription, console: Console) -> None:
        self.console = console
        self.ram = tuple(Ram(region.start, region.end - region.start) for region in hardware.ram)
        for ram in self.ram:
            engine.mem_map_ptr(ram.start, ram.length, 7, ram.pointer())
        for device in hardware.peripherals(self):
            _connect(engine, device)

    def ram_at(self, address: int) -> Ram:
        """The RAM that holds a physical address; if none does, the first, which will say so."""
        for ram in self.ram:
            if ram.start <= address < ram.end:
                return ram
        return self.ram[0]

    def close(self) -> None:
        """Give the RAM back."""
        for ram in self.ram:
            ram.close()

    # What the devices may reach -------------------------------------------------------------

    def load_physical(self, address: int, size: int) -> int:
        """Load ``size`` bytes, little-endian."""
        return int.from_bytes(self.ram_at(address).read(address, size), "little")

    def store_physical(self, address: int, size: int, value: int) -> None:
        """Store ``size`` bytes, little-endian."""
        self.ram_at(address).write(address, value.to_bytes(size, "little"))

    def write_console(self, text: str) -> None:
        """Add ``text`` to the console."""
        self.console.write(text)


def _connect(engine: Any, device: Peripheral) -> None:
    window = device.window
    base = window.start - window.start % PAGE
    length = window.end - base + -(window.end - base) % PAGE

    def load(_engine: Any, offset: int, size: int, _data: Any) -> int:
        return device.load(base + offset - window.start, size)

    def store(_engine: Any, offset: int, size: int, value: int, _data: Any) -> None:
        device.store(base + offset - window.start, size, value)

    engine.mmio_map(base, length, load, None, store, None)
