"""Functions of which nothing is left for an instance: they are not called for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kernmem.compiler.tree import Block, Call, Effect, Expression, Read, expressions, walk

if TYPE_CHECKING:
    from kernmem.compiler.program import Function


def leave_out(call: Expression) -> bool:
    """Whether a statement's call does nothing at all; if so, its reads of locals are uncounted."""
    assert isinstance(call, Call)
    if not call.function.is_empty:
        return False
    if any(argument.traps or argument.effect == Effect.ACTS for argument in call.arguments):
        return False
    for part in call.walk():
        if isinstance(part, Read):
            part.symbol.reads -= 1
    return True


def called_in(block: Block) -> Iterator[Function]:
    """The functions that a block calls, in the order of the calls."""
    for statement in walk(block):
        for expression in expressions(statement):
            for part in expression.walk():
                if isinstance(part, Call):
                    yield part.function
