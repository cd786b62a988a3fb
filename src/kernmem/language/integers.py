"""Machine integers: an ``int`` that knows its width and refuses to leave it.

Arithmetic between two integers of one width, or of one and a plain ``int``, gives that width;
a result outside it raises :class:`IntegerOverflow`.  Different widths never mix: convert with
``u64(x)``, which checks too.  A plain ``int`` in kernel code is a build-time number, exact and
of any size; it becomes a machine integer when it meets one.

To a type checker a machine integer is not an ``int``, so ``u8 + u64``, or a
``VirtualAddress`` where a ``PhysicalAddress`` is due, is an error before anything runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Never, Self, TypeAlias, cast, overload

from kernmem.language.errors import IntegerOverflow

if TYPE_CHECKING:
    _Int: TypeAlias = object
else:
    _Int = int

# The unchecked operations of ``int``; typed Any because `_Int` hides the base class.
_new = cast(Any, int.__new__)
_add = cast(Any, int.__add__)
_subtract = cast(Any, int.__sub__)
_multiply = cast(Any, int.__mul__)
_divide = cast(Any, int.__floordiv__)
_modulo = cast(Any, int.__mod__)
_and = cast(Any, int.__and__)
_or = cast(Any, int.__or__)
_xor = cast(Any, int.__xor__)
_left = cast(Any, int.__lshift__)
_right = cast(Any, int.__rshift__)
_at_least = cast(Any, int.__ge__)


def _overflow(operation: str, left: Any, right: Any, kind: type[Integer]) -> IntegerOverflow:
    return IntegerOverflow(operation, int(left), int(right), kind.__name__, kind.maximum)


def _require(kind: type[Integer], other: Any, operation: str) -> None:
    """Refuse an operand that is neither of ``kind`` nor a build-time ``int`` within it."""
    if type(other) is kind:
        return
    if type(other) is not int:
        raise TypeError(
            f"{kind.__name__} {operation} {type(other).__name__}: widths do not mix; "
            f"convert one, as in {kind.__name__}(x)"
        )
    if not 0 <= other <= kind.maximum:
        raise TypeError(
            f"{kind.__name__} {operation} {other:#x}: the number must be within 0 and "
            f"{kind.maximum:#x}"
        )


class Integer(_Int):
    """An unsigned integer of :attr:`bits` bits."""

    __slots__ = ()
    bits: ClassVar[int]
    maximum: ClassVar[int]

    def __new__(cls, value: int | Integer) -> Self:
        """Convert, checked: IntegerOverflow if ``value`` does not fit."""
        number: Any = value
        if not 0 <= number <= cls.maximum:
            raise _overflow("conversion", value, 0, cls)
        converted: Self = _new(cls, number)
        return converted

    if TYPE_CHECKING:  # inherited from int

        def __index__(self) -> int: ...
        def __int__(self) -> int: ...
        def __hash__(self) -> int: ...
        def __eq__(self, other: object, /) -> bool: ...
        def __lt__(self, other: Self | int, /) -> bool: ...
        def __le__(self, other: Self | int, /) -> bool: ...
        def __gt__(self, other: Self | int, /) -> bool: ...
        def __ge__(self, other: Self | int, /) -> bool: ...

    def __add__(self, other: Self | int, /) -> Self:
        kind = type(self)
        if type(other) is not kind:
            _require(kind, other, "+")
        result = _add(self, other)
        if result > kind.maximum:
            raise _overflow("+", self, other, kind)
        value: Self = _new(kind, result)
        return value

    def __sub__(self, other: Self | int, /) -> Self:
        kind = type(self)
        if type(other) is not kind:
            _require(kind, other, "-")
        result = _subtract(self, other)
        if result < 0:
            raise _overflow("-", self, other, kind)
        value: Self = _new(kind, result)
        return value

    def __mul__(self, other: Self | int, /) -> Self:
        kind = type(self)
        if type(other) is not kind:
            _require(kind, other, "*")
        result = _multiply(self, other)
        if result > kind.maximum:
            raise _overflow("*", self, other, kind)
        value: Self = _new(kind, result)
        return value

    def __floordiv__(self, other: Self | int, /) -> Self:
        kind = type(self)
        if type(other) is not kind:
            _require(kind, other, "//")
        if other == 0:
            raise _overflow("//", self, other, kind)
        value: Self = _new(kind, _divide(self, other))
        return value

    def __mod__(self, other: Self | int, /) -> Self:
        kind = type(self)
        if type(other) is not kind:
            _require(kind, other, "%")
        if other == 0:
            raise _overflow("%", self, other, kind)
        value: Self = _new(kind, _modulo(self, other))
        return value

    def __and__(self, other: Self | int, /) -> Self:
        kind = type(self)
        if type(other) is not kind:
            _require(kind, other, "&")
        value: Self = _new(kind, _and(self, other))
        return value

    def __or__(self, other: Self | int, /) -> Self:
        kind = type(self)
        if type(other) is not kind:
            _require(kind, other, "|")
        value: Self = _new(kind, _or(self, other))
        return value

    def __xor__(self, other: Self | int, /) -> Self:
        kind = type(self)
        if type(other) is not kind:
            _require(kind, other, "^")
        value: Self = _new(kind, _xor(self, other))
        return value

    def __lshift__(self, count: Integer | int, /) -> Self:
        """Shift left; an error if a set bit is lost or ``count`` reaches the width."""
        kind = type(self)
        if _at_least(count, kind.bits):
            raise _overflow("<<", self, count, kind)
        result = _left(self, count)
        if result > kind.maximum:
            raise _overflow("<<", self, count, kind)
        value: Self = _new(kind, result)
        return value

    def __rshift__(self, count: Integer | int, /) -> Self:
        """Shift right; an error if ``count`` reaches the width (undefined in C)."""
        kind = type(self)
        if _at_least(count, kind.bits):
            raise _overflow(">>", self, count, kind)
        value: Self = _new(kind, _right(self, count))
        return value

    def __invert__(self) -> Self:
        """All bits of the width flipped."""
        kind = type(self)
        value: Self = _new(kind, _xor(self, kind.maximum))
        return value

    # A build-time number on the left takes the width of the right operand.
    def __radd__(self, other: int, /) -> Self:
        return type(self)(other) + self

    def __rsub__(self, other: int, /) -> Self:
        return type(self)(other) - self

    def __rmul__(self, other: int, /) -> Self:
        return type(self)(other) * self

    def __rfloordiv__(self, other: int, /) -> Self:
        return type(self)(other) // self

    def __rmod__(self, other: int, /) -> Self:
        return type(self)(other) % self

    def __rand__(self, other: int, /) -> Self:
        return type(self)(other) & self

    def __ror__(self, other: int, /) -> Self:
        return type(self)(other) | self

    def __rxor__(self, other: int, /) -> Self:
        return type(self)(other) ^ self

    def __rlshift__(self, other: int, /) -> Self:
        raise TypeError(f"{other} << {type(self).__name__}: write u64({other}) << count")

    def __rrshift__(self, other: int, /) -> Self:
        raise TypeError(f"{other} >> {type(self).__name__}: write u64({other}) >> count")

    def _refuse(self, *_: object) -> Any:
        raise TypeError(
            f"{type(self).__name__} has only + - * // % & | ^ << >> ~ and comparisons: "
            "kernel integers are unsigned"
        )

    if not TYPE_CHECKING:
        __truediv__ = __rtruediv__ = __pow__ = __rpow__ = __neg__ = __divmod__ = _refuse


class u8(Integer):
    """8 bits."""

    __slots__ = ()
    bits = 8
    maximum = 0xFF


class u16(Integer):
    """16 bits."""

    __slots__ = ()
    bits = 16
    maximum = 0xFFFF


class u32(Integer):
    """32 bits."""

    __slots__ = ()
    bits = 32
    maximum = 0xFFFF_FFFF


class u64(Integer):
    """64 bits."""

    __slots__ = ()
    bits = 64
    maximum = 0xFFFF_FFFF_FFFF_FFFF


class usize(Integer):
    """As wide as a pointer of the running machine; a length or a count."""

    __slots__ = ()
    bits = 64
    maximum = 0xFFFF_FFFF_FFFF_FFFF


class Address(Integer):
    """A pointer-sized address.  Address ± usize is an address; the difference of two is usize.

    ``%``, ``//``, ``>>`` and ``&`` take an address apart and give usize.
    """

    __slots__ = ()
    bits = 64
    maximum = 0xFFFF_FFFF_FFFF_FFFF

    if TYPE_CHECKING:

        def __new__(cls, value: int | usize | u32 | u64) -> Self: ...
        def __add__(self, other: usize | int, /) -> Self: ...  # type: ignore[override]
        @overload  # type: ignore[override]
        def __sub__(self, other: Self, /) -> usize: ...
        @overload
        def __sub__(self, other: usize | int, /) -> Self: ...
        def __sub__(self, other: Any, /) -> Any: ...
        def __mod__(self, other: usize | int, /) -> usize: ...  # type: ignore[override]
        def __floordiv__(self, other: usize | int, /) -> usize: ...  # type: ignore[override]
        def __and__(self, other: usize | int, /) -> usize: ...  # type: ignore[override]
        def __rshift__(self, count: Integer | int, /) -> usize: ...  # type: ignore[override]
        def __mul__(self, other: Never, /) -> Never: ...  # type: ignore[override]
        def __or__(self, other: Never, /) -> Never: ...  # type: ignore[override]
        def __xor__(self, other: Never, /) -> Never: ...  # type: ignore[override]
        def __lshift__(self, count: Never, /) -> Never: ...  # type: ignore[override]

    else:

        def __add__(self, other):
            if type(other) is not usize:
                _require(usize, other, "+ (to an address)")
            result = _add(self, other)
            if result > usize.maximum:
                raise _overflow("+", self, other, type(self))
            return _new(type(self), result)

        def __sub__(self, other):
            kind = type(self)
            if type(other) is not kind:
                _require(usize, other, "- (from an address)")
            result = _subtract(self, other)
            if result < 0:
                raise _overflow("-", self, other, kind)
            return _new(usize if type(other) is kind else kind, result)

        def __mod__(self, other):
            return _new(usize, self) % other

        def __floordiv__(self, other):
            return _new(usize, self) // other

        def __and__(self, other):
            return _new(usize, self) & other

        def __rshift__(self, count):
            return _new(usize, self) >> count

        __mul__ = __or__ = __xor__ = __lshift__ = __invert__ = Integer._refuse
        __radd__ = __rsub__ = __rmul__ = __rand__ = __ror__ = __rxor__ = Integer._refuse

    def __repr__(self) -> str:
        return f"{int(self):#x}"

    def __format__(self, specification: str) -> str:
        return format(int(self), specification or "#x")


class VirtualAddress(Address):
    """An address that the MMU translates."""

    __slots__ = ()
    bits = 64
    maximum = 0xFFFF_FFFF_FFFF_FFFF


class PhysicalAddress(Address):
    """An address on the bus."""

    __slots__ = ()
    bits = 64
    maximum = 0xFFFF_FFFF_FFFF_FFFF


def set_pointer_bytes(count: int) -> None:
    """Give ``usize`` and the addresses the width of the machine about to run (4 or 8 bytes).

    CPython runs one machine at a time; each sets its width when kernel code is entered.
    """
    for kind in (usize, Address, VirtualAddress, PhysicalAddress):
        kind.bits = 8 * count
        kind.maximum = (1 << kind.bits) - 1
