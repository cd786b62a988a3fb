"""Functions in C: prototypes and bodies."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from typing import Any

from kernmem.compiler.c_expressions import POSTFIX, UNARY, Expressions
from kernmem.compiler.c_types import declare
from kernmem.compiler.declarations import place
from kernmem.compiler.program import Function
from kernmem.compiler.spelling import Named
from kernmem.compiler.text import Text
from kernmem.compiler.tree import (
    Assign,
    Binary,
    Block,
    Break,
    Call,
    Continue,
    Evaluate,
    Expression,
    For,
    If,
    Literal,
    Panic,
    Print,
    Read,
    Return,
    Scope,
    Statement,
    Store,
    Symbol,
    While,
    Zero,
    expressions,
    walk,
)
from kernmem.compiler.types import Nothing, Number, Type
from kernmem.language import Target


def prototype(function: Function, is_static: bool) -> str:
    """``static void length_tree_insert(kernel_heap_gap_t *gap)``"""
    parameters = [declare(one.type, one.symbol.c_name) for one in function.parameters]
    text = f"{function.c_name}({', '.join(parameters) or 'void'})"
    text = declare(function.result, text)
    if function.result == Nothing(returns=False):
        text = f"_Noreturn {text}"
    if is_static:
        text = f"static inline {text}" if function.intrinsic is not None else f"static {text}"
    return text


class Functions:
    """Writes functions."""

    def __init__(
        self, target: Target, constants: dict[Named, str], *, checked: bool, lines: bool
    ) -> None:
        self.target = target
        self.constants = constants
        self.checked = checked
        self.lines = lines

    def write(self, text: Text, function: Function, is_static: bool) -> None:
        """A function with the comment above it."""
        text.comment(inspect.cleandoc(function.documentation))
        if function.is_out_of_line:
            text.line("__attribute__((noinline))")
        text.line(prototype(function, is_static))
        text.line("{")
        if function.intrinsic is not None:
            with text.indent():
                for line in textwrap.dedent(function.intrinsic).strip("\n").splitlines():
                    text.line(line)
        else:
            Body(self, text, function).write()
        text.line("}")
        text.blank()


class Body:
    """Writes the body of one function."""

    def __init__(self, functions: Functions, text: Text, function: Function) -> None:
        self.text = text
        self.function = function
        self.checked = functions.checked
        self.lines = functions.lines
        self.target = functions.target
        self.read = symbols_read(function)
        self.declarations = place(function.symbols, function.body)
        self.expressions = Expressions(functions.target, functions.constants, functions.checked)
        self._write: dict[type[Statement], Callable[[Any], None]] = {
            Assign: self._assign,
            Store: self._store,
            If: self._if,
            While: self._while,
            For: self._for,
            Scope: self._scope,
            Evaluate: self._evaluate,
            Return: self._return,
            Break: lambda s: self.text.line("break;"),
            Continue: lambda s: self.text.line("continue;"),
            Panic: self._panic,
            Print: lambda s: self.text.line(self.expressions.message("kernmem_print", s.message)),
            Zero: self._zero,
        }

    def write(self) -> None:
        """The statements, after what must be declared before them."""
        outer, self.text = self.text, Text()
        self.text.depth = outer.depth
        with self.text.indent():
            for parameter in self.function.parameters:
                if parameter.symbol not in self.read:
                    self.text.line(f"(void){parameter.symbol.c_name};")
            self.statements(self.function.body)
        with outer.indent():
            for temporary in self.expressions.temporaries:
                outer.line(f"{temporary};")
        outer.lines.extend(self.text.lines)
        self.text = outer

    def statements(self, block: Block) -> None:
        """The statements of a block."""
        for statement in block.statements:
            for symbol in self.declarations.before.get(statement, ()):
                self.text.line(f"{declare(symbol.type, symbol.c_name)};")
                self._use(symbol)
            if self.lines:
                self.text.line(f'#line {statement.line} "{self.function.file}"')
            self._write[type(statement)](statement)

    def block(self, block: Block) -> None:
        """The statements of a block, one step further right."""
        with self.text.indent():
            self.statements(block)

    # Assignments --------------------------------------------------------------------------

    def _assign(self, s: Assign) -> None:
        name = s.symbol.c_name
        if s in self.declarations.at:
            self.text.line(f"{declare(s.symbol.type, name)} = {self.expressions.stored(s.value)};")
            self._use(s.symbol)
            return
        self._set(name, s.symbol.type, s.value, s.augmented)

    def _use(self, symbol: Symbol) -> None:
        """Keep compilers from warning that a local is only ever assigned."""
        if symbol not in self.read:
            self.text.line(f"(void){symbol.c_name};")

    def _set(self, place: str, kind: Type, value: Expression, augmented: bool) -> None:
        """``place = value``, or ``place += operand`` where that is the same."""
        if augmented and isinstance(value, Binary) and not (self.checked and value.can_overflow):
            sign = {"//": "/"}.get(value.operator, value.operator)
            right = value.right
            is_one = isinstance(right, Literal) and self.expressions.emit(right).text == "1"
            if sign in "+-" and is_one:
                self.text.line(f"{place}{sign}{sign};")
                return
            wide = not isinstance(kind, Number) or kind.bits(self.target) >= 32
            if wide:
                self.text.line(f"{place} {sign}= {self.expressions.stored(right)};")
                return
        self.text.line(f"{place} = {self.expressions.stored(value)};")

    def _store(self, s: Store) -> None:
        place = self.expressions.at(s.place, POSTFIX)
        both = self.checked and s.value.traps and any(part.traps for part in s.place.walk())
        if both and not s.augmented:
            self.text.line("{")
            with self.text.indent():
                value = self.expressions.exact(s.value)
                self.text.line(f"{declare(s.value.type, 'kernmem_value')} = {value};")
                self.text.line(f"{place} = kernmem_value;")
            self.text.line("}")
            return
        self._set(place, s.place.type, s.value, s.augmented)

    # Branches and loops -------------------------------------------------------------------

    def _if(self, s: If, lead: str = "") -> None:
        if not s.then.statements and s.otherwise.statements:
            condition = self.expressions._negate(s.condition).text
            s = If(s.line, s.condition, s.otherwise, Block())
        else:
            condition = self.expressions.emit(s.condition).text
        self.text.line(f"{lead}if ({condition}) {{")
        self.block(s.then)
        otherwise = s.otherwise.statements
        if not otherwise:
            self.text.line("}")
        elif len(otherwise) == 1 and isinstance(otherwise[0], If) and not self._leads(otherwise[0]):
            self._if(otherwise[0], "} else ")
        else:
            self.text.line("} else {")
            self.block(s.otherwise)
            self.text.line("}")

    def _leads(self, statement: Statement) -> bool:
        """Whether something must be written before a statement."""
        return self.lines or statement in self.declarations.before

    def _while(self, s: While) -> None:
        condition = "true" if s.condition is None else self.expressions.emit(s.condition).text
        self.text.line(f"while ({condition}) {{")
        self.block(s.body)
        self.text.line("}")

    def _for(self, s: For) -> None:
        name = s.counter.c_name
        start = self.expressions.exact(s.start)
        stop = self.expressions.exact(s.stop)
        first = f"{declare(s.counter.type, name)} = {start}"
        if s.hoists:
            first += f", {name}_end = {stop}"
            stop = f"{name}_end"
        self.text.line(f"for ({first}; {name} < {stop}; {name}++) {{")
        self.block(s.body)
        self.text.line("}")

    def _scope(self, s: Scope) -> None:
        self.text.line("{")
        with self.text.indent():
            self.text.line(f"{s.symbol.type.struct.c_name} {s.symbol.c_name};")  # type: ignore[union-attr]
            self.statements(s.body)
        self.text.line("}")

    # Calls --------------------------------------------------------------------------------

    def _evaluate(self, s: Evaluate) -> None:
        assert isinstance(s.call, Call)
        unused = "" if isinstance(s.call.type, Nothing) else "(void)"
        self.text.line(f"{unused}{self.expressions.at(s.call, UNARY)};")

    def _return(self, s: Return) -> None:
        if s.value is None:
            self.text.line("return;")
        else:
            self.text.line(f"return {self.expressions.stored(s.value)};")

    def _panic(self, s: Panic) -> None:
        call = self.expressions.message("kernmem_panic", s.message)
        if s.condition is None:
            self.text.line(call)
            return
        self.text.line(f"if ({self.expressions.emit(s.condition).text})")
        with self.text.indent():
            self.text.line(call)

    def _zero(self, s: Zero) -> None:
        before, (address, length) = self.expressions.ordered((s.address, s.length))
        self.text.line(f"{before}kernmem_zero({address}, {length});")


def symbols_read(function: Function) -> set[Symbol]:
    """The locals whose value matters to something other than themselves."""
    found: set[Symbol] = set()
    for statement in walk(function.body):
        own = statement.symbol if isinstance(statement, Assign) and statement.augmented else None
        for expression in expressions(statement):
            for one in expression.walk():
                if isinstance(one, Read) and one.symbol is not own:
                    found.add(one.symbol)
    return found
