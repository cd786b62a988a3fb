"""Values that are about ranges of addresses, found by an address without asking all of them."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class RangeIndex(Generic[T]):
    """Values by ranges: a value may have many, and a range many values.

    Memory is cut into blocks as long as a range, for each length of a range there is.  A range lies
    in one block, or across the border of two, and a look-up asks the few lengths that pages have.

    Values are keys of dictionaries.
    """

    def __init__(self) -> None:
        self._blocks: dict[int, dict[int, dict[T, None]]] = {}  # by length, then by number
        self._places: dict[T, list[tuple[int, int]]] = {}  # (length, number) of each block

    def add(self, value: T, start: int, length: int) -> None:
        """``value`` is about this range too."""
        blocks = self._blocks.setdefault(length, {})
        places = self._places.setdefault(value, [])
        for number in _touched(start, length, length):
            blocks.setdefault(number, {})[value] = None
            places.append((length, number))

    def discard(self, value: T) -> None:
        """``value`` is about nothing any more."""
        for length, number in self._places.pop(value, ()):
            values = self._blocks[length].get(number)
            if values is not None:
                values.pop(value, None)
                if not values:
                    del self._blocks[length][number]

    def near(self, start: int, length: int = 1) -> list[T]:
        """Every value with a range that overlaps this one, and perhaps its neighbours."""
        found: dict[T, None] = {}
        for size, blocks in self._blocks.items():
            if blocks:
                for number in _touched(start, length, size):
                    found.update(blocks.get(number, ()))
        return list(found)


def _touched(start: int, length: int, size: int) -> range:
    """The numbers of the blocks of ``size`` bytes that a range lies in."""
    return range(start // size, (start + length - 1) // size + 1)
