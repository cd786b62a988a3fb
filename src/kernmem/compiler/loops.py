"""Loops: at run time with ``while`` and ``span``, unrolled over what is known at build time."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from kernmem.compiler import calls
from kernmem.compiler.context import Context
from kernmem.compiler.expressions import Expressions
from kernmem.compiler.order import check_order
from kernmem.compiler.scope import Known, Scope, join
from kernmem.compiler.spelling import digits
from kernmem.compiler.tree import (
    Assign,
    Block,
    Break,
    Continue,
    Expression,
    For,
    Global,
    Literal,
    Read,
    Symbol,
    While,
    walk,
)
from kernmem.compiler.types import Number
from kernmem.language import span

if TYPE_CHECKING:
    from collections.abc import Iterable

UNROLLED_MOST = 64


class Loops:
    """The loops of one function; a part of Statements."""

    context: Context
    scope: Scope
    expressions: Expressions
    breaks: list[Any]
    """For each loop around: what is assigned at its breaks; False for an unrolled loop."""

    pruned: int
    """How many branches have been decided at build time so far."""

    def block(self, nodes: list[ast.stmt], block: Block) -> None:
        """Read statements into a block."""
        raise NotImplementedError

    def while_loop(self, node: ast.While, block: Block) -> None:
        self._refuse_else(node)
        condition = self.expressions.condition(node.test)
        if isinstance(condition, Known) and not condition.value:
            return
        endless = isinstance(condition, Known)
        statement = While(
            node.lineno, condition if isinstance(condition, Expression) else None, Block()
        )
        before = self.scope.assigned
        breaks = self._body(node.body, statement.body)
        self.scope.assigned = breaks if endless else join(before, breaks)
        block.statements.append(statement)

    def _body(self, nodes: list[ast.stmt], block: Block) -> Any:
        """A loop's body; what is assigned where it breaks, None if it never does."""
        self.breaks.append(None)
        self.block(nodes, block)
        return self.breaks.pop()

    def break_loop(self, node: ast.Break, block: Block) -> None:
        self._refuse_unrolled(node)
        self.breaks[-1] = join(self.breaks[-1], self.scope.assigned)
        block.statements.append(Break(node.lineno))
        self.scope.assigned = None

    def continue_loop(self, node: ast.Continue, block: Block) -> None:
        self._refuse_unrolled(node)
        block.statements.append(Continue(node.lineno))
        self.scope.assigned = None

    def _refuse_unrolled(self, node: ast.stmt) -> None:
        if self.breaks[-1] is False:
            raise self.context.refuse(
                node,
                "an unrolled loop must run to its end",
                self.context.show(node),
                "`return` in a method of its own, or `for i in span(…)`",
            )

    def _refuse_else(self, node: ast.While | ast.For) -> None:
        if node.orelse:
            raise self.context.refuse(
                node.orelse[0],
                "a loop must have no else",
                self.context.show(node.orelse[0]),
                "the statements after the loop",
            )

    def for_loop(self, node: ast.For, block: Block) -> None:
        self._refuse_else(node)
        if not isinstance(node.target, ast.Name):
            raise self.context.refuse(
                node.target,
                "a loop must have one variable",
                self.context.show(node.target),
                "one name",
            )
        if isinstance(node.iter, ast.Call):
            function, _ = calls.callee(self.expressions, node.iter)
            if function is span:
                self._span(node, node.target, node.iter, block)
                return
            if function is range:
                self._unroll(node, node.target, self._range(node.iter), block)
                return
        else:
            value = self.expressions.evaluate(node.iter)
            if isinstance(value, Known) and isinstance(value.value, tuple):
                self._unroll(node, node.target, map(Known, value.value), block)
                return
        raise self.context.refuse(
            node.iter,
            "a loop must be over span(), range() or a build-time tuple",
            self.context.show(node.iter),
            "`for i in span(start, stop):`",
        )

    # At run time --------------------------------------------------------------------------

    def _span(self, node: ast.For, target: ast.Name, call: ast.Call, block: Block) -> None:
        if len(call.args) != 2 or call.keywords:
            raise self.context.refuse(
                call,
                "span must be called with a start and a stop",
                self.context.show(call),
                "`span(start, stop)`",
            )
        start, stop = (self._bound(argument) for argument in call.args)
        if start.type != stop.type:
            raise self.context.refuse(
                call,
                "the start and the stop of a span must have one type",
                f"{start.type} and {stop.type}",
                f"`{start.type}(…)` around the stop",
            )
        check_order(self.context, call, (start, stop))
        self.check_new(target)
        counter = self.scope.declare(target.id, start.type, "counter")
        before = self.scope.assigned
        self.scope.assign(counter)
        body = Block()
        breaks = self._body(node.body, body)
        self.scope.assigned = before if breaks is None else join(before, breaks)
        hoists = not self._stays(stop, body)
        block.statements.append(For(node.lineno, counter, start, stop, hoists, body))
        self.close(counter)

    def _bound(self, node: ast.expr) -> Expression:
        value = self.expressions.evaluate(node)
        lifted = self.context.lift(value)
        if lifted is None or not isinstance(lifted.type, Number):
            raise self.context.refuse(
                node,
                "a bound of a span must be a machine integer",
                self.context.show(node, value),
                f"`usize({self.context.source.text(node)})`",
            )
        return lifted

    def _stays(self, stop: Expression, body: Block) -> bool:
        """Whether ``stop`` can be computed again in each round, with the same result."""
        if not isinstance(stop, Read):
            return isinstance(stop, (Literal, Global))
        return not any(
            isinstance(statement, Assign) and statement.symbol is stop.symbol
            for statement in walk(body)
        )

    def check_new(self, target: ast.Name) -> None:
        """The variable of a ``for`` or a ``with`` lives only in it, so its name must be free."""
        symbol = self.scope.symbols.get(target.id)
        if target.id in self.scope.known or symbol is not None:
            raise self.context.refuse(
                target,
                "the variable of a `for` or a `with` must have a name of its own",
                f"`{target.id}`, which has a value",
                "another name",
            )

    def close(self, symbol: Symbol) -> None:
        """End the life of a ``for``'s or a ``with``'s variable."""
        del self.scope.symbols[symbol.name]
        if self.scope.assigned is not None:
            self.scope.assigned -= {symbol}

    # Unrolled -----------------------------------------------------------------------------

    def _range(self, call: ast.Call) -> Iterable[Known]:
        bounds = [self.expressions.evaluate(argument) for argument in call.args]
        for node, bound in zip(call.args, bounds, strict=True):
            if not isinstance(bound, Known) or type(bound.value) is not int:
                raise self.context.refuse(
                    node,
                    "range must be of build-time numbers: its loop is unrolled",
                    self.context.show(node, bound),
                    "`span(start, stop)` for a loop at run time",
                )
        numbers = range(*(bound.value for bound in bounds if isinstance(bound, Known)))
        return [Known(number, digits(number)) for number in numbers]

    def _unroll(
        self, node: ast.For, target: ast.Name, values: Iterable[Known], block: Block
    ) -> None:
        values = list(values)
        if len(values) > UNROLLED_MOST:
            raise self.context.refuse(
                node.iter,
                f"an unrolled loop must have at most {UNROLLED_MOST} rounds",
                f"{len(values)}",
                "`for i in span(usize(0), usize(n)):`",
            )
        self.check_new(target)
        self.breaks.append(False)
        self.pruned += 1
        for value in values:
            if self.scope.assigned is None:
                break
            self.scope.known[target.id] = value
            self.block(node.body, block)
        self.scope.known.pop(target.id, None)
        self.breaks.pop()
