"""Levels of checks: which mistakes of a caller each finds, and what it says of them.

The table of docs/kernel-heap.md is the specification: each of its cells is tried.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flat import PAGE, SEGMENT, Layout, flat
from hypothesis import given, settings
from hypothesis import strategies as st
from machines import NAMES, state
from machines import booted as booted_machine

from kernmem.language import IntegerOverflow, KernelPanic, ModelViolation, PageFault, usize
from kernmem.machine.port import Machine
from kernmem.memory.architecture import Region
from kernmem.memory.profile import Checks, Profile, aligned, spec, tuned

DOCUMENT = Path(__file__).parents[2] / "docs" / "kernel-heap.md"
VOID = spec(no_void=False)
LAYOUTS = {"tuned": tuned(), "spec": spec(), "void": VOID, "aligned": aligned()}
WRONG = b"\x5a"


def full(profile: Profile, quarantine: int = 4) -> Profile:
    """The profile with guards."""
    return replace(profile, checks=Checks.FULL, quarantine=quarantine)


def ready(profile: Profile, pointer_bytes: int = 8, pages: int = 64) -> Machine:
    """A flat machine, booted, with a heap of this profile."""
    machine = flat(pages, profile, pointer_bytes=pointer_bytes)
    machine.init_memory()
    return machine


def refused(call: Callable[..., Any], *operands: Any) -> str:
    """The message of the panic that a call ends with."""
    with pytest.raises(KernelPanic) as caught:
        call(*operands)
    return caught.value.message


# What each level finds --------------------------------------------------------------------------

Mistake = Callable[[Machine, list[int]], None]
LENGTH = 44  # of every buffer: with its header one grain of the specification, nothing over


def double_free(machine: Machine, buffers: list[int]) -> None:
    machine.kfree(buffers[1])
    machine.kfree(buffers.pop(1))


def late_double_free(machine: Machine, buffers: list[int]) -> None:
    """Somebody else has the address by then, unless it is in quarantine, and keeps it."""
    old = buffers.pop(1)
    machine.kfree(old)
    machine.kmalloc(LENGTH)
    machine.kfree(old)


def foreign_pointer(machine: Machine, buffers: list[int]) -> None:
    machine.kfree(int(machine.kernel_heap_info.heap_end) + 0x800)


def middle_of_a_buffer(machine: Machine, buffers: list[int]) -> None:
    machine.kfree(buffers[1] + 16)


def middle_that_looks_like_a_header(machine: Machine, buffers: list[int]) -> None:
    """The caller's bytes are a copy of what lies before another buffer."""
    long = int(machine.kmalloc(400))
    machine.write_virtual(long + 120 - 64, machine.read_virtual(buffers[0] - 64, 64))
    machine.store(long + 120 - 8, long + 180)  # where a superbuffer would end
    buffers.append(long)
    machine.kfree(long + 120)


def overrun(machine: Machine, buffers: list[int]) -> None:
    machine.write_virtual(buffers[1] + LENGTH, WRONG)


def underrun(machine: Machine, buffers: list[int]) -> None:
    machine.write_virtual(buffers[1] - 1, WRONG)


def header_overwritten(machine: Machine, buffers: list[int]) -> None:
    machine.write_virtual(buffers[1] - 16, WRONG * 16)


def write_after_free(machine: Machine, buffers: list[int]) -> None:
    buffer = buffers.pop(1)
    machine.kfree(buffer)
    machine.write_virtual(buffer + 20, WRONG)


MISTAKES: dict[str, Mistake] = {
    "free twice, at once": double_free,
    "free twice, the memory being another's": late_double_free,
    "free of what was never in the heap": foreign_pointer,
    "free in the middle of a buffer": middle_of_a_buffer,
    "the same, where the bytes look like a header": middle_that_looks_like_a_header,
    "overrun by one byte": overrun,
    "underrun by one byte": underrun,
    "header overwritten": header_overwritten,
    "write after free": write_after_free,
}


def found_by(profile: Profile, mistake: Mistake) -> str:
    """``"yes"`` if a kfree panics, then or when the other buffers are freed.

    Else ``"check"`` if validate_kernel_heap says so, or ``"no"``.
    """
    machine = ready(profile)
    buffers = [int(machine.kmalloc(LENGTH)) for _ in range(4)]
    sound = True
    try:
        mistake(machine, buffers)
        sound = machine.validate_kernel_heap()
        for buffer in buffers:
            machine.kfree(buffer)
        machine.kernel_heap_trim()
    except (PageFault, ModelViolation, IntegerOverflow):
        pass  # the heap came to grief over the damage; it was not looked for
    except KernelPanic:
        return "yes"
    return "no" if sound else "check"


