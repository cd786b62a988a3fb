"""Memory that is used again while a walk may still lead to it, or through it.

Every simulated MMU hears of a store before it is done, and so can tell that memory was given
back too early at the first store to it, long before a wrong translation does harm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from kernmem.hardware.ranges import RangeIndex
from kernmem.language import ModelViolation

SMALLEST_PAGE = 0x1000


class Cached(Protocol):
    """A translation, or the way to some, that was changed and may be cached as it was."""

    @property
    def frames(self) -> Iterable[tuple[int, int, int]]:
        """The translations that may be cached of it: first address, length, physical address."""

    def violation(self, use: str) -> ModelViolation:
        """The error for a use that depends on it."""


class OldValue(Cached, Protocol):
    """An entry that was changed, and may be cached as it was.

    Attributes:
        place: the physical address of the entry.
        start, length: the virtual addresses that it is for.
    """

    @property
    def place(self) -> int: ...
    @property
    def start(self) -> int: ...
    @property
    def length(self) -> int: ...


V = TypeVar("V", bound=OldValue)


class OldValues(Generic[V]):
    """The old values of the entries of a space: by the entry, the address and the memory.

    They must be told apart by what they are, not by what they say: by identity.
    """

    def __init__(self) -> None:
        self._by_place: dict[int, list[V]] = {}
        self._by_address: RangeIndex[V] = RangeIndex()
        self._by_frame: RangeIndex[V] = RangeIndex()

    def __bool__(self) -> bool:
        return bool(self._by_place)

    def __iter__(self) -> Iterator[V]:
        """All of them, entry by entry."""
        for values in self._by_place.values():
            yield from values

    def add(self, value: V) -> None:
        """An entry was changed."""
        self._by_place.setdefault(value.place, []).append(value)
        self._by_address.add(value, value.start, value.length)
        for _, length, frame in value.frames:
            self._by_frame.add(value, frame, length)

    def discard(self, value: V) -> None:
        """An old value is not cached any more."""
        values = self._by_place[value.place]
        values.remove(value)
        if not values:
            del self._by_place[value.place]
        self._by_address.discard(value)
        self._by_frame.discard(value)

    def at(self, place: int) -> Sequence[V]:
        """Those of one entry, the oldest first."""
        return self._by_place.get(place, ())

    def about(self, address: int | None) -> list[V]:
        """Those that may be for a virtual address; None: all."""
        return list(self) if address is None else self._by_address.near(address)

    def leading_to(self, physical: int, length: int) -> Sequence[V]:
        """Those that may lead to some memory, in the order of all of them."""
        found = self._by_frame.near(physical, length)
        return found if len(found) < 2 else [each for each in self if each in found]


def check_frames(
    old: Iterable[Cached], physical: int, new: bytes, now: Callable[[int], int | None]
) -> None:
    """Refuse a store to memory that was unmapped, and that an old value still leads to.

    ``old`` has at least the values that lead there, and may have others.  ``now`` tells where an
    address leads by the tables as they are: who only changed a permission has the memory still.
    """
    for each in old:
        for start, length, frame in each.frames:
            place = max(physical, frame)
            end = min(physical + len(new), frame + length)
            if place < end and now(start + place - frame) != place:
                raise ModelViolation(
                    "FRAME_REUSED_LIVE",
                    f"storing {int.from_bytes(new, 'little'):#x} at {physical:#x}, in memory that "
                    "was unmapped but is in use: " + each.violation("an access").facts,
                )


def check_kept(
    value: int, what: str, table: int, *, is_root: bool, unlink: str, switch: str
) -> None:
    """Refuse the bare address of a page, in an entry of a table that is in use.

    An entry that is not valid may hold whatever software likes to remember, and means nothing to
    a walk.  But that one is what the marker of a free page holds: the next store may not be so
    harmless, as the table was given back too early.  ``unlink`` and ``switch`` are what was to be
    done before, for a table and for a root.
    """
    if value == 0 or value % SMALLEST_PAGE != 0:
        return
    rule, kind, missing = (
        ("ROOT_FREED_LIVE", "root", switch) if is_root else ("TABLE_FREED_LIVE", "table", unlink)
    )
    raise ModelViolation(
        rule,
        f"{what}, which is no entry of a table, in the {kind} {table:#x}, which is in use; "
        f"missing: {missing}",
    )
