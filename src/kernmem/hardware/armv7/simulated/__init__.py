"""A strict simulation of ARMv7's MMU, written from the manual, not from the kernel's code.

======================  ====================================================================
:mod:`.regime`          what the bits of a short descriptor mean
:mod:`.walk`            the translation table walk, its faults and its permissions
:mod:`.mmu`             registers, invalidations, address spaces, branch prediction
======================  ====================================================================

The rules for changing live tables are those of all Arm processors: :mod:`kernmem.hardware.vmsa`.
"ASL" is the pseudocode of DDI 0487.
"""

from kernmem.hardware.armv7.simulated.mmu import SimulatedArmv7

__all__ = ["SimulatedArmv7"]
