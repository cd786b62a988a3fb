"""The row of elements that a heap is, read from outside, and what is found wrong with it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kernmem
from kernmem.inspect import Element, draw_gap_tree, heap_map, read_heap
from kernmem.language import layout
from kernmem.machine.port import Machine
from kernmem.memory.gap import Gap
from kernmem.memory.gaps import SHORTEST_LONG

PAGE = 0x1_0000
LENGTHS = [24, 24, 24, 48, 100, 200, 600, 3000, 70_000]


def booted(kinds: tuple[str, ...], profile: str) -> list[Any]:
    return [pytest.param((kind, profile), id=f"{kind}-{profile}") for kind in kinds]


KINDS = ("model", "host", "unicorn")
WITH_HEADERS = booted(KINDS, "aligned")
HEADERLESS = booted(KINDS, "tuned")


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest) -> Iterator[tuple[Machine, object]]:
    """A booted machine of a kind, with a heap of a profile, and its state."""
    kind, profile = request.param
    machine = kernmem.boot("lab", kind, profile=profile)
    yield machine, machine.snapshot()
    machine.close()


@pytest.fixture
def machine(shared: tuple[Machine, object]) -> Machine:
    """As it was when it had booted."""
    shared[0].restore(shared[1])
    return shared[0]


every = pytest.mark.parametrize("shared", WITH_HEADERS + HEADERLESS, indirect=True)
with_headers = pytest.mark.parametrize("shared", WITH_HEADERS, indirect=True)
headerless = pytest.mark.parametrize("shared", HEADERLESS, indirect=True)


def used(machine: Machine, calls: int = 600) -> list[int]:
    """Buffers of all kinds, some of them freed; those that are live."""
    chance = random.Random(7)
    live: list[int] = []
    for _ in range(calls):
        if live and chance.random() < 0.4:
            machine.kfree(live.pop(chance.randrange(len(live))))
        else:
            live.append(int(machine.kmalloc(chance.choice(LENGTHS))))
    return live


def of_kind(machine: Machine, kind: str) -> list[Element]:
    return [each for each in read_heap(machine).elements if each.kind == kind]


def holds_together(machine: Machine) -> Counter[str]:
    """The row has no hole and agrees with the counters; how many elements of each kind it has."""
    heap = read_heap(machine)
    info = machine.kernel_heap_info
    assert heap.problems == ()
    borders = [heap.start, *(each.end for each in heap.elements)]
    assert [each.start for each in heap.elements] == borders[:-1]
    assert (borders[0], borders[-1]) == (info.heap_start, info.heap_end)
    found, length = Counter[str](), Counter[str]()
    for each in heap.elements:
        found[each.kind] += 1
        length[each.kind] += each.length
    live = ("superbuffer", "buffer", "slot")
    assert sum(found[kind] for kind in live) == info.live_buffers
    assert sum(length[kind] for kind in live) == info.live_bytes
    assert (found["gap"], length["gap"]) == (info.gaps, info.gap_bytes)
    assert (found["void"], length["void"]) == (info.voids, info.void_bytes)
    assert length["run"] == info.overhead_bytes
    return found


# What there is ----------------------------------------------------------------------------------


@every
def test_the_row_has_no_holes_and_agrees_with_the_counters(machine: Machine) -> None:
    live = used(machine)
    holds_together(machine)
    heap = read_heap(machine)
    assert f"{heap.elements[0].start:#014x}" in str(heap)
    for buffer in live:
        machine.kfree(buffer)
    holds_together(machine)


@headerless
def test_elements_of_all_kinds(machine: Machine) -> None:
    used(machine)
    machine.kfree(machine.kmalloc(1504))
    found = holds_together(machine)
    assert set(found) == {"buffer", "kept", "run", "slot", "free slot", "gap"}
    kept = next(each for each in of_kind(machine, "kept") if each.length == 1504)
    assert machine.kmalloc(1504) == kept.start
    assert Element("buffer", kept.start, kept.end) in of_kind(machine, "buffer")


def test_voids() -> None:
    machine = kernmem.boot("lab", profile="spec", no_void=False)
    used(machine)
    assert holds_together(machine)["void"] > 0


@pytest.mark.parametrize("profile", ["spec", "tuned"])
def test_with_pointers_of_four_bytes(profile: str) -> None:
    machine = kernmem.boot("armv7-virt", profile=profile)
    used(machine)
    holds_together(machine)


@every
def test_an_empty_heap(machine: Machine) -> None:
    assert read_heap(machine).elements == ()
    assert heap_map(machine) == "the heap is empty"
    assert draw_gap_tree(machine) == "the tree is empty"


@with_headers
def test_heap_map_is_to_scale(machine: Machine) -> None:
    buffer = machine.kmalloc(PAGE // 2 - 16)
    machine.kmalloc(PAGE // 4 - 16)
    machine.kfree(buffer)
    lines = heap_map(machine, width=16, rows=1).splitlines()
    assert lines == [
        f"{PAGE // 16} bytes a character: # in use  - kept  = run  . gap  v void  + several",
        f"{int(machine.kernel_heap_info.heap_start):#014x}  ........####....",
    ]


@headerless
def test_heap_map_without_headers(machine: Machine) -> None:
    """What is kept is neither in use nor a gap."""
    machine.kmalloc(PAGE // 2)
    kept = machine.kmalloc(PAGE // 128)
    machine.kmalloc(PAGE // 4)
    machine.kfree(kept)
    picture = "".join(line[16:] for line in heap_map(machine, 128, 1).splitlines()[1:])
    assert picture == 64 * "#" + "-" + 32 * "#" + 31 * "."


# Trees ------------------------------------------------------------------------------------------


@with_headers
@pytest.mark.parametrize("tree", ["length", "addr"])
def test_trees_are_drawn(machine: Machine, tree: Any) -> None:
    """Each gap once, in the tree's order, with its length."""
    used(machine)
    gaps = of_kind(machine, "gap")
    if tree == "length":
        gaps.sort(key=lambda gap: (gap.length, gap.start))
    drawn(machine, tree, gaps)


