"""QEMU's isa-debug-exit, a port of a PC at which QEMU ends: the way out of an x86-64 kernel."""

from __future__ import annotations

from kernmem.hardware.simulation import MachineExit
from kernmem.language import Image, VirtualAddress, intrinsic, kernel, u32
from kernmem.memory.architecture import Power


def debug_exit_status(status: int) -> int:
    """What QEMU's own status says: status << 1 | 1, or an even one where it ended by itself."""
    return status >> 1 if status % 2 else status or 1


class DebugExit(Power):
    """The port, wherever it is."""

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
