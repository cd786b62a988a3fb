"""Compile a kernel: from its roots to every function that they reach."""

from __future__ import annotations

import ast
import inspect
import typing
from collections.abc import Callable, Iterable
from types import FunctionType
from typing import Any

from kernmem.compiler.discover import Part, discover, holders
from kernmem.compiler.errors import CompileError
from kernmem.compiler.names import name_functions, name_symbols
from kernmem.compiler.program import NO_DEFAULT, Function, Parameter, Program, Variable
from kernmem.compiler.pruning import called_in
from kernmem.compiler.recursion import Recursion
from kernmem.compiler.scope import Scope, assigned_names
from kernmem.compiler.source import Source
from kernmem.compiler.statements import Statements
from kernmem.compiler.tree import Effect
from kernmem.compiler.types import Nothing, annotated_type
from kernmem.compiler.uses import add_uses
from kernmem.language import Component


def compile_component(root: Component, extra_roots: Iterable[Callable[..., Any]] = ()) -> Program:
    """Compile a wired component tree: every ``@api`` method in it, and all that those reach.

    ``extra_roots`` are bound methods, or functions of a module, that are compiled as well: the
    entry of a kernel, for example.  Raises CompileError for what kernel Python does not have.
    """
    compiler = Compiler(root)
    for part in compiler.parts:
        for name in _apis(type(part.component)):
            compiler.add_root(getattr(part.component, name).__func__, part.component)
    for extra in extra_roots:
        function: Any = extra
        compiler.add_root(
            getattr(function, "__func__", function), getattr(function, "__self__", None)
        )
    return compiler.program()


def _apis(cls: type[Component]) -> list[str]:
    """The ``@api`` methods of a class in the order of their definition, the bases' first."""
    names: dict[str, None] = {}
    for base in reversed(cls.__mro__):
        names.update(dict.fromkeys(vars(base)))
    return [name for name in names if getattr(inspect.getattr_static(cls, name), "__api__", False)]


