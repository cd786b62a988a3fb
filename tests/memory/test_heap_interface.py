"""krealloc, kcalloc, kmalloc_aligned and their kin: the same promises from every profile.

Random runs of all calls are in ``test_heap_calls.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flat import PAGE, SEGMENT, flat
from machines import booted as booted_machine
from machines import free_list, state, take_all_pages

from kernmem.kernels.arena_heap import Arena
from kernmem.language import Component, Image, KernelPanic, VirtualAddress, usize
from kernmem.machine.port import Machine
from kernmem.memory.heap_check import HeapCheck
from kernmem.memory.heap_info import KernelHeapStatistics
from kernmem.memory.kernel_heap import KernelHeap
from kernmem.memory.profile import Placement, Profile, aligned, spec, tuned, tuned_lean

START = SEGMENT.start
PAGES = 400
ELSEWHERE = 0x60_0000  # of a flat machine, where every address has storage
PROFILES = {
    **{f"spec-{placement.value}": spec(placement) for placement in Placement},
    **{f"void-{placement.value}": spec(placement, no_void=False) for placement in Placement},
    "aligned": aligned(),
    "tuned": tuned(),
    "tuned-lean": tuned_lean(),
}


def ready(profile: Profile, pages: int = PAGES, *, pointer_bytes: int = 8) -> Machine:
    """A flat machine, booted."""
    machine = flat(pages, profile, pointer_bytes=pointer_bytes)
    machine.init_memory()
    return machine


@pytest.fixture(params=PROFILES)
def machine(request: pytest.FixtureRequest) -> Machine:
    """A flat machine with each profile."""
    return ready(PROFILES[request.param])


@pytest.fixture
def headerless() -> Machine:
    """A flat machine with the profile that has none."""
    return ready(tuned())


def taken(machine: Machine, *lengths: int) -> list[int]:
    """A buffer of each length."""
    return [int(machine.kmalloc(length)) for length in lengths]


def marked(machine: Machine, length: int) -> tuple[int, bytes]:
    """A buffer, and what was written to it."""
    buffer = int(machine.kmalloc(length))
    content = bytes(number * 7 % 251 + 1 for number in range(length))
    machine.write_virtual(buffer, content)
    return buffer, content


def statistics(machine: Machine, place: int = ELSEWHERE) -> dict[str, int]:
    """What kernel_heap_statistics says, into memory that no one else uses."""
    found = machine.reference(KernelHeapStatistics, place)
    machine.kernel_heap_statistics(found)
    return {field.name: int(getattr(found, field.name)) for field in found.layout.fields}


def failed(machine: Machine) -> int:
    """How many calls wanted memory and got none."""
    return int(machine.kernel_heap_info.failed_calls)


def sound(machine: Machine) -> bool:
    """What the checker says, or the reason why not."""
    assert machine.validate_kernel_heap(), machine.console
    return True


# kmalloc_aligned --------------------------------------------------------------------------------


@pytest.mark.parametrize("alignment", [1, 2, 8, 16, 32, 64, 256, 1024])
def test_a_buffer_has_the_alignment_that_was_asked_for(machine: Machine, alignment: int) -> None:
    """Whatever lies before it; and its length."""
    buffers = []
    for length in (1, 24, 100, 300):
        buffers.append(machine.kmalloc(length))
        buffers.append(machine.kmalloc_aligned(length, alignment))
        assert buffers[-1] % alignment == 0
        assert machine.kmalloc_usable_size(buffers[-1]) >= length
        assert sound(machine)
    for buffer in buffers:
        machine.kfree(buffer)
        assert sound(machine)
    assert machine.kernel_heap_info.live_bytes == 0


@pytest.mark.parametrize("alignment", [0, 3, 24, 4097, 2**63 + 1])
def test_an_alignment_that_is_no_power_of_two_is_a_broken_contract(
    machine: Machine, alignment: int
) -> None:
    with pytest.raises(KernelPanic) as caught:
        machine.kmalloc_aligned(10, alignment)
    message = f"kmalloc_aligned: the alignment must be a power of two, not {alignment}"
    assert caught.value.message == message


def test_kmalloc_aligned_of_0_gives_none(machine: Machine) -> None:
    assert machine.kmalloc_aligned(0, 8) is None
    assert machine.kmalloc_aligned(0, 4096) is None
    assert failed(machine) == 0


@pytest.mark.parametrize("exponent", [17, 18, 31, 32, 62, 63])
def test_an_alignment_beyond_the_segment_cannot_be_had(machine: Machine, exponent: int) -> None:
    """The segment has 2^17 bytes.  Nothing overflows on the way."""
    machine.kmalloc(100)
    before = state(machine)
    assert machine.kmalloc_aligned(100, 1 << exponent) is None
    assert machine.kmalloc_aligned(2**64 - 1, 1 << exponent) is None
    assert state(machine) == before
    assert failed(machine) == 2


def test_the_space_before_an_aligned_buffer_is_used(machine: Machine) -> None:
    """It is a gap, and no page is added for what fits in it."""
    machine.kmalloc(1)
    buffer = int(machine.kmalloc_aligned(100, 4096))
    assert machine.kernel_heap_info.gap_bytes >= 3000
    pages = len(free_list(machine))
    assert machine.kmalloc(2000) < buffer
    assert len(free_list(machine)) == pages


def test_no_more_than_8_with_4_byte_pointers_and_the_specifications_grain() -> None:
    """Superbuffers begin at multiples of 32, and headers have 8 bytes."""
    machine = ready(spec(), pointer_bytes=4)
    assert machine.kmalloc_aligned(100, 8) % 8 == 0
    assert machine.kmalloc_aligned(100, 16) is None
    assert failed(machine) == 1


@pytest.mark.parametrize("profile", [aligned(), tuned()], ids=["aligned", "tuned"])
def test_any_alignment_with_4_byte_pointers(profile: Profile) -> None:
    machine = ready(profile, pointer_bytes=4)
    for exponent in range(13):
        assert machine.kmalloc_aligned(20, 1 << exponent) % (1 << exponent) == 0
        assert sound(machine)


@pytest.mark.parametrize("name", ["model", "host", "unicorn"])
def test_two_megabytes(name: str) -> None:
    """Far beyond a page; when it is free, every page that it took goes back."""
    machine = booted_machine(name, tuned())
    machine.kmalloc(1)
    end = int(machine.kernel_segment_info.segment_end)
    buffer = machine.kmalloc_aligned(5000, 2 << 20)
    assert buffer % (2 << 20) == 0
    machine.kfree(buffer)
    longer = int(machine.kernel_segment_info.segment_end) - end
    assert machine.kernel_heap_trim() == longer
    assert machine.kernel_segment_info.segment_end == end
    assert sound(machine)


# kcalloc ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "size"), [(1, 1), (3, 5), (1, 64), (7, 100), (1000, 2)])
def test_kcalloc_gives_zeros(machine: Machine, count: int, size: int) -> None:
    """Where other contents were before."""
    length = count * size
    dirty = taken(machine, length, length + 8, 4 * length)
    for buffer in dirty:
        machine.write_virtual(buffer, b"\xff" * length)
        machine.kfree(buffer)
    buffer = int(machine.kcalloc(count, size))
    assert machine.read_virtual(buffer, length) == bytes(length)
    assert sound(machine)


def test_kcalloc_clears_no_more_than_it_gives(machine: Machine) -> None:
    """The buffers on both sides keep every byte."""
    first = [marked(machine, 100) for _ in range(20)]
    machine.kfree(first.pop(7)[0])
    machine.kcalloc(25, 3)
    for buffer, content in first:
        assert machine.read_virtual(buffer, 100) == content


def test_kcalloc_of_nothing(machine: Machine) -> None:
    assert [machine.kcalloc(0, 8), machine.kcalloc(8, 0), machine.kcalloc(0, 0)] == [None] * 3
    assert failed(machine) == 0


@pytest.mark.parametrize("pointer_bytes", [8, 4])
@pytest.mark.parametrize("name", ["spec-best", "tuned"])
def test_kcalloc_of_more_than_a_length_can_say(name: str, pointer_bytes: int) -> None:
    """A product that wraps would be short: 2^(bits / 2) + 1 times 2^(bits / 2) is 2^(bits / 2)."""
    machine = ready(PROFILES[name], pointer_bytes=pointer_bytes)
    machine.kmalloc(10)
    before = state(machine)
    half, most = 1 << 4 * pointer_bytes, (1 << 8 * pointer_bytes) - 1
    pairs = [(half + 1, half), (half, half), (2, most // 2 + 1), (most, 2), (most, most)]
    for calls, (count, size) in enumerate(pairs, 1):
        assert machine.kcalloc(count, size) is None
        assert machine.kcalloc(size, count) is None
        assert failed(machine) == 2 * calls
    assert state(machine) == before


# krealloc ---------------------------------------------------------------------------------------


def test_krealloc_of_none_is_kmalloc(machine: Machine) -> None:
    buffer = machine.krealloc(None, 100)
    assert machine.kmalloc_usable_size(buffer) >= 100
    assert machine.krealloc(None, 0) is None
    assert machine.kernel_heap_info.live_buffers == 1


def test_krealloc_to_0_is_kfree(machine: Machine) -> None:
    buffer = machine.kmalloc(100)
    assert machine.krealloc(buffer, 0) is None
    assert machine.kernel_heap_info.live_buffers == failed(machine) == 0
    with pytest.raises(KernelPanic):
        machine.kfree(buffer)


@pytest.mark.parametrize("call", ["krealloc", "kmalloc_usable_size"])
def test_what_is_no_buffer_is_refused(machine: Machine, call: str) -> None:
    """Never one, inside one, freed, after the heap; and nothing changes."""
    buffer, gone, _ = taken(machine, 100, 600, 100)
    machine.kfree(gone)
    before = state(machine)
    for address in (1, START - 8, buffer + 8, gone, START + 500 * PAGE, 2**64 - 1):
        with pytest.raises(KernelPanic) as caught:
            machine.call(call, address, *[50] * (call == "krealloc"))
        message = f"{call}: {address:#x} is not the start of a live buffer"
        assert caught.value.message == message
        assert state(machine) == before


@pytest.mark.parametrize("call", ["krealloc", "kfree"])
def test_contents_that_pass_for_a_gap_of_4_gigabytes(call: str) -> None:
    """With 4-byte pointers, where a length of that many granules of 8 bytes has no bytes."""
    machine = ready(tuned(), pointer_bytes=4)
    buffer = int(machine.kmalloc(800))
    machine.write_virtual(buffer, b"\xff" * 800)
    for address in range(buffer + 8, buffer + 800, 8):
        with pytest.raises(KernelPanic, match=f"^{call}: {address:#x}"):
            machine.call(call, address, *[50] * (call == "krealloc"))


def test_krealloc_keeps_the_contents(machine: Machine) -> None:
    """Up to the shorter of both lengths, wherever the buffer goes."""
    buffer, content = marked(machine, 90)
    for number, length in enumerate((91, 300, 2000, 2001, 500, 8, 3, 1, 70, 700)):
        machine.kmalloc(20 + number)  # often in the way
        buffer = int(machine.krealloc(buffer, length))
        kept = min(length, len(content))
        assert machine.read_virtual(buffer, kept) == content[:kept]
        assert machine.kmalloc_usable_size(buffer) >= length
        content = bytes((number + at) % 256 for at in range(length))
        machine.write_virtual(buffer, content)
        assert sound(machine)
    assert machine.kernel_heap_info.live_buffers == 11


def test_the_last_buffer_grows_where_it_is(machine: Machine) -> None:
    """The segment grows behind it, page by page."""
    machine.kmalloc(100)
    buffer = int(machine.kmalloc(1500))
    for length in range(1600, 20_000, 1111):
        assert machine.krealloc(buffer, length) == buffer
        assert sound(machine)
    assert machine.kernel_heap_info.live_buffers == 2


@pytest.mark.parametrize("name", [name for name in PROFILES if not name.startswith("tuned")])
def test_the_last_superbuffer_grows_by_less_than_a_gap(name: str) -> None:
    """Where voids, or the rest of a page that was given back, lie between it and the end."""
    machine = ready(PROFILES[name])
    for first in (181, 200, 500, 4000):
        buffer = int(machine.kmalloc(first))
        for growth in (1, 1, 20, 59, 1):
            machine.kernel_heap_trim()
            length = machine.kmalloc_usable_size(buffer) + growth
            assert machine.krealloc(buffer, length) == buffer
            assert machine.kmalloc_usable_size(buffer) >= length
            assert sound(machine)


def test_a_buffer_grows_into_the_gap_behind_it(machine: Machine) -> None:
    """As far as that goes; not a byte farther."""
    lengths = [1500, 1500, 1500, 100]
    buffer, behind, _, _ = taken(machine, *lengths)
    room = machine.kmalloc_usable_size(buffer) + (behind - buffer)
    machine.kfree(behind)
    machine.kernel_heap_trim()  # tuned keeps what is freed
    assert machine.krealloc(buffer, 2200) == buffer
    assert sound(machine)
    assert machine.krealloc(buffer, room) == buffer
    assert sound(machine)
    assert machine.krealloc(buffer, room + 100) not in (buffer, None)
    assert sound(machine)


def test_a_buffer_that_shrinks_leaves_a_gap(machine: Machine) -> None:
    """Which merges with the one behind it, and can be had."""
    buffer, behind, _ = taken(machine, 3000, 1000, 100)
    info = machine.kernel_heap_info
    before, live = info.gap_bytes + info.void_bytes, info.live_bytes
    assert machine.krealloc(buffer, 1000) == buffer
    given = info.gap_bytes + info.void_bytes - before
    assert 1900 <= given == live - info.live_bytes <= 2000 + 60
    machine.kfree(behind)
    machine.kernel_heap_trim()
    assert sound(machine)
    assert machine.krealloc(buffer, 3800) == buffer
    assert sound(machine)


def test_the_peak_is_that_before_a_buffer_shrank(machine: Machine) -> None:
    buffer = machine.kmalloc(3000)
    live = int(machine.kernel_heap_info.live_bytes)
    machine.krealloc(buffer, 1000)
    assert statistics(machine)["peak_live_bytes"] == live


@pytest.mark.parametrize("alignment", [64, 256, 1024, 4096])
def test_a_buffer_that_moves_stays_aligned(machine: Machine, alignment: int) -> None:
    buffer = machine.kmalloc_aligned(200, alignment)
    while machine.kmalloc(100) < buffer:
        pass
    moved = machine.krealloc(buffer, 6000)
    assert moved != buffer
    assert moved % alignment == 0
    assert sound(machine)


def test_powers_of_two_are_aligned_after_krealloc_too(headerless: Machine) -> None:
    """What is promised of buffers from kmalloc, up to 4096 bytes."""
    for start in (24, 40, 100, 1000, 3000):
        for exponent in range(3, 13):
            length = 1 << exponent
            buffer = headerless.krealloc(headerless.kmalloc(start), length)
            assert buffer % length == 0
            assert sound(headerless)


def test_no_buffer_of_16_bytes_lies_at_an_odd_multiple_of_8(headerless: Machine) -> None:
    """Not even one that shrank to less: it may be kept for who asks for 16."""
    buffers = taken(headerless, *[40] * 8)
    odd = next(buffer for buffer in buffers if buffer % 16 == 8)
    moved = headerless.krealloc(odd, 8)
    assert headerless.kmalloc_usable_size(moved) != 16 or moved % 16 == 0
    headerless.kfree(moved)
    for _ in range(8):
        assert headerless.kmalloc(16) % 16 == 0
    assert sound(headerless)


def test_a_large_buffer_that_grew_is_not_hemmed_in() -> None:
    """The next large one goes to the far end of the gap behind it."""
    machine = booted_machine("model", tuned())
    hole, _ = taken(machine, 1 << 20, 24)
    machine.kfree(hole)
    buffer = machine.kmalloc(100_000)
    assert machine.krealloc(buffer, 200_000) == buffer == hole
    assert machine.kmalloc(100_000) > hole + 900_000
    assert machine.krealloc(buffer, 900_000) == buffer
    assert sound(machine)


def slots(machine: Machine, length: int) -> list[int]:
    """Buffers of a length until two lie side by side as in a run of slots do; those two."""
    found: list[int] = []
    while True:
        found.append(int(machine.kmalloc(length)))
        info = machine.kernel_heap_info
        if info.overhead_bytes and len(found) > 1 and found[-1] - found[-2] == length:
            return found[-2:]


def test_a_slot_stays_while_it_is_half_full(headerless: Machine) -> None:
    """It neither grows nor takes from its neighbours."""
    _, slot = slots(headerless, 48)
    for length in (1, 48, 33, 48, 20, 41):
        if length >= 17:
            assert headerless.krealloc(slot, length) == slot
            assert headerless.kmalloc_usable_size(slot) == 48
    live = int(headerless.kernel_heap_info.live_bytes)
    assert headerless.krealloc(slot, 9) != slot
    assert headerless.kernel_heap_info.live_bytes == live - 48 + 16
    assert sound(headerless)


def test_a_slot_that_is_too_short_moves(headerless: Machine) -> None:
    before, slot = slots(headerless, 48)
    headerless.write_virtual(before, b"b" * 48)
    headerless.write_virtual(slot, b"s" * 48)
    moved = headerless.krealloc(slot, 56)
    assert moved != slot
    assert headerless.read_virtual(moved, 48) == b"s" * 48
    assert headerless.read_virtual(before, 48) == b"b" * 48
    assert headerless.kmalloc(48) == slot
    assert sound(headerless)


# What there is ----------------------------------------------------------------------------------


def test_usable_sizes(machine: Machine) -> None:
    """All of it can be written, and nothing else changes."""
    assert machine.kmalloc_usable_size(None) == 0
    buffers = taken(machine, *range(1, 400, 23))
    for mark, buffer in enumerate(buffers, 1):
        machine.write_virtual(buffer, bytes([mark]) * int(machine.kmalloc_usable_size(buffer)))
    assert sound(machine)
    for mark, (buffer, length) in enumerate(zip(buffers, range(1, 400, 23), strict=True), 1):
        usable = int(machine.kmalloc_usable_size(buffer))
        assert usable >= length
        assert machine.read_virtual(buffer, usable) == bytes([mark]) * usable


def test_statistics(machine: Machine) -> None:
    """They add up, and say what the registry says."""
    empty = statistics(machine)
    assert set(empty.values()) <= {0, empty["gap_bytes"], empty["gaps"], empty["largest_gap"]}
    buffers = taken(machine, *[40] * 60, 2000, 100, 900)
    for buffer in buffers[::3]:
        machine.kfree(buffer)
    machine.kmalloc(2**60)
    told = statistics(machine)
    info = machine.kernel_heap_info
    for name in ("live_buffers", "live_bytes", "gaps", "gap_bytes", "failed_calls"):
        assert told[name] == getattr(info, name), name
    assert (told["live_buffers"], told["failed_calls"]) == (42, 1)
    assert told["largest_gap"] == machine.kernel_heap_largest_gap()
    assert told["peak_live_bytes"] > told["live_bytes"]
    parts = ("live_bytes", "idle_bytes", "overhead_bytes", "gap_bytes")
    whole = int(info.heap_end - info.heap_start - info.void_bytes)
    assert sum(told[part] for part in parts) == whole
    scattered = told["gap_bytes"] - told["largest_gap"]
    assert told["fragmentation"] == 1000 * scattered // told["gap_bytes"]


def test_fragmentation_of_more_than_32_bits_can_multiply() -> None:
    """A gap of 8 MiB among others: a thousandth is 2^13 bytes and more."""
    machine = booted_machine("model", tuned())
    place, low, _, high, _ = taken(machine, 200, 2 << 20, 24, 6 << 20, 24)
    machine.kfree(low)
    machine.kfree(high)
    told = statistics(machine, place)
    assert told["gap_bytes"] > 1 << 22
    exact = 1000 * (told["gap_bytes"] - told["largest_gap"]) // told["gap_bytes"]
    assert abs(told["fragmentation"] - exact) <= 1
    assert 200 <= exact <= 300


def test_the_peak_counts_buffers_that_were_never_freed(machine: Machine) -> None:
    machine.kmalloc(5000)
    told = statistics(machine)
    assert told["peak_live_bytes"] == told["live_bytes"] >= 5000


def test_trim_gives_back_all_that_no_one_uses(machine: Machine) -> None:
    """Of an empty heap everything; then it works as before."""
    pages = len(free_list(machine))
    buffers = taken(machine, *[24] * 100, 3000, 500, 500)
    for buffer in reversed(buffers):  # so that no void is left behind
        machine.kfree(buffer)
    length = int(machine.kernel_segment_info.segment_end) - START
    assert machine.kernel_heap_trim() == length > 0
    assert machine.kernel_segment_info.segment_end == START
    assert machine.kernel_heap_info.gap_bytes == machine.kernel_heap_info.gaps == 0
    assert len(free_list(machine)) >= pages - 3  # tables stay
    assert sound(machine)
    assert machine.kernel_heap_trim() == 0
    assert machine.kmalloc(100) is not None
    assert sound(machine)


@pytest.mark.parametrize("length", range(1, 2 * PAGE, 29))
def test_trim_keeps_what_lies_before_the_end(machine: Machine, length: int) -> None:
    """The segment ends with the page that the last buffer ends in, or the next."""
    buffer, content = marked(machine, length)
    machine.kfree(machine.kmalloc(5 * PAGE))
    machine.kernel_heap_trim()
    assert sound(machine)
    assert machine.read_virtual(buffer, length) == content
    end = buffer + int(machine.kmalloc_usable_size(buffer))
    assert 0 <= machine.kernel_segment_info.segment_end - end < PAGE
    assert machine.krealloc(buffer, 3 * PAGE) == buffer
    assert sound(machine)


# The end of the address space -------------------------------------------------------------------


class HighArena(Arena):
    """An arena that its segment could outgrow, past the last address, were there no limit."""

    segment_start = 0xC000_0000
    segment_limit = 0xF000_0000


class HighHeap(Component):
    """A heap over such an arena."""

    def __init__(self, image: Image, profile: Profile) -> None:
        super().__init__(image)
        self.arena = HighArena(image, profile.shadow)
        self.heap = KernelHeap(image, self.arena, profile)
        self.heap_check = HeapCheck(image, self.heap)


@pytest.mark.parametrize("name", PROFILES)
def test_no_sum_of_lengths_passes_the_last_address(name: str) -> None:
    """4-byte pointers, a heap at 0xE000_0000, requests of up to all that a segment may have."""
    machine = flat(kernel=lambda image, _: HighHeap(image, PROFILES[name]), pointer_bytes=4)
    arena: Any = machine.kernel.arena  # type: ignore[attr-defined]
    arena.divide(VirtualAddress(0xE000_0000), usize(0x1_0000))
    arena.info.segment_limit = VirtualAddress(HighArena.segment_limit)
    machine.init_kernel_heap()
    buffer = machine.kmalloc(0x2000)
    machine.kmalloc(10)
    info = machine.kernel_heap_info
    before = [int(getattr(info, field.name)) for field in info.layout.fields[:-1]]
    for length in (0x3000_0000, 0x2FFF_FF00, 0x2000_0000, 0x1FFF_0000, 0x1_0000):
        assert machine.kmalloc(length) is None
        assert machine.kcalloc(length // 16, 16) is None
        assert machine.krealloc(buffer, length) is None
        for exponent in range(32):
            assert machine.kmalloc_aligned(length, 1 << exponent) is None
    for exponent in range(28, 32):
        assert machine.kmalloc_aligned(0x8000, 1 << exponent) is None
    assert [int(getattr(info, field.name)) for field in info.layout.fields[:-1]] == before
    assert machine.krealloc(buffer, 0x4000) is not None
    assert sound(machine)


# Out of memory ----------------------------------------------------------------------------------

CALLS: dict[str, Callable[[Machine, int], Any]] = {
    "kmalloc_aligned": lambda machine, _: machine.kmalloc_aligned(5 * PAGE, 512),
    "kcalloc": lambda machine, _: machine.kcalloc(5, PAGE),
    "krealloc": lambda machine, buffer: machine.krealloc(buffer, 6 * PAGE),
    "krealloc at the end": lambda machine, buffer: machine.krealloc(buffer, 6 * PAGE),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", PROFILES)
def test_out_of_memory_at_every_page(name: str, call: str) -> None:
    """With n pages of those that it takes: None, counted, and every byte is as it was."""
    failures = 0
    for pages in range(40):
        machine = ready(PROFILES[name])
        buffer, content = marked(machine, 300)
        if call != "krealloc at the end":
            machine.kmalloc(10)
        machine.enter_linear_space()
        take_all_pages(machine, leave=pages)
        machine.leave_linear_space()
        before = state(machine)
        length = int(machine.kernel_segment_info.segment_end) - START
        segment = machine.read_virtual(START, length)
        if CALLS[call](machine, buffer) is not None:
            break
        failures += 1
        assert failed(machine) == 1
        assert state(machine) == before
        assert machine.read_virtual(START, length) == segment
        assert machine.read_virtual(buffer, 300) == content
        assert sound(machine)
    assert 4 <= failures <= 35
    assert sound(machine)
