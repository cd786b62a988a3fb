"""Which functions of an x86-64 image call which, for the bound of the stack.

Instructions of any length cannot be read backwards, and hardly forwards; but every function is
compiled to a section of its own, so that each call is a relocation, and the linker keeps them
(``--emit-relocs``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

PC32, PLT32 = 2, 4  # R_X86_64_...: relative to the end of its 4 bytes, in what is compiled here
ABSOLUTE = {1: 8, 10: 4, 11: 4}  # R_X86_64_64, 32, 32S: bytes that hold an address
CALL, JUMP = 0xE8, 0xE9


class Reference(NamedTuple):
    """A use of an address: where, of what, and whether control goes there."""

    place: int
    target: int
    is_call: bool


def references(start: int, code: bytes, relocations: Iterable[Any]) -> Iterator[Reference]:
    """What the code of a section at ``start`` refers to outside of each function."""
    for relocation in relocations:
        place, kind = relocation["r_offset"], relocation["r_info_type"]
        at = place - start
        if kind in (PC32, PLT32):
            distance = int.from_bytes(code[at : at + 4], "little", signed=True)
            # Before a jump on a condition, 0f 80 to 0f 8f; an operand in memory never looks so.
            jump = code[at - 2] == 0x0F and code[at - 1] & 0xF0 == 0x80
            yield Reference(place, place + 4 + distance, jump or code[at - 1] in (CALL, JUMP))
        elif kind in ABSOLUTE:
            address = int.from_bytes(code[at : at + ABSOLUTE[kind]], "little")
            yield Reference(place, address, False)
