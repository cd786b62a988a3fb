"""The names of a function while it is read: variables, build-time names, what is assigned."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from types import CellType, FunctionType
from typing import Any

from kernmem.compiler.spelling import Spelling
from kernmem.compiler.tree import Symbol
from kernmem.compiler.types import Type


@dataclass(frozen=True)
class Known:
    """A value known at build time; ``spelling`` says how a number was written."""

    value: Any
    spelling: Spelling | None = None


@dataclass
class Scope:
    """What the names of a function mean at the statement being read.

    Attributes:
        symbols: the variables; one that was never assigned is absent.
        known: the variables of unrolled loops, which are build-time values.
        assigned: the variables that are assigned on every path to here; None when no path leads
            here.
        annotated: types announced by ``x: u32`` before the first assignment.
    """

    function: FunctionType
    symbols: dict[str, Symbol] = field(default_factory=dict)
    known: dict[str, Known] = field(default_factory=dict)
    assigned: frozenset[Symbol] | None = frozenset()
    everything: list[Symbol] = field(default_factory=list)
    locals: frozenset[str] = frozenset()
    annotated: dict[str, Type] = field(default_factory=dict)

    def declare(self, name: str, kind: Type, role: str) -> Symbol:
        """A new variable; it may replace one that has gone out of scope."""
        symbol = Symbol(name, kind, role)
        self.symbols[name] = symbol
        self.everything.append(symbol)
        return symbol

    def assign(self, symbol: Symbol) -> None:
        """From here on the variable has a value."""
        symbol.assigned += 1
        if self.assigned is not None:
            self.assigned |= {symbol}

    def outside(self, name: str) -> tuple[bool, Any]:
        """Look a name up where the function was defined: ``(found, value)``."""
        code = self.function.__code__
        cells: tuple[CellType, ...] = self.function.__closure__ or ()
        for variable, cell in zip(code.co_freevars, cells, strict=True):
            if variable == name:
                return True, cell.cell_contents
        names = self.function.__globals__
        builtins = names["__builtins__"]
        builtins = builtins if isinstance(builtins, dict) else vars(builtins)
        for space in (names, builtins):
            if name in space:
                return True, space[name]
        return False, None


def join(one: frozenset[Symbol] | None, other: frozenset[Symbol] | None) -> Any:
    """What is assigned where two paths meet; a path that does not arrive says nothing."""
    if one is None or other is None:
        return other if one is None else one
    return one & other


def assigned_names(node: ast.FunctionDef) -> frozenset[str]:
    """The names that Python takes for locals: everything assigned anywhere in the function."""
    names = {argument.arg for argument in node.args.args}
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            names.add(inner.id)
    return frozenset(names)
