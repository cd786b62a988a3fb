"""The instructions of RISC-V's supervisor mode that C has no words for."""

from __future__ import annotations

from typing import cast

from kernmem.hardware.simulation import SimulatedMmu
from kernmem.language import Component, Image, VirtualAddress, intrinsic, u8, u32, u64, usize


class Instructions(Component):
    """One method an instruction; the model's MMU executes it by the manual's name."""

    c_module = "virtual"

    def __init__(self, image: Image) -> None:
        super().__init__(image)
        self._load_byte = image.memory.loader(1)
        self._store_byte = image.memory.storer(1)
        self._store_word = image.memory.storer(4)

    def _execute(self, instruction: str, operand: int = 0) -> int:
        mmu: SimulatedMmu = cast("_Simulated", self.image.memory).mmu
        return mmu.execute(instruction, operand)

    # Address translation (Priv, "Supervisor Memory-Management Fence Instruction") -----------

    @intrinsic(riscv64='__asm__ volatile("sfence.vma zero, zero" ::: "memory");')
    def sfence_all(self) -> None:
        """Order the stores so far before all later walks; forget all entries of all levels."""
        self._execute("sfence.vma zero, zero")

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

    # Devices ------------------------------------------------------------------------------

    @intrinsic(riscv64="return *(volatile const uint8_t *)(uintptr_t)address;")
    def read_byte(self, address: VirtualAddress) -> u8:
        """Load a device's register, once."""
        return u8(self._load_byte(int(address)))

    @intrinsic(riscv64="*(volatile uint8_t *)(uintptr_t)address = value;")
    def write_byte(self, address: VirtualAddress, value: u8) -> None:
        """Store to a device's register, once."""
        self._store_byte(int(address), int(value))

    @intrinsic(riscv64="*(volatile uint32_t *)(uintptr_t)address = value;")
    def write_word(self, address: VirtualAddress, value: u32) -> None:
        """Store to a device's register, once."""
        self._store_word(int(address), int(value))


class _Simulated:
    """The memory of the model machine, which has an MMU."""

    mmu: SimulatedMmu
