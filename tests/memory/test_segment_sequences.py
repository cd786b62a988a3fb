"""The segment and its shadow through the MMU: on every hardware, compiled, after any sequence."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from segments import check, make, page_of, pages_of, segment, shadow_pages, tables

from kernmem.hardware import HARDWARE
from kernmem.language import PageFault
from kernmem.machine.compare import first_difference
from kernmem.machine.port import Machine

# Through the MMU --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "hardware"), [*(("model", each) for each in HARDWARE), ("unicorn", "lab")]
)
def test_what_was_given_back_is_not_reached(name: str, hardware: str) -> None:
    """Neither the segment nor its shadow, whose second page comes with page 64."""
    with make(name, hardware=hardware) as machine:
        free = machine.physical_mem_info.free_pages_count
        start = segment(machine)[0]
        assert machine.extend_to(start + 70 * page_of(machine))
        own, shadow = pages_of(machine)
        assert (len(own), len(shadow)) == (70, 2)
        for address in (*own, *shadow):
            machine.store(address, address % 1001)
        for address in (*own, *shadow):
            assert machine.load(address) == address % 1001
        machine.shrink_to(own[2])
        for address in (*own[:2], *shadow[:1]):
            assert machine.load(address) == address % 1001
        for address in (*own[2:], *shadow[1:]):
            with pytest.raises(PageFault):
                machine.load(address)
        machine.shrink_to(start)
        assert machine.physical_mem_info.free_pages_count == free


# Sequences --------------------------------------------------------------------------------------

Step = tuple[str, int, int]  # extend or shrink, to how many pages, and how many bytes beyond

STEPS = st.lists(
    st.tuples(st.sampled_from(["extend", "shrink"]), st.integers(0, 200), st.integers(-2, 2)),
    max_size=12,
)


def take(machine: Machine, step: Step) -> bool:
    """Do a step if it makes sense here; whether it did what it says."""
    kind, pages, beyond = step
    start, end, _ = segment(machine)
    to = start + pages * page_of(machine) + beyond
    if kind == "extend" and to > end:
        return bool(machine.extend_to(to))
    if kind == "shrink" and start <= to <= end:
        machine.shrink_to(to)
        return True
    return False


def pages_needed(machine: Machine, pages: int) -> int:
    """What a segment of so many pages takes: itself, its shadow, and the tables of both."""
    info, page = machine.kernel_segment_info, page_of(machine)
    above = shadow_pages(machine, pages)
    mapped = [int(info.segment_start) + number * page for number in range(pages)]
    mapped += [int(info.shadow_start) + number * page for number in range(above)]
    return len(mapped) + tables(machine, mapped)


@settings(max_examples=20, deadline=None)
@given(steps=STEPS)
def test_any_sequence(segmented: tuple[Machine, Any], steps: list[Step]) -> None:
    """Against a model that knows a number of pages.  What is stored in a page stays there."""
    machine, fresh = segmented
    machine.restore(fresh)
    page, (start, _, limit) = page_of(machine), segment(machine)
    room = machine.physical_mem_info.free_pages_count + pages_needed(machine, 0)
    pages = 0
    stamps: dict[int, int] = {}
    for number, step in enumerate(steps):
        kind, whole, beyond = step
        wanted = whole + (1 if beyond > 0 else 0)
        if kind == "extend":
            fits = start + wanted * page <= limit and pages_needed(machine, wanted) <= room
            possible = wanted > pages and fits
        else:
            possible = wanted <= pages and whole * page + beyond >= 0
        assert take(machine, step) == possible
        pages = wanted if possible else pages
        own, shadow = pages_of(machine)
        assert len(own) == pages
        free = machine.physical_mem_info.free_pages_count
        assert room - free == pages_needed(machine, pages)
        stamps = {at: stamps[at] for at in (*own, *shadow) if at in stamps}
        for at, stamp in stamps.items():
            assert machine.load(at) == stamp
        for at in (*own, *shadow):
            if at not in stamps:
                stamps[at] = at + number
                machine.store(at, stamps[at])
    check(machine)


@pytest.mark.parametrize("other", ["host", "unicorn"])
def test_compiled_code_leaves_the_same_bytes(other: str) -> None:
    chance = random.Random(6)
    with make("model") as one, make(other) as two:
        for number in range(60):
            kind = chance.choice(["extend", "shrink"])
            step = (kind, chance.randrange(200), chance.randrange(-2, 3))
            assert take(one, step) == take(two, step)
            for machine in (one, two):
                for at in pages_of(machine)[number % 2]:
                    machine.store(at, number)
        assert first_difference(one, two) is None
