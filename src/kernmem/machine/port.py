"""The port that every machine has: call the kernel, look at its memory.

A machine runs one kernel, a tree of components.  Everything the kernel marks ``@api`` is a method
of the machine, and every static variable an attribute::

    page = machine.alloc_physical_page()
    print(machine.physical_mem_info)

Plain integers are converted to the types that the function is annotated with, and checked; what
comes back has the annotated type too.  Addresses are virtual where nothing else is said.
"""

from __future__ import annotations

import inspect
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self, TypeVar, cast

from kernmem.hardware.description import HardwareDescription
from kernmem.language import (
    Array,
    Bindings,
    Component,
    Image,
    Memory,
    Static,
    Struct,
    set_pointer_bytes,
)
from kernmem.language.structs import size_of, without_none

S = TypeVar("S", bound=Struct)


@dataclass(frozen=True)
class Value:
    """The type of a parameter or result: ``kind``, and whether None may stand for 0."""

    kind: type[Any] | None
    optional: bool = False

    @classmethod
    def of(cls, annotation: Any) -> Value:
        """The type that an annotation means."""
        if annotation is None or annotation is type(None):
            return cls(None)
        return cls(*without_none(annotation))


@dataclass(frozen=True)
class Function:
    """One ``@api`` function of a kernel.

    Attributes:
        method: the function, bound to its component.
        parameters: the types by name, in order.
    """

    name: str
    method: Callable[..., Any]
    signature: inspect.Signature
    parameters: dict[str, Value]
    result: Value

    @classmethod
    def of(cls, method: Callable[..., Any]) -> Function:
        """Read a method's annotations."""
        hints = typing.get_type_hints(method)
        result = Value.of(hints.pop("return", None))
        parameters = {name: Value.of(hint) for name, hint in hints.items()}
        return cls(method.__name__, method, inspect.signature(method), parameters, result)


def components(root: Component) -> Iterator[Component]:
    """``root`` and every component that it is made of, each once."""
    seen: set[int] = set()
    waiting: list[Any] = [root]
    while waiting:
        value = waiting.pop()
        if isinstance(value, tuple):
            waiting.extend(reversed(value))
        elif isinstance(value, Component) and id(value) not in seen:
            seen.add(id(value))
            yield value
            waiting.extend(reversed(list(vars(value).values())))


def api_functions(root: Component) -> dict[str, Function]:
    """Every ``@api`` function below ``root``, by name."""
    functions: dict[str, Function] = {}
    for component in components(root):
        for name, member in inspect.getmembers(type(component), inspect.isfunction):
            if not getattr(member, "__api__", False):
                continue
            method = getattr(component, name)
            if name in functions and functions[name].method != method:
                raise ValueError(f"two components have an @api function {name!r}: rename one")
            functions[name] = Function.of(method)
    return functions


