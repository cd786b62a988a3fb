"""Loads and stores that may fault, in x86-64: the address is CR2.

The syndrome is vector << 32 | error code (SDM 4.7).  Both instructions are 3 bytes long, which the
handler skips.
"""

from __future__ import annotations

from kernmem.hardware.probing import VectorProbe
from kernmem.language import VirtualAddress, intrinsic, u64

PAGE_FAULT = 14 << 32
PROTECTION = 1 << 0  # P
RESERVED = 1 << 3  # RSVD


class X86Probe(VectorProbe):
    """A fault by a reserved bit is neither of the two."""

    syndrome_mask = 0xFFFF_FFFF << 32 | RESERVED | PROTECTION
    not_mapped = PAGE_FAULT
    forbidden = PAGE_FAULT | PROTECTION

    @intrinsic(
        x86_64=(
            "uint64_t value; /* 48 8b 07: the handler skips 3 bytes */\n"
            '__asm__ volatile("movq (%1), %0" : "=a"(value) : "D"(address) : "memory");'
        )
    )
    def try_load(self, address: VirtualAddress) -> None:
        """Load 8 bytes in one instruction, and ignore them."""
        self.model_load(address)

    @intrinsic(
        x86_64=(
            "/* 48 89 37: the handler skips 3 bytes */\n"
            '__asm__ volatile("movq %0, (%1)" :: "S"(value), "D"(address) : "memory");'
        )
    )
    def try_store(self, address: VirtualAddress, value: u64) -> None:
        """Store 8 bytes in one instruction."""
        self.model_store(address, value)