@headerless
def test_the_tree_of_long_gaps_is_drawn(machine: Machine) -> None:
    """Without headers the others are in lists, and the last one is known anyway."""
    used(machine)
    gaps = [gap for gap in of_kind(machine, "gap")[:-1] if gap.length >= SHORTEST_LONG]
    drawn(machine, "length", sorted(gaps, key=lambda gap: (gap.length, gap.start)))
    with pytest.raises(ValueError, match="the tree must be one of length, not 'addr'"):
        draw_gap_tree(machine, "addr")


def drawn(machine: Machine, tree: Any, gaps: list[Element]) -> None:
    lines = draw_gap_tree(machine, tree).splitlines()
    assert len(gaps) > 2
    assert [line.split()[-2:] for line in lines] == [
        [f"{gap.start:#x}", f"({gap.length})"] for gap in gaps
    ]
    assert sum(line.startswith("── ") for line in lines) == 1


@every
def test_a_cycle_in_a_tree(machine: Machine) -> None:
    used(machine)
    root = int(machine.kernel_heap_length_tree.root)
    machine.store(root + field_of_gap(machine, "length_left"), root)
    assert f"the length tree leads to {root:#x} twice" in draw_gap_tree(machine)


@every
@pytest.mark.parametrize("wild", [0x10, 2**64 - 8])
def test_a_wild_link_in_a_tree(machine: Machine, wild: int) -> None:
    used(machine)
    machine.store(int(machine.kernel_heap_length_tree), wild)
    assert f"leads to {wild:#x}, outside the heap" in draw_gap_tree(machine)


def field_of_gap(machine: Machine, name: str) -> int:
    fields = layout(Gap, machine.image.target).fields
    return next(field.offset for field in fields if field.name == name)


# Damage -----------------------------------------------------------------------------------------


@with_headers
def test_a_damaged_superbuffer(machine: Machine) -> None:
    start = used(machine)[1] - 16
    machine.store(start, 0)
    heap = read_heap(machine)
    assert heap.problems[0] == f"the superbuffer at {start:#x} would end at {start:#x}"
    assert heap.elements[-1].end == start


@with_headers
def test_a_superbuffer_over_a_gap(machine: Machine) -> None:
    used(machine)
    row = read_heap(machine).elements
    gap = next(at for at, each in enumerate(row) if each.kind == "gap" and at > 0)
    machine.store(row[gap - 1].start + 8, row[gap].end)
    assert read_heap(machine).problems == (
        f"the gap at {row[gap].start:#x} is inside another element",
    )


@headerless
def test_a_buffer_without_an_end(machine: Machine) -> None:
    """The marks from it to the top are gone."""
    buffer = int(machine.kmalloc(200))
    word = int(machine.kernel_heap_map.words) + 8
    machine.store(word, machine.load(word) & ~(1 << 24))
    heap = read_heap(machine)
    assert heap.problems[0] == f"the buffer at {buffer:#x} has no end"
    assert heap.elements == ()
    assert f"PROBLEM: {heap.problems[0]}" in str(heap)


@headerless
def test_a_long_buffer_with_a_wrong_length(machine: Machine) -> None:
    buffer = int(machine.kmalloc(5000))
    word = int(machine.kernel_heap_map.words) + 16
    machine.store(word, machine.load(word) - 1)
    problem = f"the buffer {buffer:#x} to {buffer + 4992:#x} is not marked at its end alone"
    assert read_heap(machine).problems[0] == problem
    machine.store(word, machine.load(word) + 2)
    assert read_heap(machine).problems == (
        f"the buffer at {buffer:#x} would end at {buffer + 5008:#x}",
    )


