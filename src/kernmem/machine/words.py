"""Kernel values as machine words, as they are passed to compiled code and come back.

A value that is longer than a word takes two, and begins at an even one of them (AAPCS32, 6.5).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from kernmem.language import Struct, Target
from kernmem.language.structs import size_of
from kernmem.machine.port import Value


def to_words(values: Iterable[Any], kinds: Iterable[Value], target: Target) -> list[int]:
    """Arguments: integers, bools, enum members or references; None is a null pointer."""
    words: list[int] = []
    bits = 8 * target.pointer_bytes
    for value, kind in zip(values, kinds, strict=True):
        number = 0 if value is None else int(value)
        if _size(kind, target) > target.pointer_bytes:
            words += [0] * (len(words) % 2)
            words += [number % (1 << bits), number >> bits]
        else:
            words.append(number)
    return words


def from_word(word: int, result: Value, target: Target) -> Any:
    """A result, of which only the bits of its own type mean anything."""
    kind = result.kind
    if kind is None:
        return None
    if issubclass(kind, bool):
        return bool(word & 1)
    return word & (1 << 8 * _size(result, target)) - 1


def _size(value: Value, target: Target) -> int:
    """Bytes of a value of this type."""
    kind = value.kind
    if kind is None or issubclass(kind, Struct):
        return target.pointer_bytes
    return 1 if issubclass(kind, bool) else size_of(kind, target)


class Arguments:
    """The arguments of a variadic function, read from the words that they were passed in."""

    def __init__(self, words: Iterator[int], target: Target) -> None:
        self._words = words
        self._word_bytes = target.pointer_bytes
        self._taken = 0

    def number(self) -> int:
        """The next one, of 8 bytes."""
        count = 8 // self._word_bytes
        while self._taken % count:
            self.pointer()
        return sum(self.pointer() << 8 * self._word_bytes * part for part in range(count))

    def pointer(self) -> int:
        """The next one, of one word."""
        self._taken += 1
        return next(self._words)
