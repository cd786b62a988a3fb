"""Which addresses a function of a 32-bit Arm image goes to, for the bound of the stack.

Every instruction has 4 bytes and a condition (DDI 0406, A5.1).
"""

from __future__ import annotations

from collections.abc import Iterator

from kernmem.machine.calls_riscv import Jump

PROGRAM_COUNTER, LINK, STACK_POINTER = 15, 14, 13


def jumps(address: int, code: bytes) -> Iterator[Jump]:
    """Every branch, and every other write to the program counter that is not a return."""
    for at in range(0, len(code), 4):
        word = int.from_bytes(code[at : at + 4], "little")
        if word >> 25 & 0b111 == 0b101:  # b, bl: a signed number of words in 24 bits
            distance = ((word & 0xFF_FFFF) ^ 0x80_0000) - 0x80_0000
            yield Jump(address + at + 8 + 4 * distance, bool(word >> 24 & 1))
        elif _is_indirect(word):
            yield Jump(None, False)


def _is_indirect(word: int) -> bool:
    """Whether an instruction goes where a register or a word in memory says, and is no return."""
    if word & 0x0FFF_FFD0 == 0x012F_FF10:  # bx, blx; return: bx lr
        return word & 0x2F != LINK
    if word & 0x0FFF_FFF0 == 0x01A0_F000:  # mov pc; return: from lr
        return word & 0xF != LINK
    if word & 0x0C10_0000 == 0x0410_0000 and word >> 28 != 0b1111:  # ldr; return: from the stack
        media = word >> 25 & 1 and word >> 4 & 1  # other instructions, udiv among them
        loads = word >> 12 & 0xF == PROGRAM_COUNTER and not media
        return loads and word >> 16 & 0xF != STACK_POINTER
    return False
