"""The checker of the headerless heap says what is damaged, for each kind of damage."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from granule_heap import (
    Element,
    Used,
    bench_on,
    flip_mark,
    map_at,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from machines import booted

from kernmem.memory.buffer_cache import ENTRIES
from kernmem.memory.gaps import LISTS, SHORTEST_LONG, ShortGap
from kernmem.memory.profile import tuned
from kernmem.memory.slot_runs import CLASSES, Run


@pytest.fixture(scope="module", params=["flat", "host"])
def used(request: pytest.FixtureRequest) -> Iterator[Used]:
    """The source on the flat memory, and the C on the host."""
    with bench_on(request.param) as bench:
        yield Used(bench)


def add(reference: Any, field: str, delta: int) -> None:
    """Change a field by ``delta``."""
    old = getattr(reference, field)
    setattr(reference, field, type(old)(int(old) + delta))


def put(array: Any, index: int, value: int) -> None:
    """Set an element of an array."""
    array[index] = type(array[index])(value)


# Sound heaps ------------------------------------------------------------------------------------


def test_there_is_some_of_everything(used: Used) -> None:
    """Else what follows would test nothing."""
    lengths = [gap.length for gap in used.of("gap")]
    assert 8 in lengths
    assert max(lengths.count(length) for length in lengths if 16 <= length < SHORTEST_LONG) >= 2
    assert len(used.long_gaps()) > 7
    assert max(buffer.length for buffer in used.of("buffer")) == 50_000
    assert max(run.length for run in used.of("run")) > 31 * 64
    runs = used.runs(12)
    assert any(run.free == 0 for run in runs)
    assert sum(run.free != 0 for run in runs) >= 3
    assert any(
        number != 0 for number in (used.static("kernel_heap_empty_runs")[n] for n in range(8))
    )
    assert len(used.kept()) >= 4


def test_a_sound_heap_prints_nothing(used: Used) -> None:
    before = used.machine.console
    assert used.machine.validate_kernel_heap()
    assert used.machine.console == before


@pytest.mark.parametrize("length", [64, 128, 640, 4096, 70_000])
def test_an_empty_heap_and_a_full_one_are_sound(length: int) -> None:
    with bench_on("flat") as bench:
        machine = bench.begin(length)
        assert machine.validate_kernel_heap(), machine.console
        while machine.kmalloc(16) is not None:
            pass
        assert machine.validate_kernel_heap(), machine.console


CALLS = st.lists(
    st.tuples(
        st.one_of(
            st.sampled_from([16, 24, 48, 64, 512, 1024]),
            st.integers(1, 1100),
            st.integers(1, 70_000),
        ),
        st.sampled_from([1, 2, 30]),
    ),
    max_size=30,
)


@settings(max_examples=30, deadline=None)
@given(calls=CALLS, seed=st.integers(0, 1000))
@pytest.mark.parametrize("used", ["host"], indirect=True)
def test_a_heap_is_sound_after_every_call(
    used: Used, calls: list[tuple[int, int]], seed: int
) -> None:
    machine = used.machine
    machine.restore(used.state)
    random_ = random.Random(seed)
    live: list[Any] = []
    for length, count in calls:
        for _ in range(count):
            buffer = machine.kmalloc(length)
            assert machine.validate_kernel_heap(), machine.console
            if buffer is not None:
                live.append(buffer)
        for _ in range(len(live) // 2):
            machine.kfree(live.pop(random_.randrange(len(live))))
            assert machine.validate_kernel_heap(), machine.console
    machine.restore(used.state)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    longest=st.sampled_from([300, 3000, 90_000]),
    calls=st.integers(1, 300),
)
def test_a_heap_that_grows_and_shrinks_is_sound_after_every_call(
    seed: int, longest: int, calls: int
) -> None:
    """Over a segment, by every call there is."""
    machine = booted("unicorn", tuned())
    random_ = random.Random(seed)
    live: list[Any] = []
    for _ in range(calls):
        length = random_.choice([8, 24, 64, random_.randrange(1, longest)])
        kind = random_.choices(["take", "free", "resize", "align", "trim"], [50, 30, 15, 5, 1])[0]
        if kind == "take" or not live:
            live.append(machine.kmalloc(length))
        elif kind == "align":
            live.append(machine.kmalloc_aligned(length, 1 << random_.randrange(13)))
        elif kind == "trim":
            machine.kernel_heap_trim()
        else:
            buffer = live.pop(random_.randrange(len(live)))
            if kind == "free":
                machine.kfree(buffer)
            else:
                live.append(machine.krealloc(buffer, length))
        assert machine.validate_kernel_heap(), machine.console


# Where the heap is ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "delta"),
    [("heap_start", 64), ("heap_end", 64 * 1000), ("heap_end", -1), ("heap_end", -(1 << 20))],
)
def test_the_ends_of_the_heap(used: Used, field: str, delta: int) -> None:
    info = used.machine.kernel_heap_info
    add(info, field, delta)
    start, end = int(info.heap_start), int(info.heap_end)
    used.damaged(f"heap: {start:#x} to {end:#x} is not what the segment has")


@pytest.mark.parametrize("delta", [-(1 << 20), 1, 4, 1 << 20])
def test_the_place_of_the_top(used: Used, delta: int) -> None:
    add(used.static("kernel_heap_space"), "top", delta)
    used.damaged(f"heap: the top cannot be at {used.top.start + delta:#x}")


@pytest.mark.parametrize(
    ("static", "field"), [("kernel_heap_map", "heap_start"), ("kernel_heap_gaps", "before")]
)
def test_what_the_map_and_the_lists_count_from(used: Used, static: str, field: str) -> None:
    add(used.static(static), field, 8)
    used.damaged(f"heap: it starts at {used.start:#x}, but not to its map and its lists")


def test_the_length_of_the_map(used: Used) -> None:
    length = used.top.end - used.start
    add(used.static("kernel_heap_map"), "length", 64)
    used.damaged(f"heap: the map is of {length + 64} bytes, not {length}")


def test_the_place_of_the_map(used: Used) -> None:
    place = used.static("kernel_heap_map")
    add(place, "words", 8)
    used.damaged(f"heap: the map is not at {int(place.words):#x}")


# The row of elements ----------------------------------------------------------------------------


def test_the_word_before_the_heap(used: Used) -> None:
    place = int(used.static("kernel_heap_map").words)
    for word in (0, 1, 1 << 63 | 1):
        used.machine.store(place, word)
        used.damaged(f"map: the word before the heap, at {place:#x}, is {word:#x}")


def test_two_gaps_side_by_side(used: Used) -> None:
    """What is left of one when its length is shorter at both ends."""
    gap = used.gaps(2000)[0]
    for start, length in ((gap.start, 1000), (gap.start + 1000, 1000)):
        used.machine.store(start, length // 8, 4)
        used.machine.store(start + length - 4, length // 8, 4)
    flip_mark(used.machine, gap.start + 1000)
    used.damaged(f"heap: two gaps meet at {gap.start + 1000:#x}")


def test_a_gap_beside_the_top(used: Used) -> None:
    start = used.top.start
    used.machine.store(start, 2, 4)
    used.machine.store(start + 12, 2, 4)
    add(used.static("kernel_heap_space"), "top", 16)
    used.damaged(f"heap: a gap meets the top at {start + 16:#x}")


def test_the_mark_of_the_top(used: Used) -> None:
    flip_mark(used.machine, used.top.start)
    used.damaged(f"map: the top at {used.top.start:#x} is not marked")


def test_marks_above_the_top(used: Used) -> None:
    """To the end of the word that comes after the last of the heap."""
    behind = used.top.end + 512 + (used.start - used.top.end) % 512
    for mark in (used.top.start + 8, used.top.end - 8, used.top.end, behind - 8):
        flip_mark(used.machine, mark)
        used.damaged(f"map: {mark:#x} is marked, above the top at {used.top.start:#x}")
    flip_mark(used.machine, behind)
    assert used.machine.validate_kernel_heap()
    used.machine.restore(used.state)


@pytest.mark.parametrize("granules", [0, 2**20, 2**32 - 1])
def test_the_length_of_a_gap(used: Used, granules: int) -> None:
    gap = used.of("gap")[3]
    used.machine.store(gap.start, granules, 4)
    used.damaged(f"heap: the gap at {gap.start:#x} says that it has {granules} granules")


def test_the_length_at_the_end_of_a_gap(used: Used) -> None:
    gap = used.gaps(2000)[0]
    used.machine.store(gap.end - 4, 7, 4)
    used.damaged(f"heap: the gap {gap.start:#x} to {gap.end:#x} says 7 granules at its end")


def test_a_mark_inside_a_gap(used: Used) -> None:
    gap = used.gaps(2000)[0]
    for mark in (gap.start + 8, gap.start + 1000, gap.end - 8):
        flip_mark(used.machine, mark)
        inside = f"{gap.start:#x} to {gap.end:#x}"
        used.damaged(f"map: {mark:#x} is marked, inside the gap {inside}")


def test_a_buffer_without_an_end(used: Used) -> None:
    """There is no mark in two words; or the next one is that of the top."""
    lengths = {buffer.length: buffer for buffer in used.of("buffer")}
    long = lengths[50_000]
    second = long.start + 512 - (long.start - used.start) % 512
    used.machine.store(map_at(used.machine, second), 0)
    used.damaged(f"map: the buffer at {long.start:#x} has no end")
    last = used.elements[-2]
    assert last.kind == "buffer"
    flip_mark(used.machine, last.end - 8)
    used.damaged(f"map: the buffer at {last.start:#x} has no end")


def word_of_length(used: Used) -> tuple[Element, int, int]:
    """A buffer with its length in a word of the map, where that is, and what it is."""
    buffer = next(each for each in used.of("buffer") if each.length == 50_000)
    second = buffer.start + 512 - (buffer.start - used.start) % 512
    place = map_at(used.machine, second)
    return buffer, place, used.machine.load(place)


def test_a_wrong_word_of_length(used: Used) -> None:
    """A bit that no length has; or a length beyond the top."""
    buffer, place, word = word_of_length(used)
    for wrong in (word | 1 << 5, word | 1 << 35, word | 0x1F << 24):
        used.machine.store(place, wrong)
        used.damaged(f"map: the buffer at {buffer.start:#x} has a wrong word of length, {wrong:#x}")


def test_a_length_that_needs_no_word(used: Used) -> None:
    """As in a buffer that ends in the word itself, or before it."""
    buffer, place, _ = word_of_length(used)
    used.machine.store(place, 7 << 59 | 20)
    end = buffer.start + 160
    used.damaged(f"map: the buffer {buffer.start:#x} to {end:#x} is too short for a word of length")


@pytest.mark.parametrize("delta", [-1, 1])
def test_a_length_that_ends_at_no_mark(used: Used, delta: int) -> None:
    """The mark that is found is the one of the length, if it is nearer."""
    buffer, place, word = word_of_length(used)
    used.machine.store(place, word + delta)
    end = buffer.end + 8 * delta
    mark = min(end, buffer.end - 8)
    used.damaged(f"map: the buffer {buffer.start:#x} to {end:#x} has its mark at {mark:#x}")


# Runs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"), [("granules", 0), ("granules", 128), ("slots", 0), ("slots", 65)]
)
def test_the_slots_of_a_run(used: Used, field: str, value: int) -> None:
    run = used.runs(12)[1]
    setattr(run, field, type(run.slots)(value))
    says = f"{run.slots} slots of {run.granules} granules"
    used.damaged(f"run: {int(run):#x} says that it has {says}")


def test_the_reciprocal_of_a_run(used: Used) -> None:
    run = used.runs(12)[1]
    add(run, "reciprocal", 1)
    used.damaged(f"run: {int(run):#x} has a wrong reciprocal, {run.reciprocal}")


@pytest.mark.parametrize("delta", [-1, 1, 8, 300])
def test_the_first_slot_of_a_run(used: Used, delta: int) -> None:
    for granules in (3, 8, 12):
        run = used.runs(granules)[0]
        add(run, "first", delta)
        used.damaged(f"run: the slots of {int(run):#x} cannot begin {run.first} granules in")


def test_a_run_beyond_the_top(used: Used) -> None:
    """A header that is right in itself, near the end of the heap."""
    run = used.runs(8)[-1]
    space = used.static("kernel_heap_space")
    space.top = type(space.top)(int(run) + 128)
    granules = next(each.length for each in used.of("run") if each.start == run) // 8
    used.damaged(f"run: {int(run):#x} would have {granules} granules, and end above the top")


def test_the_chunks_of_a_run(used: Used) -> None:
    """What each says: how far it is to the first, or to one that is nearer to it."""
    run = max(used.of("run"), key=lambda run: run.length)
    for chunk, steps in ((1, 1), (2, 2), (23, 23), (24, 24), (32, 24)):
        place = map_at(used.machine, run.start + 64 * chunk)
        code = used.machine.load(place, 1)
        assert code == 0xE0 + steps
        for wrong in (0, code - 1, code ^ 0x80):
            used.machine.store(place, wrong, 1)
            used.damaged(f"map: chunk {chunk} of the run at {run.start:#x} is {wrong:#x}")


def test_a_free_slot_that_is_none(used: Used) -> None:
    run = used.runs(12)[1]
    run.free = type(run.free)(1 << int(run.slots))
    used.damaged(f"run: {int(run):#x} has {run.slots} slots, and {int(run.free):#x} are free")


def test_a_list_of_runs_leads_to_none(used: Used) -> None:
    beyond = (used.top.end - used.start) // 64 + 1
    for number in (1, 2, beyond, 2**32 - 1):
        put(used.static("kernel_heap_runs"), 12, number)
        used.damaged(f"run: the list of 12 granules leads to {number}, where none begins")
    number = 8 * ((used.top.end - used.start) // 512 + 2) + 1
    used.machine.store(map_at(used.machine, used.start + 64 * (number - 1)), 0xE0, 1)
    put(used.static("kernel_heap_runs"), 12, number)
    used.damaged(f"run: the list of 12 granules leads to {number}, where none begins")


def test_a_list_of_runs_leads_to_another(used: Used) -> None:
    """One of another length; or one that is full, and not the first."""
    full = next(run for run in used.runs(12) if run.free == 0)
    other = used.runs(3)[0]
    put(used.static("kernel_heap_runs"), 12, used.number(other))
    used.damaged(f"run: {int(other):#x} has no free slot of 12 granules")
    first = used.machine.reference(Run, used.start - 64 + 64 * used.first(12))
    first.next = type(first.next)(used.number(full))
    full.previous = type(full.previous)(used.number(first))
    used.damaged(f"run: {int(full):#x} has no free slot of 12 granules")


def test_the_first_run_of_a_list_may_be_full(used: Used) -> None:
    """Until the next call finds it so."""
    machine = used.machine
    run = machine.reference(Run, used.start - 64 + 64 * used.first(12))
    assert run.free != 0
    while run.free != 0:
        machine.kmalloc(96)
    assert used.first(12) == used.number(run)
    assert machine.validate_kernel_heap(), machine.console
    for _ in range(2):  # a buffer of this length may be kept
        machine.kmalloc(96)
    assert used.first(12) != used.number(run)
    assert machine.validate_kernel_heap(), machine.console
    machine.restore(used.state)


def test_a_run_does_not_link_back(used: Used) -> None:
    for run in used.runs(12):
        if run.free != 0:
            add(run, "previous", 1)
            used.damaged(f"run: {int(run):#x} does not link back")


def test_a_run_is_in_no_list(used: Used) -> None:
    listed = sum(used.machine.reference(Run, run.start).free != 0 for run in used.of("run"))
    put(used.static("kernel_heap_runs"), 8, 0)
    used.damaged(f"run: {listed - 1} with a free slot are in lists, not {listed}")


def test_the_empty_runs(used: Used) -> None:
    empties = used.static("kernel_heap_empty_runs")
    put(empties, 3, 1)
    used.damaged("run: 1 is remembered as empty, where none begins")
    number = (int(used.runs(12)[0]) - used.start) // 64 + 1
    put(empties, 3, number)
    used.damaged(f"run: {number} has 12 granules, and is empty run 3")
    put(empties, 4, number)
    assert used.machine.validate_kernel_heap(), "it need not be empty any more"
    used.machine.restore(used.state)


# Kept buffers -----------------------------------------------------------------------------------


def test_the_bits_of_the_cache(used: Used) -> None:
    occupied = used.kept()
    kept = used.static("kernel_heap_kept")
    for entry in (occupied[0], next(n for n in range(ENTRIES) if n not in occupied)):
        kept.occupied ^= type(kept.occupied)(1 << entry)
        says = int(used.static("kernel_heap_kept_buffers")[entry])
        used.damaged(f"cache: entry {entry} is {says:#x}, against its bit")


def test_a_length_in_the_wrong_entry(used: Used) -> None:
    """Of another entry; of this one, but longer than what is kept."""
    entry = used.kept()[0]
    buffers = used.static("kernel_heap_kept_buffers")
    _, granules = used.kept_buffer(entry)
    for wrong in (0, granules + 1, granules + (1 << 12), 2**31 - 1):
        put(buffers, entry, int(buffers[entry]) - granules + wrong)
        used.damaged(f"cache: entry {entry} is not for {wrong} granules")


def test_a_kept_buffer_outside_the_heap(used: Used) -> None:
    entry = used.kept()[0]
    _, granules = used.kept_buffer(entry)
    for place in ((used.top.end - used.start) // 8, 2**32 - 1):
        put(used.static("kernel_heap_kept_buffers"), entry, place << 32 | granules)
        used.damaged(f"cache: entry {entry} is granule {place}")


def test_the_bytes_that_are_kept(used: Used) -> None:
    kept = used.static("kernel_heap_kept")
    held = int(kept.bytes)
    add(kept, "bytes", 8)
    used.damaged(f"cache: {held} bytes are kept, not {held + 8}")


def test_a_kept_buffer_that_is_none(used: Used) -> None:
    """A place where none begins, or one of another length."""
    entry = used.kept()[0]
    _, granules = used.kept_buffer(entry)
    for place in (used.start, used.top.start, used.of("gap")[0].start, int(used.runs(3)[0]) + 24):
        number = (place - used.start) // 8
        put(used.static("kernel_heap_kept_buffers"), entry, number << 32 | granules)
        used.damaged(f"cache: {place:#x} is kept as a buffer of {8 * granules} bytes, and is none")


# Lists of short gaps ----------------------------------------------------------------------------


def test_the_bits_of_the_lists(used: Used) -> None:
    occupied = used.static("kernel_heap_occupied")
    heads = used.static("kernel_heap_short_gaps")
    empty = [granules for granules in range(LISTS) if heads[granules] == 0]
    full = [granules for granules in range(LISTS) if heads[granules] != 0]
    for granules in (empty[0], empty[-1], full[0], full[-1]):
        put(occupied, granules // 64, int(occupied[granules // 64]) ^ 1 << granules % 64)
        used.damaged(f"list: that of {granules} granules is not as its bit says")


def test_a_list_leads_above_the_top(used: Used) -> None:
    heads = used.static("kernel_heap_short_gaps")
    granules = next(each for each in range(LISTS) if heads[each] != 0)
    for number in ((used.top.start - used.start) // 8 + 1, 2**32 - 1):
        put(heads, granules, number)
        used.damaged(f"list: that of {granules} granules leads above the top, to {number}")


def test_a_list_leads_to_no_gap_of_its_length(used: Used) -> None:
    """Into an element that looks like one, or to a gap of another length."""
    heads = used.static("kernel_heap_short_gaps")
    occupied = used.static("kernel_heap_occupied")
    granules = next(each for each in range(LISTS) if heads[each] != 0)
    gap = used.start - 8 + 8 * int(heads[granules])
    forged = [
        used.start,
        used.start + 512 + 8 * 60,  # between two marks, which are those of a word of length,
        int(used.runs(3)[0]) + 8 * 6,  # and those of a run
    ]
    for place in [*forged, gap + 8, used.gaps(2000)[0].start]:
        if place in forged:
            used.machine.store(place, granules)
            used.machine.store(place + 8, 0, 4)
        put(heads, granules, (place - used.start) // 8 + 1)
        used.damaged(f"list: {place:#x} is no gap of {granules} granules")
    shortest = used.gaps(8)[0].start
    put(heads, 1, (shortest - used.start) // 8 + 1)
    put(occupied, 0, int(occupied[0]) | 2)
    used.damaged(f"list: {shortest:#x} is no gap of 1 granules")


def longest_list(used: Used) -> list[Element]:
    """The members of a list with more than one."""
    lengths = [gap.length for gap in used.of("gap") if 16 <= gap.length < SHORTEST_LONG]
    found = used.listed(max(lengths, key=lengths.count))
    assert len(found) >= 2
    return found


def test_a_short_gap_does_not_link_back(used: Used) -> None:
    for gap in longest_list(used):
        add(used.machine.reference(ShortGap, gap.start), "previous", 1)
        used.damaged(f"list: the gap at {gap.start:#x} does not link back")


def test_a_list_that_never_ends(used: Used) -> None:
    """Its last gap leads to its first, which does not link back to it."""
    first, *_, last = longest_list(used)
    number = (first.start - used.start) // 8 + 1
    used.machine.reference(ShortGap, last.start).next = type(
        used.machine.reference(ShortGap, last.start).next
    )(number)
    used.damaged(f"list: the gap at {first.start:#x} does not link back")


def test_a_short_gap_is_in_no_list(used: Used) -> None:
    short = sum(16 <= gap.length < SHORTEST_LONG for gap in used.of("gap"))
    *_, before, _ = longest_list(used)
    record = used.machine.reference(ShortGap, before.start)
    record.next = type(record.next)(0)
    used.damaged(f"list: {short - 1} gaps are in lists, not {short}")


# The tree of long gaps --------------------------------------------------------------------------


def test_a_link_that_leads_to_no_record(used: Used) -> None:
    tree = used.static("kernel_heap_length_tree")
    record = int(used.long_gaps()[0])
    for wrong in (8, used.start, record - 8, record + 1, record + 8, used.top.start + 8, 2**64 - 8):
        used.machine.store(int(tree), wrong)
        used.damaged(f"tree: a link leads to {wrong:#x}, which is no gap's record")


def test_a_link_that_leads_to_a_short_gap(used: Used) -> None:
    gap = longest_list(used)[0]
    used.machine.store(int(used.static("kernel_heap_length_tree")), gap.start + 8)
    used.damaged(f"tree: a link leads to {gap.start + 8:#x}, in a gap of {gap.length} bytes")


def test_the_end_of_a_long_gap(used: Used) -> None:
    root = used.static("kernel_heap_length_tree").root
    gap = next(each for each in used.of("gap") if each.start == int(root) - 8)
    add(root, "end", 8)
    used.damaged(f"tree: the gap {gap.start:#x} to {gap.end:#x} would end at {gap.end + 8:#x}")


def test_a_long_gap_is_in_no_tree(used: Used) -> None:
    root = used.static("kernel_heap_length_tree").root
    used.machine.store(int(used.static("kernel_heap_length_tree")), 0)
    used.damaged(f"tree: 0 gaps, not {len(used.long_gaps())}")
    add(root, "balances", 2 - 2 * (int(root.balances) & 15) or 1)
    before = len(used.machine.console)
    assert not used.machine.validate_kernel_heap()
    assert " leans " in used.machine.console[before:]
    used.machine.restore(used.state)


# Counters ---------------------------------------------------------------------------------------

COUNTERS = ("live_buffers", "live_bytes", "gaps", "gap_bytes", "overhead_bytes")
COUNTERS_OF_VOIDS = ("voids", "void_bytes")


@pytest.mark.parametrize("counter", [*COUNTERS, *COUNTERS_OF_VOIDS])
@pytest.mark.parametrize("delta", [1, 1 << 40])
def test_the_counters(used: Used, counter: str, delta: int) -> None:
    info = used.machine.kernel_heap_info
    says = {name: int(getattr(info, name)) for name in COUNTERS}
    add(info, counter, delta)
    used.damaged(
        f"heap: found {says['live_buffers']} buffers of {says['live_bytes']} bytes,",
        f"  {says['gaps']} gaps of {says['gap_bytes']}, no voids, and {says['overhead_bytes']}",
        "  beside slots; the registry says otherwise",
    )


@pytest.mark.parametrize("granules", [0, 1, 3, 12, CLASSES - 1])
def test_the_buffers_of_each_length(used: Used, granules: int) -> None:
    counts = used.static("kernel_heap_buffers")
    found = int(counts[granules])
    put(counts, granules, found + 1)
    used.damaged(
        f"heap: found {found} buffers of {granules} granules",
        f"  and slots, not {found + 1}",
    )