def documented() -> dict[str, list[str]]:
    """The cells of the table by mistake: none, basic, full of spec, then those of tuned."""
    rows = [line.strip("|").split("|") for line in DOCUMENT.read_text().splitlines()]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows if len(row) == 7}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_each_level_finds(name: str) -> None:
    profiles = [replace(p, checks=checks) for p in (spec(), tuned()) for checks in Checks]
    found = [found_by(profile, MISTAKES[name]) for profile in profiles]
    assert documented()[name] == found


def test_every_mistake_of_the_table_is_tried() -> None:
    rows = [name for name in documented() if name not in ("mistake", "---")]
    assert rows == list(MISTAKES)


# What a panic says ------------------------------------------------------------------------------


@pytest.fixture(params=NAMES)
def guarded(request: pytest.FixtureRequest) -> Machine:
    """Every machine in turn, booted, with guards in the tuned heap."""
    return booted_machine(request.param, full(tuned()))


def at_sites(machine: Machine) -> list[int]:
    """Buffers of 10, 20 and 30 bytes: calls 1 to 3, from sites 0x101 to 0x103."""
    buffers = []
    for number in (1, 2, 3):
        machine.kernel_heap_site(0x100 + number)
        buffers.append(int(machine.kmalloc(10 * number)))
    machine.kernel_heap_site(0x200)
    return buffers


def test_an_overrun_names_the_buffer_and_the_byte(guarded: Machine) -> None:
    buffer = at_sites(guarded)[1]
    guarded.write_virtual(buffer + 20, b"\x41")
    assert refused(guarded.kfree, buffer) == (
        f"heap: {buffer + 20:#x} was overwritten with 0x41, behind the buffer {buffer:#x}, "
        f"length 20, call 2, site 0x102"
    )


def test_an_underrun_names_the_buffer_and_the_byte(guarded: Machine) -> None:
    buffer = at_sites(guarded)[1]
    guarded.write_virtual(buffer - 1, b"\x41")
    assert refused(guarded.kfree, buffer) == (
        f"heap: {buffer - 1:#x} was overwritten with 0x41, before the buffer {buffer:#x}, "
        f"length 20, call 2, site 0x102"
    )


def test_an_overwritten_record_is_shown_as_it_is(guarded: Machine) -> None:
    buffer = at_sites(guarded)[1]
    guarded.write_virtual(buffer - 16, (7).to_bytes(4, "little"))  # the number of its call
    assert refused(guarded.kfree, buffer) == (
        f"heap: the record before the buffer {buffer:#x} was overwritten: "
        f"it says length 20, call 7, site 0x102"
    )


def test_a_second_kfree_names_the_first(guarded: Machine) -> None:
    buffer = at_sites(guarded)[1]
    guarded.kfree(buffer)
    guarded.kernel_heap_site(0x300)
    assert refused(guarded.kfree, buffer) == (
        f"kfree: {buffer:#x} is in the free buffer {buffer:#x}, length 20, call 2, site 0x102, "
        f"freed by call 4, site 0x200"
    )


def test_a_pointer_into_a_buffer_names_the_buffer(guarded: Machine) -> None:
    """Also one into what lies before it and behind it."""
    buffer = at_sites(guarded)[1]
    for offset in (-64, -8, 8, 20):
        assert refused(guarded.kfree, buffer + offset) == (
            f"kfree: {buffer + offset:#x} is inside the buffer {buffer:#x} or its guards, "
            f"length 20, call 2, site 0x102"
        )


def test_a_write_after_free_is_found_when_the_quarantine_is_full(guarded: Machine) -> None:
    """By the call that makes the freed buffer leave it: the fourth kfree after its own."""
    buffer = at_sites(guarded)[1]
    guarded.kfree(buffer)
    guarded.write_virtual(buffer + 5, b"\x00")
    for _ in range(3):
        guarded.kfree(guarded.kmalloc(100))
    assert refused(guarded.kfree, guarded.kmalloc(100)) == (
        f"heap: {buffer + 5:#x} was overwritten with 0x0, at the free buffer {buffer:#x}, "
        f"length 20, call 2, site 0x102, freed by call 4, site 0x200"
    )


