"""What the compiler makes of a kernel: functions, variables, and where each belongs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from types import FunctionType
from typing import Any

from kernmem.compiler.discover import Part
from kernmem.compiler.source import Source
from kernmem.compiler.spelling import Named
from kernmem.compiler.tree import Block, Effect, Symbol
from kernmem.compiler.types import Type
from kernmem.language import Component, Image, Static, Struct, Target

NO_DEFAULT = object()


@dataclass(eq=False)
class Parameter:
    """A parameter; ``default`` is a build-time value, or ``NO_DEFAULT``."""

    name: str
    type: Type
    symbol: Symbol
    default: Any = NO_DEFAULT


@dataclass(eq=False)
class Function:
    """A kernel function, for one instance of its component.

    Attributes:
        name: qualified, as Python says it: ``PhysicalMemory.alloc_physical_page``.
        c_name: its name in C.
        module: the C file it goes to.
        part: the component it belongs to; None for a function of a module.
        is_api: whether the C headers declare it.
        is_out_of_line: whether C keeps it out of line.
        intrinsic: the body of the C function, instead of ``body``.
        calls: the kernel functions it calls.
        effect, traps: what a call of it may do.
    """

    python: FunctionType
    source: Source
    part: Part | None
    name: str
    module: str
    is_api: bool
    is_out_of_line: bool
    parameters: tuple[Parameter, ...]
    result: Type
    intrinsic: str | None = None
    c_name: str = ""
    body: Block = field(default_factory=Block)
    symbols: list[Symbol] = field(default_factory=list)
    calls: list[Function] = field(default_factory=list)
    effect: Effect = Effect.PURE
    traps: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left of it for this instance: all was pruned."""
        return self.intrinsic is None and not self.body.statements

    @property
    def documentation(self) -> str:
        """The docstring."""
        return (self.python.__doc__ or "").strip()

    @property
    def file(self) -> str:
        """The path of the Python source."""
        return self.source.file

    @property
    def line(self) -> int:
        """The line of ``def``."""
        return self.source.node.lineno

    def __repr__(self) -> str:
        return f"<function {self.name}: {self.c_name} in {self.module}.c>"


@dataclass(frozen=True)
class Variable:
    """A static of the image and the C file it goes to."""

    static: Static
    module: str

    @property
    def name(self) -> str:
        return self.static.name


@dataclass(eq=False)
class Program:
    """A compiled kernel, ready to be written as C.

    Attributes:
        root: the component it was compiled from.
        functions: callees before their callers.
        variables: the statics of the image.
        modules: the C files, each after those it calls where that is possible.
        homes: the C file of each Python module that defines a component.
        structs, enumerations, constants: what the functions and variables use.
    """

    root: Component
    parts: tuple[Part, ...]
    functions: tuple[Function, ...]
    variables: tuple[Variable, ...]
    modules: tuple[str, ...]
    homes: dict[str, str]
    structs: tuple[type[Struct], ...] = ()
    enumerations: tuple[type[IntEnum] | type[IntFlag], ...] = ()
    constants: tuple[Named, ...] = ()

    @property
    def target(self) -> Target:
        return self.root.target

    @property
    def image(self) -> Image:
        return self.root.image

    @property
    def apis(self) -> tuple[Function, ...]:
        """The functions that the C headers declare."""
        return tuple(function for function in self.functions if function.is_api)

    def __getitem__(self, c_name: str) -> Function:
        """The function of a C name."""
        for function in self.functions:
            if function.c_name == c_name:
                return function
        raise KeyError(c_name)

    def __iter__(self) -> Iterator[Function]:
        return iter(self.functions)