class Machine(ABC):
    """A machine with a kernel in it.

    Attributes:
        name: the kind of machine, e.g. ``"model"``.
        hardware: what it imitates.
        kernel: the root of the component tree.
        image: what the kernel was put together in.
        memory: the machine's memory, by virtual address, as the kernel sees it.
    """

    name: str

    def __init__(
        self, hardware: HardwareDescription, image: Image, kernel: Component, memory: Memory
    ) -> None:
        self.hardware = hardware
        self.image = image
        self.kernel = kernel
        self.memory = memory
        self.functions = api_functions(kernel)
        self._bindings = Bindings(image.target, memory)

    # What each kind of machine gives ------------------------------------------------------

    @property
    @abstractmethod
    def console(self) -> str:
        """What the kernel has written so far."""

    @abstractmethod
    def invoke(self, function: Function, arguments: tuple[Any, ...]) -> Any:
        """Call the kernel with typed arguments; the result is typed, or a plain integer."""

    @abstractmethod
    def static_address(self, static: Static) -> int:
        """Where this machine has a static variable."""

    @abstractmethod
    def read_virtual(self, address: int, length: int) -> bytes:
        """Bytes at a virtual address; PageFault if the MMU refuses."""

    @abstractmethod
    def write_virtual(self, address: int, data: bytes) -> None:
        """Store bytes at a virtual address; PageFault if the MMU refuses."""

    @abstractmethod
    def read_physical(self, address: int, length: int) -> bytes:
        """Bytes at a physical address; nothing can refuse, nothing notices."""

    @abstractmethod
    def write_physical(self, address: int, data: bytes) -> None:
        """Store bytes at a physical address, from outside of the machine."""

    @abstractmethod
    def registers(self) -> dict[str, int]:
        """The registers of the MMU by name, as far as they were written."""

    @abstractmethod
    def snapshot(self) -> Any:
        """The whole state, to be given to :meth:`restore`, as often as wanted."""

    @abstractmethod
    def restore(self, state: Any) -> None:
        """Go back to a snapshot of this machine."""

    # What follows from it -----------------------------------------------------------------

    def call(self, name: str, *arguments: Any, **named: Any) -> Any:
        """Call an ``@api`` function of the kernel."""
        function = self.functions.get(name)
        if function is None:
            known = ", ".join(sorted(self.functions))
            raise AttributeError(f"the kernel has no function {name!r}; it has {known}")
        set_pointer_bytes(self.hardware.target.pointer_bytes)
        if named or len(arguments) != len(function.parameters):
            bound = function.signature.bind(*arguments, **named)
            bound.apply_defaults()
            arguments = tuple(bound.arguments.values())
        kinds = function.parameters.values()
        typed = tuple(map(self.typed, kinds, arguments))
        return self.typed(function.result, self.invoke(function, typed))

    def typed(self, value_type: Value, value: Any) -> Any:
        """``value`` as ``value_type``: a machine integer, an enum member, a reference or None."""
        kind = value_type.kind
        if kind is None:
            return None
        if value is None or (value_type.optional and value == 0):
            if not value_type.optional:
                raise TypeError(f"{kind.__name__} must be a value, not None")
            return None
        if isinstance(value, kind):
            return value
        if issubclass(kind, Struct):
            return self.reference(kind, int(value))
        return kind(value)

    def load(self, address: int, size: int = 8) -> int:
        """The little-endian integer of ``size`` bytes at a virtual address."""
        return int.from_bytes(self.read_virtual(address, size), "little")

    def store(self, address: int, value: int, size: int = 8) -> None:
        """Store a little-endian integer of ``size`` bytes at a virtual address."""
        self.write_virtual(address, value.to_bytes(size, "little"))

    def reference(self, struct: type[S], address: int) -> S:
        """The struct at a virtual address: its fields load from this machine."""
        set_pointer_bytes(self.hardware.target.pointer_bytes)
        return cast(S, cast(Any, self._bindings[struct])(address))

    def static(self, name: str) -> Any:
        """A static variable of the kernel by its C name: a reference, or an Array."""
        for static in self.image.statics.values():
            if static.name == name:
                break
        else:
            known = ", ".join(sorted(each.name for each in self.image.statics.values()))
            raise AttributeError(f"the kernel has no variable {name!r}; it has {known}")
        address = self.static_address(static)
        if issubclass(static.kind, Struct):
            return self.reference(static.kind, address)
        size = size_of(static.kind, self.hardware.target)
        return Array(static.kind, address, static.length, self.memory, size)

    def close(self) -> None:  # noqa: B027 - most machines hold nothing
        """Give back what the machine holds of this process, if it holds anything."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or "functions" not in self.__dict__:
            raise AttributeError(name)
        function = self.functions.get(name)
        if function is None:
            if any(static.name == name for static in self.image.statics.values()):
                return self.static(name)
            raise AttributeError(
                f"a {self.name} machine with this kernel has no {name!r}; dir() lists what it has"
            )

        def call(*arguments: Any, **named: Any) -> Any:
            return self.call(name, *arguments, **named)

        call.__name__ = name
        call.__doc__ = function.method.__doc__
        call.__signature__ = function.signature  # type: ignore[attr-defined]
        return call

    def __dir__(self) -> list[str]:
        statics = [static.name for static in self.image.statics.values()]
        return sorted({*super().__dir__(), *self.functions, *statics})

    def __repr__(self) -> str:
        return f"<{self.name} machine: {self.hardware.title}>"
