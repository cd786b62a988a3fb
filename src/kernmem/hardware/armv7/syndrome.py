"""The fault status of ARMv7 with short descriptors, in words (DDI 0406, B3.13.3)."""

from __future__ import annotations

from kernmem.language import PageFault

_STATUS = {
    0b00001: "alignment fault",
    0b00011: "access flag fault, level 1",
    0b00110: "access flag fault, level 2",
    0b00101: "translation fault, level 1",
    0b00111: "translation fault, level 2",
    0b01001: "domain fault, level 1",
    0b01011: "domain fault, level 2",
    0b01101: "permission fault, level 1",
    0b01111: "permission fault, level 2",
}


def fault_reason(status: int) -> str:
    """Bits 10 and 3:0 of DFSR or IFSR: what the walk found, and where."""
    number = status >> 6 & 0x10 | status & 0xF
    return _STATUS.get(number, f"fault status {number:#x}")


def page_fault(status: int, address: int, *, fetch: bool) -> PageFault:
    """The Python exception for an abort; ``fetch`` if it is a prefetch abort."""
    access = "execute" if fetch else "write" if status >> 11 & 1 else "read"
    return PageFault(address, access, fault_reason(status), status)
