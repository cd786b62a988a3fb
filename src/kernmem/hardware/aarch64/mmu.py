"""The registers, barriers and invalidations of AArch64 (DDI 0487, D8.17, K11.5.3).

**Address spaces.**  A cached translation belongs to the ASID it was made under, unless it is
global, and only those of the ASID in use are made or used (D8.16.1, R_SQBCS).  So what is cached of
a table that is not in use does no harm until its ASID is in use again: when the table is changed,
it loses the ASID, and when an ASID is lent to another table, all that is cached under it is
invalidated first.  A global translation is used under every ASID: it is invalidated by its address,
as no operation on an ASID drops it (D8.17.5.4).

One store to TTBR0_EL1 changes root and ASID together (TCR_EL1.A1 = 0), so no walk can mix them.
"""

from __future__ import annotations

from kernmem.hardware.aarch64.entry import Granule
from kernmem.hardware.aarch64.instructions import Instructions
from kernmem.hardware.vmsa.driver import VmsaMmu
from kernmem.language import Image, PhysicalAddress, VirtualAddress, kernel, panic, usize

# MAIR_EL1 (D23.2.106): AttrIndx 0 is normal memory, write-back, read and write allocate;
# AttrIndx 1 is Device-nGnRE, whose writes may be acknowledged early; AttrIndx 2 is normal memory
# that is not cached.
MAIR = 0x44_04_FF

# SCTLR_EL1 (D23.2.140)
MMU_ON = 1 << 0  # M
DATA_CACHE_ON = 1 << 2  # C
INSTRUCTION_CACHE_ON = 1 << 12  # I

ASIDS = 256  # 8 bits, which every implementation has (TCR_EL1.AS = 0)
ASID_SHIFT = 48  # in TTBR0_EL1, and in the operand of TLBI
PAGE_SHIFT = 12  # in the operand of TLBI, whatever the granule

# ID_AA64MMFR0_EL1: where a granule's field is, and what it says where there is no such granule
GRANULE_FIELDS = {12: (28, 0b1111), 14: (20, 0b0000), 16: (24, 0b1111)}

# Widths of physical addresses, as TCR_EL1.IPS and ID_AA64MMFR0_EL1.PARange say them
PHYSICAL_SIZES = {32: 0, 36: 1, 40: 2, 42: 3, 44: 4, 48: 5}


def tcr(entries: Granule) -> int:
    """TCR_EL1 (D23.2.157): tables of ``entries`` behind TTBR0, none behind TTBR1."""
    granule = {12: 0b00, 14: 0b10, 16: 0b01}[entries.page_bits]
    physical_size = PHYSICAL_SIZES[entries.physical_bits]
    return (
        (64 - entries.address_bits)  # T0SZ
        | 0b01 << 8  # IRGN0: walks hit write-back caches, as the stores to the tables do
        | 0b01 << 10  # ORGN0
        | 0b11 << 12  # SH0: inner shareable
        | granule << 14  # TG0
        | 1 << 23  # EPD1: addresses of the upper half fault
        | physical_size << 32  # IPS
    )


class Aarch64Mmu(VmsaMmu):
    """The MMU of one core, at EL1."""

    cpu: Instructions

    def __init__(self, image: Image, cpu: Instructions, entries: Granule) -> None:
        super().__init__(image, entries)
        self.cpu = cpu
        self.tcr = tcr(entries)
        self.granule_shift, self.granule_absent = GRANULE_FIELDS[entries.page_bits]
        self.physical_bits = entries.physical_bits
        self.physical_size = PHYSICAL_SIZES[entries.physical_bits]

    @kernel
    def enable(self, table: PhysicalAddress) -> None:
        """Turn the MMU on; the running code is mapped linearly in ``table``.

        Reset leaves TLB and instruction cache unknown (D8.16.2, I_GWZWM), so they go first.
        The first ISB ends the writes to the registers before translation may begin, the second
        is the start of it (D8.2.1).  Panics if the core cannot walk such tables.
        """
        self.require_features()
        self.cpu.tlbi_vmalle1()
        self.cpu.ic_iallu()
        self.cpu.dsb_nsh()
        self.cpu.write_mair(usize(MAIR))
        self.cpu.write_tcr(usize(self.tcr))
        self.spaces.start(usize(ASIDS))
        self.spaces.enter(table)
        self.cpu.write_ttbr0(self.ttbr(table))
        self.cpu.isb()
        self.cpu.write_sctlr(
            self.cpu.read_sctlr() | (MMU_ON | DATA_CACHE_ON | INSTRUCTION_CACHE_ON)
        )
        self.cpu.isb()

    @kernel
    def require_features(self) -> None:
        """Panic unless the core has the granule, and physical addresses as wide as the tables'.

        What it does with a granule that it has not is up to the implementation (D23.2.157, TG0).
        """
        features = self.cpu.read_memory_features()
        if features >> self.granule_shift & 0xF == self.granule_absent:
            panic(
                f"this core has no pages of {self.page_length} bytes: "
                f"ID_AA64MMFR0_EL1 is {features:#x}; build the kernel for another granule"
            )
        if features & 0xF < self.physical_size:
            panic(
                f"this core's physical addresses have less than {self.physical_bits} bits: "
                f"ID_AA64MMFR0_EL1 is {features:#x}; build the kernel for fewer"
            )

    @kernel
    def switch(self, table: PhysicalAddress) -> None:
        """Translate by ``table`` from now on, and of others by nothing but what is global.

        The ISB before the write synchronizes the invalidation; the one after it is the start of
        the new space.
        """
        if not self.spaces.enter(table):
            self.cpu.tlbi_aside1(self.spaces.info.current << ASID_SHIFT)
            self.cpu.dsb_nsh()
            self.cpu.isb()
        self.cpu.write_ttbr0(self.ttbr(table))
        self.cpu.isb()

    @kernel
    def ttbr(self, table: PhysicalAddress) -> usize:
        """The value of TTBR0_EL1 for a root, which is the current one of the spaces."""
        return usize(table) | self.spaces.info.current << ASID_SHIFT

    @kernel
    def invalidate_leaf(self, address: VirtualAddress) -> None:
        """TLBI by address, whatever the ASID; L: the last level (D8.17.5.4)."""
        self.cpu.tlbi_vaale1is(usize(address) >> PAGE_SHIFT)

    @kernel
    def invalidate(self, address: VirtualAddress) -> None:
        """The operation without L also drops entries that lead to tables (D8.17.5.4)."""
        self.cpu.tlbi_vaae1is(usize(address) >> PAGE_SHIFT)

    @kernel
    def invalidate_all(self, is_global: bool) -> None:
        """All that the TLB holds."""
        self.cpu.tlbi_vmalle1is()

    @kernel
    def complete(self) -> None:
        """The TLB is done, which takes a DSB for loads and stores (D8.17.5)."""
        self.cpu.dsb_ish()
        self.cpu.isb()
