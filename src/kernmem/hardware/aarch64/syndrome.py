"""The exception syndrome of AArch64 in words (DDI 0487, ESR_EL1)."""

from __future__ import annotations

from kernmem.language import PageFault

INSTRUCTION_ABORT = 0x21
DATA_ABORT = 0x25

_STATUS = {
    0x0: "address size fault",
    0x1: "translation fault",
    0x2: "access flag fault",
    0x3: "permission fault",
}


def exception_class(syndrome: int) -> int:
    """Bits 31:26, EC: what kind of exception it was."""
    return syndrome >> 26


def is_abort(syndrome: int) -> bool:
    """Whether the MMU refused an access of EL1."""
    return exception_class(syndrome) in (INSTRUCTION_ABORT, DATA_ABORT)


def fault_reason(syndrome: int) -> str:
    """Bits 5:0 of an abort, the fault status: what the walk found, and where."""
    status = _STATUS.get(syndrome >> 2 & 0xF)
    if status is None:
        return f"fault status {syndrome & 0x3F:#x}"
    return f"{status}, level {syndrome & 3}"


def page_fault(syndrome: int, address: int) -> PageFault:
    """The Python exception for an abort."""
    if exception_class(syndrome) == INSTRUCTION_ABORT:
        access = "execute"
    else:
        access = "write" if syndrome & 0x40 else "read"  # WnR: write, not read
    return PageFault(address, access, fault_reason(syndrome), syndrome)
