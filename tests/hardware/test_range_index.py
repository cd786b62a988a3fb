"""The index by which the simulated MMUs find old values, against asking every range."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kernmem.hardware.ranges import RangeIndex

RANGES = st.tuples(st.integers(0, 64), st.sampled_from((1, 4, 8, 32)))


@given(st.lists(st.tuples(st.integers(0, 9), RANGES)), st.sets(st.integers(0, 9)), RANGES)
def test_near_has_every_value_whose_range_overlaps(
    added: list[tuple[int, tuple[int, int]]], discarded: set[int], asked: tuple[int, int]
) -> None:
    """And others only if they have a range in a block that it touches."""
    index: RangeIndex[int] = RangeIndex()
    for value, (start, length) in added:
        index.add(value, start, length)
    for value in discarded:
        index.discard(value)
    left = [(value, place) for value, place in added if value not in discarded]
    start, end = asked[0], sum(asked)
    overlap = {value for value, (at, length) in left if at < end and start < at + length}
    around = {
        value for value, (at, length) in left if at - length < end and start < at + 2 * length
    }
    found = index.near(*asked)
    assert overlap <= set(found) <= around
    assert len(found) == len(set(found))


def test_a_value_that_is_discarded_may_come_back() -> None:
    index: RangeIndex[str] = RangeIndex()
    index.discard("never added")
    for _ in range(2):
        index.add("page", 0x2000, 0x1000)
        assert index.near(0x2FFF) == ["page"]
        index.discard("page")
        assert index.near(0x2FFF) == []