def test_the_checker_says_what_was_overwritten(guarded: Machine) -> None:
    buffer = at_sites(guarded)[1]
    assert guarded.validate_kernel_heap()
    guarded.write_virtual(buffer + 20, b"\x41")
    assert not guarded.validate_kernel_heap()
    assert guarded.console.endswith(
        f"guards: {buffer + 20:#x} was overwritten with 0x41, at the buffer {buffer:#x}\n"
    )


@pytest.mark.parametrize("pointer_bytes", [8, 4])
@pytest.mark.parametrize("name", LAYOUTS)
def test_every_byte_of_the_guards_is_watched(name: str, pointer_bytes: int) -> None:
    """From where the layout's buffer begins up to the caller's, and behind that."""
    machine = ready(full(LAYOUTS[name]), pointer_bytes)
    machine.kmalloc(30)
    buffer = int(machine.kmalloc_aligned(20, 128 if name in ("tuned", "aligned") else 4))
    machine.kmalloc(30)
    lead = 128 if name in ("tuned", "aligned") else 64
    before = machine.snapshot()
    for place in [*range(buffer - lead, buffer), *range(buffer + 20, buffer + 28)]:
        machine.store(place, machine.load(place, 1) ^ 0x10, 1)
        assert not machine.validate_kernel_heap(), f"{place - buffer}"
        refused(machine.kfree, buffer)
        machine.restore(before)
    assert machine.validate_kernel_heap()


# What callers may rely on -----------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYOUTS)
def test_guards_keep_the_alignment_of_the_profile(name: str) -> None:
    lengths = [1, 8, 24, 48, 64, 100, 128, 256, 512, 1024]
    found = []
    for profile in (LAYOUTS[name], full(LAYOUTS[name])):
        machine = ready(profile)
        for length in lengths:
            heap: Any = machine.kernel.kernel_heap  # type: ignore[attr-defined]
            alignment = int(heap.layout.natural_alignment(usize(length)))
            assert machine.kmalloc(length) % alignment == 0
            found.append(alignment)
    assert found[: len(lengths)] == found[len(lengths) :]


@pytest.mark.parametrize("name", ["tuned", "aligned"])
def test_aligned_buffers_with_guards(name: str) -> None:
    machine = ready(full(LAYOUTS[name]))
    for alignment in (1, 8, 16, 64, 256, 2048):
        buffer = machine.kmalloc_aligned(40, alignment)
        assert buffer % alignment == 0
        machine.write_virtual(int(buffer), b"x" * 40)
    assert machine.validate_kernel_heap(), machine.console


def test_the_usable_size_is_the_length_asked_for() -> None:
    machine = ready(full(tuned()))
    assert [machine.kmalloc_usable_size(machine.kmalloc(n)) for n in (1, 8, 100)] == [1, 8, 100]


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_buffer_that_grows_moves_and_one_that_shrinks_stays(name: str) -> None:
    """What it no longer has is fence from then on; what it left behind is in quarantine."""
    machine = ready(full(LAYOUTS[name]))
    buffer = machine.kmalloc(100)
    machine.write_virtual(int(buffer), bytes(range(100)))
    assert machine.krealloc(buffer, 40) == buffer
    assert machine.kmalloc_usable_size(buffer) == 40
    moved = machine.krealloc(buffer, 90)
    assert moved != buffer
    assert machine.read_virtual(int(moved), 40) == bytes(range(40))
    assert machine.validate_kernel_heap(), machine.console
    assert "is in the free buffer" in refused(machine.kfree, buffer)
    assert machine.krealloc(moved, 50) == moved
    machine.write_virtual(int(moved) + 50, WRONG)
    assert "behind the buffer" in refused(machine.krealloc, moved, 10)


def test_sites_change_nothing_without_guards() -> None:
    machine = ready(tuned())
    buffer = machine.kmalloc(10)
    before = state(machine)
    machine.kernel_heap_site(17)
    assert state(machine) == before
    machine.kfree(buffer)


# The quarantine ---------------------------------------------------------------------------------


