"""The checker of the headerless heap misses no bit, and survives any damage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flat import PROGRAM, SEGMENT
from granule_heap import Used, bench_on
from hypothesis import given, settings
from hypothesis import strategies as st

from kernmem.language.structs import layout, size_of
from kernmem.memory.buffer_cache import MET
from kernmem.memory.gap import Gap
from kernmem.memory.gaps import SHORTEST_LONG, ShortGap
from kernmem.memory.slot_runs import Run

# Any bit ----------------------------------------------------------------------------------------

HINTS = {  # what nothing depends on: statistics, and what is only tried first
    "kernel_heap_info": ("peak_live_bytes", "failed_calls"),
    "kernel_heap_space": ("behind_large",),
    "kernel_heap_kept": ("hand",),
    "kernel_heap_demand": ("misses",),
    "kernel_heap_last_misses": (),
    "kernel_heap_empty_runs": (),
}
TREE_FIELDS = ("length_parent", "length_left", "length_right", "end")
FOOTER = 4


def fields(used: Used, reference: Any, *, but: tuple[str, ...] = ()) -> Iterator[tuple[int, int]]:
    """(address, bytes) of the fields of a struct."""
    for field in layout(type(reference), used.machine.hardware.target).fields:
        if field.name not in but:
            yield int(reference) + field.offset, field.size


def what_matters(used: Used) -> Iterator[tuple[int, int]]:
    """(address, bytes) of all that the heap knows, but for hints and what is not in use."""
    machine = used.machine
    info = machine.arena_info
    words = (used.top.end - used.start) // 512 + 3  # one before, those of the heap, one behind
    yield int(info.shadow_start), 8 * words
    for gap in used.of("gap"):
        record = list(fields(used, machine.reference(ShortGap, gap.start)))
        yield from record[: 3 if 16 <= gap.length < SHORTEST_LONG else 1]
        yield gap.end - FOOTER, FOOTER
    for gap in used.long_gaps():
        others = {field.name for field in layout(Gap, machine.hardware.target).fields}
        yield from fields(used, gap, but=tuple(others - set(TREE_FIELDS)))
    for run in used.of("run"):
        header = machine.reference(Run, run.start)
        links = () if used.is_listed(header) else ("next", "previous")
        yield from fields(used, header, but=links)
    for static in machine.image.statics.values():
        name = static.name
        if name.startswith("kernel_heap"):
            if static.length is None:
                yield from fields(used, used.static(name), but=HINTS.get(name, ()))
            elif name not in HINTS:
                size = size_of(static.kind, machine.hardware.target)
                yield used.static(name).address, size * static.length


def places_that_matter(used: Used) -> list[int]:
    """The same, byte by byte."""
    return [place for start, size in what_matters(used) for place in range(start, start + size)]


def test_every_bit_matters() -> None:
    """Whichever one is flipped, the checker says no."""
    with bench_on("host") as bench:
        used = Used(bench)
        machine = used.machine
        buffers = used.static("kernel_heap_kept_buffers").address
        met = MET.bit_length() - 1
        unimportant = {(buffers + 8 * entry + met // 8, met % 8) for entry in used.kept()}
        for place in places_that_matter(used):
            byte = machine.read_virtual(place, 1)[0]
            for bit in range(8):
                if (place, bit) in unimportant:
                    continue
                machine.write_virtual(place, bytes([byte ^ 1 << bit]))
                assert not machine.validate_kernel_heap(), f"bit {bit} of {place:#x}"
            machine.write_virtual(place, bytes([byte]))
        assert machine.validate_kernel_heap(), machine.console


# Any damage -------------------------------------------------------------------------------------


class Watched:
    """An MMU that is asked for nothing but the arena and the image."""

    def __init__(self, machine: Any, start: int, end: int) -> None:
        self.allowed = (range(start, end), range(PROGRAM.start, PROGRAM.end))
        self.translate = machine.memory.mmu.translate
        machine.memory.mmu.translate = self

    def __call__(self, address: int, *arguments: Any, **named: Any) -> Any:
        """Translate, if the address is allowed."""
        assert any(address in part for part in self.allowed), f"{address:#x} was read"
        return self.translate(address, *arguments, **named)


DAMAGE = st.lists(
    st.tuples(
        st.integers(0, 1 << 20),
        st.one_of(
            st.integers(0, 255).map(lambda byte: bytes([byte])),
            st.integers(0, 30_000).map(lambda number: number.to_bytes(4, "little")),
            st.integers(SEGMENT.start - 64, SEGMENT.start + 230_000).map(
                lambda at: at.to_bytes(8, "little")
            ),
            st.sampled_from([b"\0" * 8, b"\xff" * 8, b"\xe0\xe1\xe2\xe3", b"\1\0\0\0\1\0\0\0"]),
            st.binary(min_size=1, max_size=8),
        ),
    ),
    min_size=1,
    max_size=12,
)


def check_any_damage(used: Used, places: list[int]) -> None:
    """The checker ends in bounded time, and reads nothing outside, whatever is written there."""
    machine: Any = used.machine
    mmu = machine.memory.mmu
    before = mmu.accesses
    machine.validate_kernel_heap()
    usual = mmu.accesses - before

    @settings(max_examples=50, deadline=None)
    @given(damage=DAMAGE)
    def check(damage: list[tuple[int, bytes]]) -> None:
        machine.restore(used.state)
        for number, data in damage:
            machine.write_virtual(places[number % len(places)], data)
        before = mmu.accesses
        machine.validate_kernel_heap()
        assert mmu.accesses - before < 3 * usual

    check()
    machine.restore(used.state)


@pytest.mark.parametrize("pointer_bytes", [8, 4])
def test_any_damage_is_survived(pointer_bytes: int) -> None:
    """Of the heap's elements, of its map, and of its variables."""
    with bench_on("flat", counting=True, pointer_bytes=pointer_bytes) as bench:
        used = Used(bench)
        info = used.machine.arena_info
        Watched(used.machine, used.start, int(info.shadow_end))
        check_any_damage(used, places_that_matter(used))
        small = used.of("buffer")[3].start
        check_any_damage(used, list(range(small, used.top.start + 64, 4)))
