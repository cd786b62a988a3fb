"""The typed tree: a kernel function after its names, types and build-time values are known.

Expressions are immutable and know two things about themselves that the checks need: their
:class:`Effect`, and whether they can trap, i.e. whether a checked build may panic inside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from enum import IntEnum, IntFlag
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from kernmem.compiler.spelling import Spelling
from kernmem.compiler.types import Sequence, Type
from kernmem.language import Field as StructField
from kernmem.language import Static

if TYPE_CHECKING:
    from kernmem.compiler.program import Function


class Effect(IntEnum):
    """What evaluating something may do; an order between two matters if one acts."""

    PURE = 0
    READS = 1
    ACTS = 2


@dataclass(eq=False)
class Symbol:
    """A local variable or parameter.

    Attributes:
        role: ``"parameter"``, ``"local"``, ``"counter"`` of a span, or ``"storage"`` of a ``with``.
        reads: how often it is read.
        assigned: how often it is assigned.
        place: where it was declared, as ``file:line``, for messages.
    """

    name: str
    type: Type
    role: str = "local"
    reads: int = 0
    assigned: int = 0
    c_name: str = ""


# Expressions -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Expression:
    """A value at run time."""

    type: Type

    @cached_property
    def parts(self) -> tuple[Expression, ...]:
        """The operands, in the order in which Python evaluates them."""
        found: list[Expression] = []
        for one in fields(self):
            value = getattr(self, one.name)
            for part in value if isinstance(value, tuple) else (value,):
                if isinstance(part, Expression):
                    found.append(part)
        return tuple(found)

    @cached_property
    def effect(self) -> Effect:
        return max((part.effect for part in self.parts), default=Effect.PURE)

    @cached_property
    def traps(self) -> bool:
        return any(part.traps for part in self.parts)

    def walk(self) -> Iterator[Expression]:
        """This and everything inside it."""
        yield self
        for part in self.parts:
            yield from part.walk()


@dataclass(frozen=True, eq=False)
class Literal(Expression):
    """A number or bool known at build time."""

    value: int
    spelling: Spelling | None = None


@dataclass(frozen=True, eq=False)
class Null(Expression):
    """None, as a reference or an address."""


@dataclass(frozen=True, eq=False)
class Member(Expression):
    """A member of an enumeration, or members of a flag together."""

    value: IntEnum | IntFlag


@dataclass(frozen=True, eq=False)
class Read(Expression):
    """A local variable."""

    symbol: Symbol


@dataclass(frozen=True, eq=False)
class Global(Expression):
    """A static: the reference to a struct, or an array."""

    static: Static


@dataclass(frozen=True, eq=False)
class Load(Expression):
    """A field of a struct."""

    reference: Expression
    field: StructField

    @cached_property
    def effect(self) -> Effect:
        return max(Effect.READS, self.reference.effect)


@dataclass(frozen=True, eq=False)
class Inside(Expression):
    """An array that lies in a struct: a place, not yet a load."""

    reference: Expression
    field: StructField


@dataclass(frozen=True, eq=False)
class Element(Expression):
    """An element of an array."""

    array: Expression
    index: Expression
    where: str

    @cached_property
    def effect(self) -> Effect:
        return max(Effect.READS, self.array.effect, self.index.effect)

    @property
    def checked_length(self) -> int | None:
        """The length that a checked build compares the index with."""
        assert isinstance(self.array.type, Sequence)
        return None if isinstance(self.index, Literal) else self.array.type.length

    @cached_property
    def traps(self) -> bool:
        return self.checked_length is not None or self.array.traps or self.index.traps


@dataclass(frozen=True, eq=False)
class Binary(Expression):
    """``+ - * // % & | ^ << >>``; ``kind`` is the type that an overflow names."""

    operator: str
    left: Expression
    right: Expression
    kind: Type
    where: str
    wraps: bool = False

    @cached_property
    def traps(self) -> bool:
        return self.can_overflow or self.left.traps or self.right.traps

    @property
    def can_overflow(self) -> bool:
        if self.wraps or self.operator in "&|^":
            return False
        if isinstance(self.right, Literal):
            harmless = self.operator in ("//", "%", ">>")  # zero and too wide are refused
            return not harmless
        return True


@dataclass(frozen=True, eq=False)
class Invert(Expression):
    """``~x``"""

    operand: Expression


@dataclass(frozen=True, eq=False)
class Convert(Expression):
    """``u8(x)``; ``checks`` if bits may be lost and that is an error."""

    operand: Expression
    checks: bool
    where: str

    @cached_property
    def traps(self) -> bool:
        return self.checks or self.operand.traps


