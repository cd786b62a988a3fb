"""Kernel heap against a reference: random calls, every element compared after each.

Long runs of the same calls on all machines are in ``tests/machine/test_same_bytes.py``.
"""

from __future__ import annotations

from typing import Any

import pytest
from flat import PAGE, SEGMENT, flat
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from machines import elements, free_list, gaps_in_tree
from reference import ReferenceHeap

from kernmem.language import KernelPanic
from kernmem.machine.port import Machine
from kernmem.memory.profile import Placement, Profile, aligned, spec

PAGES = 60
PROFILES = {
    f"{name}-{placement.value}": profile
    for placement in Placement
    for name, profile in (
        ("no_void", spec(placement)),
        ("void", spec(placement, no_void=False)),
        ("aligned", aligned(placement)),
    )
}
LENGTHS = st.one_of(
    st.integers(1, 60),
    st.integers(1, 400),
    st.integers(400, 3000),
    st.sampled_from([0, 1, 44, 45, 60, 104, PAGE, 2**20, 2**32 - 1]),
)


def boot(profile: Profile, pointer_bytes: int) -> tuple[Machine, Any]:
    """A machine of few pages, booted, and its state."""
    machine = flat(PAGES, profile, pointer_bytes=pointer_bytes)
    machine.init_memory()
    return machine, machine.snapshot()


class HeapCalls(RuleBasedStateMachine):
    """kmalloc and kfree, right and wrong, in any order."""

    machine: Machine
    fresh: Any
    profile: Profile

    def __init__(self) -> None:
        super().__init__()
        machine = self.machine
        machine.restore(self.fresh)
        heap: Any = machine.kernel.kernel_heap.buffers  # type: ignore[attr-defined]
        self.reference = ReferenceHeap(
            SEGMENT,
            int(machine.kernel_heap_info.heap_start),
            self.profile,
            heap.gap_size,
            heap.header_size,
        )
        self.live: dict[int, tuple[int, int]] = {}  # address: length, mark
        self.calls = 0
        self.failed = 0
        self.peak = 0

    buffers = Bundle("buffers")

    @rule(target=buffers, length=LENGTHS)
    def kmalloc(self, length: int) -> Any:
        """It is placed where the reference places it, or fails when it does."""
        self.calls += 1
        expected = self.expect(length) if length else None
        buffer = self.machine.kmalloc(length)
        assert (int(buffer) if buffer is not None else None) == expected
        if expected is None:
            self.failed += length > 0
            return multiple()
        mark = self.calls % 251 + 1
        self.machine.write_virtual(expected, bytes([mark]) * length)
        self.live[expected] = (length, mark)
        return expected

    def expect(self, length: int) -> int | None:
        """What the reference does with a request."""
        reference = self.reference
        needed = reference.needed(length)
        gap = reference.choose(needed)
        if gap is None:
            end = reference.wanted_end(needed)
            segment_end = -(-end // PAGE) * PAGE
            if segment_end > reference.limit or not self.has_pages(segment_end):
                return None
            reference.grow(segment_end)
            gap = reference.choose(needed)
            assert gap is not None
        return reference.allocate(gap, needed)

    def has_pages(self, segment_end: int) -> bool:
        """Whether the free pages are enough for the segment up to ``segment_end``."""
        return self.pages_for(segment_end) - self.pages_for(self.reference.segment_end) <= len(
            free_list(self.machine)
        )

    def pages_for(self, segment_end: int) -> int:
        """Pages and tables of a segment; a table maps 32 pages, and one more leads to those."""
        pages = (segment_end - SEGMENT.start) // PAGE
        return pages + -(-pages // 32) + (pages > 0)

    @rule(buffer=consumes(buffers))
    def kfree(self, buffer: int) -> None:
        """Nobody wrote to the buffer in the meantime, and it is merged as the reference merges."""
        length, mark = self.live.pop(buffer)
        assert self.machine.read_virtual(buffer, length) == bytes([mark]) * length
        self.machine.kfree(buffer)
        self.reference.free(buffer)

    @rule(offset=st.integers(-40, PAGES * PAGE))
    def kfree_of_something_else(self, offset: int) -> None:
        """A panic, and nothing changes."""
        address = SEGMENT.start + offset
        if address in self.live:
            return
        before = self.machine.read_virtual(SEGMENT.start, self.used)
        with pytest.raises(KernelPanic, match=f"^kfree: {address:#x} "):
            self.machine.kfree(address)
        assert self.machine.read_virtual(SEGMENT.start, self.used) == before

    @property
    def used(self) -> int:
        """Bytes of the segment."""
        return int(self.machine.kernel_segment_info.segment_end) - SEGMENT.start

    @invariant()
    def is_as_expected(self) -> None:
        """The elements, both trees, the counters and the checker agree."""
        machine, reference = self.machine, self.reference
        assert machine.validate_kernel_heap(), machine.console
        expected = [(each.start, each.end, each.kind) for each in reference.elements]
        assert list(elements(machine)) == expected
        assert gaps_in_tree(machine) == [each[:2] for each in expected if each[2] == "G"]
        info = machine.kernel_heap_info
        by_kind = {
            kind: [end - start for start, end, each in expected if each == kind] for kind in "SGV"
        }
        self.peak = max(self.peak, sum(by_kind["S"]))
        assert [int(getattr(info, field.name)) for field in info.layout.fields] == [
            reference.start,
            reference.heap_end,
            len(by_kind["S"]),
            sum(by_kind["S"]),
            self.peak,
            len(by_kind["G"]),
            sum(by_kind["G"]),
            len(by_kind["V"]),
            sum(by_kind["V"]),
            0,  # overhead: there are no runs
            self.failed,
        ]
        assert machine.kernel_heap_largest_gap() == max(by_kind["G"], default=0)
        assert machine.kernel_segment_info.segment_end == reference.segment_end
        assert all(address % self.profile.alignment == 0 for address in self.live)

    def teardown(self) -> None:
        """When all is freed, there is one gap, or as many as voids keep apart."""
        for buffer in list(self.live):
            self.machine.kfree(buffer)
        assert self.machine.validate_kernel_heap()
        info = self.machine.kernel_heap_info
        assert info.live_bytes == info.live_buffers == 0
        if not self.profile.voids:
            assert info.gaps == (info.heap_end > info.heap_start)


@pytest.mark.parametrize("pointer_bytes", [8, 4])
@pytest.mark.parametrize("name", PROFILES)
def test_heap_is_the_reference(name: str, pointer_bytes: int) -> None:
    """Every element at the same place after every call, in every profile and placement."""
    machine, fresh = boot(PROFILES[name], pointer_bytes)
    attributes = {"machine": machine, "fresh": fresh, "profile": PROFILES[name]}
    run_state_machine_as_test(
        type("HeapCallsOfProfile", (HeapCalls,), attributes),
        settings=settings(
            max_examples=25,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
