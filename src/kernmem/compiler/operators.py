"""Operators: which types they take and give, and what can be computed at build time."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

from kernmem.compiler.context import Context, Value, is_number, is_plain_int
from kernmem.compiler.errors import CompileError
from kernmem.compiler.order import check_order
from kernmem.compiler.scope import Known
from kernmem.compiler.spelling import digits, operation
from kernmem.compiler.tree import (
    Always,
    Binary,
    Compare,
    Contains,
    Effect,
    Expression,
    Invert,
    Literal,
    Member,
    Not,
    Null,
    Read,
)
from kernmem.compiler.types import Boolean, Enumeration, Number, Reference, is_nullable
from kernmem.language import IntegerOverflow, usize

BINARY: dict[type[ast.operator], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.FloorDiv: ("//", operator.floordiv),
    ast.Mod: ("%", operator.mod),
    ast.BitAnd: ("&", operator.and_),
    ast.BitOr: ("|", operator.or_),
    ast.BitXor: ("^", operator.xor),
    ast.LShift: ("<<", operator.lshift),
    ast.RShift: (">>", operator.rshift),
}
COMPARE: dict[type[ast.cmpop], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Eq: ("==", operator.eq),
    ast.NotEq: ("!=", operator.ne),
    ast.Lt: ("<", operator.lt),
    ast.LtE: ("<=", operator.le),
    ast.Gt: (">", operator.gt),
    ast.GtE: (">=", operator.ge),
}
FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "==": "==", "!=": "!="}


def binary(context: Context, node: ast.AST, op: ast.operator, left: Value, right: Value) -> Value:
    """``left op right``"""
    if type(op) not in BINARY:
        raise context.refuse(
            node,
            "arithmetic must be one of + - * // % & | ^ << >>",
            context.show(node),
            "`//` for a quotient" if isinstance(op, ast.Div) else "it with those",
        )
    sign, compute = BINARY[type(op)]
    if isinstance(left, Known) and isinstance(right, Known):
        return _fold(context, node, sign, compute, left, right)
    if is_number(left) and is_number(right):
        return _arithmetic(context, node, sign, left, right)
    one, other = context.lift(left), context.lift(right)
    if _are_flags(one, other) and sign in "&|":
        assert one is not None and other is not None
        check_order(context, node, (one, other))
        return Binary(one.type, sign, one, other, one.type, context.where(node), wraps=True)
    raise context.refuse(
        node,
        f"the operands of {sign} must be integers of one type",
        f"{context.show(node)}",
        "integers" if sign not in "&|" else "integers, or flags of one type",
    )


def _are_flags(one: Expression | None, other: Expression | None) -> bool:
    """Whether both are flags of one IntFlag."""
    if one is None or other is None or one.type != other.type:
        return False
    return isinstance(one.type, Enumeration) and one.type.is_flag


def _fold(
    context: Context,
    node: ast.AST,
    sign: str,
    compute: Callable[[Any, Any], Any],
    left: Known,
    right: Known,
) -> Known:
    try:
        value = compute(left.value, right.value)
    except (TypeError, ValueError, ArithmeticError, IntegerOverflow) as error:
        raise context.source.fail(node, f"this cannot be computed at build time: {error}") from None
    if is_number(left) and is_number(right):
        one = left.spelling or digits(int(left.value))
        other = right.spelling or digits(int(right.value))
        return Known(value, operation(sign, one, other, int(value)))
    return Known(value)


def _arithmetic(context: Context, node: ast.AST, sign: str, left: Value, right: Value) -> Value:
    """Arithmetic of which at least one operand is a machine integer."""
    one, other = context.lift(left), context.lift(right)
    if sign in ("<<", ">>"):
        return _shift(context, node, sign, left, right)
    if one is None:
        assert other is not None and isinstance(other.type, Number)
        if other.type.is_address:
            raise _refuse_address(context, node, sign)
        one = fit(context, node, left, other.type, sign)
    assert isinstance(one.type, Number)
    kind = result = one.type
    if kind.is_address:
        same = other is not None and other.type == kind
        if sign in ("//", "%", "&"):
            kind = result = Number(usize)
        elif sign == "-" and same:
            result = Number(usize)
        elif sign not in ("+", "-"):
            raise _refuse_address(context, node, sign)
        due = one.type if sign == "-" and same else Number(usize)
    else:
        due = kind
    if other is None:
        other = fit(context, node, right, due, sign)
    elif other.type != due:
        raise context.refuse(
            node,
            f"the operands of {sign} must have one type",
            f"{one.type} {sign} {other.type} in {context.show(node)}",
            f"`{due}(…)` around one" if not one.type.is_address else f"{due} on the right",
        )
    if isinstance(other, Literal) and other.value == 0 and sign in ("//", "%"):
        raise context.refuse(node, "a divisor must not be 0", context.show(node), "another")
    check_order(context, node, (one, other))
    return Binary(result, sign, one, other, kind, context.where(node))


def _shift(context: Context, node: ast.AST, sign: str, left: Value, right: Value) -> Value:
    one, other = context.lift(left), context.lift(right)
    if one is None:
        raise context.refuse(
            node,
            "what is shifted must have a width",
            context.show(node, left),
            f"`u64(…) {sign} count`",
        )
    assert isinstance(one.type, Number)
    result = kind = one.type
    if kind.is_address:
        if sign == "<<":
            raise _refuse_address(context, node, sign)
        result = kind = Number(usize)
    bits = kind.bits(context.compiler.target)
    if other is None:
        assert isinstance(right, Known)
        other = Literal(kind, right.value, right.spelling)
    elif isinstance(other.type, Number) and other.type.is_address:
        raise _refuse_address(context, node, sign)
    if isinstance(other, Literal) and not 0 <= other.value < bits:
        raise context.refuse(
            node,
            f"a {kind} must be shifted by 0 to {bits - 1}",
            f"{other.value} in {context.show(node)}",
            "a shorter shift",
        )
    check_order(context, node, (one, other))
    return Binary(result, sign, one, other, kind, context.where(node))


def _refuse_address(context: Context, node: ast.AST, sign: str) -> CompileError:
    return context.refuse(
        node,
        "an address has only + - of a usize, - of its own kind, and // % & >> by a usize",
        f"{sign} in {context.show(node)}",
        "`usize(address)` for its number",
    )


def fit(context: Context, node: ast.AST, value: Value, kind: Number, sign: str) -> Literal:
    """A build-time number beside a machine integer takes its type, and must be within it."""
    assert isinstance(value, Known)
    maximum = kind.maximum(context.compiler.target)
    if not 0 <= value.value <= maximum:
        raise context.refuse(
            node,
            f"a number beside {kind} must be within 0 and {maximum:#x}",
            f"{value.value:#x} in {context.show(node)}",
            "a number that fits, or a wider type",
        )
    return Literal(kind, value.value, value.spelling)


def invert(context: Context, node: ast.AST, operand: Value) -> Value:
    """``~operand``"""
    if isinstance(operand, Known) and is_plain_int(operand):
        return Known(~operand.value)
    one = context.lift(operand)
    if one is None or not isinstance(one.type, Number) or one.type.is_address:
        raise context.refuse(
            node, "~ must have an integer", context.show(node, operand), "`~usize(…)`"
        )
    return Invert(one.type, one)


def compare(context: Context, node: ast.AST, op: ast.cmpop, left: Value, right: Value) -> Value:
    """``left op right``, one comparison of a chain."""
    if isinstance(op, (ast.Is, ast.IsNot)):
        return _identity(context, node, isinstance(op, ast.IsNot), left, right)
    if isinstance(op, (ast.In, ast.NotIn)):
        inside = _contains(context, node, left, right)
        return negated(inside) if isinstance(op, ast.NotIn) else inside
    sign, compute = COMPARE[type(op)]
    if isinstance(left, Known) and isinstance(right, Known):
        return Known(bool(compute(left.value, right.value)))
    for value in (left, right):
        if isinstance(value, Known) and value.value is None:
            raise context.refuse(
                node,
                "None must be compared with is",
                context.show(node),
                f"`is {'not ' if sign == '!=' else ''}None`",
            )
    one, other = context.lift(left), context.lift(right)
    if one is None and other is not None and is_plain_int(left) and isinstance(other.type, Number):
        one = fit(context, node, left, other.type, sign)
    if other is None and one is not None and is_plain_int(right) and isinstance(one.type, Number):
        other = fit(context, node, right, one.type, sign)
    if one is None or other is None or one.type != other.type:
        types = " and ".join(str(one.type) if one else "?" for one in (one, other))
        raise context.refuse(
            node,
            f"the operands of {sign} must have one type",
            f"{types} in {context.show(node)}",
            "a conversion around one",
        )
    if isinstance(one.type, (Reference, Boolean)) and sign not in ("==", "!="):
        raise context.refuse(
            node,
            f"{one.type} has no order",
            context.show(node),
            "`address_of(x)`" if isinstance(one.type, Reference) else "`==` or `!=`",
        )
    if not isinstance(one.type, (Number, Boolean, Enumeration, Reference)):
        raise context.refuse(
            node, f"{one.type} cannot be compared", context.show(node), "its elements"
        )
    if isinstance(one, Read) and isinstance(other, Read) and one.symbol is other.symbol:
        return Known(sign in ("==", "<=", ">="))
    check_order(context, node, (one, other))
    if isinstance(one, Literal) and isinstance(other, Literal):
        return Known(bool(compute(one.value, other.value)))
    return _settled(context, sign, one, other) or Compare(Boolean(), sign, one, other)


def _settled(context: Context, sign: str, one: Expression, other: Expression) -> Value | None:
    """``x >= 0`` and the like have one result; C compilers warn of them."""
    if isinstance(one, Literal) and not isinstance(other, Literal):
        return _settled(context, FLIPPED[sign], other, one)
    if not isinstance(other, Literal) or not isinstance(one.type, Number):
        return None
    maximum = one.type.maximum(context.compiler.target)
    if (other.value, sign) in ((0, "<"), (maximum, ">")):
        value = False
    elif (other.value, sign) in ((0, ">="), (maximum, "<=")):
        value = True
    else:
        return None
    if one.traps or one.effect is Effect.ACTS:
        return Always(Boolean(), one, value)
    return Known(value)


def _identity(context: Context, node: ast.AST, negate: bool, left: Value, right: Value) -> Value:
    if isinstance(left, Known) and isinstance(right, Known):
        return Known((left.value is right.value) != negate)
    one, other = context.lift(left), context.lift(right)
    if isinstance(right, Known) and right.value is None and one is not None:
        if not is_nullable(one.type):
            raise context.refuse(
                node,
                "what is compared with None must be a reference or an address",
                context.show(node, left),
                "a comparison with a number",
            )
        return Compare(Boolean(), "!=" if negate else "==", one, Null(one.type))
    both = one is not None and other is not None and one.type == other.type
    if both and isinstance(other, Member) and not other.type.is_flag:  # type: ignore[union-attr]
        assert one is not None
        return Compare(Boolean(), "!=" if negate else "==", one, other)
    raise context.refuse(
        node, "is must have None on its right", context.show(node), f"`{'!=' if negate else '=='}`"
    )


def _contains(context: Context, node: ast.AST, left: Value, right: Value) -> Value:
    if isinstance(left, Known) and isinstance(right, Known):
        try:
            return Known(left.value in right.value)
        except TypeError as error:
            raise context.source.fail(
                node, f"this cannot be computed at build time: {error}"
            ) from None
    one, other = context.lift(left), context.lift(right)
    if not _are_flags(one, other):
        raise context.refuse(
            node,
            "in must have two flags of one IntFlag",
            context.show(node),
            "comparisons joined with `or`",
        )
    assert one is not None and other is not None
    if not isinstance(one, (Member, Read)):
        raise context.refuse(
            node, "the left of in must be a member or a name", context.show(node), "it to a name"
        )
    return Contains(Boolean(), one, other)


def negated(value: Value) -> Value:
    """``not value``"""
    if isinstance(value, Known):
        return Known(not value.value)
    return value.operand if isinstance(value, Not) else Not(Boolean(), value)
