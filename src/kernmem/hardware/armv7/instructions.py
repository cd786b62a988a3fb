"""The instructions of ARMv7-A that C has no words for."""

from __future__ import annotations

from kernmem.hardware.vmsa.barriers import Barriers
from kernmem.language import VirtualAddress, intrinsic, u32


def _cp15(place: str, operand: str = "0") -> dict[str, str]:
    """A write to the system control coprocessor; ``place`` is opc1, CRn, CRm, opc2."""
    opc1, crn, crm, opc2 = place.split()
    write = f"mcr p15, {opc1}, %0, {crn}, {crm}, {opc2}"
    return {"armv7": f'__asm__ volatile("{write}" :: "r"({operand}) : "memory");'}


class Instructions(Barriers):
    """What the MMU's driver needs."""

    # Invalidation (DDI 0406, B4.2.1 and B4.2.2) -------------------------------------------

    @intrinsic(**_cp15("0 c8 c7 0"))
    def tlbiall(self) -> None:
        """Invalidate all translations of this core."""
        self._execute("tlbiall")

    @intrinsic(**_cp15("0 c8 c7 2", "asid"))
    def tlbiasid(self, asid: u32) -> None:
        """Invalidate all translations of an ASID, but for global ones, of this core."""
        self._execute("tlbiasid", int(asid))

    @intrinsic(**_cp15("0 c8 c3 0"))
    def tlbiallis(self) -> None:
        """Invalidate all translations of all cores."""
        self._execute("tlbiallis")

    @intrinsic(**_cp15("0 c8 c3 3", "address & 0xfffff000u"))
    def tlbimvaais(self, address: VirtualAddress) -> None:
        """Invalidate all levels of a translation, under every ASID, on all cores."""
        self._execute("tlbimvaais", int(address) & 0xFFFF_F000)

    @intrinsic(**_cp15("0 c7 c5 6"))
    def bpiall(self) -> None:
        """Forget every branch that this core has predicted."""
        self._execute("bpiall")

    @intrinsic(**_cp15("0 c7 c1 6"))
    def bpiallis(self) -> None:
        """Forget every branch that any core has predicted."""
        self._execute("bpiallis")

    @intrinsic(**_cp15("0 c7 c5 0"))
    def iciallu(self) -> None:
        """Invalidate the instruction cache of this core."""
        self._execute("iciallu")

    # System control registers (DDI 0406, B4.1) --------------------------------------------

    @intrinsic(**_cp15("0 c2 c0 2", "value"))
    def write_ttbcr(self, value: u32) -> None:
        """The format of the tables, and how addresses are split between TTBR0 and TTBR1."""
        self._execute("mcr ttbcr", int(value))

    @intrinsic(**_cp15("0 c2 c0 0", "value"))
    def write_ttbr0(self, value: u32) -> None:
        """The root table, and how walks read it from the caches."""
        self._execute("mcr ttbr0", int(value))

    @intrinsic(**_cp15("0 c3 c0 0", "value"))
    def write_dacr(self, value: u32) -> None:
        """Two bits for each of 16 domains: whether permissions are checked in it."""
        self._execute("mcr dacr", int(value))

    @intrinsic(**_cp15("0 c13 c0 1", "value"))
    def write_contextidr(self, value: u32) -> None:
        """The ASID, in bits 7:0."""
        self._execute("mcr contextidr", int(value))

    @intrinsic(**_cp15("0 c1 c0 0", "value"))
    def write_sctlr(self, value: u32) -> None:
        """MMU and caches on or off."""
        self._execute("mcr sctlr", int(value))

    @intrinsic(
        armv7=(
            "uint32_t value;\n"
            '__asm__ volatile("mrc p15, 0, %0, c1, c0, 0" : "=r"(value));\n'
            "return value;"
        )
    )
    def read_sctlr(self) -> u32:
        """MMU and caches on or off."""
        return u32(self._execute("mrc sctlr"))
