"""A board with a RISC-V hart, a 16550 console and the test finisher of SiFive.

**Expected faults.**  A probe sets ``fault_expected`` to 1, then executes one load or store.  If
that faults, the trap vector finds ``fault_expected`` set, puts scause into ``fault_syndrome`` and
stval into ``fault_address``, and returns to the instruction after the one that faulted.  All three
are 8 bytes.  (No fault of a load or store has the cause 0.)
"""

from __future__ import annotations

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
from kernmem.memory.architecture import Board, Fault

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


class Riscv64Board(Board):
    """A board with a 16550 whose registers are bytes, and a test finisher."""

    c_module = "board"

    def __init__(self, image: Image, cpu: Instructions, uart: int, finisher: int) -> None:
        super().__init__(image)
        self.cpu = cpu
        self.uart = uart
        self.finisher = finisher
        self.fault_expected = self.static_array(u64, 1, "fault_expected")
        self.fault_syndrome = self.static_array(u64, 1, "fault_syndrome")
        self.fault_address = self.static_array(u64, 1, "fault_address")

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
        cause = self.cause_of_load(address)
        if cause == 0:
            return Fault.NONE
        return Fault.NOT_MAPPED if cause == LOAD_PAGE_FAULT else Fault.OTHER

    @kernel
    def probe_write(self, address: VirtualAddress, value: u64) -> Fault:
        """Store 8 bytes at ``address`` and say what the MMU thought of it.

        If it faulted, a load tells whether the page is there.
        """
        self.expect_fault()
        self.try_store(address, value)
        cause = self.fault_met()
        if cause == 0:
            return Fault.NONE
        if cause != STORE_PAGE_FAULT:
            return Fault.OTHER
        return Fault.PERMISSION if self.cause_of_load(address) == 0 else Fault.NOT_MAPPED

    @kernel
    def cause_of_load(self, address: VirtualAddress) -> u64:
        """What a load of 8 bytes meets: a cause, or 0."""
        self.expect_fault()
        self.try_load(address)
        return self.fault_met()

    @kernel
    def expect_fault(self) -> None:
        """Until :meth:`fault_met`, a fault of a load or store is an answer, not an error."""
        self.fault_syndrome[0] = u64(0)
        self.fault_address[0] = u64(0)
        self.fault_expected[0] = u64(1)

    @kernel
    def fault_met(self) -> u64:
        """The cause of the fault since :meth:`expect_fault`; 0 if there was none."""
        self.fault_expected[0] = u64(0)
        return self.fault_syndrome[0]

    @intrinsic(
        riscv64=(
            "uint64_t value;\n"
            '__asm__ volatile("ld %0, 0(%1)" : "=r"(value) : "r"(address) : "memory");'
        )
    )
    def try_load(self, address: VirtualAddress) -> None:
        """Load 8 bytes in one instruction, and ignore them."""
        try:
            self.image.memory.loader(8)(int(address))
        except PageFault as fault:
            self._take(fault)

    @intrinsic(riscv64='__asm__ volatile("sd %0, 0(%1)" :: "r"(value), "r"(address) : "memory");')
    def try_store(self, address: VirtualAddress, value: u64) -> None:
        """Store 8 bytes in one instruction."""
        try:
            self.image.memory.storer(8)(int(address), int(value))
        except PageFault as fault:
            self._take(fault)

    def _take(self, fault: PageFault) -> None:
        """What the trap vector does."""
        access_fault = 7 if fault.access == "write" else 5  # where there is nothing at all
        self.fault_syndrome[0] = u64(fault.syndrome or access_fault)
        self.fault_address[0] = u64(fault.address)
