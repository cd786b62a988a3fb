"""Kernel heap against a dictionary of live buffers: any calls, in a segment that may refuse.

Where buffers are placed is another matter, see ``test_heap_placement.py``.
"""

from __future__ import annotations

from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from lone_heap import PROFILES, CompiledHeap, Heap, alignment

from kernmem.language import KernelPanic, usize

SEGMENT = 256 << 10
STEP = 4096
LENGTHS = st.one_of(
    st.sampled_from([8, 16, 24, 32, 64, 128, 256, 1024, 4096]),
    st.integers(1, 100),
    st.integers(1, 3000),
    st.integers(60_000, 100_000),
    st.sampled_from([0, SEGMENT, 2**31, 2**32 - 60, 2**32 - 1]),
)
MANY = st.integers(1, 40)


class HeapCalls(RuleBasedStateMachine):
    """kmalloc and kfree, right and wrong, while the segment may grow and while it may not."""

    heap: ClassVar[Heap]

    def __init__(self) -> None:
        super().__init__()
        self.heap.begin()
        self.live: dict[int, tuple[int, int]] = {}  # address: length, mark
        self.mark = 0
        self.failed = 0
        self.peak = 0
        self.may_grow = True

    # What is called -------------------------------------------------------------------------

    @rule(length=LENGTHS)
    def kmalloc(self, length: int) -> None:
        """A buffer in the segment, aligned, or none for a good reason."""
        before = self.heap.snapshot()
        idle = self.idle()
        buffer = self.heap.kmalloc(length)
        if buffer:
            assert buffer % alignment(self.heap.profile, length) == 0
            self.mark = self.mark % 255 + 1
            self.live[buffer] = length, self.mark
            self.heap.write(buffer, bytes([self.mark]) * length)
        elif length:
            self.failed += 1
            self.failed_rightly(length)
            self.left_as_it_was(before, idle)

    @rule(length=LENGTHS, count=MANY)
    def kmalloc_many(self, length: int, count: int) -> None:
        """So that a length is asked for again and again."""
        for _ in range(count if length < STEP else 1):
            self.kmalloc(length)

    @precondition(lambda self: self.live)
    @rule(number=st.integers(0, 1000))
    def kfree(self, number: int) -> None:
        """Of any live buffer."""
        buffer = list(self.live)[number % len(self.live)]
        del self.live[buffer]
        self.heap.kfree(buffer)

    @precondition(lambda self: self.live)
    @rule(number=st.integers(0, 1000), step=st.sampled_from([1, 2, 3]), count=MANY)
    def kfree_many(self, number: int, step: int, count: int) -> None:
        """Those that are live the longest, or every so many of them."""
        for buffer in list(self.live)[number % len(self.live) :: step][:count]:
            del self.live[buffer]
            self.heap.kfree(buffer)

    @rule()
    def kfree_none(self) -> None:
        before = self.heap.snapshot()
        self.heap.kfree(0)
        assert self.heap.snapshot() == before

    @rule(offset=st.integers(-40, SEGMENT + 40))
    def kfree_of_something_else(self, offset: int) -> None:
        """A panic that names the address."""
        address = self.heap.start + offset
        if address not in self.live:
            before = self.heap.snapshot()
            with pytest.raises(KernelPanic, match=f"^kfree: {address:#x} "):
                self.heap.kfree(address)
            assert self.changed_since(before) <= {"kernel_heap_info"}  # where the peak is noted

    @rule(may=st.booleans())
    def let_segment_grow(self, may: bool) -> None:
        """From here on it may grow, or there are no pages left."""
        self.may_grow = may
        self.heap.call("let_segment_grow", int(may))

    @rule()
    def add_to_segment(self) -> None:
        """Somebody else takes a page: the heap will find it there."""
        self.heap.call("add_to_segment")

    # What must be true ----------------------------------------------------------------------

    @invariant()
    def every_buffer_is_its_owners_alone(self) -> None:
        for buffer, (length, mark) in self.live.items():
            assert self.heap.read(buffer, length) == bytes([mark]) * length
        ends = [0]
        for buffer in sorted(self.live):
            assert buffer >= ends[-1], "two live buffers overlap"
            ends.append(buffer + self.live[buffer][0])
        assert ends[-1] <= self.segment_end()

    @invariant()
    def the_checker_agrees(self) -> None:
        assert self.heap.is_sound(), self.heap.text

    @invariant()
    def the_counters_are_right(self) -> None:
        info = self.heap.info
        live_bytes = info("live_bytes")
        self.peak = max(self.peak, live_bytes)
        assert info("live_buffers") == len(self.live)
        assert live_bytes >= sum(length for length, _ in self.live.values())
        assert info("failed_calls") == self.failed
        # Without headers the peak is noted when a buffer is freed.
        assert max(info("peak_live_bytes"), live_bytes) == self.peak
        assert self.idle() >= 0
        assert self.largest_gap() <= info("gap_bytes")
        assert info("heap_end") <= max(self.segment_end(), info("heap_start"))

    def teardown(self) -> None:
        """All can be freed, and then nothing is live."""
        for buffer in self.live:
            self.heap.kfree(buffer)
        assert self.heap.is_sound(), self.heap.text
        assert self.heap.info("live_bytes") == self.heap.info("live_buffers") == 0
        if not self.heap.profile.voids and not self.idle():
            assert self.heap.info("gaps") <= 1

    # What that is ---------------------------------------------------------------------------

    def segment_end(self) -> int:
        """Where the segment ends now."""
        return int.from_bytes(self.heap.field("kernel_segment_info", "segment_end"), "little")

    def largest_gap(self) -> int:
        """The longest gap that there is."""
        return self.heap.call("kernel_heap_largest_gap")

    def idle(self) -> int:
        """The bytes of free slots and kept buffers."""
        info = self.heap.info
        used = info("live_bytes") + info("gap_bytes") + info("void_bytes") + info("overhead_bytes")
        return info("heap_end") - info("heap_start") - used

    def changed_since(self, before: dict[str, bytes]) -> set[str]:
        """The statics that changed; "" is the segment and its shadow."""
        after = self.heap.snapshot()
        return {name for name in after if after[name] != before[name]}

    def failed_rightly(self, length: int) -> None:
        """No gap has room for ``length``, and the segment could not grow by so much."""
        if length >= SEGMENT:
            return
        if self.heap.profile.headerless:
            needed = length + 8 + alignment(self.heap.profile, length)  # wherever a gap begins
        else:
            needed = int(self.heap.root.kernel_heap.buffers._superbuffer_length(usize(length)))
        assert self.largest_gap() < needed
        if self.may_grow:
            assert self.heap.start + SEGMENT - self.segment_end() < needed

    def left_as_it_was(self, before: dict[str, bytes], idle: int) -> None:
        """A failed call changes nothing but its counter, and what is known of the demand.

        A run that it found full may have left its list.  What was kept for a next call may have
        become gaps, of which one might have been enough.
        """
        changed = self.changed_since(before)
        if idle:
            assert "kernel_segment_info" not in changed
        else:
            demand = {"kernel_heap_kept", "kernel_heap_demand", "kernel_heap_last_misses"}
            assert changed <= {"kernel_heap_info", "kernel_heap_runs"} | demand


