"""The order of evaluation: refuse expressions whose value depends on it.

Python evaluates operands left to right and C in any order, so two operands of which one acts
(stores, prints, may panic) and the other reads memory must be in different statements.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from kernmem.compiler.tree import Effect, Expression

if TYPE_CHECKING:
    from kernmem.compiler.context import Context


def check_order(context: Context, node: ast.AST, operands: tuple[Expression, ...]) -> None:
    """Refuse operands whose order matters."""
    actors = [one for one in operands if one.effect is Effect.ACTS]
    readers = [one for one in operands if one.effect is not Effect.PURE]
    if actors and len(readers) > 1:
        raise context.refuse(
            node,
            "a call with effects must not stand beside another call or a read of memory",
            f"so in {context.show(node)}",
            "its result to a name first",
        )


def check_store(
    context: Context, node: ast.AST, value: Expression, place: tuple[Expression, ...]
) -> None:
    """Refuse a value whose evaluation may change which place it is stored to."""
    acts = value.effect is Effect.ACTS
    if acts and any(part.effect is not Effect.PURE for part in place):
        check_order(context, node, (value, *place))
