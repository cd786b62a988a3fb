"""The instructions of AArch64 that C has no words for.

On the host (``Target.isa == "host"``) the text calls the C runtime of the host machine:

    void kernmem_host_write_ttbr0(uint64_t value);        translate by this root from now on
    void kernmem_host_invalidate_page(uint64_t address);  forget the translation of one page
    void kernmem_host_invalidate_all(void);               forget all translations
"""

from __future__ import annotations

from kernmem.hardware.vmsa.barriers import Barriers, plain
from kernmem.language import VirtualAddress, intrinsic, u64


def _write(register: str, host: str = "(void)value;") -> dict[str, str]:
    text = f'__asm__ volatile("msr {register}, %0" :: "r"(value) : "memory");'
    return {"aarch64": text, "host": host}


def _invalidate(operation: str) -> dict[str, str]:
    text = f'__asm__ volatile("tlbi {operation}, %0" :: "r"((uint64_t)address >> 12) : "memory");'
    return {"aarch64": text, "host": "kernmem_host_invalidate_page((uint64_t)address);"}


class Instructions(Barriers):
    """What the MMU's driver needs."""

    # Invalidation (D8.17) -----------------------------------------------------------------

    @intrinsic(
        aarch64='__asm__ volatile("tlbi vmalle1" ::: "memory");',
        host="kernmem_host_invalidate_all();",
    )
    def tlbi_vmalle1(self) -> None:
        """Invalidate all translations of this core."""
        self._execute("tlbi vmalle1")

    @intrinsic(
        aarch64='__asm__ volatile("tlbi vmalle1is" ::: "memory");',
        host="kernmem_host_invalidate_all();",
    )
    def tlbi_vmalle1is(self) -> None:
        """Invalidate all translations, on all cores."""
        self._execute("tlbi vmalle1is")

    @intrinsic(
        aarch64='__asm__ volatile("tlbi aside1, %0" :: "r"(asid << 48) : "memory");',
        host="(void)asid;",
    )
    def tlbi_aside1(self, asid: u64) -> None:
        """Invalidate all translations of this core under one ASID; the host has none."""
        self._execute("tlbi aside1", int(asid) << 48)

    @intrinsic(**_invalidate("vaale1is"))
    def tlbi_vaale1is(self, address: VirtualAddress) -> None:
        """Invalidate the last level of a translation, under every ASID, on all cores."""
        self._execute("tlbi vaale1is", int(address) >> 12)

    @intrinsic(**_invalidate("vaae1is"))
    def tlbi_vaae1is(self, address: VirtualAddress) -> None:
        """Invalidate all levels of a translation, under every ASID, on all cores."""
        self._execute("tlbi vaae1is", int(address) >> 12)

    @intrinsic(**plain("ic iallu"))
    def ic_iallu(self) -> None:
        """Invalidate the instruction cache of this core."""
        self._execute("ic iallu")

    # System registers (D23.2) -------------------------------------------------------------

    @intrinsic(**_write("mair_el1"))
    def write_mair(self, value: u64) -> None:
        """The memory types that AttrIndx chooses from."""
        self._execute("msr mair_el1", int(value))

    @intrinsic(**_write("tcr_el1"))
    def write_tcr(self, value: u64) -> None:
        """The shape of the tables."""
        self._execute("msr tcr_el1", int(value))

    @intrinsic(**_write("ttbr0_el1", "kernmem_host_write_ttbr0(value);"))
    def write_ttbr0(self, value: u64) -> None:
        """The root table of the lower addresses, and the ASID in bits 63:48."""
        self._execute("msr ttbr0_el1", int(value))

    @intrinsic(**_write("sctlr_el1"))
    def write_sctlr(self, value: u64) -> None:
        """MMU and caches on or off."""
        self._execute("msr sctlr_el1", int(value))

    @intrinsic(
        aarch64=(
            'uint64_t value;\n__asm__ volatile("mrs %0, sctlr_el1" : "=r"(value));\nreturn value;'
        ),
        host="return 0;",
    )
    def read_sctlr(self) -> u64:
        """MMU and caches on or off."""
        return u64(self._execute("mrs sctlr_el1"))

    @intrinsic(
        aarch64=(
            "uint64_t value;\n"
            '__asm__ volatile("mrs %0, id_aa64mmfr0_el1" : "=r"(value));\n'
            "return value;"
        ),
        host="return 0x100005;",
    )
    def read_memory_features(self) -> u64:
        """The granules and the width of physical addresses; the host has all of them."""
        return u64(self._execute("mrs id_aa64mmfr0_el1"))
