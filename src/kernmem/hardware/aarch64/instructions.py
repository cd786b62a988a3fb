"""The instructions of AArch64 that C has no words for.

On the host (``Target.isa == "host"``) the text calls the C runtime of the host machine:

    void kernmem_host_write_ttbr0(uint64_t value);        translate by this root from now on
    void kernmem_host_invalidate_page(uint64_t address);  forget the translation of one page
    void kernmem_host_invalidate_all(void);               forget all translations
"""

from __future__ import annotations

from kernmem.hardware.instructions import instruction, read, write
from kernmem.hardware.vmsa.barriers import Barriers

FORGET_ALL = "kernmem_host_invalidate_all();"
FORGET_PAGE = "kernmem_host_invalidate_page(value << 12);"


class Instructions(Barriers):
    """What the MMU's driver needs."""

    # Invalidation (D8.17).  In an operand, bits 63:48 are an ASID, 43:0 an address without its
    # lowest 12 bits.

    tlbi_vmalle1 = instruction(
        "tlbi vmalle1", "Invalidate all translations of this core.", host=FORGET_ALL
    )
    tlbi_vmalle1is = instruction(
        "tlbi vmalle1is", "Invalidate all translations, on all cores.", host=FORGET_ALL
    )
    tlbi_aside1 = write(
        "tlbi aside1, %0",
        "Invalidate all translations of this core under one ASID; the host has none.",
    )
    tlbi_vaale1is = write(
        "tlbi vaale1is, %0",
        "Invalidate the last level of a translation, under every ASID, on all cores.",
        host=FORGET_PAGE,
    )
    tlbi_vaae1is = write(
        "tlbi vaae1is, %0",
        "Invalidate all levels of a translation, under every ASID, on all cores.",
        host=FORGET_PAGE,
    )
    ic_iallu = instruction("ic iallu", "Invalidate the instruction cache of this core.")

    # System registers (D23.2)

    write_mair = write("msr mair_el1, %0", "The memory types that AttrIndx chooses from.")
    write_tcr = write("msr tcr_el1, %0", "The shape of the tables.")
    write_ttbr0 = write(
        "msr ttbr0_el1, %0",
        "The root table of the lower addresses, and the ASID in bits 63:48.",
        host="kernmem_host_write_ttbr0(value);",
    )
    write_sctlr = write("msr sctlr_el1, %0", "MMU and caches on or off.")
    read_sctlr = read("mrs %0, sctlr_el1", "MMU and caches on or off.")
    read_memory_features = read(
        "mrs %0, id_aa64mmfr0_el1",
        "The granules and the width of physical addresses; the host has all of them.",
        host="return 0x100005;",
    )
