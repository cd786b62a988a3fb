"""The instructions of RISC-V's supervisor mode that C has no words for."""

from __future__ import annotations

from kernmem.hardware.instructions import ProcessorInstructions, instruction, read, write
from kernmem.language import VirtualAddress, intrinsic, usize


class Instructions(ProcessorInstructions):
    """What the MMU's driver needs."""

    # Address translation (Priv, "Supervisor Memory-Management Fence Instruction") -----------

    sfence_all = instruction(
        "sfence.vma zero, zero",
        "Order the stores so far before all later walks; forget all entries of all levels.",
    )

    @intrinsic(riscv64='__asm__ volatile("sfence.vma %0, zero" :: "r"(address) : "memory");')
    def sfence_leaf(self, address: VirtualAddress) -> None:
        """The same for the leaf entries of one address, in every address space."""
        self._execute(f"sfence.vma {int(address):#x}, zero")

    @intrinsic(
        riscv64='__asm__ volatile("sfence.vma %0, %1" :: "r"(address), "r"(asid) : "memory");'
    )
    def sfence_page(self, address: VirtualAddress, asid: usize) -> None:
        """The same for the leaf entry of one address in one address space, unless it is global."""
        self._execute(f"sfence.vma {int(address):#x}, {int(asid):#x}")

    @intrinsic(riscv64='__asm__ volatile("sfence.vma zero, %0" :: "r"(asid) : "memory");')
    def sfence_space(self, asid: usize) -> None:
        """The same for all entries of one address space, but not for global ones."""
        self._execute(f"sfence.vma zero, {int(asid):#x}")

    # Registers ----------------------------------------------------------------------------

    write_satp = write(
        "csrw satp, %0",
        "The mode in bits 63:60, the ASID in 59:44, the root's page number in 43:0.",
    )
    read_satp = read("csrr %0, satp", "What of the last write to satp has had an effect.")
    set_sstatus = write("csrs sstatus, %0", "Set bits of the supervisor status register.")
