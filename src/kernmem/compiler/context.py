"""What reading a function needs to know, and the conversions between its two kinds of value."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, Any

from kernmem.compiler.discover import static_of
from kernmem.compiler.errors import CompileError
from kernmem.compiler.scope import Known, Scope
from kernmem.compiler.source import Source
from kernmem.compiler.tree import Cast, Expression, Global, Literal, Member, Null
from kernmem.compiler.types import (
    Boolean,
    Enumeration,
    Number,
    Reference,
    Sequence,
    Type,
    agree,
    class_type,
    declared,
    is_nullable,
)
from kernmem.language import Array, Component, Integer, Struct, VirtualAddress

if TYPE_CHECKING:
    from kernmem.compiler.driver import Compiler
    from kernmem.compiler.program import Function

Value = Known | Expression


@dataclass
class Context:
    """A function being read."""

    compiler: Compiler
    function: Function
    instance: Component | None
    source: Source
    scope: Scope

    def refuse(self, node: ast.AST, rule: str, found: str, instead: str) -> CompileError:
        return self.source.refuse(node, rule, found, instead)

    def show(self, node: ast.AST, value: Value | None = None) -> str:
        """A value as messages name it: its source and what it is."""
        text = f"`{self.source.text(node)}`"
        return text if value is None else f"{text}, {describe(value)}"

    def where(self, node: ast.AST) -> str:
        return self.source.where(node)

    def lift(self, value: Value) -> Expression | None:
        """A build-time value as one at run time, if it has a type of its own."""
        if isinstance(value, Expression):
            return value
        known = value.value
        if isinstance(known, bool):
            return Literal(Boolean(), int(known))
        if isinstance(known, Array):
            element = known._element
            static = static_of(known, self.compiler.statics)
            if static is not None:
                return Global(Sequence(element, known.length), static)
            fixed = Literal(Number(VirtualAddress), known.address)
            return Cast(Sequence(element, known.length), fixed)
        kind = class_type(type(known))
        if isinstance(known, Struct):
            return self._fixed(known)
        if isinstance(kind, Number):
            return Literal(kind, int(known), value.spelling)
        if isinstance(known, (IntEnum, IntFlag)) and isinstance(kind, Enumeration):
            return Member(kind, known)
        return None

    def _fixed(self, known: Any) -> Expression:
        """A struct reference that was made at build time."""
        struct = declared(type(known))
        static = static_of(known, self.compiler.statics)
        if static is None:
            return Cast(Reference(struct), Literal(Number(VirtualAddress), int(known)))
        if static.kind is struct:
            return Global(Reference(struct), static)
        of_static = (
            Reference(static.kind)
            if issubclass(static.kind, Struct)
            else Sequence(static.kind, static.length)
        )
        return Cast(Reference(struct), Global(of_static, static))

    def coerce(self, value: Value, kind: Type, node: ast.AST, what: str) -> Expression:
        """The value where a ``kind`` is due; ``what`` names the place, e.g. ``the result``."""
        if isinstance(value, Known) and value.value is None and is_nullable(kind):
            return Null(kind)
        lifted = self.lift(value)
        if lifted is not None and agree(lifted.type, kind):
            return lifted
        instead = f"a value of type {kind}"
        number = lifted is None or isinstance(lifted.type, Number)
        if isinstance(kind, Number) and number and is_number(value):
            instead = f"`{kind}({self.source.text(node)})`"
        raise self.refuse(node, f"{what} must be {kind}", self.show(node, value), instead)

    def value(self, value: Value, node: ast.AST) -> Expression:
        """The value where any type will do."""
        lifted = self.lift(value)
        if lifted is None:
            raise self.refuse_untyped(value, node)
        return lifted

    def refuse_untyped(self, value: Value, node: ast.AST) -> CompileError:
        """Refuse a build-time value that nothing at run time can hold."""
        if isinstance(value, Known) and is_number(value):
            instead = f"`usize({self.source.text(node)})`, or another type"
            rule = "a value must have a width"
        elif isinstance(value, Known) and value.value is None:
            rule, instead = "None must have a type", "an annotation: `x: Struct | None = None`"
        else:
            rule = "a value must be an integer, a bool, an address, a reference or an enumeration"
            instead = "it where it is used"
        return self.refuse(node, rule, self.show(node, value), instead)


def is_number(value: Value) -> bool:
    """Whether it is an integer of some kind, at build or at run time."""
    if isinstance(value, Expression):
        return isinstance(value.type, Number)
    return isinstance(value.value, (int, Integer)) and not isinstance(
        value.value, (bool, Struct, IntEnum, IntFlag)
    )


def is_plain_int(value: Value) -> bool:
    """Whether it is a build-time number, which has no width."""
    return isinstance(value, Known) and type(value.value) is int


def describe(value: Value) -> str:
    """What a value is, for messages."""
    if isinstance(value, Expression):
        if isinstance(value.type, Reference):
            return f"a reference to {value.type}"
        return f"which is {value.type}"
    known = value.value
    if known is None:
        return "which is None"
    if type(known) is int:
        return "a build-time int"
    if isinstance(known, type):
        return "a class"
    if isinstance(known, Component):
        return "a component"
    return f"a build-time {declared_name(known)}"


def declared_name(known: Any) -> str:
    return declared(type(known)).__name__ if isinstance(known, Struct) else type(known).__name__
