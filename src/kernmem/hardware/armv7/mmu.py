"""The registers, barriers and invalidations of ARMv7's virtual memory.

**Barriers.**  As in AArch64: a store to a table is sure to be seen by walks only after DSB and
ISB; an entry that was invalid is never cached, any other may be, at any time (DDI 0487, G5.9.1).
Walks read the data caches (TTBR0.IRGN), so entries need not be cleaned to memory.

**Branch prediction** may follow old translations: it is invalidated with them (DDI 0406, B2.2.8).

**Address spaces.**  Root and ASID are in two registers, so for a while the new one of the first
is in use with the old one of the second, and the walks made then are cached under the wrong
ASID.  The bridge makes that harmless (DDI 0406, B3.10.4): a root with the program and nothing
else, whose sections are the same in every space.  A switch goes to the bridge first, then changes
the ASID, then goes to the new root.  (The way by a reserved ASID takes that each address is
mapped in one size in all spaces, and leaves walks to tables in the TLB that may be freed: DDI
0438, 5.6.)

ASIDs are lent as on the other architectures: when an ASID goes to another table, all that is
cached under it is invalidated, while the bridge is in use; and a table that is changed while it is
not in use loses its own.  A global translation is used under every ASID, and invalidated by its
address, as TLBIASID spares it (DDI 0406, B4.2.2).
"""

from __future__ import annotations

from kernmem.hardware.armv7.entry import ShortDescriptors
from kernmem.hardware.armv7.instructions import Instructions
from kernmem.hardware.vmsa.driver import VmsaMmu
from kernmem.language import (
    Image,
    PhysicalAddress,
    VirtualAddress,
    address_of,
    from_linear,
    kernel,
    span,
    u32,
    usize,
)
from kernmem.memory.architecture import Mapping, Region

# TTBR0, with the Multiprocessing Extensions (DDI 0406, B4.1.154): walks are inner shareable and
# read the caches, as the stores to the tables go there.
SHAREABLE = 1 << 1  # S
INNER_SHAREABLE = 1 << 5  # NOS
OUTER_WRITE_ALLOCATE = 0b01 << 3  # RGN
INNER_WRITE_ALLOCATE = 1 << 6  # IRGN: 01, whose lower bit is bit 6, and the upper bit 0
WALKS = SHAREABLE | INNER_SHAREABLE | OUTER_WRITE_ALLOCATE | INNER_WRITE_ALLOCATE

CLIENT = 0b01  # DACR: in domain 0 permissions are checked, in all others there is no access

# SCTLR (DDI 0406, B4.1.130)
MMU_ON = 1 << 0  # M
DATA_CACHE_ON = 1 << 2  # C
BRANCH_PREDICTION_ON = 1 << 11  # Z
INSTRUCTION_CACHE_ON = 1 << 12  # I

ASIDS = 256
SECTION = 1 << 20
ROOT_ENTRIES = 4096
PAGE_ADDRESS = 0xFFFF_F000  # in the operand of an invalidation by address


class Armv7Mmu(VmsaMmu):
    """The MMU of one core, in supervisor mode.

    ``program`` must begin and end at borders of sections, and so be mapped by sections in every
    space, or translations of two sizes for it would be cached together.
    """

    cpu: Instructions
    one_by_one = 64

    def __init__(
        self, image: Image, cpu: Instructions, entries: ShortDescriptors, program: Region
    ) -> None:
        if program.start % SECTION or program.end % SECTION:
            raise ValueError(
                f"the program must lie in whole sections of {SECTION:#x} bytes, not from "
                f"{program.start:#x} to {program.end:#x}"
            )
        super().__init__(image, entries)
        self.cpu = cpu
        self.entries = entries
        self.first_section = program.start // SECTION
        self.end_section = program.end // SECTION
        self.bridge = self.static_array(u32, ROOT_ENTRIES, "mmu_bridge", alignment=ROOT_ENTRIES * 4)

    @kernel
    def enable(self, table: PhysicalAddress) -> None:
        """Turn the MMU on; the running code is mapped linearly in ``table``.

        Reset leaves TLB, instruction cache and branch predictor unknown, so they go first.  The DSB
        is for the stores to the bridge, too.  The first ISB ends the writes to the registers before
        translation may begin, the second is the start of it (DDI 0406, B3.15.5).
        """
        self.spaces.start(usize(ASIDS))
        self.spaces.enter(table)
        asid = self.spaces.info.current
        self.build_bridge()
        self.cpu.tlbiall()
        self.cpu.iciallu()
        self.cpu.bpiall()
        self.cpu.dsb_nsh()
        self.cpu.write_ttbcr(usize(0))  # short descriptors, TTBR0 for all addresses
        self.cpu.write_dacr(usize(CLIENT))
        self.cpu.write_contextidr(asid)
        self.use(table)
        self.cpu.write_sctlr(
            self.cpu.read_sctlr()
            | (MMU_ON | DATA_CACHE_ON | BRANCH_PREDICTION_ON | INSTRUCTION_CACHE_ON)
        )
        self.cpu.isb()

    @kernel
    def build_bridge(self) -> None:
        """Map the program in the bridge."""
        for section in span(usize(self.first_section), usize(self.end_section)):
            address = PhysicalAddress(section * SECTION)
            self.bridge[section] = u32(self.entries.leaf(address, Mapping.KERNEL, u32(1)))

    @kernel
    def use(self, table: PhysicalAddress) -> None:
        """Walk from this root from now on."""
        self.cpu.write_ttbr0(usize(table) | WALKS)
        self.cpu.isb()

    @kernel
    def switch(self, table: PhysicalAddress) -> None:
        """Translate by ``table`` from now on, and of others by nothing but what is global.

        See the module's text on address spaces.
        """
        kept = self.spaces.enter(table)
        asid = self.spaces.info.current
        self.use(from_linear(address_of(self.bridge)))
        if not kept:
            self.cpu.tlbiasid(asid)
            self.cpu.bpiall()
            self.cpu.dsb_nsh()
        self.cpu.write_contextidr(asid)
        self.cpu.isb()
        self.use(table)

    @kernel
    def invalidate_leaf(self, address: VirtualAddress) -> None:
        """By address, whatever the ASID."""
        self.invalidate(address)

    @kernel
    def invalidate(self, address: VirtualAddress) -> None:
        """The operation by address drops entries that lead to tables, too."""
        self.cpu.tlbimvaais(usize(address) & PAGE_ADDRESS)

    @kernel
    def invalidate_all(self, is_global: bool) -> None:
        """All that the TLB holds."""
        self.cpu.tlbiallis()

    @kernel
    def complete(self) -> None:
        """TLB and branch predictor are done before anything goes on (DDI 0487, G5.9.1, K11.5.3)."""
        self.cpu.bpiallis()
        self.cpu.dsb_ish()
        self.cpu.isb()
