"""Memory that is used again while a walk may still lead to it, or through it.

Every simulated MMU hears of a store before it is done, and so can tell that memory was given
back too early at the first store to it, long before a wrong translation does harm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from kernmem.language import ModelViolation

SMALLEST_PAGE = 0x1000


class OldValue(Protocol):
    """An entry that was changed, and may be cached as it was."""

    @property
    def frames(self) -> Iterable[tuple[int, int, int]]:
        """The translations that may be cached of it: first address, length, physical address."""

    def violation(self, use: str) -> ModelViolation:
        """The error for a use that depends on it."""


def check_frames(
    old: Iterable[OldValue], physical: int, new: bytes, now: Callable[[int], int | None]
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
