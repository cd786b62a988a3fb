"""The functions that kernel code may call everywhere; the compiler knows each."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NoReturn, TypeVar

from kernmem.language.errors import IntegerOverflow, KernelPanic
from kernmem.language.integers import Integer, PhysicalAddress, VirtualAddress, u32
from kernmem.language.structs import Array, Struct

T = TypeVar("T", bound=Integer)


def panic(message: str) -> NoReturn:
    """Stop: a contract is broken.  ``message`` is a text or an f-string of integers."""
    raise KernelPanic(message)


def wrap_add(left: T, right: T) -> T:
    """``left + right`` modulo 2^bits."""
    return _wrap(left, int(left) + int(right))


def wrap_subtract(left: T, right: T) -> T:
    """``left - right`` modulo 2^bits."""
    return _wrap(left, int(left) - int(right))


def wrap_multiply(left: T, right: T) -> T:
    """``left * right`` modulo 2^bits."""
    return _wrap(left, int(left) * int(right))


def _wrap(like: T, value: int) -> T:
    return type(like)(value & like.maximum)


def truncate(kind: type[T], value: Integer) -> T:
    """The low bits of ``value``, as many as ``kind`` has."""
    return kind(int(value) & kind.maximum)


def highest_bit(value: Integer) -> u32:
    """The index of the highest set bit; an error for 0, which has none."""
    if int(value) == 0:
        raise IntegerOverflow("highest_bit", 0, 0, type(value).__name__, value.maximum)
    return u32(int(value).bit_length() - 1)


def lowest_bit(value: Integer) -> u32:
    """The index of the lowest set bit; an error for 0, which has none."""
    number = int(value)
    if number == 0:
        raise IntegerOverflow("lowest_bit", 0, 0, type(value).__name__, value.maximum)
    return u32((number & -number).bit_length() - 1)


def address_of(place: Struct | Array[Any]) -> VirtualAddress:
    """The virtual address of what a reference or an array refers to."""
    number: Any = place.address if isinstance(place, Array) else place
    address: VirtualAddress = int.__new__(VirtualAddress, number)  # type: ignore[type-var]
    return address


def linear(address: PhysicalAddress) -> VirtualAddress:
    """The virtual address equal to ``address``: valid with the MMU off or in a linear mapping."""
    return VirtualAddress(int(address))


def from_linear(address: VirtualAddress) -> PhysicalAddress:
    """The physical address equal to ``address``, which must be mapped linearly."""
    return PhysicalAddress(int(address))


def span(start: T, stop: T) -> Iterator[T]:
    """``start``, ``start + 1``, … up to but not including ``stop``: a run-time ``for``.

    ``range`` is for build-time numbers, whose loops are unrolled.
    """
    make: Any = partial(int.__new__, type(start))
    return map(make, range(int(start), int(stop)))
