"""The ports of x86: a second kind of addresses, for devices."""

from __future__ import annotations

from kernmem.hardware.devices.ns16550 import EMPTY
from kernmem.language import Component, VirtualAddress, intrinsic, u8


class Ports(Component):
    """A byte in or out; the model has a 16550 and nothing else at its ports."""

    c_module = "board"

    @intrinsic(
        x86_64=(
            "uint8_t value;\n"
            '__asm__ volatile("inb %1, %0" : "=a"(value) : "d"((uint16_t)address));\n'
            "return value;"
        )
    )
    def read_byte(self, address: VirtualAddress) -> u8:
        """Read a register; the model's is always ready."""
        return u8(EMPTY)

    @intrinsic(x86_64='__asm__ volatile("outb %0, %1" :: "a"(value), "d"((uint16_t)address));')
    def write_byte(self, address: VirtualAddress, value: u8) -> None:
        """Write a register; the model writes a character."""
        self.image.console(chr(int(value)))