@dataclass(frozen=True, eq=False)
class BitIndex(Expression):
    """The index of the highest or the lowest set bit, as ``function`` says."""

    function: str
    operand: Expression
    where: str
    traps = True


@dataclass(frozen=True, eq=False)
class Cast(Expression):
    """Between references, arrays and addresses; nothing happens at run time."""

    operand: Expression


@dataclass(frozen=True, eq=False)
class Compare(Expression):
    """``== != < <= > >=``"""

    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True, eq=False)
class Always(Expression):
    """A comparison that has one result, kept because its operand may trap."""

    operand: Expression
    value: bool


@dataclass(frozen=True, eq=False)
class Contains(Expression):
    """``flag in flags``; ``flag`` is cheap and evaluated twice."""

    flag: Expression
    flags: Expression


@dataclass(frozen=True, eq=False)
class Not(Expression):
    """``not x``"""

    operand: Expression


@dataclass(frozen=True, eq=False)
class Logical(Expression):
    """``and``, ``or``: the right operand only if it matters."""

    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True, eq=False)
class Choose(Expression):
    """``one if condition else other``"""

    condition: Expression
    one: Expression
    other: Expression


@dataclass(frozen=True, eq=False)
class Call(Expression):
    """A call of a kernel function."""

    function: Function
    arguments: tuple[Expression, ...]

    @cached_property
    def effect(self) -> Effect:
        inside = max((part.effect for part in self.arguments), default=Effect.PURE)
        return max(self.function.effect, inside)

    @cached_property
    def traps(self) -> bool:
        return self.function.traps or any(part.traps for part in self.arguments)


def has_order(expression: Expression) -> bool:
    """Whether C orders the operands itself (and the effects checks leave it alone)."""
    return isinstance(expression, (Logical, Choose))


# Statements ------------------------------------------------------------------------------


@dataclass(eq=False)
class Statement:
    """``line`` is that of the Python source."""

    line: int


@dataclass(eq=False)
class Block:
    """Statements, one after the other."""

    statements: list[Statement] = field(default_factory=list)


@dataclass(eq=False)
class Assign(Statement):
    """``x = value``; ``augmented`` if the source says ``x += …``."""

    symbol: Symbol
    value: Expression
    augmented: bool = False


@dataclass(eq=False)
class Store(Statement):
    """``reference.field = value`` or ``array[index] = value``."""

    place: Load | Element
    value: Expression
    augmented: bool = False


@dataclass(eq=False)
class If(Statement):
    """A run-time branch."""

    condition: Expression
    then: Block
    otherwise: Block


@dataclass(eq=False)
class While(Statement):
    """A loop; ``condition`` None for ``while True``."""

    condition: Expression | None
    body: Block


@dataclass(eq=False)
class For(Statement):
    """``for counter in span(start, stop)``; ``hoists`` if ``stop`` must be computed once."""

    counter: Symbol
    start: Expression
    stop: Expression
    hoists: bool
    body: Block


@dataclass(eq=False)
class Scope(Statement):
    """``with self.local(Struct) as symbol``"""

    symbol: Symbol
    body: Block


@dataclass(eq=False)
class Evaluate(Statement):
    """A call for its effects."""

    call: Expression


@dataclass(eq=False)
class Return(Statement):
    value: Expression | None


@dataclass(eq=False)
class Break(Statement):
    pass


@dataclass(eq=False)
class Continue(Statement):
    pass


@dataclass(frozen=True)
class Message:
    """A printf format and its values."""

    format: str
    values: tuple[Expression, ...]


@dataclass(eq=False)
class Panic(Statement):
    """``panic(message)``, or an assert if there is a ``condition`` under which it happens."""

    message: Message
    condition: Expression | None = None


@dataclass(eq=False)
class Print(Statement):
    message: Message


@dataclass(eq=False)
class Zero(Statement):
    """Clear memory."""

    address: Expression
    length: Expression


Place: TypeAlias = Load | Element


def expressions(statement: Statement) -> tuple[Expression, ...]:
    """The expressions of a statement itself, not of the statements inside it."""
    found: list[Expression] = []
    for one in fields(statement):
        value = getattr(statement, one.name)
        if isinstance(value, Expression):
            found.append(value)
        elif isinstance(value, Message):
            found.extend(value.values)
    return tuple(found)


def blocks(statement: Statement) -> tuple[Block, ...]:
    """The blocks inside a statement."""
    values = (getattr(statement, one.name) for one in fields(statement))
    return tuple(value for value in values if isinstance(value, Block))


def walk(block: Block) -> Iterator[Statement]:
    """Every statement of a block, and those inside them."""
    for statement in block.statements:
        yield statement
        for inner in blocks(statement):
            yield from walk(inner)
