"""Calls: of kernel functions, and of what the language itself provides."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kernmem.compiler.context import Value, describe, is_plain_int
from kernmem.compiler.errors import CompileError
from kernmem.compiler.order import check_order
from kernmem.compiler.program import NO_DEFAULT, Function, Parameter
from kernmem.compiler.recursion import Recursion
from kernmem.compiler.scope import Known
from kernmem.compiler.spelling import SizeOf
from kernmem.compiler.tree import (
    Binary,
    BitIndex,
    Call,
    Cast,
    Convert,
    Expression,
    Literal,
)
from kernmem.compiler.types import (
    Boolean,
    Enumeration,
    Number,
    Reference,
    Sequence,
    declared,
)
from kernmem.language import (
    Component,
    Integer,
    PhysicalAddress,
    Struct,
    VirtualAddress,
    address_of,
    from_linear,
    highest_bit,
    linear,
    lowest_bit,
    panic,
    span,
    truncate,
    u32,
    wrap_add,
    wrap_multiply,
    wrap_subtract,
)

if TYPE_CHECKING:
    from kernmem.compiler.expressions import Expressions

STATEMENTS = {
    panic: "panic",
    Component.print: "print",
    Component.zero: "zero",
    Component.local: "local",
    span: "span",
    range: "range",
}


def callee(expressions: Expressions, node: ast.Call) -> tuple[Any, Component | None]:
    """What is called: an object, and the component if it is a method of one."""
    if _is_super_method(node.func):
        return _super_method(expressions, node.func)  # type: ignore[arg-type]
    value = expressions.evaluate(node.func)
    if isinstance(value, Expression):
        raise expressions.context.refuse(
            node,
            "what is called must be a kernel function",
            expressions.context.show(node.func, value),
            "a @kernel method",
        )
    if inspect.ismethod(value.value):
        method: Any = value.value
        return method.__func__, method.__self__
    return value.value, None


def call(expressions: Expressions, node: ast.Call) -> Value:
    """The value of a call."""
    context = expressions.context
    function, instance = callee(expressions, node)
    if isinstance(function, type) and issubclass(function, Integer):
        return _convert(expressions, node, function)
    builtin = BUILTINS.get(function) if _is_hashable(function) else None
    if builtin is not None:
        return builtin(expressions, node)
    if _is_hashable(function) and function in STATEMENTS:
        name = STATEMENTS[function]
        instead = {"local": "`with self.local(Struct) as name:`", "span": "`for i in span(a, b):`"}
        raise context.refuse(
            node,
            f"{name} must stand in a statement of its own",
            context.show(node),
            instead.get(name, "it so"),
        )
    return kernel_call(expressions, node, function, instance)


def kernel_call(
    expressions: Expressions, node: ast.Call, function: Any, instance: Component | None
) -> Call:
    """A call of a ``@kernel`` function."""
    context, compiler = expressions.context, expressions.context.compiler
    if not getattr(function, "__kernel__", False):
        raise _refuse_callee(expressions, node, function)
    if instance is not None and compiler.part_of(instance) is None:
        raise context.refuse(
            node,
            "a component must be held in an attribute of the kernel",
            context.show(node.func),
            "`self.name = …` in `__init__`",
        )
    try:
        called = compiler.compile(function, instance)
    except Recursion as cycle:
        raise context.refuse(
            node, "a function must not call itself", f"{cycle}", "a loop: stack use is bounded"
        ) from None
    arguments = _bind(expressions, node, called)
    check_order(context, node, arguments)
    return Call(called.result, called, arguments)


def _bind(expressions: Expressions, node: ast.Call, called: Function) -> tuple[Expression, ...]:
    """The arguments in the order of the parameters, defaults filled in."""
    context = expressions.context
    given: dict[str, ast.expr] = {}
    names = [parameter.name for parameter in called.parameters]
    for position, argument in enumerate(node.args):
        if isinstance(argument, ast.Starred):
            expressions.evaluate(argument)
        if position >= len(names):
            raise context.refuse(
                argument,
                f"{called.name} must be called with at most {len(names)} arguments",
                f"{len(node.args)} in {context.show(node)}",
                "fewer",
            )
        given[names[position]] = argument
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg not in names or keyword.arg in given:
            raise context.refuse(
                keyword.value,
                f"a keyword must name a parameter of {called.name}",
                f"`{keyword.arg or '**'}`",
                "one of " + ", ".join(names) if names else "none",
            )
        given[keyword.arg] = keyword.value
    return tuple(
        _argument(expressions, node, called, parameter, given.get(parameter.name))
        for parameter in called.parameters
    )


def _argument(
    expressions: Expressions,
    node: ast.Call,
    called: Function,
    parameter: Parameter,
    given: ast.expr | None,
) -> Expression:
    context = expressions.context
    what = f"{parameter.name} of {called.name}"
    if given is not None:
        return expressions.typed(given, parameter.type, what)
    if parameter.default is NO_DEFAULT:
        raise context.refuse(
            node, f"{what} must be given", context.show(node), f"`{parameter.name}=…` too"
        )
    return context.coerce(Known(parameter.default), parameter.type, node, what)


def _refuse_callee(expressions: Expressions, node: ast.Call, function: Any) -> CompileError:
    context = expressions.context
    name = getattr(function, "__qualname__", None) or describe(Known(function))
    if isinstance(function, type) and issubclass(function, Struct):
        instead = f"`self.at({function.__name__}, address)`"
    elif function is bool:
        instead = "`x != 0`"
    elif inspect.isfunction(function):
        instead = "@kernel above its definition"
    else:
        instead = "a @kernel function"
    return context.refuse(
        node,
        "what kernel code calls must be marked @kernel",
        f"`{context.source.text(node.func)}` ({name})",
        instead,
    )


def _is_hashable(value: Any) -> bool:
    return getattr(type(value), "__hash__", None) is not None


# super() ---------------------------------------------------------------------------------


def _is_super_method(node: ast.expr) -> bool:
    if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Call):
        return False
    function = node.value.func
    return isinstance(function, ast.Name) and function.id == "super" and not node.value.args


def _super_method(expressions: Expressions, node: ast.Attribute) -> tuple[Any, Component | None]:
    context = expressions.context
    found, definer = expressions.scope.outside("__class__")
    try:
        method = getattr(super(definer, context.instance), node.attr) if found else None
    except AttributeError:
        method = None
    if method is None:
        raise context.refuse(
            node,
            "super() must be a base that has the method",
            context.show(node),
            "the method in the base class",
        )
    return method.__func__, method.__self__


# Conversions -----------------------------------------------------------------------------


def _convert(expressions: Expressions, node: ast.Call, cls: type[Integer]) -> Value:
    """``u8(x)``"""
    context = expressions.context
    target = context.compiler.target
    kind = Number(cls)
    (argument,) = _arguments(expressions, node, 1)
    value = expressions.evaluate(argument)
    if is_plain_int(value):
        assert isinstance(value, Known)
        if not 0 <= value.value <= kind.maximum(target):
            raise context.refuse(
                node,
                f"{kind} must be within 0 and {kind.maximum(target):#x}",
                f"{value.value:#x} in {context.show(node)}",
                "a number that fits, or a wider type",
            )
        return Literal(kind, value.value, value.spelling)
    lifted = context.lift(value)
    if lifted is None or not isinstance(lifted.type, (Number, Boolean, Enumeration)):
        raise context.refuse(
            node,
            f"{kind} must be made of an integer, a bool or an enumeration",
            context.show(argument, value),
            "`address_of(x)` for a reference",
        )
    source = lifted.type
    if kind.is_address and isinstance(source, Number) and source.is_address and source != kind:
        name = "linear" if cls is VirtualAddress else "from_linear"
        raise context.refuse(
            node,
            "an address must not change its kind by conversion",
            context.show(node),
            f"`{name}(…)` where the two are equal",
        )
    if source == kind:
        return lifted
    if isinstance(source, Number):
        checks = source.bits(target) > kind.bits(target)
        if isinstance(lifted, Literal) and lifted.value <= kind.maximum(target):
            return Literal(kind, lifted.value, lifted.spelling)
    else:
        checks = isinstance(source, Enumeration) and kind.bits(target) < 32
    return Convert(kind, lifted, checks, context.where(node))


def _arguments(expressions: Expressions, node: ast.Call, count: int) -> list[ast.expr]:
    if len(node.args) != count or node.keywords:
        raise expressions.context.refuse(
            node,
            f"`{expressions.context.source.text(node.func)}` must be called with {count} "
            f"plain argument{'s' * (count != 1)}",
            expressions.context.show(node),
            "just those",
        )
    return node.args


# What the language provides --------------------------------------------------------------


def class_argument(expressions: Expressions, node: ast.expr, base: type) -> Any:
    """The struct or integer class that an argument names."""
    value = expressions.evaluate(node)
    cls = value.value if isinstance(value, Known) else None
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise expressions.context.refuse(
            node,
            f"the type must be a {'struct' if base is Struct else 'machine integer'}",
            expressions.context.show(node, value),
            "a class" if base is Struct else "`u64` or the like",
        )
    return cls


def _at(expressions: Expressions, node: ast.Call) -> Value:
    struct, address = _arguments(expressions, node, 2)
    cls = class_argument(expressions, struct, Struct)
    where = expressions.typed(address, Number(VirtualAddress), "the address")
    return Cast(Reference(declared(cls)), where)


def _array_at(expressions: Expressions, node: ast.Call) -> Value:
    element, address = _arguments(expressions, node, 2)
    cls = class_argument(expressions, element, Integer)
    where = expressions.typed(address, Number(VirtualAddress), "the address")
    return Cast(Sequence(cls, None), where)


def _sizeof(expressions: Expressions, node: ast.Call) -> Value:
    (struct,) = _arguments(expressions, node, 1)
    cls = declared(class_argument(expressions, struct, Struct))
    size = expressions.context.compiler.root.sizeof(cls)
    return Known(size, SizeOf(cls, size))


def _address_of(expressions: Expressions, node: ast.Call) -> Value:
    (argument,) = _arguments(expressions, node, 1)
    place = expressions.evaluate(argument)
    lifted = expressions.context.lift(place)
    if lifted is None or not isinstance(lifted.type, (Reference, Sequence)):
        raise expressions.context.refuse(
            argument,
            "address_of must have a reference or an array",
            expressions.context.show(argument, place),
            "the name of one",
        )
    return Cast(Number(VirtualAddress), lifted)


def _linear(expressions: Expressions, node: ast.Call) -> Value:
    (argument,) = _arguments(expressions, node, 1)
    operand = expressions.typed(argument, Number(PhysicalAddress), "the address")
    return Cast(Number(VirtualAddress), operand)


def _from_linear(expressions: Expressions, node: ast.Call) -> Value:
    (argument,) = _arguments(expressions, node, 1)
    operand = expressions.typed(argument, Number(VirtualAddress), "the address")
    return Cast(Number(PhysicalAddress), operand)


def _integer(expressions: Expressions, node: ast.expr) -> Expression:
    value = expressions.evaluate(node)
    lifted = expressions.context.lift(value)
    if lifted is None or not isinstance(lifted.type, Number):
        raise expressions.context.refuse(
            node,
            "the operand must be a machine integer",
            expressions.context.show(node, value),
            f"`usize({expressions.context.source.text(node)})`, or another type",
        )
    return lifted


def _bit_index(function: str) -> Callable[[Expressions, ast.Call], Value]:
    def bit_index(expressions: Expressions, node: ast.Call) -> Value:
        (argument,) = _arguments(expressions, node, 1)
        operand = _integer(expressions, argument)
        return BitIndex(Number(u32), function, operand, expressions.context.where(node))

    return bit_index


def _truncate(expressions: Expressions, node: ast.Call) -> Value:
    cls, argument = _arguments(expressions, node, 2)
    kind = Number(class_argument(expressions, cls, Integer))
    operand = _integer(expressions, argument)
    return Convert(kind, operand, False, expressions.context.where(node))


def _wrap(sign: str) -> Callable[[Expressions, ast.Call], Value]:
    def wrap(expressions: Expressions, node: ast.Call) -> Value:
        left, right = _arguments(expressions, node, 2)
        one = _integer(expressions, left)
        other = expressions.typed(right, one.type, "the second operand")
        check_order(expressions.context, node, (one, other))
        where = expressions.context.where(node)
        return Binary(one.type, sign, one, other, one.type, where, wraps=True)

    return wrap


BUILTINS: dict[Any, Callable[[Expressions, ast.Call], Value]] = {
    Component.at: _at,
    Component.array_at: _array_at,
    Component.sizeof: _sizeof,
    address_of: _address_of,
    linear: _linear,
    from_linear: _from_linear,
    highest_bit: _bit_index("highest_bit"),
    lowest_bit: _bit_index("lowest_bit"),
    truncate: _truncate,
    wrap_add: _wrap("+"),
    wrap_subtract: _wrap("-"),
    wrap_multiply: _wrap("*"),
}
