"""The checker of the superbuffers finds each kind of damage, and survives all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flat import SEGMENT, flat
from hypothesis import given, settings
from hypothesis import strategies as st
from machines import elements

from kernmem.language import address_of
from kernmem.machine.port import Machine
from kernmem.memory.gap import Gap
from kernmem.memory.profile import Placement, Profile, spec

START = SEGMENT.start
VOID = spec(no_void=False)
FIRST = spec(Placement.FIRST)


def used(profile: Profile | None = None, *, counting: bool = False) -> tuple[Machine, list[Any]]:
    """A heap with seven gaps of several lengths between buffers; the gaps by address."""
    machine = flat(profile=profile, counting=counting)
    machine.init_memory()
    buffers = [machine.kmalloc(60 * (2 + 5 * n % 7) - 16) for n in range(14)]
    for buffer in buffers[1:13:2]:
        machine.kfree(buffer)
    gaps = [machine.reference(Gap, at) for at, _, kind in elements(machine) if kind == "G"]
    assert len(gaps) >= 6
    assert machine.validate_kernel_heap()
    assert machine.console == ""
    return machine, gaps


def length(gap: Any) -> int:
    """The bytes of a gap."""
    return int(gap.end) - int(gap)


def found(machine: Machine, *texts: str) -> None:
    """The checker says no, in these words among others."""
    assert not machine.validate_kernel_heap()
    for text in texts:
        assert text in machine.console, machine.console


def test_a_sound_heap_prints_nothing(booted: Machine) -> None:
    buffer = booted.kmalloc(1000)
    booted.kmalloc(100)
    booted.kfree(buffer)
    before = booted.console
    assert booted.validate_kernel_heap()
    assert booted.console == before


def test_an_empty_heap_is_sound(booted: Machine) -> None:
    assert booted.validate_kernel_heap()


# Elements ---------------------------------------------------------------------------------------


def test_the_magic_number_of_a_superbuffer() -> None:
    machine, _ = used()
    machine.store(START, 0)
    found(machine, f"the element at {START:#x} is damaged: it would end at {START:#x}")


@pytest.mark.parametrize("end", [0, START, START + 2**40, 2**64 - 1])
def test_the_end_of_a_superbuffer(end: int) -> None:
    machine, _ = used()
    machine.store(START + 8, end)
    found(machine, f"the element at {START:#x} is damaged: it would end at {end:#x}")


def test_a_superbuffer_that_runs_into_a_gap() -> None:
    machine, gaps = used()
    machine.store(START + 8, gaps[0] + 60)
    found(machine, f"the element at {START:#x} runs into the gap at {int(gaps[0]):#x}")


def test_the_length_of_a_void() -> None:
    machine = flat(profile=VOID)
    machine.init_memory()
    _, buffer, _ = (machine.kmalloc(length) for length in (100, 1, 50))
    machine.kfree(buffer)
    assert machine.validate_kernel_heap()
    void = int(buffer) - 16
    for wrong in (0, 16, 18, 59):
        machine.store(void, wrong, 1)
        assert not machine.validate_kernel_heap()
        assert f"{void:#x}" in machine.console or f"{void + wrong:#x}" in machine.console


def test_two_gaps_side_by_side() -> None:
    """Nothing is wrong with them but that they are two."""
    machine, gaps = used()
    heap: Any = machine.kernel.kernel_heap.buffers  # type: ignore[attr-defined]
    first = heap.at(Gap, next(address_of(gap) for gap in gaps if length(gap) >= 120))
    end = int(first.end)
    heap.space._remove(first)
    heap.space._insert(address_of(first), first.end - 60, None)
    heap.space._insert(first.end, first.end + 60, first)
    found(machine, f"the gaps {int(first):#x} and {end - 60:#x} should be one")


# Trees ------------------------------------------------------------------------------------------


def test_the_magic_number_of_a_gap() -> None:
    machine, gaps = used()
    gaps[3].magic = type(gaps[3].magic)(0)
    found(machine, f"a link leads to {int(gaps[3]):#x}, which is no gap")


@pytest.mark.parametrize("delta", [-60, 59, 60, 2**40])
def test_the_end_of_a_gap(delta: int) -> None:
    machine, gaps = used()
    machine.store(gaps[2] + 48, int(gaps[2].end) + delta)
    assert not machine.validate_kernel_heap()
    assert "0x40" in machine.console


@pytest.mark.parametrize("field", range(6))
@pytest.mark.parametrize("wrong", ["itself", "another", "wild", "high", "odd", "none"])
def test_every_link_of_every_gap(field: int, wrong: str) -> None:
    """A link that leads to anything else than it should."""
    machine, gaps = used()
    state = machine.snapshot()
    for gap in gaps:
        place = int(gap) + 8 * field
        old = machine.load(place)
        another = next(int(each) for each in gaps if int(each) not in (old, int(gap)))
        new = {
            "itself": int(gap),
            "another": another,
            "wild": 0x10,
            "high": 2**64 - 8,
            "odd": int(gaps[0]) + 1,
            "none": 0,
        }[wrong]
        if new != old:
            machine.store(place, new)
            found(machine, "tree: ")
        machine.restore(state)


@pytest.mark.parametrize("tree", ["kernel_heap_length_tree", "kernel_heap_addr_tree"])
def test_the_root(tree: str) -> None:
    machine, gaps = used()
    state = machine.snapshot()
    root = machine.static(tree)
    for wrong in (0, 0x10, 2**64 - 8, *(int(gap) for gap in gaps if gap != root.root)):
        machine.store(int(root), wrong)
        found(machine, "tree: ")
        machine.restore(state)


def test_the_balance_of_a_gap() -> None:
    """Every other value of both balances."""
    machine, gaps = used()
    state = machine.snapshot()
    for gap in gaps:
        old = machine.load(gap + 58, 1)
        for new in set(range(256)) - {old}:
            machine.store(gap + 58, new, 1)
            found(machine, " leans ")
            machine.restore(state)


def test_the_order_of_the_trees() -> None:
    """The length tree is not re-keyed: the known trap."""
    machine, gaps = used()
    shortest = min(gaps, key=length)
    longest = max(gaps, key=length)
    machine.store(longest + 48, int(longest) + 60)
    assert shortest != longest
    found(machine, f"{int(longest):#x}", "must not stand before")


def test_the_reach_of_a_gap() -> None:
    """Only first fit has it."""
    machine, gaps = used(FIRST)
    state = machine.snapshot()
    for gap in gaps:
        machine.store(gap + 56, machine.load(gap + 56, 2) + 1, 2)
        found(machine, "has a wrong reach")
        machine.restore(state)


# Counters ---------------------------------------------------------------------------------------

COUNTERS = ("live_buffers", "live_bytes", "gaps", "gap_bytes", "voids", "void_bytes")


@pytest.mark.parametrize("counter", COUNTERS)
@pytest.mark.parametrize("delta", [-1, 1, 2**40])
def test_the_counters(counter: str, delta: int) -> None:
    machine, _ = used()
    info = machine.kernel_heap_info
    old = getattr(info, counter)
    setattr(info, counter, type(old)((int(old) + delta) % 2**64))
    found(machine)


@pytest.mark.parametrize(("field", "delta"), [(0, -60), (0, 60), (8, -60), (8, 60), (8, 2**40)])
def test_the_ends_of_the_heap(field: int, delta: int) -> None:
    machine, _ = used()
    info = machine.kernel_heap_info
    machine.store(int(info) + field, machine.load(int(info) + field) + delta)
    found(machine)


# Any damage -------------------------------------------------------------------------------------

DAMAGE = st.lists(
    st.tuples(
        st.integers(0, 14 * 400),
        st.one_of(
            st.integers(0, 255).map(lambda byte: bytes([byte])),
            st.integers(START - 64, START + 5000).map(lambda at: at.to_bytes(8, "little")),
            st.binary(min_size=1, max_size=8),
        ),
    ),
    min_size=1,
    max_size=12,
)


def check_any_damage(profile: Profile) -> Callable[[], None]:
    """The checker ends in bounded time without a fault, whatever the segment holds."""
    machine, _ = used(profile, counting=True)
    state = machine.snapshot()
    mmu: Any = machine.memory.mmu  # type: ignore[attr-defined]
    machine.validate_kernel_heap()
    usual = mmu.accesses - state.mmu
    end = int(machine.kernel_segment_info.segment_end)

    @settings(max_examples=150, deadline=None)
    @given(damage=DAMAGE)
    def check(damage: list[tuple[int, bytes]]) -> None:
        machine.restore(state)
        for offset, data in damage:
            place = START + offset % (end - START - 8)
            machine.write_virtual(place, data)
        before = mmu.accesses
        machine.validate_kernel_heap()
        assert mmu.accesses - before < 20 * usual

    return check


@pytest.mark.parametrize("profile", [spec(), VOID, FIRST], ids=["spec", "void", "first"])
def test_any_damage_is_survived(profile: Profile) -> None:
    check_any_damage(profile)()
