"""A strict simulation of the AArch64 MMU, written from the manual, not from the kernel's code.

======================  ====================================================================
:mod:`.regime`          what TCR_EL1 says, and what the bits of a descriptor mean under it
:mod:`.walk`            the translation table walk, its faults and its permissions
:mod:`.mmu`             registers, barriers, invalidations, address spaces
======================  ====================================================================

The rules for changing live tables are those of all Arm processors: :mod:`kernmem.hardware.vmsa`.

"DDI 0487" is the Arm Architecture Reference Manual for A-profile; "ASL" its pseudocode.
"""

from kernmem.hardware.aarch64.simulated.mmu import EVERY_GRANULE, SimulatedAarch64

__all__ = ["EVERY_GRANULE", "SimulatedAarch64"]
