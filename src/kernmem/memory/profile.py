"""Profiles: the parameters of the kernel heap."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Placement(Enum):
    """Which of the gaps that are long enough a buffer is placed in."""

    BEST = "best"  # the shortest, the lowest among equals
    FIRST = "first"  # the lowest
    LARGEST = "largest"  # the longest


@dataclass(frozen=True)
class Profile:
    """How the heap lays out its superbuffers.

    Attributes:
        name: how users choose it.
        placement: which gap a buffer is placed in.
        grain: superbuffers are multiples of this many bytes; None: of the gap's record, which
            is what NO_VOID means.
        alignment: of every buffer, in bytes (a promise that ``grain`` keeps).
        voids: whether a freed space may be too short for a gap's record, and be lost as a void.
        packed: whether the gap's record is packed, as the specification's 60 bytes are; else its
            fields are aligned, which every processor reads faster, and some read at all.
    """

    name: str
    placement: Placement
    grain: int | None
    alignment: int
    voids: bool
    packed: bool


def spec(placement: Placement = Placement.BEST, *, no_void: bool = True) -> Profile:
    """The specification, to the byte."""
    if no_void:
        return Profile("spec", placement, grain=None, alignment=4, voids=False, packed=True)
    return Profile("spec", placement, grain=1, alignment=1, voids=True, packed=True)


def tuned(placement: Placement = Placement.BEST) -> Profile:
    """What users want: 16-byte alignment, and no voids."""
    return Profile("tuned", placement, grain=16, alignment=16, voids=False, packed=False)
