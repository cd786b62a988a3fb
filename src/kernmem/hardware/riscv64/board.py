"""A board with a RISC-V hart, a 16550 console and the test finisher of SiFive.

The syndrome of an expected fault is scause, its address stval.
"""

from __future__ import annotations

from kernmem.hardware.probing import ProbingBoard
from kernmem.hardware.riscv64.instructions import Instructions
from kernmem.hardware.simulation import MachineExit
from kernmem.language import (
    Image,
    PageFault,
    VirtualAddress,
    intrinsic,
    kernel,
    u8,
    u32,
    u64,
)
from kernmem.memory.architecture import Fault

# Registers of the 16550
TRANSMIT = 0  # THR
LINE_STATUS = 5  # LSR
TRANSMIT_EMPTY = 1 << 5  # THRE

# scause (Priv, "Supervisor Cause Register")
LOAD_PAGE_FAULT = 13
STORE_PAGE_FAULT = 15

# What a store to the test finisher means
FINISHER_PASS = 0x5555
FINISHER_FAIL = 0x3333  # with the status in bits 31:16

EXIT = f"""volatile uint32_t *finisher = (volatile uint32_t *)(uintptr_t)address;
*finisher = status == 0 ? {FINISHER_PASS:#x} : (status << 16 | {FINISHER_FAIL:#x});
for (;;) {{
    __asm__ volatile("wfi");
}}"""


class Riscv64Board(ProbingBoard):
    """A board with a 16550 whose registers are bytes, and a test finisher."""

    def __init__(self, image: Image, cpu: Instructions, uart: int, finisher: int) -> None:
        super().__init__(image)
        self.cpu = cpu
        self.uart = uart
        self.finisher = finisher

    @kernel
    def put(self, character: u8) -> None:
        """Write one character to the console."""
        while self.cpu.read_byte(VirtualAddress(self.uart + LINE_STATUS)) & TRANSMIT_EMPTY == 0:
            pass
        self.cpu.write_byte(VirtualAddress(self.uart + TRANSMIT), character)

    @kernel
    def exit(self, status: u32) -> None:
        """Leave the machine with an exit status; 0 is success."""
        self.finish(VirtualAddress(self.finisher), status)

    @intrinsic(riscv64=EXIT)
    def finish(self, address: VirtualAddress, status: u32) -> None:
        """Store the status to the test finisher, and wait for the end."""
        raise MachineExit(int(status))

    @kernel
    def probe_read(self, address: VirtualAddress) -> Fault:
        """Load 8 bytes at ``address`` and say what the MMU thought of it.

        The processor tells no reason.  But every page that :mod:`.entry` maps can be loaded from
        by the kernel, so a page that cannot is not mapped.
        """
        cause = self.syndrome_of_load(address)
        if cause == 0:
            return Fault.NONE
        return Fault.NOT_MAPPED if cause == LOAD_PAGE_FAULT else Fault.OTHER

    @kernel
    def probe_write(self, address: VirtualAddress, value: u64) -> Fault:
        """Store 8 bytes at ``address`` and say what the MMU thought of it.

        If it faulted, a load tells whether the page is there.
        """
        cause = self.syndrome_of_store(address, value)
        if cause == 0:
            return Fault.NONE
        if cause != STORE_PAGE_FAULT:
            return Fault.OTHER
        return Fault.PERMISSION if self.syndrome_of_load(address) == 0 else Fault.NOT_MAPPED

    @intrinsic(
        riscv64=(
            "uint64_t value;\n"
            '__asm__ volatile("ld %0, 0(%1)" : "=r"(value) : "r"(address) : "memory");'
        )
    )
    def try_load(self, address: VirtualAddress) -> None:
        """Load 8 bytes in one instruction, and ignore them."""
        self.model_load(address)

    @intrinsic(riscv64='__asm__ volatile("sd %0, 0(%1)" :: "r"(value), "r"(address) : "memory");')
    def try_store(self, address: VirtualAddress, value: u64) -> None:
        """Store 8 bytes in one instruction."""
        self.model_store(address, value)

    def _take(self, fault: PageFault) -> None:
        """What the trap vector does."""
        access_fault = 7 if fault.access == "write" else 5  # where there is nothing at all
        self.fault_syndrome[0] = u64(fault.syndrome or access_fault)
        self.fault_address[0] = u64(fault.address)
