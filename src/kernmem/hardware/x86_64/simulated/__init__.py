"""A strict simulation of the x86-64 MMU, written from the manual, not from the kernel's code.

======================  ====================================================================
:mod:`.walk`            the walk through the tables, its faults and its permissions
:mod:`.stale`           what the TLB and the paging-structure caches may still hold
:mod:`.spaces`          stores to the tables of a space, in use or left
:mod:`.mmu`             registers, invalidations, accesses
======================  ====================================================================
"""

from kernmem.hardware.x86_64.simulated.mmu import SimulatedX86

__all__ = ["SimulatedX86"]
