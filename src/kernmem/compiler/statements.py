"""Statements: from Python's tree to the typed tree, and which variables have a value where."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kernmem.compiler import calls, operators
from kernmem.compiler.context import Context, Value
from kernmem.compiler.errors import CompileError
from kernmem.compiler.expressions import Expressions
from kernmem.compiler.loops import Loops
from kernmem.compiler.messages import message
from kernmem.compiler.order import check_store
from kernmem.compiler.program import Function
from kernmem.compiler.pruning import leave_out
from kernmem.compiler.scope import Known, Scope, assigned_names, join
from kernmem.compiler.tree import (
    Assign,
    Binary,
    Block,
    Call,
    Effect,
    Element,
    Evaluate,
    Expression,
    If,
    Inside,
    Load,
    Panic,
    Print,
    Read,
    Return,
    Statement,
    Store,
    Symbol,
    Zero,
)
from kernmem.compiler.tree import Scope as ScopeStatement
from kernmem.compiler.tree import expressions as expressions_of
from kernmem.compiler.types import Nothing, Number, Reference, Sequence, agree
from kernmem.language import Component, Struct, VirtualAddress, panic, usize
from kernmem.language.structs import layout

if TYPE_CHECKING:
    from kernmem.compiler.driver import Compiler

REFUSED: dict[type[ast.stmt], tuple[str, str]] = {
    ast.Try: ("try", "a status that the caller tests"),
    ast.Raise: ("raise", '`panic(f"…")`'),
    ast.FunctionDef: ("a nested function", "a @kernel method"),
    ast.AsyncFunctionDef: ("a nested function", "a @kernel method"),
    ast.ClassDef: ("a nested class", "it at the top of the module"),
    ast.Import: ("an import", "it at the top of the module"),
    ast.ImportFrom: ("an import", "it at the top of the module"),
    ast.Global: ("global", "`self.static(Struct, name)` for a variable that stays"),
    ast.Nonlocal: ("nonlocal", "`self.static(Struct, name)` for a variable that stays"),
    ast.Delete: ("del", "nothing: a local ends with its function"),
    ast.Match: ("match", "`if` and `elif`"),
    ast.AsyncFor: ("async", "`for`"),
    ast.AsyncWith: ("async", "`with`"),
    ast.TryStar: ("try", "a status that the caller tests"),
}


class Statements(Loops):
    """The statements of one function."""

    def __init__(self, compiler: Compiler, function: Function, instance: Any) -> None:
        scope = Scope(function.python, locals=assigned_names(function.source.node))
        scope.everything = function.symbols
        for parameter in function.parameters:
            scope.symbols[parameter.name] = parameter.symbol
            scope.assign(parameter.symbol)
        self.function = function
        self.breaks = []
        self.pruned = 0
        self.scope = scope
        self.context = Context(compiler, function, instance, function.source, scope)
        self.expressions = Expressions(self.context)
        self.visits: dict[type[ast.stmt], Callable[[Any, Block], None]] = {
            ast.Expr: self._expression,
            ast.Assign: self._assign,
            ast.AnnAssign: self._annotated,
            ast.AugAssign: self._augmented,
            ast.If: self._if,
            ast.While: self.while_loop,
            ast.For: self.for_loop,
            ast.With: self._with,
            ast.Return: self._return,
            ast.Break: self.break_loop,
            ast.Continue: self.continue_loop,
            ast.Assert: self._assert,
            ast.Pass: lambda node, block: None,
        }

    def compile(self) -> None:
        """Read the function's body into ``function.body``."""
        node, function = self.function.source.node, self.function
        self.block(node.body, function.body)
        if self.scope.assigned is not None and function.result != Nothing():
            raise self.context.refuse(
                node,
                f"every path of {function.name} must end in a return",
                "one that falls off the end",
                "`return …` there"
                if function.result != Nothing(returns=False)
                else '`panic(f"…")` there',
            )

    def block(self, nodes: list[ast.stmt], block: Block) -> None:
        """Read statements into a block; those after a branch pruned to a jump are not reached."""
        pruned = 0
        for position, node in enumerate(nodes):
            if self.scope.assigned is None:
                if self.pruned == pruned:
                    raise self._refuse_unreachable(nodes[position - 1], node)
                return
            before, pruned = len(block.statements), self.pruned
            visit = self.visits.get(type(node))
            if visit is None:
                what, instead = REFUSED.get(type(node), (type(node).__name__, "something simpler"))
                raise self.context.refuse(
                    node, "a statement must be of kernel Python", what, instead
                )
            visit(node, block)
            for statement in block.statements[before:]:
                self._note(statement)

    def _refuse_unreachable(self, before: ast.stmt, node: ast.stmt) -> CompileError:
        return self.context.refuse(
            node,
            "a statement must be reachable",
            f"{self.context.show(node)} after `{self.context.source.text(before)}`",
            "nothing there",
        )

    def _note(self, statement: Statement) -> None:
        """Add what a statement may do to what a call of the function may do."""
        function = self.function
        for expression in expressions_of(statement):
            function.effect = max(function.effect, expression.effect)
            function.traps = function.traps or expression.traps
        if isinstance(statement, (Store, Panic, Print, Zero)):
            function.effect = Effect.ACTS

    # Calls and messages -------------------------------------------------------------------

    def _expression(self, node: ast.Expr, block: Block) -> None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return
        if not isinstance(node.value, ast.Call):
            raise self.context.refuse(
                node,
                "an expression must be a call to be a statement",
                self.context.show(node),
                "an assignment, or nothing",
            )
        value = self._call(node.value)
        if isinstance(value, Evaluate) and leave_out(value.call):
            return
        block.statements.append(value)
        if isinstance(value, Panic) or (
            isinstance(value, Evaluate) and value.call.type == Nothing(returns=False)
        ):
            self.scope.assigned = None

    def _call(self, node: ast.Call) -> Statement:
        function, _ = calls.callee(self.expressions, node)
        line = node.lineno
        if function is panic:
            return Panic(line, message(self.expressions, self._only(node)))
        if function is Component.print:
            return Print(line, message(self.expressions, self._only(node), "\\n"))
        if function is Component.zero:
            if len(node.args) != 2 or node.keywords:
                raise self.context.refuse(
                    node,
                    "zero must be called with 2 plain arguments",
                    self.context.show(node),
                    "`self.zero(address, length)`",
                )
            address = self.expressions.typed(node.args[0], Number(VirtualAddress), "the address")
            length = self.expressions.typed(node.args[1], Number(usize), "the length")
            check_store(self.context, node, length, (address,))
            return Zero(line, address, length)
        value = calls.call(self.expressions, node)
        if not isinstance(value, Call):
            raise self.context.refuse(
                node,
                "a call must have an effect to be a statement",
                self.context.show(node),
                "an assignment of its value",
            )
        return Evaluate(line, value)

    def _only(self, node: ast.Call) -> ast.expr:
        if len(node.args) != 1 or node.keywords:
            raise self.context.refuse(
                node, "a message must be one text", self.context.show(node), 'one f"…{value}…"'
            )
        return node.args[0]

    def _assert(self, node: ast.Assert, block: Block) -> None:
        condition = self.expressions.condition(node.test)
        if node.msg is None:
            raise self.context.refuse(
                node,
                "an assert must say what is wrong",
                self.context.show(node),
                f'`assert {self.context.source.text(node.test)}, f"…{{value}}…"`',
            )
        if isinstance(condition, Known) and condition.value:
            return
        text = message(self.expressions, node.msg)
        if isinstance(condition, Known):
            block.statements.append(Panic(node.lineno, text))
            self.scope.assigned = None
        else:
            failed = operators.negated(condition)
            assert isinstance(failed, Expression)
            block.statements.append(Panic(node.lineno, text, failed))

    # Assignments --------------------------------------------------------------------------

    def _assign(self, node: ast.Assign, block: Block) -> None:
        if len(node.targets) != 1:
            raise self.context.refuse(
                node,
                "an assignment must have one target",
                self.context.show(node),
                "a statement for each",
            )
        value = self.expressions.evaluate(node.value)
        self._assign_to(node.targets[0], value, node.value, node, block)

    def _annotated(self, node: ast.AnnAssign, block: Block) -> None:
        if not isinstance(node.target, ast.Name):
            raise self.context.refuse(
                node.target,
                "only a local may be annotated",
                self.context.show(node.target),
                "the assignment without the type",
            )
        name = node.target.id
        kind = self.context.compiler.annotation(self.context.source, node, node.annotation, name)
        known = self.scope.symbols.get(name)
        if known is not None and known.type != kind:
            raise self._refuse_second_type(node, known, str(kind))
        self.scope.annotated[name] = kind
        if node.value is not None:
            value = self.expressions.evaluate(node.value)
            self._assign_to(node.target, value, node.value, node, block)

    def _assign_to(
        self, target: ast.expr, value: Value, source: ast.expr, node: ast.stmt, block: Block
    ) -> None:
        if isinstance(target, ast.Name):
            symbol, typed = self._symbol(target, value, source)
            if isinstance(typed, Read) and typed.symbol is symbol:
                return
            self.scope.assign(symbol)
            block.statements.append(Assign(node.lineno, symbol, typed))
            return
        place = self._place(target)
        typed = self.context.coerce(value, place.type, source, self.context.show(target))
        check_store(self.context, node, typed, place.parts)
        block.statements.append(Store(node.lineno, place, typed))

    def _symbol(
        self, target: ast.Name, value: Value, source: ast.expr
    ) -> tuple[Symbol, Expression]:
        """The variable that an assignment goes to, and the value in its type."""
        name = target.id
        symbol = self.scope.symbols.get(name)
        if name in self.scope.known or (
            symbol is not None and symbol.role in ("counter", "storage")
        ):
            raise self.context.refuse(
                target,
                "the variable of a `for` or a `with` must not be assigned",
                f"`{name}`",
                "another name",
            )
        if name == "self":
            raise self.context.refuse(target, "self must not be assigned", "`self`", "another name")
        if symbol is None:
            announced = self.scope.annotated.get(name)
            if announced is not None:
                typed = self.context.coerce(value, announced, source, name)
            else:
                typed = self.context.value(value, source)
            if isinstance(typed.type, Sequence):
                self._check_array(source, typed)
            return self.scope.declare(name, announced or typed.type, "local"), typed
        lifted = self.context.lift(value)
        if lifted is not None and not agree(lifted.type, symbol.type):
            raise self._refuse_second_type(target, symbol, str(lifted.type))
        return symbol, self.context.coerce(value, symbol.type, source, name)

    def _check_array(self, node: ast.AST, value: Expression) -> None:
        """An array in a packed struct may be misaligned, so nothing may point to it."""
        if isinstance(value, Inside) and isinstance(value.reference.type, Reference):
            struct = value.reference.type.struct
            if layout(struct, self.context.compiler.target).packed and value.field.size > 1:
                raise self.context.refuse(
                    node,
                    "an array of a packed struct must be used in place",
                    self.context.show(node),
                    "its elements",
                )

    def _refuse_second_type(self, node: ast.AST, symbol: Symbol, second: str) -> CompileError:
        return self.context.refuse(
            node,
            f"a variable must keep its type: {symbol.name} is {symbol.type}",
            second,
            "another name",
        )

    def _place(self, target: ast.expr) -> Load | Element:
        if isinstance(target, ast.Attribute):
            base = self.expressions.evaluate(target.value)
            if isinstance(base, Known) and not isinstance(base.value, Struct):
                raise self.context.refuse(
                    target,
                    "a component's attributes must not change once the kernel is built",
                    f"an assignment to {self.context.show(target)}",
                    "a field of a struct from `self.static(…)`",
                )
            place: Value = self.expressions.field(target, self.context.value(base, target.value))
        elif isinstance(target, ast.Subscript):
            place = self.expressions.evaluate(target)
        else:
            raise self.context.refuse(
                target,
                "what is assigned must be a local, a field or an element",
                self.context.show(target),
                "a statement for each",
            )
        if not isinstance(place, (Load, Element)):
            raise self.context.refuse(
                target,
                "what is assigned must be a local, a field or an element",
                self.context.show(target),
                "an assignment to its elements",
            )
        return place

    def _augmented(self, node: ast.AugAssign, block: Block) -> None:
        target = node.target
        place: Expression
        if isinstance(target, ast.Name):
            read = self.expressions.evaluate(
                ast.copy_location(ast.Name(target.id, ast.Load()), target)
            )
            if not isinstance(read, Read):
                raise self.context.refuse(
                    node, "only a variable may change", self.context.show(target), "another name"
                )
            read.symbol.reads -= 1
            place = read
        else:
            place = self._place(target)
        right = self.expressions.evaluate(node.value)
        value = operators.binary(self.context, node, node.op, place, right)
        if isinstance(place, Read):
            symbol, typed = self._symbol(target, value, node.value)  # type: ignore[arg-type]
            self.scope.assign(symbol)
            block.statements.append(Assign(node.lineno, symbol, typed, isinstance(typed, Binary)))
            return
        assert isinstance(place, (Load, Element))
        typed = self.context.coerce(value, place.type, node.value, self.context.show(target))
        block.statements.append(Store(node.lineno, place, typed, isinstance(typed, Binary)))

    # Branches and scopes ------------------------------------------------------------------

    def _if(self, node: ast.If, block: Block) -> None:
        condition = self.expressions.condition(node.test)
        if isinstance(condition, Known):
            self.pruned += 1
            self.block(node.body if condition.value else node.orelse, block)
            return
        statement = If(node.lineno, condition, Block(), Block())
        before = self.scope.assigned
        self.block(node.body, statement.then)
        after = self.scope.assigned
        self.scope.assigned = before
        self.block(node.orelse, statement.otherwise)
        self.scope.assigned = join(after, self.scope.assigned)
        block.statements.append(statement)

    def _with(self, node: ast.With, block: Block) -> None:
        item = node.items[0]
        name, manager = item.optional_vars, item.context_expr
        function = (
            calls.callee(self.expressions, manager)[0] if isinstance(manager, ast.Call) else None
        )
        if function is not Component.local or len(node.items) > 1 or not isinstance(name, ast.Name):
            raise self.context.refuse(
                node,
                "a with must be of a local struct",
                self.context.show(manager),
                "`with self.local(Struct) as name:`",
            )
        assert isinstance(manager, ast.Call)
        (struct,) = manager.args
        cls = calls.class_argument(self.expressions, struct, Struct)
        self.check_new(name)
        symbol = self.scope.declare(name.id, Reference(cls), "storage")
        self.scope.assign(symbol)
        statement = ScopeStatement(node.lineno, symbol, Block())
        self.block(node.body, statement.body)
        self.close(symbol)
        block.statements.append(statement)

    def _return(self, node: ast.Return, block: Block) -> None:
        result = self.function.result
        value: Expression | None = None
        if isinstance(result, Nothing):
            if node.value is not None or not result.returns:
                raise self.context.refuse(
                    node,
                    f"{self.function.name} must return {result}",
                    self.context.show(node),
                    "`return` alone" if result.returns else '`panic(f"…")`',
                )
        elif node.value is None:
            raise self.context.refuse(
                node, f"{self.function.name} must return {result}", "nothing", "`return …`"
            )
        else:
            value = self.expressions.typed(node.value, result, "the result")
            if isinstance(value.type, Sequence):
                self._check_array(node.value, value)
        block.statements.append(Return(node.lineno, value))
        self.scope.assigned = None
