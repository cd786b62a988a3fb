"""The property mailbox of a Raspberry Pi: questions to the VideoCore, which owns the RAM.

Source: the BCM2835 firmware wiki, "Accessing mailboxes" and "Mailbox property interface".
"""

from __future__ import annotations

from kernmem.hardware.aarch64.instructions import Instructions
from kernmem.hardware.devices.registers import DeviceRegisters
from kernmem.hardware.peripherals import Bus
from kernmem.language import (
    Component,
    Image,
    VirtualAddress,
    address_of,
    kernel,
    panic,
    u32,
    u64,
)
from kernmem.memory.architecture import Region

READ, READ_STATUS, WRITE, WRITE_STATUS = 0x00, 0x18, 0x20, 0x38
FULL = 1 << 31
EMPTY = 1 << 30
PROPERTIES = 8  # the channel that answers questions
GET_ARM_MEMORY = 0x0001_0005
SUCCESS = 0x8000_0000
FAILURE = 0x8000_0001


class Mailbox(Component):
    """The driver; ``start`` is the address of the registers."""

    c_module = "physical"

    def __init__(self, image: Image, cpu: Instructions, start: int) -> None:
        super().__init__(image)
        self.cpu = cpu
        self.registers = DeviceRegisters(image)
        self.start = start
        self.message = self.static_array(u32, 8, "mailbox_message", alignment=64)

    @kernel
    def memory_end(self) -> u64:
        """The end of the Arm's memory, asked through the property mailbox."""
        self.message[0] = u32(32)  # bytes of this message
        self.message[1] = u32(0)  # a request
        self.message[2] = u32(GET_ARM_MEMORY)
        self.message[3] = u32(8)  # bytes of room for the answer
        self.message[4] = u32(0)
        self.message[5] = u32(0)  # answer: the base
        self.message[6] = u32(0)  # answer: the length
        self.message[7] = u32(0)  # no further tags
        address = u32(u64(address_of(self.message)))
        self.cpu.dsb_sy()
        while self.registers.read_word(VirtualAddress(self.start + WRITE_STATUS)) & FULL != 0:
            pass
        self.registers.write_word(VirtualAddress(self.start + WRITE), address | PROPERTIES)
        while True:
            while self.registers.read_word(VirtualAddress(self.start + READ_STATUS)) & EMPTY != 0:
                pass
            if self.registers.read_word(VirtualAddress(self.start + READ)) == address | PROPERTIES:
                break
        self.cpu.dsb_sy()
        status = self.message[1]
        if status != SUCCESS:
            panic(f"the firmware answered {status:#x} when asked for the memory's length")
        return u64(self.message[5]) + u64(self.message[6])


class SimulatedMailbox:
    """What simulators have: one that answers the question for the Arm's memory, at once."""

    def __init__(self, start: int, bus: Bus, memory: Region) -> None:
        self.window = Region(start, start + 0x40)
        self._bus = bus
        self._memory = memory
        self._answers: list[int] = []

    def load(self, offset: int, size: int) -> int:
        """Read an answer, or whether there is one."""
        if offset == READ:
            return self._answers.pop(0) if self._answers else 0
        if offset == READ_STATUS:
            return 0 if self._answers else EMPTY
        return 0

    def store(self, offset: int, size: int, value: int) -> None:
        """A message's address, its low 4 bits the channel: answered in place, at once."""
        if offset == WRITE:
            self._answer(value & ~0xF)
            self._answers.append(value)

    def _answer(self, message: int) -> None:
        """Message: size, status, then tags of (tag, room, length, values…), then 0."""

        def word(index: int) -> int:
            return self._bus.load_physical(message + 4 * index, 4)

        def write(index: int, value: int) -> None:
            self._bus.store_physical(message + 4 * index, 4, value)

        status = SUCCESS
        tag = 2
        while word(tag):
            if word(tag) == GET_ARM_MEMORY:
                write(tag + 2, SUCCESS | 8)
                write(tag + 3, self._memory.start)
                write(tag + 4, self._memory.end - self._memory.start)
            else:
                status = FAILURE
            tag += 3 + word(tag + 1) // 4
        write(1, status)
