"""How a build-time number is written in C: by name where the source has a name for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from kernmem.language import Struct

INT_MAXIMUM = (1 << 31) - 1


@dataclass(frozen=True)
class Named:
    """A number that an attribute or a global holds: ``self.page_length`` is ``PAGE_LENGTH``.

    ``owner`` tells constants of one name and several values apart.
    """

    name: str
    value: int
    owner: str
    module: str


@dataclass(frozen=True)
class Digits:
    """A number as the source writes it: ``0xA5``."""

    text: str
    value: int


@dataclass(frozen=True)
class SizeOf:
    """``self.sizeof(Struct)``"""

    struct: type[Struct]
    value: int


@dataclass(frozen=True)
class Operation:
    """Arithmetic on build-time numbers, kept as it was written."""

    operator: str
    left: Spelling
    right: Spelling
    value: int


Spelling: TypeAlias = Named | Digits | SizeOf | Operation


def digits(value: int) -> Digits:
    """A number without a name: in hex where that is easier to read."""
    return Digits(hex(value) if abs(value) >= 0x10000 else str(value), value)


def operation(operator: str, left: Spelling, right: Spelling, value: int) -> Spelling:
    """Arithmetic, kept as written if C computes the same value and something has a name."""
    whole = Operation(operator, left, right, value)
    if is_plain(whole) and (has_name(left) or has_name(right)):
        return whole
    return digits(value)


def is_plain(spelling: Spelling) -> bool:
    """Whether C computes it exactly: every number in it is a non-negative ``int``."""
    if not 0 <= spelling.value <= INT_MAXIMUM:
        return False
    if isinstance(spelling, Operation):
        return is_plain(spelling.left) and is_plain(spelling.right)
    return True


def has_name(spelling: Spelling) -> bool:
    """Whether the text says more than the number."""
    if isinstance(spelling, Operation):
        return has_name(spelling.left) or has_name(spelling.right)
    return not isinstance(spelling, Digits)


def has_size_of(spelling: Spelling) -> bool:
    """Whether the C has the type ``size_t``."""
    if isinstance(spelling, Operation):
        return has_size_of(spelling.left) or has_size_of(spelling.right)
    return isinstance(spelling, SizeOf)
