"""Loads and stores that may fault, in RISC-V: the syndrome is scause, the address stval."""

from __future__ import annotations

from kernmem.hardware.probing import VectorProbe, load, store
from kernmem.language import PageFault, VirtualAddress, kernel, u64
from kernmem.memory.architecture import Fault


class Riscv64Probe(VectorProbe):
    """The processor tells no reason.

    But every page that :mod:`.entry` maps can be loaded from by the kernel: so a page that cannot
    is not mapped, and where a store faulted, a load tells.
    """

    syndrome_mask = (1 << 64) - 1
    not_mapped = 13  # load page fault (Priv, "Supervisor Cause Register")
    forbidden = 15  # store page fault

    try_load = load("ld %0, 0(%1)")
    try_store = store("sd %0, 0(%1)")

    @kernel
    def write(self, address: VirtualAddress, value: u64) -> Fault:
        """Store 8 bytes at ``address`` and say what the MMU thought of it."""
        fault = self.fault(self.syndrome_of_store(address, value))
        if fault == Fault.PERMISSION and self.syndrome_of_load(address) != 0:
            return Fault.NOT_MAPPED
        return fault

    def _take(self, fault: PageFault) -> None:
        """What the trap vector does."""
        access_fault = 7 if fault.access == "write" else 5  # where there is nothing at all
        self.fault_syndrome[0] = u64(fault.syndrome or access_fault)
        self.fault_address[0] = u64(fault.address)
