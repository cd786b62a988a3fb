"""What boards with an ARMv7 core, a PL011 console and semihosting have in common.

The syndrome of an expected fault is DFSR, its address DFAR.
"""

from __future__ import annotations

from kernmem.hardware.armv7.instructions import Instructions
from kernmem.hardware.probing import ProbingBoard
from kernmem.hardware.simulation import MachineExit
from kernmem.language import Image, VirtualAddress, intrinsic, kernel, u8, u32, u64
from kernmem.memory.architecture import Fault

UART_DATA = 0x00  # UARTDR (DDI 0183, 3.3.1)
UART_FLAGS = 0x18  # UARTFR (DDI 0183, 3.3.3)
UART_FULL = 1 << 5  # TXFF

# DFSR with short descriptors (DDI 0406, B3.13.3): the status is bits 10 and 3:0; of these faults
# bit 1 is the level.
STATUS = 1 << 10 | 0b1101
TRANSLATION_FAULT = 0b0101
PERMISSION_FAULT = 0b1101

EXIT = """uint32_t block[2] = {0x20026u, status};
register uint32_t operation __asm__("r0") = 0x20;
register uint32_t parameter __asm__("r1") = (uint32_t)(uintptr_t)block;
__asm__ volatile("svc #0x123456" : "+r"(operation) : "r"(parameter) : "memory", "lr");
for (;;) {
    __asm__ volatile("wfi");
}"""


class Armv7Board(ProbingBoard):
    """A board with a PL011, and a debugger or simulator that takes semihosting calls."""

    def __init__(self, image: Image, cpu: Instructions, uart: int) -> None:
        super().__init__(image)
        self.cpu = cpu
        self.uart = uart

    @kernel
    def put(self, character: u8) -> None:
        """Write one character to the console."""
        while self.cpu.read_register(VirtualAddress(self.uart + UART_FLAGS)) & UART_FULL != 0:
            pass
        self.cpu.write_register(VirtualAddress(self.uart + UART_DATA), u32(character))

    @intrinsic(armv7=EXIT)
    def exit(self, status: u32) -> None:
        """Leave the machine with an exit status; 0 is success.

        Semihosting (Arm IHI 0088): SYS_EXIT_EXTENDED, ADP_Stopped_ApplicationExit.
        """
        raise MachineExit(int(status))

    @kernel
    def fault(self, syndrome: u64) -> Fault:
        """What a syndrome means; 0 is no fault."""
        if syndrome == 0:
            return Fault.NONE
        status = syndrome & STATUS
        if status == TRANSLATION_FAULT:
            return Fault.NOT_MAPPED
        if status == PERMISSION_FAULT:
            return Fault.PERMISSION
        return Fault.OTHER

    @intrinsic(
        armv7=(
            "uint64_t value;\n"
            '__asm__ volatile("ldrd %0, %H0, [%1]" : "=r"(value) : "r"(address) : "memory");'
        )
    )
    def try_load(self, address: VirtualAddress) -> None:
        """Load 8 bytes in one instruction, and ignore them."""
        self.model_load(address)

    @intrinsic(
        armv7='__asm__ volatile("strd %0, %H0, [%1]" :: "r"(value), "r"(address) : "memory");'
    )
    def try_store(self, address: VirtualAddress, value: u64) -> None:
        """Store 8 bytes in one instruction."""
        self.model_store(address, value)
