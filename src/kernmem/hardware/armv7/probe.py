"""Loads and stores that may fault, in ARMv7: the syndrome is DFSR, the address DFAR."""

from __future__ import annotations

from kernmem.hardware.probing import VectorProbe
from kernmem.language import VirtualAddress, intrinsic, u64


class Armv7Probe(VectorProbe):
    """The status is bits 10 and 3:0; of these faults bit 1 is the level (DDI 0406, B3.13.3)."""

    syndrome_mask = 1 << 10 | 0b1101
    not_mapped = 0b0101  # translation fault
    forbidden = 0b1101  # permission fault

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
