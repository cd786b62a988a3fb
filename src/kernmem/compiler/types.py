"""The types that kernel values have at run time."""

from __future__ import annotations

import typing
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any, TypeAlias

from kernmem.language import Address, Array, Integer, Struct, Target, usize
from kernmem.language.structs import size_of, without_none


@dataclass(frozen=True)
class Number:
    """A machine integer or an address; ``optional`` lets an address be None, stored as 0."""

    kind: type[Integer]

    def __str__(self) -> str:
        return self.kind.__name__

    @property
    def is_address(self) -> bool:
        return issubclass(self.kind, Address)

    @property
    def is_pointer_wide(self) -> bool:
        return self.is_address or self.kind is usize

    def bits(self, target: Target) -> int:
        return size_of(self.kind, target) * 8

    def maximum(self, target: Target) -> int:
        return (1 << self.bits(target)) - 1


@dataclass(frozen=True)
class Boolean:
    """``bool``."""

    def __str__(self) -> str:
        return "bool"


@dataclass(frozen=True)
class Enumeration:
    """A class marked ``@enumeration``: an IntEnum, or an IntFlag of 32 bits."""

    cls: type[IntEnum] | type[IntFlag]

    def __str__(self) -> str:
        return self.cls.__name__

    @property
    def is_flag(self) -> bool:
        return issubclass(self.cls, IntFlag)

    @property
    def c_name(self) -> str:
        return str(vars(self.cls)["c_name"])


@dataclass(frozen=True)
class Reference:
    """A pointer to a struct, which may be NULL."""

    struct: type[Struct]

    def __str__(self) -> str:
        return self.struct.__name__


@dataclass(frozen=True)
class Sequence:
    """Integers side by side; ``length`` is None where only the caller knows the end."""

    element: type[Integer]
    length: int | None

    def __str__(self) -> str:
        return f"Array[{self.element.__name__}]"


@dataclass(frozen=True)
class Nothing:
    """What a function without a result gives; ``returns`` is False if it never comes back."""

    returns: bool = True

    def __str__(self) -> str:
        return "None" if self.returns else "NoReturn"


Type: TypeAlias = Number | Boolean | Enumeration | Reference | Sequence | Nothing


def is_nullable(kind: Type) -> bool:
    """Whether ``X | None`` has a representation: a null pointer, or address 0."""
    return isinstance(kind, Reference) or (isinstance(kind, Number) and kind.is_address)


def agree(one: Type, other: Type) -> bool:
    """Whether a value of type ``one`` may stand where ``other`` is due."""
    if isinstance(one, Sequence) and isinstance(other, Sequence):
        return one.element is other.element and other.length in (None, one.length)
    return one == other


def class_type(cls: Any) -> Type | None:
    """The type of a class's instances in kernel code; None if they have none."""
    if not isinstance(cls, type):
        return None
    if issubclass(cls, bool):
        return Boolean()
    if issubclass(cls, Struct):
        return Reference(declared(cls))
    if issubclass(cls, Integer):
        return Number(cls)
    if issubclass(cls, (IntEnum, IntFlag)) and hasattr(cls, "c_name"):
        return Enumeration(cls)
    return None


def declared(struct: type[Struct]) -> type[Struct]:
    """The struct as the source declares it, for a class that :class:`Bindings` made of it."""
    layout = getattr(struct, "layout", None)
    return struct if layout is None else layout.struct


def annotated_type(annotation: Any) -> Type | None:
    """The type that an evaluated annotation names; None if kernel code has no such type."""
    if annotation is None or annotation is type(None):
        return Nothing()
    if annotation in (typing.NoReturn, typing.Never):
        return Nothing(returns=False)
    if typing.get_origin(annotation) is Array:
        (element,) = typing.get_args(annotation)
        is_integer = isinstance(element, type) and issubclass(element, Integer)
        return Sequence(element, None) if is_integer else None
    try:
        cls, optional = without_none(annotation)
    except TypeError:
        return None
    kind = class_type(cls)
    if kind is None or (optional and not is_nullable(kind)):
        return None
    return kind
