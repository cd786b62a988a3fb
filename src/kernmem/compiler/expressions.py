"""Expressions: from Python's tree to the typed tree."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from enum import Enum
from typing import Any

from kernmem.compiler import calls, operators
from kernmem.compiler.context import Context, Value, is_plain_int
from kernmem.compiler.discover import snake_case
from kernmem.compiler.errors import CompileError
from kernmem.compiler.order import check_order
from kernmem.compiler.scope import Known
from kernmem.compiler.spelling import Digits, Named
from kernmem.compiler.tree import (
    Call,
    Choose,
    Effect,
    Element,
    Expression,
    Inside,
    Literal,
    Load,
    Logical,
    Read,
)
from kernmem.compiler.types import Boolean, Nothing, Number, Reference, Sequence, Type, class_type
from kernmem.language import Array, Component, Integer, Struct, usize
from kernmem.language import Field as StructField
from kernmem.language.structs import layout

REFUSED = {
    ast.Lambda: ("a lambda", "a @kernel method"),
    ast.ListComp: ("a comprehension", "a `for` over a build-time tuple"),
    ast.SetComp: ("a comprehension", "a `for` over a build-time tuple"),
    ast.DictComp: ("a comprehension", "a `for` over a build-time tuple"),
    ast.GeneratorExp: ("a generator", "a `for` over a build-time tuple"),
    ast.List: ("a list", "a tuple in the component's `__init__`"),
    ast.Set: ("a set", "a tuple in the component's `__init__`"),
    ast.Dict: ("a dict", "a tuple in the component's `__init__`"),
    ast.Tuple: ("a tuple", "it in the component's `__init__`"),
    ast.NamedExpr: ("an assignment", "it as a statement of its own"),
    ast.Await: ("await", "a call"),
    ast.Yield: ("yield", "`return`"),
    ast.YieldFrom: ("yield", "`return`"),
    ast.Starred: ("an unpacked value", "every value"),
    ast.JoinedStr: ("an f-string", "it inside `panic`, `print` or `assert`"),
    ast.Slice: ("a slice", "a loop over the elements"),
}


class Expressions:
    """The expressions of one function."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.scope = context.scope
        self._visit: dict[type[ast.expr], Callable[[Any], Value]] = {
            ast.Constant: self._constant,
            ast.Name: self._name,
            ast.Attribute: self._attribute,
            ast.Subscript: self._subscript,
            ast.BinOp: self._binary,
            ast.UnaryOp: self._unary,
            ast.BoolOp: self._logical,
            ast.Compare: self._compare,
            ast.IfExp: self._choose,
            ast.Call: lambda node: calls.call(self, node),
        }

    # Entry points -------------------------------------------------------------------------

    def evaluate(self, node: ast.expr) -> Value:
        """The value of an expression."""
        visit = self._visit.get(type(node))
        if visit is None:
            what, instead = REFUSED.get(type(node), (type(node).__name__, "something simpler"))
            raise self.context.refuse(
                node, "an expression must be of kernel Python", f"{what}", instead
            )
        value = visit(node)
        if isinstance(value, Call) and isinstance(value.type, Nothing):
            raise self.context.refuse(
                node,
                "a value must come from a function with a result",
                self.context.show(node),
                "the call as a statement of its own",
            )
        return value

    def typed(self, node: ast.expr, kind: Type, what: str) -> Expression:
        """The expression where a ``kind`` is due; ``what`` names the place."""
        return self.context.coerce(self.evaluate(node), kind, node, what)

    def condition(self, node: ast.expr) -> Value:
        """A bool; Known if the branch is decided at build time."""
        value = self.evaluate(node)
        if isinstance(value, Known) and type(value.value) is bool:
            return value
        if isinstance(value, Expression) and isinstance(value.type, Boolean):
            if isinstance(value, Literal):
                return Known(bool(value.value))
            return value
        text = self.context.source.text(node)
        kind = value.type if isinstance(value, Expression) else None
        instead = f"`{text} is not None`" if isinstance(kind, Reference) else f"`{text} != 0`"
        raise self.context.refuse(
            node, "a condition must be a bool", self.context.show(node, value), instead
        )

    # Names and constants ------------------------------------------------------------------

    def _constant(self, node: ast.Constant) -> Value:
        value = node.value
        if value is None or type(value) is bool:
            return Known(value)
        if type(value) is int:
            segment = self.context.source.segment(node)
            text = segment.replace("_", "").lower()
            return Known(value, Digits(text if text.startswith("0x") else str(value), value))
        if isinstance(value, str):
            return Known(value)
        raise self.context.refuse(
            node,
            "a constant must be an integer, a bool or None",
            f"{self.context.show(node)}, {type(value).__name__}",
            "an integer",
        )

    def _name(self, node: ast.Name) -> Value:
        name, scope = node.id, self.scope
        if name == "self" and self.context.instance is not None:
            return Known(self.context.instance)
        if name in scope.known:
            return scope.known[name]
        if name in scope.locals:
            symbol = scope.symbols.get(name)
            if symbol is None or (scope.assigned is not None and symbol not in scope.assigned):
                raise self.context.refuse(
                    node,
                    "a variable must have a value on every path to its use",
                    f"`{name}`",
                    "an assignment before",
                )
            symbol.reads += 1
            return Read(symbol.type, symbol)
        found, value = scope.outside(name)
        if not found:
            raise self.context.refuse(
                node, "a name must be known", f"`{name}`", "a name that is defined or imported"
            )
        return self.known(node, value, name, scope.function.__module__)

    def known(self, node: ast.expr, value: Any, name: str, owner: str) -> Known:
        """A build-time value found under a name, which the C keeps for numbers."""
        if type(value) is int or (isinstance(value, Integer) and not isinstance(value, Struct)):
            number = int(value)
            part = self.context.compiler.part_of(self.context.instance)
            module = part.module if part else self.context.function.module
            home = self.context.compiler.homes.get(owner, module)
            named = Named(snake_case(name).upper(), number, owner.rpartition(".")[2], home)
            return Known(value, named if number >= 0 else None)
        return Known(value)

    def _attribute(self, node: ast.Attribute) -> Value:
        if _is_super(node.value):
            raise self.context.refuse(
                node, "super() must be called", self.context.show(node), "`super().method(…)`"
            )
        base = self.evaluate(node.value)
        if isinstance(base, Expression) or isinstance(base.value, Struct):
            return self.field(node, self.context.value(base, node.value))
        return self._known_attribute(node, base.value)

    def _known_attribute(self, node: ast.Attribute, base: Any) -> Known:
        if isinstance(base, Array):
            raise self._refuse_array_attribute(node)
        try:
            value = getattr(base, node.attr)
        except Exception as error:
            raise self.context.refuse(
                node,
                "an attribute must be there when the kernel is built",
                f"{self.context.show(node)} ({error})",
                "it in `__init__`",
            ) from None
        if isinstance(base, Component):
            part = self.context.compiler.part_of(base)
            if part is not None:
                name = snake_case(node.attr).upper()
                if type(value) is int or (
                    isinstance(value, Integer) and not isinstance(value, Struct)
                ):
                    number = int(value)
                    named = Named(name, number, part.prefix, part.module)
                    return Known(value, named if number >= 0 else None)
            return Known(value)
        if inspect.ismodule(base):
            return self.known(node, value, node.attr, base.__name__)
        if isinstance(base, type) and issubclass(base, Enum) and type(value) is base:
            if class_type(base) is None:
                raise self.context.refuse(
                    node,
                    "an enumeration must have a C name",
                    f"`{base.__name__}` without one",
                    '`@enumeration("c_name_t")` above the class',
                )
            return Known(value)
        return Known(value)

    def _refuse_array_attribute(self, node: ast.Attribute) -> CompileError:
        return self.context.refuse(
            node,
            "an array has only elements",
            self.context.show(node),
            "`address_of(array)` for its address",
        )

    # Memory -------------------------------------------------------------------------------

    def field(self, node: ast.Attribute, reference: Expression) -> Expression:
        """``reference.field``: a load, or the place of an array."""
        if isinstance(reference.type, Sequence):
            raise self._refuse_array_attribute(node)
        if not isinstance(reference.type, Reference):
            raise self.context.refuse(
                node,
                "what has fields must be a reference to a struct",
                self.context.show(node.value, reference),
                "`self.at(Struct, address)` for one",
            )
        struct = reference.type.struct
        for field in layout(struct, self.context.compiler.target).fields:
            if field.name == node.attr:
                if field.length is not None:
                    return Inside(Sequence(field.kind, field.length), reference, field)
                return Load(self._field_type(node, field), reference, field)
        raise self.context.refuse(
            node,
            f"a field must be one of {struct.__name__}",
            self.context.show(node),
            "a field of it",
        )

    def _field_type(self, node: ast.Attribute, field: StructField) -> Type:
        kind = class_type(field.kind)
        if kind is None:
            raise self.context.refuse(
                node,
                "an enumeration must have a C name",
                f"`{field.kind.__name__}` without one",
                '`@enumeration("c_name_t")` above the class',
            )
        return kind

    def _subscript(self, node: ast.Subscript) -> Value:
        base = self.evaluate(node.value)
        if isinstance(base, Known) and isinstance(base.value, tuple):
            index = self.evaluate(node.slice)
            if not isinstance(index, Known):
                raise self.context.refuse(
                    node.slice,
                    "a build-time tuple must be indexed by a build-time number",
                    self.context.show(node.slice, index),
                    "a `for` over the tuple",
                )
            try:
                return Known(base.value[index.value])
            except (IndexError, TypeError) as error:
                raise self.context.source.fail(
                    node, f"this cannot be computed at build time: {error}"
                ) from None
        array = self.context.lift(base)
        if array is None or not isinstance(array.type, Sequence):
            raise self.context.refuse(
                node.value,
                "what is indexed must be an array or a build-time tuple",
                self.context.show(node.value, base),
                "`self.array_at(u64, address)` for memory",
            )
        return self._element(node, array)

    def _element(self, node: ast.Subscript, array: Expression) -> Element:
        assert isinstance(array.type, Sequence)
        length = array.type.length
        value = self.evaluate(node.slice)
        index = self.context.lift(value)
        if isinstance(value, Known) and type(value.value) is int:
            index = Literal(Number(usize), value.value, value.spelling)
        if index is None or not isinstance(index.type, Number) or index.type.is_address:
            raise self.context.refuse(
                node.slice,
                "an index must be an integer",
                self.context.show(node.slice, value),
                "`usize(…)`",
            )
        past = isinstance(index, Literal) and length is not None and index.value >= length
        if isinstance(index, Literal) and (index.value < 0 or past):
            raise self.context.refuse(
                node.slice,
                "an index must be within the array" + (f" of {length}" if length else ""),
                str(index.value),
                "one from 0",
            )
        check_order(self.context, node, (array, index))
        return Element(Number(array.type.element), array, index, self.context.where(node))

    # Operators ----------------------------------------------------------------------------

    def _binary(self, node: ast.BinOp) -> Value:
        left, right = self.evaluate(node.left), self.evaluate(node.right)
        return operators.binary(self.context, node, node.op, left, right)

    def _unary(self, node: ast.UnaryOp) -> Value:
        if isinstance(node.op, ast.Not):
            return operators.negated(self.condition(node.operand))
        operand = self.evaluate(node.operand)
        if isinstance(node.op, ast.Invert):
            return operators.invert(self.context, node, operand)
        if isinstance(node.op, ast.USub) and is_plain_int(operand):
            assert isinstance(operand, Known)
            return Known(-operand.value)
        sign = "-" if isinstance(node.op, ast.USub) else "+"
        raise self.context.refuse(
            node,
            f"kernel integers are unsigned and have no unary {sign}",
            self.context.show(node),
            "`wrap_subtract(zero, x)`" if sign == "-" else "the operand alone",
        )

    def _logical(self, node: ast.BoolOp) -> Value:
        sign = "and" if isinstance(node.op, ast.And) else "or"
        decides = sign == "or"
        result: Value = Known(not decides)
        for operand in node.values:
            value = self.condition(operand)
            if isinstance(result, Known):
                result = value
            elif isinstance(value, Expression):
                result = Logical(Boolean(), sign, result, value)
            elif value.value is decides:
                if result.effect is Effect.ACTS or result.traps:
                    result = Logical(Boolean(), sign, result, Literal(Boolean(), int(decides)))
                else:
                    result = value
            if isinstance(value, Known) and value.value is decides:
                break
        return result

    def _compare(self, node: ast.Compare) -> Value:
        result: Value = Known(True)
        left = self.evaluate(node.left)
        for position, (op, operand) in enumerate(zip(node.ops, node.comparators, strict=True)):
            right = self.evaluate(operand)
            last = position == len(node.ops) - 1
            if not last and not isinstance(right, (Known, Read, Literal)):
                raise self.context.refuse(
                    operand,
                    "the middle of a chained comparison must be a name",
                    self.context.show(operand),
                    "`a < b and b < c`",
                )
            one = operators.compare(self.context, node, op, left, right)
            if isinstance(result, Known):
                result = one if result.value else result
            elif isinstance(one, Expression):
                result = Logical(Boolean(), "and", result, one)
            elif not one.value:
                result = Logical(Boolean(), "and", result, Literal(Boolean(), 0))
            left = right
        return result

    def _choose(self, node: ast.IfExp) -> Value:
        condition = self.condition(node.test)
        if isinstance(condition, Known):
            return self.evaluate(node.body if condition.value else node.orelse)
        one, other = self.evaluate(node.body), self.evaluate(node.orelse)
        kinds = [lifted.type for lifted in map(self.context.lift, (one, other)) if lifted]
        if not kinds:
            raise self.context.refuse_untyped(one, node.body)
        what = "the other result of a conditional expression"
        return Choose(
            kinds[0],
            condition,
            self.context.coerce(one, kinds[0], node.body, what),
            self.context.coerce(other, kinds[0], node.orelse, what),
        )


def _is_super(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"
    )