def test_freed_buffers_leave_the_quarantine_in_their_order() -> None:
    """Until then nobody gets their memory, and what is in it is poison."""
    machine = ready(full(tuned(), quarantine=3))
    buffers = [int(machine.kmalloc(100)) for _ in range(5)]
    info = machine.kernel_heap_info
    for buffer in buffers[:3]:
        machine.kfree(buffer)
        assert machine.read_virtual(buffer, 100) == b"\x6b" * 100
    assert info.live_buffers == 5  # of the layout
    machine.kfree(buffers[3])
    assert info.live_buffers == 4
    assert machine.kmalloc(100) == buffers[0]


def test_without_a_quarantine_memory_is_free_at_once() -> None:
    machine = ready(full(tuned(), quarantine=0))
    buffer = machine.kmalloc(100)
    machine.kfree(buffer)
    assert machine.kernel_heap_info.live_buffers == 0
    assert machine.kmalloc(100) == buffer


@pytest.mark.parametrize("name", LAYOUTS)
def test_memory_is_out_no_earlier_than_without_a_quarantine(name: str) -> None:
    """All of a segment in buffers, freed, and again as a single one; no call counts as failed."""
    where = Layout(segment=Region(SEGMENT.start, SEGMENT.start + 16 * PAGE))
    machine = flat(64, full(LAYOUTS[name], quarantine=1000), layout=where)
    machine.init_memory()
    for _ in range(3):
        buffers = []
        while (buffer := machine.kmalloc(150)) is not None:
            buffers.append(buffer)
        assert len(buffers) >= 9
        failed = int(machine.kernel_heap_info.failed_calls)
        for buffer in buffers:
            machine.kfree(buffer)
        machine.kfree(machine.kmalloc(12 * PAGE))
        assert machine.kernel_heap_info.failed_calls == failed
    assert machine.validate_kernel_heap(), machine.console


def test_trimming_empties_the_quarantine() -> None:
    machine = ready(full(tuned()))
    for _ in range(3):
        machine.kfree(machine.kmalloc(100))
    machine.kernel_heap_trim()
    assert machine.kernel_heap_info.live_buffers == 0


# Callers without mistakes -----------------------------------------------------------------------

CALLS = st.lists(
    st.one_of(
        st.tuples(st.just("kmalloc"), st.integers(1, 700)),
        st.tuples(st.just("kfree"), st.integers(0, 1000)),
        st.tuples(st.just("krealloc"), st.integers(0, 1000), st.integers(1, 700)),
    ),
    max_size=60,
)
_machines: dict[tuple[str, Checks], tuple[Machine, Any]] = {}


def run(name: str, checks: Checks, calls: list[tuple[Any, ...]]) -> Machine:
    """Make the calls, all bytes of each buffer written; what is in them must stay."""
    if (name, checks) not in _machines:
        machine = ready(replace(LAYOUTS[name], checks=checks, quarantine=5), pages=400)
        _machines[name, checks] = (machine, machine.snapshot())
    machine, fresh = _machines[name, checks]
    machine.restore(fresh)
    live: list[tuple[int, bytes]] = []
    for number, (call, operand, *lengths) in enumerate(calls):
        content = bytes([number + 1])
        if call == "kmalloc":
            live.append((int(machine.kmalloc(operand)), content * operand))
        elif live:
            buffer, old = live.pop(operand % len(live))
            assert machine.read_virtual(buffer, len(old)) == old
            if call == "kfree":
                machine.kfree(buffer)
                continue
            (length,) = lengths
            moved = int(machine.krealloc(buffer, length))
            kept = min(length, len(old))
            assert machine.read_virtual(moved, kept) == old[:kept]
            live.append((moved, content * length))
        if live:
            machine.write_virtual(*live[-1])
    return machine


@pytest.mark.parametrize("name", LAYOUTS)
@given(calls=CALLS)
@settings(max_examples=25, deadline=None)
def test_guards_say_nothing_of_callers_without_mistakes(
    name: str, calls: list[tuple[Any, ...]]
) -> None:
    machine = run(name, Checks.FULL, calls)
    assert machine.validate_kernel_heap(), machine.console


@pytest.mark.parametrize("name", LAYOUTS)
@given(calls=CALLS)
@settings(max_examples=15, deadline=None)
def test_without_checks_the_same_bytes_are_left(name: str, calls: list[tuple[Any, ...]]) -> None:
    left = []
    for checks in (Checks.NONE, Checks.BASIC):
        machine = run(name, checks, calls)
        info = machine.kernel_segment_info
        start, end = int(info.segment_start), int(info.segment_end)
        left.append((state(machine), machine.read_virtual(start, end - start)))
    assert left[0] == left[1]
