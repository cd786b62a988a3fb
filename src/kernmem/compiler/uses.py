"""What each function uses of the rest: structs, enumerations, constants, statics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from kernmem.compiler.program import Function, Program
from kernmem.compiler.spelling import Named, Operation, SizeOf, Spelling, has_name, is_plain
from kernmem.compiler.tree import (
    Cast,
    Expression,
    Global,
    Literal,
    Member,
    Scope,
    expressions,
    walk,
)
from kernmem.compiler.types import Enumeration, Reference, Type, class_type
from kernmem.language import Static, Struct, Target
from kernmem.language.structs import layout


@dataclass
class Uses:
    """Things used, in the order of their first use (dicts serve as ordered sets)."""

    structs: dict[type[Struct], None] = field(default_factory=dict)
    enumerations: dict[Any, None] = field(default_factory=dict)
    constants: dict[Named, None] = field(default_factory=dict)
    statics: dict[str, None] = field(default_factory=dict)
    functions: dict[Function, None] = field(default_factory=dict)

    def add(self, other: Uses) -> None:
        """Use what another uses."""
        for name in vars(self):
            getattr(self, name).update(getattr(other, name))

    def add_type(self, kind: Type, target: Target) -> None:
        """Use a type and all that its definition names."""
        if isinstance(kind, Enumeration):
            self.enumerations[kind.cls] = None
        if isinstance(kind, Reference):
            self.add_struct(kind.struct, target)

    def add_struct(self, struct: type[Struct], target: Target) -> None:
        """Use a struct and those that its fields refer to, which come before it."""
        if struct in self.structs:
            return
        self.structs[struct] = None
        for one in layout(struct, target).fields:
            kind = class_type(one.kind)
            if kind is not None:
                self.add_type(kind, target)
        if not struct.opaque:
            del self.structs[struct]
            self.structs[struct] = None

    def add_spelling(self, spelling: Spelling | None, target: Target) -> None:
        """Use the names in a number, if it is written with them."""
        if isinstance(spelling, Named):
            self.constants[spelling] = None
        elif isinstance(spelling, SizeOf):
            self.add_struct(spelling.struct, target)
        elif isinstance(spelling, Operation) and is_plain(spelling) and has_name(spelling):
            self.add_spelling(spelling.left, target)
            self.add_spelling(spelling.right, target)


def signature_uses(function: Function, target: Target) -> Uses:
    """What a function's prototype names."""
    uses = Uses()
    uses.add_type(function.result, target)
    for parameter in function.parameters:
        uses.add_type(parameter.type, target)
    return uses


def static_uses(static: Static, target: Target) -> Uses:
    """What the declaration of a static names."""
    uses = Uses()
    if issubclass(static.kind, Struct):
        uses.add_struct(static.kind, target)
    return uses


def body_uses(function: Function, target: Target) -> Uses:
    """What a function's body names."""
    uses = Uses()
    for symbol in function.symbols:
        uses.add_type(symbol.type, target)
    for expression in _expressions(function):
        uses.add_type(expression.type, target)
        if isinstance(expression, Literal):
            uses.add_spelling(expression.spelling, target)
        elif isinstance(expression, Member):
            uses.add_type(expression.type, target)
        elif isinstance(expression, Global):
            uses.statics[expression.static.name] = None
        elif isinstance(expression, Cast):
            uses.add_type(expression.type, target)
    uses.functions.update(dict.fromkeys(function.calls))
    return uses


def _expressions(function: Function) -> Iterator[Expression]:
    for statement in walk(function.body):
        if isinstance(statement, Scope):
            continue
        for expression in expressions(statement):
            yield from expression.walk()


def add_uses(program: Program) -> None:
    """Fill in what the whole program uses."""
    uses = Uses()
    target = program.target
    for variable in program.variables:
        uses.add(static_uses(variable.static, target))
    for function in program.functions:
        uses.add(signature_uses(function, target))
        uses.add(body_uses(function, target))
    program.structs = tuple(uses.structs)
    program.enumerations = tuple(uses.enumerations)
    program.constants = tuple(uses.constants)
