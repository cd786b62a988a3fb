"""Structs: typed references into a machine's memory, and their layout.

A struct is declared as an annotated class::

    @struct("free_page_marker_t")
    class FreePageMarker(Struct):
        next: FreePageMarker | None
        previous: FreePageMarker | None

A name of struct type is a *reference*, as a pointer is in C: reading an attribute loads from the
running machine's memory at the C offset, assigning one stores there.  ``X | None`` is a pointer
that may be NULL.  An array lies within its struct: ``words: Array[u32] = array(u32, 36)``.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeAlias, TypeVar, cast

from kernmem.language.errors import KernelPanic
from kernmem.language.integers import Address, Integer, usize
from kernmem.language.target import Target

if TYPE_CHECKING:
    _Int: TypeAlias = object
else:
    _Int = int

T = TypeVar("T", bound=Integer)
S = TypeVar("S", bound="Struct")
E = TypeVar("E", bound=IntEnum | IntFlag)


class Memory(Protocol):
    """The memory of a running machine, as references see it: little-endian, by virtual address."""

    def loader(self, size: int) -> Callable[[int], int]:
        """A function that loads ``size`` bytes (1, 2, 4 or 8) at an address."""

    def storer(self, size: int) -> Callable[[int, int], None]:
        """A function that stores ``size`` bytes at an address: ``store(address, value)``."""

    def zero(self, address: int, length: int) -> None:
        """Store ``length`` zero bytes at ``address``."""


class Struct(_Int):
    """The base of all structs.  An instance is a reference; at run time, its address."""

    __slots__ = ()
    c_name: ClassVar[str]
    packed: ClassVar[bool]
    alignment: ClassVar[int | None]
    opaque: ClassVar[bool]

    def __new__(cls, *_: object) -> typing.Self:
        raise TypeError(
            f"a {cls.__name__} is a reference into memory: write self.at({cls.__name__}, address)"
        )


class Array(Generic[T]):
    """Integers side by side in memory; ``array[i]`` loads, ``array[i] = value`` stores.

    ``length`` is None for an array laid over memory with :meth:`Component.array_at`, whose end
    only the caller knows; otherwise an index past the end is a panic.
    """

    __slots__ = ("_element", "_load", "_size", "_store", "address", "length")

    def __init__(
        self, element: type[T], address: int, length: int | None, memory: Memory, size: int
    ) -> None:
        self.address = address
        self.length = length
        self._element = element
        self._size = size
        self._load = memory.loader(size)
        self._store = memory.storer(size)

    def __getitem__(self, index: Integer | int) -> T:
        return self._element(self._load(self._at(index)))

    def __setitem__(self, index: Integer | int, value: T) -> None:
        if type(value) is not self._element:
            raise TypeError(f"{value!r} must be {self._element.__name__}")
        self._store(self._at(index), int(value))

    def _at(self, index: Integer | int) -> int:
        position = int(index)
        if self.length is not None and position >= self.length:
            raise KernelPanic(f"index {position} is past the end of an array of {self.length}")
        return self.address + position * self._size

    def __repr__(self) -> str:
        length = "" if self.length is None else self.length
        return f"<{self._element.__name__}[{length}] at {self.address:#x}>"


@dataclass(frozen=True)
class ArrayField:
    """What ``array(u32, 36)`` declares in a struct."""

    element: type[Integer]
    length: int


def array(element: type[T], length: int) -> Array[T]:
    """Declare an array of ``length`` integers that lies within a struct."""
    if length < 1:
        raise ValueError(f"an array must hold at least 1 element, not {length!r}")
    return cast(Array[T], ArrayField(element, length))


@dataclass(frozen=True)
class Field:
    """One field of a struct, as laid out for a target.

    Attributes:
        kind: the Integer, ``bool``, IntEnum or Struct class; for an array, its element.
        optional: whether the field may be None (stored as 0).
        offset, size: in bytes; ``size`` is that of one element for an array.
        length: elements of an array, None for a plain field.
    """

    name: str
    kind: type[Any]
    optional: bool
    offset: int
    size: int
    length: int | None

    @property
    def end(self) -> int:
        """The offset of the first byte after the field."""
        return self.offset + self.size * (1 if self.length is None else self.length)


@dataclass(frozen=True)
class Layout:
    """Where a target puts the fields of a struct; the rules are those of C."""

    struct: type[Struct]
    size: int
    alignment: int
    packed: bool
    fields: tuple[Field, ...]


def struct(
    c_name: str, *, packed: bool = False, alignment: int | None = None, opaque: bool = False
) -> Callable[[type[S]], type[S]]:
    """Declare a struct and give its C name.

    ``packed`` leaves no padding; ``alignment`` is in bytes; ``opaque`` hides what the type holds,
    so that only its address matters (``struct("void", opaque=True)`` is C's ``void``).
    """

    def declare(cls: type[S]) -> type[S]:
        cls.c_name = c_name
        cls.packed = packed
        cls.alignment = alignment
        cls.opaque = opaque
        return cls

    return declare


def enumeration(c_name: str) -> Callable[[type[E]], type[E]]:
    """Give an IntEnum or IntFlag its C name; its members take it as their prefix."""

    def declare(cls: type[E]) -> type[E]:
        cls.c_name = c_name  # type: ignore[attr-defined]
        return cls

    return declare


def size_of(kind: type[Any], target: Target) -> int:
    """The size in bytes of a value of ``kind`` (a reference, for a struct)."""
    if issubclass(kind, Struct):
        return target.pointer_bytes
    if issubclass(kind, (IntEnum, IntFlag)):
        return 4
    if issubclass(kind, bool):
        return 1
    if issubclass(kind, (usize, Address)):
        return target.pointer_bytes
    if issubclass(kind, Integer):
        return kind.bits // 8
    raise TypeError(f"{kind.__name__} has no place in memory: use an integer, bool, enum or struct")


def without_none(annotation: Any) -> tuple[Any, bool]:
    """Split ``X | None`` into ``X`` and whether None was allowed."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        rest = [part for part in typing.get_args(annotation) if part is not type(None)]
        if len(rest) == 1:
            return rest[0], True
        raise TypeError(f"{annotation} must be one type, or one type | None")
    return annotation, False


_layouts: dict[tuple[type[Struct], Target], Layout] = {}


def layout(cls: type[Struct], target: Target) -> Layout:
    """Lay a struct out for a target, as a C compiler does."""
    known = _layouts.get((cls, target))
    if known is not None:
        return known
    fields: list[Field] = []
    packed = cls.packed and cls not in target.natural
    offset = 0
    widest = 1
    for name, annotation in typing.get_type_hints(cls).items():
        if typing.get_origin(annotation) is ClassVar or name in Struct.__annotations__:
            continue
        declared = cls.__dict__.get(name)
        if isinstance(declared, ArrayField):
            kind, optional, length = declared.element, False, declared.length
        else:
            (kind, optional), length = without_none(annotation), None
        size = size_of(kind, target)
        alignment = 1 if packed else size
        offset += -offset % alignment
        fields.append(Field(name, kind, optional, offset, size, length))
        offset = fields[-1].end
        widest = max(widest, alignment)
    alignment = max(widest, cls.alignment or 1)
    result = Layout(cls, offset + -offset % alignment, alignment, packed, tuple(fields))
    _layouts[cls, target] = result
    return result


class Bindings(dict[type[Struct], type[Struct]]):
    """Struct classes bound to one memory: ``bindings[Gap](address)`` is a reference there.

    A bound class is a subclass whose fields are properties that load and store.
    """

    def __init__(self, target: Target, memory: Memory) -> None:
        super().__init__()
        self.target = target
        self.memory = memory

    def __missing__(self, cls: type[Struct]) -> type[Struct]:
        namespace: dict[str, Any] = {
            "__slots__": (),
            "__new__": int.__new__,
            "__repr__": _show,
            "__format__": _format,
            "__hash__": int.__hash__,
            "layout": layout(cls, self.target),
        }
        bound = type(cls.__name__, (cls,), namespace)
        self[cls] = bound
        for field in layout(cls, self.target).fields:
            setattr(bound, field.name, self._property(field))
        return bound

    def _property(self, field: Field) -> property:
        """The property that loads and stores ``field``: the interpreter's hot path."""
        offset, kind = field.offset, field.kind
        new: Any = int.__new__
        if field.length is not None:
            length, memory, size = field.length, self.memory, field.size
            return property(lambda self: Array(kind, self + offset, length, memory, size))

        load: Any = self.memory.loader(field.size)
        store: Any = self.memory.storer(field.size)

        if issubclass(kind, Struct):
            bound = self[kind]

            def get_reference(self: Any) -> Any:
                address = load(self + offset)
                return new(bound, address) if address else None

            def set_reference(self: Any, value: Any) -> None:
                if value is None:
                    value = 0
                elif type(value) is not bound:
                    raise TypeError(f"{field.name} = {value!r}: must be a {kind.__name__} or None")
                store(self + offset, value)

            return property(get_reference, set_reference)

        if field.optional:

            def get_optional(self: Any) -> Any:
                value = load(self + offset)
                return new(kind, value) if value else None

            def set_optional(self: Any, value: Any) -> None:
                if value is None:
                    value = 0
                elif type(value) is not kind:
                    raise TypeError(f"{field.name} = {value!r}: must be {kind.__name__} or None")
                store(self + offset, value)

            return property(get_optional, set_optional)

        if not issubclass(kind, Integer):  # bool and enumerations
            return property(
                lambda self: kind(load(self + offset)),
                lambda self, value: store(self + offset, int(kind(value))),
            )

        def get(self: Any) -> Any:
            return new(kind, load(self + offset))

        def set_(self: Any, value: Any) -> None:
            if type(value) is not kind:
                raise TypeError(f"{field.name} = {value!r}: must be {kind.__name__}")
            store(self + offset, value)

        return property(get, set_)


def _format(self: Any, specification: str) -> str:
    """A reference in a message is its address, as a pointer is."""
    return format(int(self), specification or "#x")


def _show(self: Any) -> str:
    """``<kernel_heap_gap_t at 0x80010: magic=0xa5 end=0x80100 ...>``"""
    parts = []
    for field in self.layout.fields:
        value = getattr(self, field.name)
        if isinstance(value, (Struct, Address)):
            value = f"{int(cast(Any, value)):#x}"
        elif isinstance(value, Integer):
            value = int(value)
        parts.append(f" {field.name}={value}")
    return f"<{self.c_name} at {int(self):#x}{':' if parts else ''}{''.join(parts)}>"
