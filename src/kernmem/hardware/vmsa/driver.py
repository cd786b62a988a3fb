"""What the drivers of both forms of VMSA have in common: how a walk comes to see a store."""

from __future__ import annotations

from kernmem.hardware.mmu_driver import MmuDriver
from kernmem.hardware.vmsa.barriers import Barriers
from kernmem.language import PhysicalAddress, VirtualAddress, kernel


class VmsaMmu(MmuDriver):
    """A driver of barriers and invalidations (DDI 0487, B2.3.12, D8.16, G5.9)."""

    cpu: Barriers

    @kernel
    def order_tables(self) -> None:
        """Whoever sees an entry written from now on also sees those written so far.

        A walker observes stores as other processors do: a barrier for stores orders them
        (B2.3.12).  It also makes a cleared entry visible before the TLB is told to drop the old
        one, as break-before-make asks for (D8.17.1, R_DDMVT; K11.5.3).
        """
        self.cpu.dsb_ishst()

    @kernel
    def publish_page(
        self, table: PhysicalAddress, address: VirtualAddress, is_global: bool
    ) -> None:
        """Let the walker see the new leaf of ``address``, in a table that was there already.

        A walk is sure to see a store only after DSB and ISB (G5.9.1); an entry that was
        invalid is never cached (D8.16.1, R_XCLRD), so nothing needs invalidation.
        """
        self.cpu.dsb_ishst()
        self.cpu.isb()
