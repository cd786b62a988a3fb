"""The instructions of ARMv7-A that C has no words for.

They are moves to and from the system control coprocessor; a place in it is opc1, CRn, CRm, opc2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kernmem.hardware.instructions import instruction, read, write
from kernmem.hardware.vmsa.barriers import Barriers
from kernmem.language import usize


def _cp15(move: str, place: str) -> str:
    opc1, crn, crm, opc2 = place.split()
    return f"{move} p15, {opc1}, %0, {crn}, {crm}, {opc2}"


def _plain(name: str, place: str, what: str) -> Callable[[Any], None]:
    return instruction(_cp15("mcr", place), what, name=name)


def _write(name: str, place: str, what: str) -> Callable[[Any, usize], None]:
    return write(_cp15("mcr", place), what, name=name)


class Instructions(Barriers):
    """What the MMU's driver needs."""

    # Invalidation (DDI 0406, B4.2.1 and B4.2.2)

    tlbiall = _plain("tlbiall", "0 c8 c7 0", "Invalidate all translations of this core.")
    tlbiasid = _write(
        "tlbiasid",
        "0 c8 c7 2",
        "Invalidate all translations of an ASID, but for global ones, of this core.",
    )
    tlbiallis = _plain("tlbiallis", "0 c8 c3 0", "Invalidate all translations of all cores.")
    tlbimvaais = _write(
        "tlbimvaais",
        "0 c8 c3 3",
        "Invalidate all levels of a page's translation, under every ASID, on all cores.",
    )
    bpiall = _plain("bpiall", "0 c7 c5 6", "Forget every branch that this core has predicted.")
    bpiallis = _plain("bpiallis", "0 c7 c1 6", "Forget every branch that any core has predicted.")
    iciallu = _plain("iciallu", "0 c7 c5 0", "Invalidate the instruction cache of this core.")

    # System control registers (DDI 0406, B4.1)

    write_ttbcr = _write(
        "mcr ttbcr",
        "0 c2 c0 2",
        "The format of the tables, and how addresses are split between TTBR0 and TTBR1.",
    )
    write_ttbr0 = _write(
        "mcr ttbr0", "0 c2 c0 0", "The root table, and how walks read it from the caches."
    )
    write_dacr = _write(
        "mcr dacr",
        "0 c3 c0 0",
        "Two bits for each of 16 domains: whether permissions are checked in it.",
    )
    write_contextidr = _write("mcr contextidr", "0 c13 c0 1", "The ASID, in bits 7:0.")
    write_sctlr = _write("mcr sctlr", "0 c1 c0 0", "MMU and caches on or off.")
    read_sctlr = read(_cp15("mrc", "0 c1 c0 0"), "MMU and caches on or off.", name="mrc sctlr")
