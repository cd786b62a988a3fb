"""SiFive's test finisher: a store to it ends the run of a simulator."""

from __future__ import annotations

from kernmem.hardware.devices.registers import DeviceRegisters
from kernmem.hardware.simulation import MachineExit
from kernmem.language import Image, VirtualAddress, kernel, u32
from kernmem.memory.architecture import Power, Region

PASS = 0x5555
FAIL = 0x3333  # with the status in bits 31:16


class Finisher(Power):
    """The driver; ``finisher`` is the address of the register."""

    c_module = "board"

    def __init__(self, image: Image, finisher: int) -> None:
        super().__init__(image)
        self.registers = DeviceRegisters(image)
        self.finisher = finisher

    @kernel
    def exit(self, status: u32) -> None:
        """Leave the machine with an exit status; 0 is success."""
        verdict = u32(PASS) if status == 0 else status << 16 | FAIL
        self.registers.write_word(VirtualAddress(self.finisher), verdict)
        while True:
            pass


class SimulatedFinisher:
    """What simulators have."""

    def __init__(self, start: int) -> None:
        self.window = Region(start, start + 0x1000)

    def load(self, offset: int, size: int) -> int:
        """Nothing is there to be read."""
        return 0

    def store(self, offset: int, size: int, value: int) -> None:
        """The low half says whether all went well, the high half gives the status."""
        if offset == 0 and value & 0xFFFF == PASS:
            raise MachineExit(0)
        if offset == 0 and value & 0xFFFF == FAIL:
            raise MachineExit(value >> 16)
