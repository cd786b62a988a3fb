"""The barriers of Arm's processors, which have one syntax and one meaning in both forms of VMSA."""

from __future__ import annotations

from kernmem.hardware.instructions import ProcessorInstructions
from kernmem.language import intrinsic


def plain(instruction: str) -> dict[str, str]:
    """The C of an instruction without operands; the host does without it."""
    text = f'__asm__ volatile("{instruction}" ::: "memory");'
    return {"aarch64": text, "armv7": text, "host": ""}


class Barriers(ProcessorInstructions):
    """DDI 0487, B2.3.12; DDI 0406, A3.8.3."""

    @intrinsic(**plain("dsb ishst"))
    def dsb_ishst(self) -> None:
        """Wait until all cores, and their walkers, see the stores so far."""
        self._execute("dsb ishst")

    @intrinsic(**plain("dsb ish"))
    def dsb_ish(self) -> None:
        """Wait for the loads, stores and broadcast maintenance so far."""
        self._execute("dsb ish")

    @intrinsic(**plain("dsb nsh"))
    def dsb_nsh(self) -> None:
        """Wait for the loads, stores and maintenance of this core so far."""
        self._execute("dsb nsh")

    @intrinsic(**plain("dsb sy"))
    def dsb_sy(self) -> None:
        """Wait until the whole system, devices too, sees the accesses so far."""
        self._execute("dsb sy")

    @intrinsic(**plain("isb"))
    def isb(self) -> None:
        """Synchronize the context: what follows is fetched and translated anew."""
        self._execute("isb")
