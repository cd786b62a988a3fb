"""The heap over an arena: all of it is segment, or the shadow of that."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kernmem.hardware import find
from kernmem.kernels.arena_heap import ArenaHeap
from kernmem.language import KernelPanic, VirtualAddress, api
from kernmem.machine.host import HostMachine
from kernmem.machine.model import Model
from kernmem.machine.port import Machine
from kernmem.machine.unicorn import UnicornMachine
from kernmem.memory.kernel_segment import SHADOW_MARGIN
from kernmem.memory.profile import aligned, tuned

SHADOW = tuned().shadow
MACHINES: list[Callable[..., Machine]] = [Model, HostMachine, UnicornMachine]
AT = find("lab").program.end


class Heap(ArenaHeap):
    """With the arena's calls for the heap."""

    @api
    def extend_to(self, end: VirtualAddress) -> bool:
        """What the heap calls to grow."""
        return self.arena.extend_kernel_segment_to(end)

    @api
    def shrink_to(self, end: VirtualAddress) -> None:
        """What the heap calls to shrink."""
        self.arena.shrink_kernel_segment_to(end)


@pytest.fixture(scope="module", params=MACHINES, ids=lambda kind: kind.__name__)
def shadowed(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """Every machine in turn, with a heap whose arena has a shadow, and RAM from AT on."""
    with request.param(find("lab"), lambda image, _: Heap(image, tuned())) as machine:
        yield machine


@given(length=st.integers(SHADOW_MARGIN, 20_000))
@example(length=SHADOW_MARGIN)
@example(length=SHADOW_MARGIN + SHADOW)
@example(length=SHADOW_MARGIN + SHADOW + 1)
@settings(max_examples=200, deadline=None)
def test_segment_and_shadow_fill_the_arena(shadowed: Machine, length: int) -> None:
    """The segment first, in whole units of the shadow; one more would not fit."""
    shadowed.init_arena_heap(AT, length)
    info = shadowed.arena_info
    assert info.segment_start == AT
    assert info.segment_end == info.segment_limit == info.shadow_start
    assert info.shadow_end == AT + length
    units, rest = divmod(int(info.segment_end - info.segment_start), SHADOW)
    assert rest == 0
    assert units * SHADOW + units + SHADOW_MARGIN <= length
    assert length < (units + 1) * SHADOW + (units + 1) + SHADOW_MARGIN


def test_without_a_shadow_all_is_segment() -> None:
    with Model(find("lab"), lambda image, _: Heap(image, aligned())) as machine:
        machine.init_arena_heap(AT, 12_345)
        info = machine.arena_info
        assert (info.segment_start, info.segment_end) == (AT, AT + 12_345)
        assert (info.shadow_start, info.shadow_end) == (0, 0)


def test_an_arena_too_short_for_any_shadow_panics(shadowed: Machine) -> None:
    with pytest.raises(KernelPanic, match="an arena must have at least 64 bytes, not 63"):
        shadowed.init_arena_heap(AT, SHADOW_MARGIN - 1)


def test_an_arena_neither_grows_nor_shrinks(shadowed: Machine) -> None:
    shadowed.init_arena_heap(AT, 12_345)
    end = shadowed.arena_info.segment_end
    assert not shadowed.extend_to(end + 1)
    shadowed.shrink_to(AT)
    assert (shadowed.arena_info.segment_end, shadowed.arena_info.shadow_end) == (end, AT + 12_345)


def test_buffers_lie_in_the_segment(shadowed: Machine) -> None:
    """Until there is no room, which is before the shadow begins."""
    shadowed.init_arena_heap(AT, 12_345)
    info = shadowed.arena_info
    ends = []
    while (buffer := shadowed.kmalloc(80)) is not None:
        ends.append(int(buffer) + 80)
    assert max(ends) <= info.segment_end < max(ends) + 200
