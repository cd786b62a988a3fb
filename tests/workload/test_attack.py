"""Attacks: they do to an allocator what the theorem says can be done to all."""

from __future__ import annotations

import pytest

from kernmem.memory.profile import Placement, aligned, tuned
from kernmem.workload.allocators import Allocator, installed, kernel_allocator
from kernmem.workload.attack import WORD, Attack, Served, robson
from kernmem.workload.bench import Bench, BenchError
from kernmem.workload.compare import compare

from .plugins import bump

LIVE = 1 << 11
ROUNDS = 7


@pytest.mark.parametrize("placement", [Placement.BEST, Placement.FIRST])
def test_robsons_bound(placement: Placement) -> None:
    """No allocator does with less than M (1 + log2(n) / 2) - n + 1 words."""
    allocator = kernel_allocator(aligned(placement))
    trace = robson(allocator, LIVE, ROUNDS)
    assert trace.peak_live_bytes() <= LIVE * WORD
    with Bench(trace) as bench:
        needed = bench.fit(allocator).arena_bytes
    assert needed / WORD >= LIVE * (1 + ROUNDS / 2) - (1 << ROUNDS) + 1


def test_the_attack_is_the_same_each_time() -> None:
    allocator = kernel_allocator(tuned())
    first, second = (robson(allocator, 256, 5) for _ in range(2))
    assert first.id.tolist() == second.id.tolist()
    assert first.size.tolist() == second.size.tolist()


@pytest.mark.parametrize("name", [each.name for each in installed()])
def test_a_malloc_is_attacked_too(name: str) -> None:
    allocator = next(each for each in installed() if each.name == name)
    trace = robson(allocator, 256, 5)
    assert trace.peak_live_bytes() == 256 * WORD
    with Bench(trace) as bench:
        bench.check(allocator)


def test_an_allocator_is_served_call_by_call() -> None:
    with Served(bump()) as served:
        first, second = served.allocate(2, 100)
        assert second - first == 112
        served.free([(first, 100), (second, 100)])
        assert served.allocate(1, 5) == (second + 112,)


def test_an_allocator_that_dies_or_runs_out() -> None:
    with Served(bump(free="__builtin_trap()")) as served:
        buffers = [(each, 8) for each in served.allocate(3, 8)]
        served.free(buffers)
        with pytest.raises(BenchError, match="bump died under attack"):
            served.allocate(1, 8)
    with Served(bump()) as served, pytest.raises(BenchError, match="do not outlast the attack"):
        served.allocate(2, 1 << 27 | 1)


def test_each_allocator_is_compared_on_its_own_attack() -> None:
    attack = Attack("robson", lambda allocator: robson(allocator, 256, 5))
    allocators = [kernel_allocator(tuned()), Allocator("malloc")]
    ours, theirs = compare([attack], allocators, repetitions=1)
    assert (ours.error, theirs.error) == (None, None)
    assert ours.trace == theirs.trace == "robson"
    assert ours.space_ratio > 3
