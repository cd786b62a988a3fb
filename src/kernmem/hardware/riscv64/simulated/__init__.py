"""A strict simulation of RISC-V's virtual memory, written from the manual, not from the kernel.

======================  ====================================================================
:mod:`.walk`            the address translation algorithm, its faults and its permissions
:mod:`.stale`           old values of entries, and global leaves, that walks may still use
:mod:`.tables`          live tables, and the rules for changing them
:mod:`.mmu`             registers, fences, address spaces
======================  ====================================================================
"""

from kernmem.hardware.riscv64.simulated.mmu import SimulatedRiscv64

__all__ = ["SimulatedRiscv64"]
