"""Expressions in C: as few parentheses and casts as C and its warnings allow.

A u8 or u16 becomes an ``int`` as soon as C computes with it.  ``C.exact`` says whether the C has
the type that the tree says, or needs a cast where it is stored, passed or returned; ``C.bare``
says that it is a constant without a type of its own, which C computes with as an ``int``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kernmem.compiler.c_types import INTEGERS, declare, number, type_name
from kernmem.compiler.names import member_prefix
from kernmem.compiler.spelling import Named, Operation, SizeOf, Spelling, has_size_of
from kernmem.compiler.tree import (
    Always,
    Binary,
    BitIndex,
    Call,
    Cast,
    Choose,
    Compare,
    Contains,
    Convert,
    Effect,
    Element,
    Expression,
    Global,
    Inside,
    Invert,
    Literal,
    Load,
    Logical,
    Member,
    Message,
    Not,
    Null,
    Read,
)
from kernmem.compiler.types import Enumeration, Number, Reference, Type
from kernmem.language import Target

POSTFIX, UNARY, MULTIPLY, ADD, SHIFT, ORDER, EQUAL = 16, 15, 13, 12, 11, 10, 9
AND, XOR, OR, BOTH, EITHER, CHOOSE, COMMA = 8, 7, 6, 5, 4, 3, 1
PRECEDENCE = {
    **dict.fromkeys(("*", "/", "%"), MULTIPLY),
    **dict.fromkeys(("+", "-"), ADD),
    **dict.fromkeys(("<<", ">>"), SHIFT),
    **dict.fromkeys(("<", "<=", ">", ">="), ORDER),
    **dict.fromkeys(("==", "!="), EQUAL),
    "&": AND,
    "^": XOR,
    "|": OR,
    "&&": BOTH,
    "||": EITHER,
}
OPPOSITE = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
CHECKED = {
    "+": "add",
    "-": "subtract",
    "*": "multiply",
    "//": "divide",
    "%": "modulo",
    "<<": "shift_left",
    ">>": "shift_right",
}


@dataclass(frozen=True)
class C:
    """A piece of C; ``exact`` if it has the very type that is due."""

    text: str
    precedence: int = POSTFIX
    exact: bool = True
    bare: bool = False

    def within(self, precedence: int) -> str:
        """The text, in parentheses unless it binds at least as tightly."""
        return self.text if self.precedence >= precedence else f"({self.text})"

    def closed(self, before: str) -> C:
        """In parentheses if something is done before."""
        return C(f"({self.text})", exact=self.exact) if before else self


class Expressions:
    """Writes the expressions of one function."""

    def __init__(self, target: Target, constants: dict[Named, str], checked: bool) -> None:
        self.target = target
        self.constants = constants
        self.checked = checked
        self.temporaries: list[str] = []
        self._emit: dict[type[Expression], Callable[[Any], C]] = {
            Literal: self._literal,
            Null: lambda e: C("NULL" if isinstance(e.type, Reference) else "0"),
            Member: self._member,
            Read: lambda e: C(("&" if is_storage(e) else "") + e.symbol.c_name, _read_level(e)),
            Global: self._global,
            Load: lambda e: C(self._arrow(e)),
            Inside: lambda e: C(self._arrow(e)),
            Element: self._element,
            Binary: self._binary,
            Invert: self._invert,
            Convert: self._convert,
            BitIndex: self._bit_index,
            Cast: self._cast,
            Compare: self._compare,
            Always: lambda e: C(f"((void){self.at(e.operand, UNARY)}, {_bool(e.value)})"),
            Contains: self._contains,
            Not: lambda e: self._negate(e.operand),
            Logical: self._logical,
            Choose: self._choose,
            Call: self._call,
        }

    def emit(self, expression: Expression) -> C:
        """The C of an expression."""
        return self._emit[type(expression)](expression)

    def at(self, expression: Expression, precedence: int) -> str:
        """The C as an operand of something that binds so tightly."""
        return self.emit(expression).within(precedence)

    def exact(self, expression: Expression, precedence: int = CHOOSE) -> str:
        """The C, cast if it does not have the expression's type already."""
        return self.cast_exact(self.emit(expression), expression.type).within(precedence)

    def stored(self, expression: Expression) -> str:
        """The C where it is stored, passed or returned, which widens it as well as a cast does."""
        if isinstance(expression, Convert) and isinstance(expression.operand.type, Number):
            assert isinstance(expression.type, Number)
            source, due = expression.operand.type, expression.type
            plain = self.emit(expression.operand).exact if not expression.traps else False
            if plain and source.bits(self.target) <= due.bits(self.target):
                return self.at(expression.operand, CHOOSE)
        return self.exact(expression)

    def cast_exact(self, c: C, kind: Type) -> C:
        """Give a C ``int`` the narrow type it stands for."""
        return c if c.exact else C(f"({type_name(kind)}){c.within(UNARY)}", UNARY)

    # Values -------------------------------------------------------------------------------

    def _literal(self, e: Literal) -> C:
        if not isinstance(e.type, Number):
            return C(_bool(bool(e.value)))
        if e.spelling is None:
            return C(number(e.value), bare=True)
        text, precedence = self.spell(e.spelling)
        if has_size_of(e.spelling) and not e.type.is_pointer_wide:
            return C(f"({type_name(e.type)}){C(text, precedence).within(UNARY)}", UNARY)
        return C(text, precedence, bare=not has_size_of(e.spelling))

    def spell(self, spelling: Spelling) -> tuple[str, int]:
        """A build-time number as the source writes it, and how tightly it binds."""
        if isinstance(spelling, Named):
            return self.constants[spelling], POSTFIX
        if isinstance(spelling, SizeOf):
            return f"sizeof({spelling.struct.c_name})", POSTFIX
        if isinstance(spelling, Operation):
            left, right = C(*self.spell(spelling.left)), C(*self.spell(spelling.right))
            joined = _join(spelling.operator, left, right)
            return joined.text, joined.precedence
        return number(spelling.value, spelling.text), POSTFIX

    def _member(self, e: Member) -> C:
        assert isinstance(e.type, Enumeration)
        prefix = member_prefix(e.type.cls)
        if e.value.name is not None and e.value.name in e.type.cls.__members__:
            return C(prefix + e.value.name.upper())
        names = [
            prefix + name.upper()
            for name, member in e.type.cls.__members__.items()
            if member & e.value and member & e.value == member
        ]
        return C(" | ".join(names), OR if len(names) > 1 else POSTFIX) if names else C("0")

    def _global(self, e: Global) -> C:
        name = e.static.name
        return C(f"&{name}", UNARY) if isinstance(e.type, Reference) else C(name)

    def _arrow(self, e: Load | Inside) -> str:
        """``reference->field``, or ``variable.field``"""
        reference = e.reference
        if isinstance(reference, Global) and isinstance(reference.type, Reference):
            return f"{reference.static.name}.{e.field.name}"
        if isinstance(reference, Read) and is_storage(reference):
            return f"{reference.symbol.c_name}.{e.field.name}"
        return f"{self.at(reference, POSTFIX)}->{e.field.name}"

    def _element(self, e: Element) -> C:
        index = self.at(e.index, COMMA + 1)
        length = e.checked_length
        if self.checked and length is not None:
            index = f"kernmem_index({self.exact(e.index)}, {length}, {self.where(e.where)})"
        return C(f"{self.at(e.array, POSTFIX)}[{index}]")

    # Arithmetic ---------------------------------------------------------------------------

    def _binary(self, e: Binary) -> C:
        if self.checked and e.can_overflow:
            return self._checked_binary(e)
        assert isinstance(e.type, (Number, Enumeration))
        narrow = self._is_narrow(e.left.type)
        before = ""
        if self.checked and len(_movers((e.left, e.right))) > 1:
            before, texts = self.ordered((e.left, e.right), UNARY)
            left, right = C(texts[0], UNARY), C(texts[1], UNARY)
        else:
            left, right = self.operand(e.left), self.operand(e.right)
        if left.bare and not narrow and (right.bare or e.operator in ("<<", ">>")):
            left = self._typed(left, e.left.type)
        if e.wraps and e.operator == "*" and narrow:
            left = C(f"(uint32_t){left.within(UNARY)}", UNARY)
        joined = _join(e.operator, left, right)
        result = C(before + joined.text, joined.precedence, exact=not narrow).closed(before)
        return self.cast_exact(result, e.type) if e.wraps and narrow else result

    def operand(self, e: Expression) -> C:
        """An operand; one that is chosen among constants gets the type that they lack."""
        c = self.emit(e)
        is_chosen = c.bare and not isinstance(e, Literal) and not self._is_narrow(e.type)
        return self._typed(c, e.type) if is_chosen else c

    def _typed(self, c: C, kind: Type) -> C:
        return C(f"({type_name(kind)}){c.within(UNARY)}", UNARY)

    def _is_narrow(self, kind: Type) -> bool:
        """Whether C computes in ``int`` instead."""
        return isinstance(kind, Number) and kind.bits(self.target) < 32

    def _checked_binary(self, e: Binary) -> C:
        assert isinstance(e.kind, Number)
        temporary, (left, right) = self.ordered((e.left, e.right))
        kind = suffix(e.kind)
        arguments = [left, right, self.where(e.where)]
        if e.kind.is_address:
            arguments.insert(2, f'"{e.kind}"')
            kind = "address"
        return C(f"{temporary}kernmem_{CHECKED[e.operator]}_{kind}({', '.join(arguments)})").closed(
            temporary
        )

    def where(self, where: str) -> str:
        """The place in the Python source, as a C string."""
        return f'"{where}"'

    def _invert(self, e: Invert) -> C:
        narrow = self._is_narrow(e.type)
        operand = self.emit(e.operand)
        if operand.bare and not narrow:
            operand = self._typed(operand, e.type)
        return self.cast_exact(C(f"~{operand.within(UNARY)}", UNARY, exact=not narrow), e.type)

    def _convert(self, e: Convert) -> C:
        assert isinstance(e.type, Number)
        if e.checks and self.checked:
            value = self.exact(e.operand)
            kind = e.type.kind
            maximum = number(e.type.maximum(self.target))
            call = f'kernmem_fit({value}, {maximum}, "{kind.__name__}", {self.where(e.where)})'
            return C(f"({INTEGERS[kind]}){call}", UNARY)
        source = e.operand.type
        same = isinstance(source, Number) and e.type.is_pointer_wide and source.is_pointer_wide
        if same:
            return self.emit(e.operand)
        return C(f"({type_name(e.type)}){self.at(e.operand, UNARY)}", UNARY)

    def _bit_index(self, e: BitIndex) -> C:
        value = self.exact(e.operand)
        if self.checked:
            assert isinstance(e.operand.type, Number)
            arguments = (
                value,
                number(e.operand.type.maximum(self.target)),
                f'"{e.operand.type}"',
                self.where(e.where),
            )
            return C(f"kernmem_{e.function}({', '.join(arguments)})")
        return C(f"kernmem_{e.function}({value})")

    def _cast(self, e: Cast) -> C:
        wide = isinstance(e.type, Number) and isinstance(e.operand.type, Number)
        operand = self.emit(e.operand)
        if wide and not isinstance(e.operand, Literal):
            return operand
        return C(f"({declare(e.type, '')}".rstrip() + f"){operand.within(UNARY)}", UNARY)

    # Conditions ---------------------------------------------------------------------------

    def _compare(self, e: Compare, operator: str = "") -> C:
        if self.checked and len(_movers((e.left, e.right))) > 1:
            temporary, texts = self.ordered((e.left, e.right), SHIFT)
            left, right = C(texts[0], SHIFT), C(texts[1], SHIFT)
        else:
            temporary, left, right = "", self._compared(e.left), self._compared(e.right)
        joined = _join(operator or e.operator, left, right)
        return C(temporary + joined.text, joined.precedence).closed(temporary)

    def _compared(self, e: Expression) -> C:
        """An operand of a comparison; gcc warns of ``~`` in one of narrow integers."""
        if isinstance(e, Invert) and self._is_narrow(e.type):
            assert isinstance(e.type, Number)
            maximum = number(e.type.maximum(self.target))
            return C(f"{maximum} - {self.at(e.operand, MULTIPLY)}", ADD)
        return self.operand(e)

    def _negate(self, operand: Expression) -> C:
        if isinstance(operand, Compare):
            return self._compare(operand, OPPOSITE[operand.operator])
        return C(f"!{self.at(operand, UNARY)}", UNARY)

    def _contains(self, e: Contains) -> C:
        flag = self.emit(e.flag)
        both = f"({self.at(e.flags, AND)} & {flag.within(EQUAL)})"
        single = isinstance(e.flag, Member) and int(e.flag.value).bit_count() == 1
        return C(f"{both} != 0" if single else f"{both} == {flag.within(SHIFT)}", EQUAL)

    def _logical(self, e: Logical) -> C:
        return _join({"and": "&&", "or": "||"}[e.operator], self.emit(e.left), self.emit(e.right))

    def _choose(self, e: Choose) -> C:
        condition = self.at(e.condition, EITHER)
        one, other = self.emit(e.one), self.emit(e.other)
        text = f"{condition} ? {one.within(EITHER)} : {other.within(CHOOSE)}"
        return C(text, CHOOSE, one.exact and other.exact, one.bare and other.bare)

    # Calls --------------------------------------------------------------------------------

    def _call(self, e: Call) -> C:
        if self.checked and len(_movers(e.arguments)) > 1:
            temporary, arguments = self.ordered(e.arguments)
        else:
            temporary, arguments = "", [self.stored(argument) for argument in e.arguments]
        return C(f"{temporary}{e.function.c_name}({', '.join(arguments)})").closed(temporary)

    def ordered(
        self, operands: tuple[Expression, ...], precedence: int = CHOOSE
    ) -> tuple[str, list[str]]:
        """Operands in Python's order: where two may panic, all but the last go to temporaries.

        The first result is the text that fills the temporaries, empty if there are none.
        """
        movers = _movers(operands)
        before = ""
        texts = []
        for index, operand in enumerate(operands):
            c = self.cast_exact(self.emit(operand), operand.type)
            text = c.within(precedence)
            if self.checked and len(movers) > 1 and index in movers[:-1]:
                name = f"kernmem_{len(self.temporaries) + 1}"
                self.temporaries.append(declare(operand.type, name))
                before += f"{name} = {c.within(CHOOSE)}, "
                text = name
            texts.append(text)
        return before, texts

    def message(self, function: str, message: Message) -> str:
        """A call of one of the hooks."""
        parts = [f'"{message.format}"']
        if self.checked and len(_movers(message.values)) > 1:
            before, texts = self.ordered(message.values, UNARY)
        else:
            before, texts = "", [self.at(value, UNARY) for value in message.values]
        for value, text in zip(message.values, texts, strict=True):
            cast = "(unsigned long long)"
            if isinstance(value.type, Reference):
                cast += "(uintptr_t)"
            parts.append(cast + text)
        return f"{before}{function}({', '.join(parts)});"