class Compiler:
    """The functions compiled so far, and the way to the next."""

    def __init__(self, root: Component) -> None:
        self.root = root
        self.target = root.target
        self.statics = root.image.statics
        self.parts = discover(root)
        self._parts = {id(part.component): part for part in self.parts}
        self.homes: dict[str, str] = {}
        for part in self.parts:
            self.homes.setdefault(type(part.component).__module__, part.module)
        self._functions: dict[tuple[FunctionType, int], Function] = {}
        self._open: list[Function] = []
        self._done: list[Function] = []
        self._roots: list[Function] = []

    def part_of(self, component: Component | None) -> Part | None:
        """The part that a component is; None for one that nothing in the tree holds."""
        return self._parts.get(id(component))

    def add_root(self, python: FunctionType, instance: Component | None) -> None:
        """Compile a function that is wanted even if nothing calls it."""
        self._roots.append(self.compile(python, instance))

    def compile(self, python: FunctionType, instance: Component | None) -> Function:
        """What a method becomes for one instance, or a function of a module."""
        key = (python, id(instance))
        known = self._functions.get(key)
        if known is not None:
            if known in self._open:
                raise Recursion(self._open[self._open.index(known) :])
            return known
        function = self._declare(python, self._parts.get(id(instance)))
        self._functions[key] = function
        self._open.append(function)
        if function.intrinsic is None:
            Statements(self, function, instance).compile()
            function.calls = list(dict.fromkeys(called_in(function.body)))
        else:
            function.effect = Effect.ACTS
        self._open.pop()
        self._done.append(function)
        return function

    def _declare(self, python: FunctionType, part: Part | None) -> Function:
        """A function's signature, before its body is read."""
        source = Source(python)
        arguments = source.node.args
        for extra in (arguments.vararg, arguments.kwarg, *arguments.posonlyargs):
            if extra is not None:
                raise source.refuse(
                    extra, "parameters must be named one by one", f"`{extra.arg}`", "each of them"
                )
        is_method = part is not None
        if is_method and (not arguments.args or arguments.args[0].arg != "self"):
            raise source.refuse(
                source.node,
                "a method must take self",
                f"`{python.__name__}` without it",
                "self as the first parameter",
            )
        scope = Scope(python, locals=assigned_names(source.node))
        parameters = []
        defaults = inspect.signature(python).parameters
        for argument in [*arguments.args[is_method:], *arguments.kwonlyargs]:
            kind = self.annotation(source, argument, argument.annotation, argument.arg)
            if isinstance(kind, Nothing):
                raise _refuse_annotation(source, argument, argument.arg)
            default = defaults[argument.arg].default
            symbol = scope.declare(argument.arg, kind, "parameter")
            parameters.append(
                Parameter(
                    argument.arg, kind, symbol, NO_DEFAULT if default is inspect._empty else default
                )
            )
        result = self.annotation(source, source.node, source.node.returns, "the result")
        if part is not None:
            module = part.module
        else:
            caller = self._open[-1].module if self._open else self.parts[0].module
            module = self.homes.get(python.__module__, caller)
        return Function(
            python,
            source,
            part,
            python.__qualname__.rpartition("<locals>.")[2],
            module,
            getattr(python, "__api__", False),
            getattr(python, "__out_of_line__", False),
            tuple(parameters),
            result,
            self._intrinsic(python, source),
            symbols=scope.everything,
        )

    def annotation(self, source: Source, node: Any, annotation: Any, of: str) -> Any:
        """The type that an annotation names."""
        if annotation is None:
            raise source.refuse(
                node,
                "every parameter and the result must have a type",
                f"{of} without one",
                f"`{of}: usize`" if of != "the result" else "`-> None` or the type it returns",
            )
        try:
            value = eval_annotation(source.function, annotation)
        except Exception as error:
            raise source.refuse(
                annotation,
                "an annotation must be known when the kernel is built",
                f"`{source.text(annotation)}` ({error})",
                "an import that is not under TYPE_CHECKING",
            ) from None
        kind = annotated_type(value)
        if kind is None:
            raise _refuse_annotation(source, annotation, f"{of}: {source.text(annotation)}")
        return kind

    def _intrinsic(self, python: FunctionType, source: Source) -> str | None:
        texts: dict[str, str] | None = getattr(python, "__intrinsic__", None)
        if texts is None:
            return None
        isa = self.target.isa
        text = texts.get(isa, texts.get("c"))
        if text is None:
            raise source.refuse(
                source.node,
                f"an intrinsic must have a text for {isa}",
                f"{python.__qualname__} with {', '.join(texts) or 'none'}",
                f'`@intrinsic({isa}="…")`',
            )
        return text

    def program(self) -> Program:
        """Everything compiled, named and sorted into files."""
        held = holders(self.parts, self.statics)
        home = self.parts[0].module
        variables = tuple(
            Variable(static, held[name].module if (name := static.name) in held else home)
            for static in self.statics.values()
        )
        called = {id(one) for function in self._done for one in function.calls}
        functions = tuple(
            function
            for function in self._done
            if function in self._roots or id(function) in called or not function.is_empty
        )
        modules = dict.fromkeys(function.module for function in functions)
        modules.update(dict.fromkeys(variable.module for variable in variables))
        program = Program(
            self.root, tuple(self.parts), functions, variables, tuple(modules), self.homes
        )
        name_functions(program)
        add_uses(program)
        name_symbols(program)
        return program


def eval_annotation(function: FunctionType, annotation: Any) -> Any:
    """An annotation's value, by the names that the function sees."""
    names = dict(function.__globals__)
    cells = function.__closure__ or ()
    names.update(zip(function.__code__.co_freevars, (c.cell_contents for c in cells), strict=True))
    value = eval(compile(ast.Expression(annotation), "<annotation>", "eval"), names)
    return typing.get_type_hints(_holder(value), names)["it"] if isinstance(value, str) else value


def _holder(value: str) -> type:
    return type("Holder", (), {"__annotations__": {"it": value}})


def _refuse_annotation(source: Source, node: Any, found: str) -> CompileError:
    return source.refuse(
        node,
        "a type must be one that kernel code has",
        f"`{found}`",
        "u8, u16, u32, u64, usize, bool, an address, a struct, an Array or an @enumeration",
    )


__all__ = ["CompileError", "Compiler", "compile_component"]
