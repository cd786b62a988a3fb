"""Profiles: the parameters of the kernel heap."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from kernmem.memory.granules import SHADOW

QUARANTINE = 64


class Placement(Enum):
    """Which of the gaps that are long enough a buffer is placed in."""

    BEST = "best"  # the shortest, the lowest among equals
    FIRST = "first"  # the lowest
    LARGEST = "largest"  # the longest


class Checks(Enum):
    """What the heap does against callers that make mistakes."""

    NONE = "none"  # nothing: callers are believed
    BASIC = "basic"  # kfree panics for all that is not the start of a live buffer
    FULL = "full"  # and guards find what was written where it must not be


@dataclass(frozen=True)
class Idle:
    """How much of a headerless heap may wait, free, for the next call of its length.

    What waits saves time and costs space.  A share is a power of two that divides: 6, a 64th.

    Attributes:
        share: of the heap below its top, for free slots and kept buffers together;
        share_of_gaps: of the gaps there, besides.
        kept_share: of the heap, for kept buffers, whatever else is idle.
        opens_from: buffers of a length, live or in runs, from which it gets runs of slots;
        slots_share: of so many slots,
        fewest_slots: but no fewer than these.
    """

    share: int = 6
    share_of_gaps: int = 4
    kept_share: int = 6
    opens_from: int = 24
    slots_share: int = 2
    fewest_slots: int = 4


SOME = Idle()
MUCH = Idle(2, 1, 3, opens_from=2, slots_share=1, fewest_slots=8)


@dataclass(frozen=True)
class Profile:
    """How the heap lays out its buffers, and what it checks.

    Attributes:
        name: how users choose it.
        headerless: whether buffers have no headers, and a map outside says where they are; the
            rest is about headers, then.
        placement: which gap a buffer is placed in.
        grain: superbuffers are multiples of this many bytes; None: of the gap's record, which
            is what NO_VOID means.
        alignment: of every buffer, in bytes (a promise that ``grain`` keeps).
        voids: whether a freed space may be too short for a gap's record, and be lost as a void.
        packed: whether the gap's record is packed, as the specification's 60 bytes are; else its
            fields are aligned, which every processor reads faster, and some read at all.
        checks: what is done against mistakes of callers; it changes no promise to them.
        quarantine: how many freed buffers wait before their memory is used again, with FULL.
        idle: what else may wait, if headerless; None: nothing does.
    """

    name: str
    headerless: bool
    placement: Placement
    grain: int | None
    alignment: int
    voids: bool
    packed: bool
    checks: Checks = Checks.BASIC
    quarantine: int = QUARANTINE
    idle: Idle | None = None

    @property
    def shadow(self) -> int:
        """How many bytes of the segment need a byte of shadow; 0: none do."""
        return SHADOW if self.headerless else 0


def spec(placement: Placement = Placement.BEST, *, no_void: bool = True) -> Profile:
    """The specification, to the byte."""
    if no_void:
        return Profile("spec", False, placement, grain=None, alignment=4, voids=False, packed=True)
    return Profile("spec", False, placement, grain=1, alignment=1, voids=True, packed=True)


def aligned(placement: Placement = Placement.BEST) -> Profile:
    """The specification's layout, aligned to 16 bytes: what its headers cost."""
    return Profile("aligned", False, placement, grain=16, alignment=16, voids=False, packed=False)


def tuned() -> Profile:
    """What users want: no headers, best fit, slots for what is asked for most."""
    return _headerless("tuned", SOME)


def tuned_lean() -> Profile:
    """The same where every byte counts, and time does not: all that is freed is a gap at once."""
    return _headerless("tuned-lean", None)


def tuned_fast() -> Profile:
    """The same where time counts, and there is memory."""
    return _headerless("tuned-fast", MUCH)


def _headerless(name: str, idle: Idle | None) -> Profile:
    return Profile(name, True, Placement.BEST, 8, 8, voids=False, packed=False, idle=idle)
