"""Where C declares each local: at its first assignment if that stands above all other uses.

Python's locals belong to the whole function.  A local that is used in two branches, with nothing
carried from one to the other, becomes two variables in C, one in each.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kernmem.compiler.tree import (
    Assign,
    Block,
    Break,
    Continue,
    Expression,
    For,
    If,
    Panic,
    Read,
    Return,
    Statement,
    Symbol,
    While,
    blocks,
    expressions,
)


@dataclass
class Declarations:
    """``at``: assignments that declare. ``before``: locals declared without a value before one."""

    at: set[Assign] = field(default_factory=set)
    before: dict[Statement, list[Symbol]] = field(default_factory=dict)


def place(symbols: list[Symbol], body: Block) -> Declarations:
    """Find the place of each local's declaration."""
    found = Declarations()
    for symbol in symbols:
        if symbol.role == "local" and any(mentions(one, symbol) for one in body.statements):
            _place(symbol, body, found)
    return found


def _place(symbol: Symbol, block: Block, found: Declarations) -> None:
    users = [one for one in block.statements if mentions(one, symbol)]
    if not users:
        return
    if all(_is_apart(symbol, user, users[index + 1 :]) for index, user in enumerate(users)):
        for user in users:
            for inner in blocks(user):
                _place(symbol, inner, found)
        return
    first = users[0]
    if isinstance(first, Assign) and first.symbol is symbol:
        found.at.add(first)
    else:
        found.before.setdefault(first, []).append(symbol)


def _is_apart(symbol: Symbol, user: Statement, rest: list[Statement]) -> bool:
    """Whether a statement keeps the local to its blocks: nothing goes in and nothing comes out."""
    own = isinstance(user, Assign) and user.symbol is symbol
    if own or _reads(user, symbol) or exposes(user, symbol):
        return False
    for later in rest:
        if exposes(later, symbol):
            return False
        if kills(later, symbol):
            return True
    return True


def mentions(statement: Statement, symbol: Symbol) -> bool:
    """Whether a statement, or one inside it, uses the local."""
    if isinstance(statement, Assign) and statement.symbol is symbol:
        return True
    return _reads(statement, symbol) or any(
        mentions(inner, symbol) for block in blocks(statement) for inner in block.statements
    )


def _reads(statement: Statement, symbol: Symbol) -> bool:
    """Whether the statement itself reads the local."""
    return any(reads(expression, symbol) for expression in expressions(statement))


def reads(expression: Expression, symbol: Symbol) -> bool:
    """Whether an expression reads the local."""
    return any(isinstance(one, Read) and one.symbol is symbol for one in expression.walk())


def exposes(statement: Statement, symbol: Symbol) -> bool:
    """Whether a statement may read a value that the local had before it."""
    return _reads(statement, symbol) or any(
        _exposed_in(block, symbol) for block in blocks(statement)
    )


def _exposed_in(block: Block, symbol: Symbol) -> bool:
    for statement in block.statements:
        if exposes(statement, symbol):
            return True
        if kills(statement, symbol):
            return False
    return False


def kills(statement: Statement, symbol: Symbol) -> bool:
    """Whether the local has a new value, or control is elsewhere, after the statement."""
    if isinstance(statement, (Return, Break, Continue)):
        return True
    if isinstance(statement, Panic):
        return statement.condition is None
    if isinstance(statement, Assign):
        return statement.symbol is symbol
    if isinstance(statement, If):
        return all(
            any(kills(one, symbol) for one in block.statements) for block in blocks(statement)
        )
    if isinstance(statement, (While, For)):
        return False
    return any(kills(one, symbol) for block in blocks(statement) for one in block.statements)
