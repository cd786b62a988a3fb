"""Profiles: what a profile promises, the heap that is made from it keeps."""

from __future__ import annotations

from typing import Any

import pytest
from flat import flat

from kernmem.memory.profile import Placement, Profile, aligned, spec, tuned


def heap(profile: Profile, pointer_bytes: int = 8) -> Any:
    """The layout of the heap of a machine with this profile."""
    manager: Any = flat(profile=profile, pointer_bytes=pointer_bytes).kernel
    return manager.kernel_heap.buffers


def test_best_fit_without_voids_is_the_default() -> None:
    assert spec() == spec(Placement.BEST, no_void=True)
    assert (spec().placement, spec().voids) == (Placement.BEST, False)
    assert tuned().placement is Placement.BEST


@pytest.mark.parametrize(
    ("profile", "pointer_bytes", "grain", "least"),
    [
        (spec(), 8, 60, 60),  # NO_VOID: multiples of the gap's record
        (spec(), 4, 32, 32),
        (spec(no_void=False), 8, 1, 17),  # a header and one byte
        (spec(no_void=False), 4, 1, 9),
        (aligned(), 8, 16, 64),  # room for a gap when it is freed
        (aligned(), 4, 16, 32),
    ],
)
def test_grain_and_least_superbuffer(
    profile: Profile, pointer_bytes: int, grain: int, least: int
) -> None:
    made = heap(profile, pointer_bytes)
    assert (made.grain, made.least_length) == (grain, least)


@pytest.mark.parametrize("placement", Placement)
def test_only_first_fit_keeps_reaches(placement: Placement) -> None:
    made = heap(aligned(placement))
    assert made.by_addr.with_reach == made.first_fit == (placement is Placement.FIRST)
    assert made.space.largest_fit == (placement is Placement.LARGEST)
