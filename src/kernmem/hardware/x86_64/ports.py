"""The ports of x86: a second kind of addresses, for devices."""

from __future__ import annotations

from kernmem.hardware.devices.ns16550 import EMPTY
from kernmem.hardware.simulation import MachineExit
from kernmem.language import Component, Image, VirtualAddress, intrinsic, kernel, u8, u32
from kernmem.memory.architecture import Power


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


class DebugExit(Power):
    """QEMU's isa-debug-exit: QEMU ends with status << 1 | 1."""

    c_module = "board"

    def __init__(self, image: Image, port: int) -> None:
        super().__init__(image)
        self.port = port

    @kernel
    def exit(self, status: u32) -> None:
        """Leave the machine with an exit status; 0 is success."""
        self.finish(VirtualAddress(self.port), status)

    @intrinsic(
        x86_64=(
            '__asm__ volatile("outl %0, %1" :: "a"(status), "d"((uint16_t)port));\n'
            'for (;;) {\n    __asm__ volatile("hlt");\n}'
        )
    )
    def finish(self, port: VirtualAddress, status: u32) -> None:
        """Write the status to the port, and wait for the end."""
        raise MachineExit(int(status))