def _movers(operands: tuple[Expression, ...]) -> list[int]:
    """The operands whose place in the order shows: they act, or may panic."""
    return [i for i, one in enumerate(operands) if one.traps or one.effect is Effect.ACTS]


def suffix(kind: Number) -> str:
    """What ends the name of a checked helper."""
    return kind.kind.__name__


def is_storage(e: Read) -> bool:
    """Whether a local is the struct itself, not a reference to it."""
    return e.symbol.role == "storage"


def _read_level(e: Read) -> int:
    return UNARY if is_storage(e) else POSTFIX


def _bool(value: bool) -> str:
    return "true" if value else "false"


def _join(operator: str, left: C, right: C) -> C:
    """``left operator right``, with the parentheses that precedence and -Wparentheses want."""
    sign = "/" if operator == "//" else operator
    precedence = PRECEDENCE[sign]
    least, least_right = precedence, precedence + 1
    if precedence in (AND, XOR, OR, SHIFT, EQUAL, ORDER):
        least = least_right = MULTIPLY + 1 if precedence != EQUAL and precedence != ORDER else SHIFT
        if precedence in (AND, OR, XOR) and left.precedence == precedence:
            least = precedence
    if sign in ("&&", "||"):
        least_right = precedence
        if sign == "||":
            least = least_right = EITHER
            left, right = _apart(left), _apart(right)
    return C(f"{left.within(least)} {sign} {right.within(least_right)}", precedence)


def _apart(c: C) -> C:
    """``&&`` within ``||`` in parentheses."""
    return C(f"({c.text})") if c.precedence == BOTH else c
