"""Kernel heap: very many random calls, interpreted and compiled, leave the same bytes.

A million take some minutes: KERNMEM_CALLS=1000000 pytest tests/memory/test_heap_million.py
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest
from lone_heap import PROFILES, CompiledHeap, Heap

SEGMENT = 4 << 20
STEP = 4096
PHASE = 10_000
"""Calls between two comparisons of all memory; each phase has a mood of its own."""

POPULAR = (8, 16, 24, 32, 64, 72, 96, 128, 200, 256, 512, 1024)
LIVE = (20, 300, 2000, 5000)  # buffers that a phase tends to
SEED = 2026


def calls(count: int) -> Iterator[tuple[str, int]]:
    """A length for kmalloc, which of the live buffers for kfree, whether the segment may grow.

    Lengths are popular ones, any short ones, and a few that are large: together more than there
    is room for now and then.
    """
    chance = random.Random(SEED)
    live = 0
    for number in range(count):
        if number % PHASE == 0:
            most = chance.choice(LIVE)
            popular = chance.choice([0.2, 0.6, 0.95])
            large = chance.choice([0.0, 0.0005, 0.01])
            yield "let_segment_grow", int(chance.random() < 0.9)
        if live and chance.random() < (0.45 if live < most else 0.6):
            live -= 1
            yield "kfree", chance.randrange(1 << 32)
            continue
        live += 1
        kind = chance.random()
        if kind < large:
            yield "kmalloc", chance.randrange(4096, 300_000)
        elif kind < popular:
            yield "kmalloc", chance.choice(POPULAR)
        else:
            yield "kmalloc", chance.randrange(1, 1 << chance.randrange(3, 12))


def run_both_ways(profile: str, count: int) -> dict[str, int]:
    """So many calls both ways; what happened, counted."""
    one = Heap(PROFILES[profile], SEGMENT, STEP)
    other = CompiledHeap(PROFILES[profile], SEGMENT, STEP, checked=False)
    one.begin()
    other.begin()
    live: list[int] = []
    failed = opened = kept = 0
    for number, (call, value) in enumerate(calls(count)):
        if call == "kmalloc":
            buffer = one.kmalloc(value)
            assert buffer == other.kmalloc(value), f"call {number}: kmalloc({value})"
            if buffer:
                live.append(buffer)
            failed += buffer == 0
        elif call == "kfree":
            if live:
                at = value % len(live)
                live[at], live[-1] = live[-1], live[at]
                buffer = live.pop()
                one.kfree(buffer)
                other.kfree(buffer)
        else:
            one.call(call, value)
            other.call(call, value)
        if number % PHASE == 0 or number == count - 1:
            compare(one, other, number)
            opened += one.info("overhead_bytes") > 0
            kept += any(one.static_bytes("kernel_heap_kept")) if one.profile.headerless else 0
    return {"failed": failed, "with runs": opened, "with kept buffers": kept}


def compare(one: Heap, other: Heap, number: int) -> None:
    """All memory, and whether it is sound."""
    left, right = one.snapshot(), other.snapshot()
    different = [name or "the segment" for name in left if left[name] != right[name]]
    assert not different, f"{different} after call {number}"
    assert other.is_sound(), f"after call {number}: {other.text}"


@pytest.mark.parametrize("profile", PROFILES)
def test_thousands_of_calls_leave_the_same_bytes(profile: str) -> None:
    run_both_ways(profile, 5_000)


@pytest.mark.slow
@pytest.mark.parametrize("profile", PROFILES)
def test_a_million_calls_leave_the_same_bytes(profile: str) -> None:
    """KERNMEM_CALLS calls in the profile that users have, a tenth in each of the others."""
    count = int(os.environ.get("KERNMEM_CALLS", "150_000"))
    done = run_both_ways(profile, count if profile == "tuned" else count // 10)
    if profile == "tuned":
        assert done["failed"] > 0
        assert done["with runs"] > 5
        assert done["with kept buffers"] > 5
