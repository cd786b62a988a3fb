"""Which addresses a function of a RISC-V image goes to, for the bound of the stack.

Instructions are two bytes long, or four if the lowest two bits are set.  A far call is an AUIPC,
which makes the upper part of the address, and a JALR right after it (the RISC-V Instruction Set
Manual, Volume I: "RV32I", "C"; the ELF psABI, "Function Calling").
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

RETURN_ADDRESS = 1  # the register ra


class Jump(NamedTuple):
    """A jump or call: where to, None if through a register; and whether it comes back."""

    target: int | None
    is_call: bool


def jumps(address: int, code: bytes) -> Iterator[Jump]:
    """Every jump without a condition in the function whose code lies at ``address``."""
    at = 0
    upper: dict[int, int] = {}  # what the AUIPC before left in which register
    while at < len(code):
        here = address + at
        half = int.from_bytes(code[at : at + 2], "little")
        if half & 0b11 != 0b11:
            at += 2
            upper = {}
            yield from _compressed(here, half)
            continue
        word = int.from_bytes(code[at : at + 4], "little")
        at += 4
        left = word >> 7 & 31
        opcode, upper_before, upper = word & 0x7F, upper, {}
        if opcode == 0x17:  # auipc
            upper = {left: here + _signed(word >> 12, 20) * 0x1000}
        elif opcode == 0x6F:  # jal
            distance = _gather(word, "31 19:12 20 30:21") << 1
            yield Jump(here + _signed(distance, 21), left != 0)
        elif opcode == 0x67:  # jalr
            base = word >> 15 & 31
            if base in upper_before:
                yield Jump(upper_before[base] + _signed(word >> 20, 12), left != 0)
            elif base != RETURN_ADDRESS or left != 0:
                yield Jump(None, left != 0)


def _compressed(here: int, half: int) -> Iterator[Jump]:
    """The jumps among the instructions of two bytes."""
    if half & 0xE003 == 0xA001:  # c.j
        distance = _gather(half, "12 8 10:9 6 7 2 11 5:3") << 1
        yield Jump(here + _signed(distance, 12), False)
    register = half >> 7 & 31
    if half & 0xE07F == 0x8002 and register:  # c.jr, c.jalr
        is_call = bool(half >> 12 & 1)
        if is_call or register != RETURN_ADDRESS:
            yield Jump(None, is_call)


def _gather(word: int, fields: str) -> int:
    """The bits of an immediate, put in order: ``"31 19:12"`` is bit 31, then bits 19 to 12."""
    value = 0
    for field in fields.split():
        high, _, low = field.partition(":")
        width = int(high) - int(low or high) + 1
        value = value << width | word >> int(low or high) & (1 << width) - 1
    return value


def _signed(value: int, bits: int) -> int:
    """Two's complement."""
    return (value ^ 1 << bits - 1) - (1 << bits - 1)
