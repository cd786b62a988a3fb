"""The registers and invalidations of x86-64 (SDM 4.10).

**"Off" is the boot code's table.**  A processor cannot run 64-bit code without paging (SDM 2.2.1,
10.8.5), so ``boot.S`` enters long mode with a table of its own, in which the first 64 GiB are
linear, and there the kernel runs until :meth:`X86Mmu.enable`.  To the memory manager that is an
MMU that is off: every address is itself.  The number of levels is chosen there too: LA57 cannot be
changed while paging is on (4.1.1).

**Order needs nothing.**  A walker reads tables like memory of its own processor, so it sees
stores in the order of the program, and an entry that is not present is never cached (4.10.2.3,
4.10.3.1).  What is present and was changed is cached until it is invalidated.  Invalidations
are done when the instruction is, and serialize (9.3).

**Address spaces.**  Where the processor has PCIDs (4.10.1), MOV to CR3 keeps what is cached under
the one that it loads if bit 63 of its operand says so; otherwise, and without PCIDs, it drops
that.  INVLPG is about the PCID in use: so a space that is changed while another is in use loses
its own.  There is one processor.

**Global pages** (4.10.2.4) outlive MOV to CR3, and are used under every PCID.  INVLPG drops them
all the same, and so does a change of CR4.PGE, which drops all there is (4.10.4.1).
"""

from __future__ import annotations

from kernmem.hardware.mmu_driver import MmuDriver
from kernmem.hardware.x86_64.entry import LongMode
from kernmem.hardware.x86_64.instructions import EFER, Instructions
from kernmem.language import Image, PhysicalAddress, VirtualAddress, kernel, panic, u32, usize

WRITE_PROTECT = 1 << 16  # CR0.WP (SDM 2.5): the kernel, too, cannot write what is not R/W
PGE = 1 << 7  # CR4.PGE (SDM 2.5): bit G of an entry counts
LA57 = 1 << 12  # CR4.LA57 (SDM 2.5): 5 levels
PCIDE = 1 << 17  # CR4.PCIDE (SDM 2.5): bits 11:0 of CR3 are a PCID
KEEP = 1 << 63  # in the operand of MOV to CR3 (4.10.4.1): invalidate nothing
PCIDS = 1 << 12
PCID = 1 << 17  # CPUID.1:ECX.PCID (volume 2A, CPUID)
NO_EXECUTE_ENABLE = 1 << 11  # IA32_EFER.NXE (SDM 2.2.1): bit 63 of an entry is XD


class X86Mmu(MmuDriver):
    """The MMU of one processor in 64-bit mode."""

    def __init__(self, image: Image, cpu: Instructions, entries: LongMode) -> None:
        super().__init__(image, entries)
        self.cpu = cpu
        self.la57 = LA57 if entries.levels == 5 else 0

    @kernel
    def enable(self, table: PhysicalAddress) -> None:
        """Go from the boot code's table to ``table``; the running code is linear in both.

        NXE comes first: without it, bit 63 of an entry is reserved and faults (4.5).  PCIDs can
        be turned on while bits 11:0 of CR3 are 0 (4.10.1), as now: what the boot code's table left
        in the TLB is under PCID 0, and dropped before that is lent.  No processor with 64-bit mode
        is without PGE.
        """
        cr4 = self.cpu.read_cr4()
        if cr4 & LA57 != self.la57:
            panic(f"CR4 is {cr4:#x}: the processor does not have the 5 levels of this kernel")
        self.cpu.wrmsr(u32(EFER), self.cpu.rdmsr(u32(EFER)) | NO_EXECUTE_ENABLE)
        self.cpu.write_cr0(self.cpu.read_cr0() | WRITE_PROTECT)
        cr4 = cr4 | PGE
        pcids = usize(1)
        if self.cpu.cpuid_features() & PCID != 0:
            cr4 = cr4 | PCIDE
            pcids = usize(PCIDS)
        self.cpu.write_cr4(cr4)
        self.spaces.start(pcids)
        self.switch(table)

    @kernel
    def switch(self, table: PhysicalAddress) -> None:
        """Translate by ``table`` from now on, and of others by nothing but what is global.

        What MOV to CR3 drops, it drops from the TLB and from the paging-structure caches.
        """
        kept = self.spaces.enter(table)
        cr3 = usize(table) | self.spaces.info.current
        if kept and self.spaces.info.count > 1:
            cr3 = cr3 | KEEP
        self.cpu.write_cr3(cr3)

    @kernel
    def order_tables(self) -> None:
        """Whoever sees an entry written from now on also sees those written so far.

        A walker sees stores in the order of the program, if the compiler keeps it.
        """
        self.cpu.compiler_barrier()

    @kernel
    def publish_page(
        self, table: PhysicalAddress, address: VirtualAddress, is_global: bool
    ) -> None:
        """Let the walker see the new leaf of ``address``, in a table that was there already.

        Which it does: the walk comes after the stores in the program, and an entry that was
        not present is in no cache (4.10.2.3), so that no invalidation is needed (4.10.4.3).
        Only the compiler must be kept from moving what goes through the new entry before it.
        """
        self.cpu.compiler_barrier()

    @kernel
    def invalidate_leaf(self, address: VirtualAddress) -> None:
        """One INVLPG, for a block too, even if the processor caches it in pieces (4.10.4.1)."""
        self.cpu.invlpg(usize(address))

    @kernel
    def invalidate(self, address: VirtualAddress) -> None:
        """INVLPG also drops everything in the paging-structure caches.

        It is needed even if nothing was mapped through a table: an entry that leads to an empty
        table may be cached (4.10.3.1, 4.10.4.2).
        """
        self.cpu.invlpg(usize(address))

    @kernel
    def invalidate_all(self, is_global: bool) -> None:
        """All that the TLB holds; MOV to CR3 leaves what is global."""
        if is_global:
            cr4 = self.cpu.read_cr4()
            self.cpu.write_cr4(cr4 ^ PGE)
            self.cpu.write_cr4(cr4)
        else:
            self.cpu.write_cr3(self.cpu.read_cr3())

    @kernel
    def complete(self) -> None:
        """Invalidations are done when the instruction is, and serialize (9.3)."""
