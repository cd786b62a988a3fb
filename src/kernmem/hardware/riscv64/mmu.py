"""The registers and fences of RISC-V's virtual memory.

**Fences.**  SFENCE.VMA does two things at once (Priv, "Supervisor Memory-Management Fence
Instruction"): it orders the stores before it ahead of the walks after it, and it forgets what was
read from tables before.  An entry that is not valid may be remembered too, so even a new mapping
needs one.  With an address it is about leaf entries only: after an entry that leads to a table
has changed, it takes the form without.  It is about this hart alone.

**Address spaces.**  A hart has 2 ** ASIDLEN identifiers, and ASIDLEN may be 0: then each switch
forgets everything.  A fence for one identifier is about all that is cached under it, but neither
forgets nor orders global entries, which take one for all spaces.  A space without an identifier has
nothing else cached, and the fence that comes when it gets one orders the stores to its tables:
until then a change of them needs none.

**User memory.**  sstatus.SUM is set with the MMU: the kernel loads and stores what user code may.
"""

from __future__ import annotations

from kernmem.hardware.mmu_driver import MmuDriver
from kernmem.hardware.riscv64.entry import PAGE_BITS, PagedEntries
from kernmem.hardware.riscv64.instructions import Instructions
from kernmem.language import Image, PhysicalAddress, VirtualAddress, kernel, panic, usize
from kernmem.memory.address_spaces import NO_IDENTIFIER

# Priv, "Supervisor Address Translation and Protection Register"
MODES = {3: 8, 4: 9, 5: 10}
"""satp.MODE, by the number of levels: Sv39, Sv48, Sv57."""

ASID_SHIFT = 44
ASID_MASK = (1 << 16) - 1  # ASIDLEN is 16 at most
SUM = 1 << 18  # sstatus: permit supervisor user-memory access


class Riscv64Mmu(MmuDriver):
    """The MMU of one hart, in supervisor mode."""

    def __init__(self, image: Image, cpu: Instructions, entries: PagedEntries) -> None:
        super().__init__(image, entries)
        self.cpu = cpu
        self.mode = MODES[entries.levels] << 60

    @kernel
    def enable(self, table: PhysicalAddress) -> None:
        """Turn the MMU on; the running code is mapped linearly in ``table``.

        satp counts from the very next instruction on, without a fence (Priv, "Supervisor Address
        Translation and Protection Register"), so the fence comes first: it forgets what reset
        left, and the walk for that instruction sees the tables.  A mode that the hart does not
        have makes the whole write void.  Of the bits of an ASID it keeps those that it has; what
        it caches under the one of ones is forgotten when that one is lent.
        """
        self.cpu.set_sstatus(usize(SUM))
        self.cpu.sfence_all()
        self.cpu.write_satp(self.satp(table, usize(ASID_MASK)))
        satp = self.cpu.read_satp()
        asids = satp >> ASID_SHIFT & ASID_MASK
        if satp != self.satp(table, asids):
            panic("the processor does not have the paging mode that this kernel was built for")
        self.spaces.start(asids + 1)
        self.switch(table)

    @kernel
    def switch(self, table: PhysicalAddress) -> None:
        """Translate by ``table`` from now on, and of others by nothing but what is global.

        A write to satp forgets nothing, and orders nothing.  So the first fence forgets what was
        cached under the identifier, and makes the tables visible to the walk for the instruction
        after the write.  Without ASIDs, what is cached between the two is of the table that is
        left, under the same identifier: the second fence forgets it.
        """
        kept = self.spaces.enter(table)
        asid = self.spaces.info.current
        if not kept:
            self.cpu.sfence_space(asid)
        self.cpu.write_satp(self.satp(table, asid))
        if not kept:
            self.cpu.sfence_space(asid)

    @kernel
    def satp(self, table: PhysicalAddress, asid: usize) -> usize:
        """The value of satp for a root."""
        return usize(table) >> PAGE_BITS | asid << ASID_SHIFT | self.mode

    @kernel
    def order_tables(self) -> None:
        """Whoever sees an entry written from now on also sees those written so far.

        The fence that publishes the link orders all stores before it, so on one hart there is
        nothing more to do than to keep the compiler from moving them after it, which
        ``volatile`` does.
        """

    @kernel
    def publish_page(
        self, table: PhysicalAddress, address: VirtualAddress, is_global: bool
    ) -> None:
        """Let the walker see the new leaf of ``address``, in a table that was there already.

        The invalid entry that it replaces may be cached.
        """
        self.forget_page(table, address, is_global)

    @kernel
    def publish_range(
        self, table: PhysicalAddress, start: VirtualAddress, last: VirtualAddress, is_global: bool
    ) -> None:
        """Let the walker see new leaves, and new tables that lead to them.

        A fence for one address would leave the entries that lead to tables.
        """
        self.forget_space(table, is_global)

    @kernel
    def retire_page(self, table: PhysicalAddress, address: VirtualAddress, is_global: bool) -> None:
        """Forget the leaf translation of ``address``, page or block, everywhere."""
        self.forget_page(table, address, is_global)

    @kernel
    def retire_range(
        self, table: PhysicalAddress, start: VirtualAddress, last: VirtualAddress, is_global: bool
    ) -> None:
        """Forget every translation in the range, and what led to its tables, everywhere.

        A fence for one address would leave the entries that lead to tables.
        """
        self.forget_space(table, is_global)

    @kernel
    def forget_page(self, table: PhysicalAddress, address: VirtualAddress, is_global: bool) -> None:
        """Forget the leaf entry of ``address``, valid or not; see the stores so far."""
        if is_global:
            self.cpu.sfence_leaf(address)
            return
        asid = self.spaces.identifier(table)
        if asid != NO_IDENTIFIER:
            self.cpu.sfence_page(address, asid)

    @kernel
    def forget_space(self, table: PhysicalAddress, is_global: bool) -> None:
        """Forget all entries of all levels, valid or not; see the stores so far."""
        if is_global:
            self.cpu.sfence_all()
            return
        asid = self.spaces.identifier(table)
        if asid != NO_IDENTIFIER:
            self.cpu.sfence_space(asid)
