"""The registers and fences of RISC-V's virtual memory.

**Fences.**  SFENCE.VMA does two things at once (Priv, "Supervisor Memory-Management Fence
Instruction"): it orders the stores before it ahead of the walks after it, and it forgets what was
read from tables before.  An entry that is not valid may be remembered too, so even a new mapping
needs one.  With an address it is about leaf entries only: after an entry that leads to a table
has changed, it takes the form without.  It is about this hart alone.

**Address spaces.**  Implementations may have no ASIDs at all (ASIDLEN = 0), so all spaces are
ASID 0, and each switch forgets what is not global.

**User memory.**  sstatus.SUM is set with the MMU: the kernel loads and stores what user code may.
"""

from __future__ import annotations

from kernmem.hardware.riscv64.entry import PAGE_BITS, PagedEntries
from kernmem.hardware.riscv64.instructions import Instructions
from kernmem.language import Image, PhysicalAddress, VirtualAddress, kernel, panic, u64
from kernmem.memory.architecture import Mmu

# Priv, "Supervisor Address Translation and Protection Register"
MODES = {3: 8, 4: 9, 5: 10}
"""satp.MODE, by the number of levels: Sv39, Sv48, Sv57."""

SUM = 1 << 18  # sstatus: permit supervisor user-memory access


class Riscv64Mmu(Mmu):
    """The MMU of one hart, in supervisor mode."""

    c_module = "virtual"

    def __init__(self, image: Image, cpu: Instructions, entries: PagedEntries) -> None:
        super().__init__(image)
        self.cpu = cpu
        self.mode = MODES[entries.levels] << 60

    @kernel
    def enable(self, table: PhysicalAddress) -> None:
        """Turn the MMU on; the running code is mapped linearly in ``table``.

        satp counts from the very next instruction on, without a fence (Priv, "Supervisor Address
        Translation and Protection Register"), so the fence comes first: it forgets what reset
        left, and the walk for that instruction sees the tables.  A mode that the hart does not
        have makes the whole write void.
        """
        self.cpu.set_sstatus(u64(SUM))
        satp = self.satp(table)
        self.cpu.sfence_all()
        self.cpu.write_satp(satp)
        if self.cpu.read_satp() != satp:
            panic("the processor does not have the paging mode that this kernel was built for")

    @kernel
    def switch(self, table: PhysicalAddress) -> None:
        """Translate by ``table`` from now on; no translation of another table survives.

        A write to satp forgets nothing.  The fence comes after it, or what is cached between the
        two would be of the old table.  It names ASID 0 by a register, which spares what is
        global; the register x0 itself would mean every ASID.
        """
        self.cpu.write_satp(self.satp(table))
        self.cpu.sfence_space(u64(0))

    @kernel
    def satp(self, table: PhysicalAddress) -> u64:
        """The value of satp for a root, with ASID 0."""
        return u64(table) >> PAGE_BITS | self.mode

    @kernel
    def order_tables(self) -> None:
        """Whoever sees an entry written from now on also sees those written so far.

        The fence that publishes the link orders all stores before it, so on one hart there is
        nothing more to do than to keep the compiler from moving them after it, which
        ``volatile`` does.
        """

    @kernel
    def publish_page(self, table: PhysicalAddress, address: VirtualAddress) -> None:
        """Let the walker see the new leaf of ``address``, in a table that was there already.

        The invalid entry that it replaces may be cached.
        """
        self.cpu.sfence_page(address)

    @kernel
    def publish_range(
        self, table: PhysicalAddress, start: VirtualAddress, last: VirtualAddress
    ) -> None:
        """Let the walker see new leaves, and new tables that lead to them.

        A fence for one address would leave the entries that lead to tables.
        """
        self.cpu.sfence_all()

    @kernel
    def retire_page(self, table: PhysicalAddress, address: VirtualAddress) -> None:
        """Forget the leaf translation of ``address``, under every ASID, global or not."""
        self.cpu.sfence_page(address)

    @kernel
    def retire_range(
        self, table: PhysicalAddress, start: VirtualAddress, last: VirtualAddress
    ) -> None:
        """Forget every translation in the range, and what led to its tables, everywhere.

        A fence for one address would leave the entries that lead to tables.
        """
        self.cpu.sfence_all()

    @kernel
    def forget(self, table: PhysicalAddress) -> None:
        """Nothing: the switch away from ``table`` forgot it."""