@headerless
def test_a_gap_with_two_lengths(machine: Machine) -> None:
    used(machine)
    gap = [each for each in of_kind(machine, "gap") if 16 <= each.length < 512][-1]
    machine.store(gap.end - 4, 1, 4)
    where = f"{gap.start:#x} to {gap.end:#x}"
    assert read_heap(machine).problems == (f"the gap {where} has another length at its end",)
    machine.store(gap.start, 1 << 30, 4)
    heap = read_heap(machine)
    assert f"the gap at {gap.start:#x} would end at" in heap.problems[0]
    assert heap.elements[-1].end == gap.start


@headerless
def test_a_gap_in_no_list(machine: Machine) -> None:
    used(machine)
    gap = next(each for each in of_kind(machine, "gap") if 16 <= each.length < 512)
    lists = machine.kernel_heap_short_gaps
    machine.store(int(lists.address) + gap.length // 8 * 4, 0, 4)
    assert f"the gap at {gap.start:#x} is in no list" in read_heap(machine).problems


@headerless
def test_a_list_that_leads_to_a_buffer(machine: Machine) -> None:
    buffer = used(machine)[-1]
    number = (buffer - int(machine.kernel_heap_info.heap_start)) // 8 + 1
    machine.store(int(machine.kernel_heap_short_gaps.address) + 3 * 4, number, 4)
    assert f"a list leads to {buffer:#x}, no gap" in read_heap(machine).problems


@headerless
def test_a_damaged_run(machine: Machine) -> None:
    used(machine)
    run = of_kind(machine, "run")[1]
    machine.store(run.start + 21, 65, 1)  # slots
    heap = read_heap(machine)
    assert f"the run at {run.start:#x} " in heap.problems[0]
    assert heap.elements[-1].end == run.start


@headerless
def test_a_run_that_the_map_does_not_know(machine: Machine) -> None:
    used(machine)
    heap = read_heap(machine)
    runs = {each.start for each in heap.elements if each.kind == "run"}
    second = min(runs) + 64
    machine.store(int(machine.kernel_heap_map.words) + 8 + (second - heap.start) // 64, 0, 1)
    assert read_heap(machine).problems[0] == f"the chunk at {second:#x} is not marked as the run's"


@headerless
def test_a_kept_buffer_that_is_none(machine: Machine) -> None:
    used(machine)
    machine.kfree(machine.kmalloc(1504))
    kept = {each.start for each in of_kind(machine, "kept")}
    entry = int(machine.kernel_heap_kept.occupied).bit_length() - 1
    place = int(machine.kernel_heap_kept_buffers[entry]) >> 32
    machine.store(int(machine.kernel_heap_kept_buffers.address) + 8 * entry + 4, place + 1, 4)
    (problem,) = read_heap(machine).problems
    start = int(machine.kernel_heap_info.heap_start) + place * 8
    assert problem.startswith(f"{start + 8:#x} to ")
    assert problem.endswith(" is kept, but no buffer")
    assert kept - {each.start for each in of_kind(machine, "kept")} == {start}


@headerless
@pytest.mark.parametrize(
    ("variable", "problem"),
    [
        ("kernel_heap_space", "the heap cannot be "),
        ("kernel_heap_map", "the map is that of a heap at 0x8"),
    ],
)
def test_a_heap_that_is_elsewhere(machine: Machine, variable: str, problem: str) -> None:
    used(machine)
    machine.store(int(machine.static(variable)), 8)
    heap = read_heap(machine)
    assert heap.elements == ()
    assert heap.problems[0].startswith(problem)


@pytest.fixture(scope="module", params=["spec", "tuned"])
def sound(request: pytest.FixtureRequest) -> tuple[Machine, object, list[tuple[int, int]]]:
    """A machine with a heap in use, its state, and where all that the heap believes lies."""
    machine = kernmem.boot("lab", profile=request.param)
    used(machine)
    info, segment = machine.kernel_heap_info, machine.kernel_segment_info
    places = [(int(info.heap_start), int(info.heap_end))]
    if request.param == "tuned":
        map_length = (int(info.heap_end) - int(info.heap_start)) // 64 + 24
        places.append((int(segment.shadow_start), int(segment.shadow_start) + map_length))
    statics = machine.image.statics.values()
    own = [each.address for each in statics if each.name.startswith("kernel_heap_")]
    places.append((min(own), max(own) + 8))
    return machine, machine.snapshot(), places


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_no_damage_stops_the_reader(
    sound: tuple[Machine, object, list[tuple[int, int]]], data: st.DataObject
) -> None:
    """Whatever is overwritten, what can be read is, and the row is never out of order."""
    machine, state, places = sound
    machine.restore(state)
    values = st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 1, 2**64 - 1, places[0][0]]))
    for _ in range(data.draw(st.integers(1, 20))):
        start, end = data.draw(st.sampled_from(places))
        machine.store(data.draw(st.integers(start // 8, end // 8 - 1)) * 8, data.draw(values))
    heap = read_heap(machine)
    elements = heap.elements
    assert all(each.start < each.end for each in elements)
    assert [each.end for each in elements[:-1]] == [each.start for each in elements[1:]]
    draw_gap_tree(machine)
    assert str(heap)