# Each way to run it -----------------------------------------------------------------------------


def check(heap: Heap, examples: int) -> None:
    """Any calls on this heap."""
    run_state_machine_as_test(
        type("CallsOfHeap", (HeapCalls,), {"heap": heap}),
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("profile", PROFILES)
def test_any_calls_compiled(profile: str) -> None:
    """The C, with its checks."""
    check(CompiledHeap(PROFILES[profile], SEGMENT, STEP), examples=60)


@pytest.mark.parametrize("pointer_bytes", [8, 4])
@pytest.mark.parametrize("profile", ["spec-best", "void-best", "aligned-best", "tuned"])
def test_any_calls_interpreted(profile: str, pointer_bytes: int) -> None:
    check(Heap(PROFILES[profile], SEGMENT, STEP, pointer_bytes=pointer_bytes), examples=10)


@pytest.mark.parametrize("length", [1, 8, 9, 16, 24, 200, 1016])
def test_many_short_buffers_take_little_more_than_their_lengths(length: int) -> None:
    """Slots, of multiples of 8 bytes, and the headers of their runs."""
    heap = CompiledHeap(PROFILES["tuned"], 4 << 20, STEP)
    heap.begin()
    for _ in range(3000):
        assert heap.kmalloc(length)
    used = heap.info("heap_end") - heap.info("heap_start") - heap.info("gap_bytes")
    assert used < 1.25 * 3000 * -(-length // 8) * 8
