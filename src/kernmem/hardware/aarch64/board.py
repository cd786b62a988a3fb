"""What boards with an AArch64 core, a PL011 console and semihosting have in common.

The syndrome of an expected fault is ESR_EL1, its address FAR_EL1.
"""

from __future__ import annotations

from kernmem.hardware.aarch64.instructions import Instructions
from kernmem.hardware.probing import ProbingBoard
from kernmem.hardware.simulation import MachineExit
from kernmem.language import (
    Image,
    PhysicalAddress,
    VirtualAddress,
    intrinsic,
    kernel,
    u8,
    u32,
    u64,
)
from kernmem.memory.architecture import Fault, MemoryMap, Region

UART_DATA = 0x00  # UARTDR (DDI 0183, 3.3.1)
UART_FLAGS = 0x18  # UARTFR (DDI 0183, 3.3.3)
UART_FULL = 1 << 5  # TXFF

# ESR_EL1 (DDI 0487, D23.2.37): bits 31:26 the class, 5:0 the fault status, whose two lowest
# bits are the level.
DATA_ABORT = 0b100101  # taken from the same exception level
TRANSLATION_FAULT = 0b0001
PERMISSION_FAULT = 0b0011

EXIT = """uint64_t block[2] = {0x20026u, status};
register uint64_t operation __asm__("x0") = 0x20;
register uint64_t parameter __asm__("x1") = (uint64_t)(uintptr_t)block;
__asm__ volatile("hlt #0xf000" : "+r"(operation) : "r"(parameter) : "memory");
for (;;) {
    __asm__ volatile("wfi");
}"""


class Aarch64Board(ProbingBoard):
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

    @intrinsic(aarch64=EXIT, host="kernmem_host_exit(status);")
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
        if syndrome >> 26 != DATA_ABORT:
            return Fault.OTHER
        kind = syndrome % 64 >> 2
        if kind == TRANSLATION_FAULT:
            return Fault.NOT_MAPPED
        if kind == PERMISSION_FAULT:
            return Fault.PERMISSION
        return Fault.OTHER

    @intrinsic(
        aarch64=(
            "uint64_t value;\n"
            '__asm__ volatile("ldr %0, [%1]" : "=r"(value) : "r"(address) : "memory");'
        ),
        host="kernmem_host_probe_read((uint64_t)address);",
    )
    def try_load(self, address: VirtualAddress) -> None:
        """Load 8 bytes in one instruction, and ignore them."""
        self.model_load(address)

    @intrinsic(
        aarch64='__asm__ volatile("str %0, [%1]" :: "r"(value), "r"(address) : "memory");',
        host="kernmem_host_probe_write((uint64_t)address, value);",
    )
    def try_store(self, address: VirtualAddress, value: u64) -> None:
        """Store 8 bytes in one instruction."""
        self.model_store(address, value)


class FixedMap(MemoryMap):
    """A board whose memory is known when the kernel is built."""

    c_module = "physical"

    def __init__(
        self,
        image: Image,
        *,
        program: Region,
        ram: Region,
        devices: tuple[Region, ...],
        linear: Region,
        segment: Region,
    ) -> None:
        super().__init__(image)
        self.devices = devices
        self.linear_start = linear.start
        self.linear_end = linear.end
        self.segment_start = segment.start
        self.segment_end = segment.end
        self.program_start = program.start
        self.window_end = program.end
        self.ram_start = ram.start
        self.ram_end = ram.end

    @kernel
    def program_end(self) -> PhysicalAddress:
        """The first byte after the kernel image, its stack and its variables."""
        return PhysicalAddress(self.window_end)

    @kernel
    def report(self) -> None:
        """One range of RAM."""
        self.ranges.add_ram(u64(self.ram_start), u64(self.ram_end))
