"""Kernel values as machine words, as they are passed to compiled code and come back."""

from __future__ import annotations

from typing import Any

from kernmem.language import Struct, Target
from kernmem.language.structs import size_of
from kernmem.machine.port import Value


def to_word(value: Any) -> int:
    """An argument: an integer, bool, enum member or reference; None is a null pointer."""
    return 0 if value is None else int(value)


def from_word(word: int, result: Value, target: Target) -> Any:
    """A result, of which only the bits of its own type mean anything."""
    kind = result.kind
    if kind is None:
        return None
    if issubclass(kind, bool):
        return bool(word & 1)
    size = target.pointer_bytes if issubclass(kind, Struct) else size_of(kind, target)
    return word & (1 << 8 * size) - 1
