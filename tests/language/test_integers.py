"""Machine integers: their arithmetic, what leaves their width, what does not mix."""

from __future__ import annotations

import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernmem.language import (
    IntegerOverflow,
    PhysicalAddress,
    VirtualAddress,
    from_linear,
    highest_bit,
    linear,
    lowest_bit,
    span,
    truncate,
    u8,
    u16,
    u32,
    u64,
    usize,
    wrap_add,
    wrap_multiply,
    wrap_subtract,
)

KINDS = [u8, u16, u32, u64, usize]
OPERATORS = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "&": operator.and_,
    "|": operator.or_,
    "^": operator.xor,
    "<<": operator.lshift,
    ">>": operator.rshift,
}


@given(st.sampled_from(KINDS), st.sampled_from(sorted(OPERATORS)), st.data())
def test_arithmetic_is_exact_or_an_overflow(kind, sign, data) -> None:
    small = st.integers(0, 9)
    left = data.draw(st.one_of(small, st.integers(0, kind.maximum)))
    right = data.draw(st.one_of(small, st.integers(0, kind.maximum)))
    compute = OPERATORS[sign]
    too_far = sign in ("<<", ">>") and right >= kind.bits
    divides_by_zero = sign in ("//", "%") and right == 0
    exact = None if too_far or divides_by_zero else compute(left, right)
    for other in (kind(right), right):
        if exact is None or not 0 <= exact <= kind.maximum:
            with pytest.raises(IntegerOverflow) as caught:
                compute(kind(left), other)
            error = caught.value
            assert (error.operation, error.left, error.right, error.kind) == (
                sign,
                left,
                right,
                kind.__name__,
            )
        else:
            result = compute(kind(left), other)
            assert (type(result), int(result)) == (kind, exact)


@given(st.sampled_from(KINDS), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_wrapping(kind, left: int, right: int) -> None:
    left, right = left & kind.maximum, right & kind.maximum
    for wrap, compute in (
        (wrap_add, operator.add),
        (wrap_subtract, operator.sub),
        (wrap_multiply, operator.mul),
    ):
        result = wrap(kind(left), kind(right))
        assert (type(result), int(result)) == (kind, compute(left, right) & kind.maximum)


@pytest.mark.parametrize("kind", KINDS)
def test_conversions(kind) -> None:
    assert int(kind(kind.maximum)) == kind.maximum
    with pytest.raises(IntegerOverflow, match="does not fit"):
        kind(kind.maximum + 1)
    with pytest.raises(IntegerOverflow, match="does not fit"):
        kind(-1)
    assert int(truncate(kind, u64(2**64 - 1))) == kind.maximum
    assert type(truncate(kind, u64(5))) is kind


@pytest.mark.parametrize("kind", KINDS)
def test_widths_do_not_mix(kind) -> None:
    for other in KINDS:
        if other is not kind:
            with pytest.raises(TypeError, match="widths do not mix"):
                kind(1) + other(1)
    with pytest.raises(TypeError, match="the number must be within 0"):
        kind(1) + (kind.maximum + 1)
    with pytest.raises(TypeError, match="unsigned"):
        kind(1) / kind(1)
    with pytest.raises(TypeError, match="unsigned"):
        -kind(1)


def test_numbers_on_the_left_take_the_width() -> None:
    assert type(3 + u8(4)) is u8
    assert int(10 - u16(4)) == 6
    with pytest.raises(IntegerOverflow):
        3 - u16(4)
    with pytest.raises(TypeError, match="write u64"):
        1 << u8(4)


def test_addresses() -> None:
    at = VirtualAddress(0x1234)
    assert type(at + usize(1)) is VirtualAddress
    assert type(at - 1) is VirtualAddress
    assert type(at - VirtualAddress(0x1000)) is usize
    for part in (at % 0x1000, at // 16, at >> 4, at & 0xFF):
        assert type(part) is usize
    assert f"{at} {at:x} {at:#010x}" == "0x1234 1234 0x00001234"
    assert linear(PhysicalAddress(5)) == VirtualAddress(5)
    assert type(from_linear(at)) is PhysicalAddress


@pytest.mark.parametrize("sign", ["*", "|", "^", "<<"])
def test_addresses_are_not_numbers(sign: str) -> None:
    with pytest.raises(TypeError, match="unsigned"):
        OPERATORS[sign](VirtualAddress(4), usize(1))


@pytest.mark.parametrize("sign", ["+", "-"])
def test_kinds_of_addresses_do_not_mix(sign: str) -> None:
    with pytest.raises(TypeError, match="widths do not mix"):
        OPERATORS[sign](VirtualAddress(4), PhysicalAddress(1))


@given(st.integers(1, 2**64 - 1))
def test_highest_bit(value: int) -> None:
    assert int(highest_bit(u64(value))) == value.bit_length() - 1


def test_zero_has_no_highest_bit() -> None:
    with pytest.raises(IntegerOverflow):
        highest_bit(u16(0))


@given(st.integers(1, 2**64 - 1))
def test_lowest_bit(value: int) -> None:
    index = int(lowest_bit(u64(value)))
    assert value % 2 ** (index + 1) == 2**index


def test_zero_has_no_lowest_bit() -> None:
    with pytest.raises(IntegerOverflow):
        lowest_bit(u16(0))


def test_span() -> None:
    assert list(span(u8(3), u8(6))) == [3, 4, 5]
    assert [type(one) for one in span(u8(3), u8(4))] == [u8]
    assert list(span(u8(3), u8(3))) == []
