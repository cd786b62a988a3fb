"""The instructions of RISC-V's supervisor mode that C has no words for."""

from __future__ import annotations

from kernmem.hardware.instructions import ProcessorInstructions
from kernmem.language import VirtualAddress, intrinsic, u64, usize


class Instructions(ProcessorInstructions):
    """What the MMU's driver needs."""

    # Address translation (Priv, "Supervisor Memory-Management Fence Instruction") -----------

    @intrinsic(riscv64='__asm__ volatile("sfence.vma zero, zero" ::: "memory");')
    def sfence_all(self) -> None:
        """Order the stores so far before all later walks; forget all entries of all levels."""
        self._execute("sfence.vma zero, zero")

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

    @intrinsic(riscv64='__asm__ volatile("csrw satp, %0" :: "r"(value) : "memory");')
    def write_satp(self, value: u64) -> None:
        """The mode in bits 63:60, the ASID in 59:44, the root's page number in 43:0."""
        self._execute("csrw satp", int(value))

    @intrinsic(
        riscv64=('uint64_t value;\n__asm__ volatile("csrr %0, satp" : "=r"(value));\nreturn value;')
    )
    def read_satp(self) -> u64:
        """What of the last write to satp has had an effect."""
        return u64(self._execute("csrr satp"))

    @intrinsic(riscv64='__asm__ volatile("csrs sstatus, %0" :: "r"(bits) : "memory");')
    def set_sstatus(self, bits: u64) -> None:
        """Set bits of the supervisor status register."""
        self._execute("csrs sstatus", int(bits))
