"""The refusal of recursion, on its way from the inner call to the source that makes it."""

from __future__ import annotations

from kernmem.compiler.program import Function


class Recursion(Exception):
    """A function that would call itself: the cycle, for the call to refuse."""

    def __init__(self, cycle: list[Function]) -> None:
        super().__init__(" -> ".join(function.name for function in [*cycle, cycle[0]]))
