"""All calls of the kernel heap in any order: against a model of what users may rely on.

The model knows nothing of layouts: buffers that no one else touches, their contents, alignments
and usable sizes, and the counters.  So it serves every profile.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest
from flat import SEGMENT, flat
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from machines import booted, close_machines

from kernmem.language import KernelPanic
from kernmem.machine.port import Machine
from kernmem.memory.profile import Placement, Profile, aligned, spec, tuned

PAGES = 130
PROFILES = {
    "spec": spec(),
    "spec-first": spec(Placement.FIRST),
    "spec-largest": spec(Placement.LARGEST),
    "void": spec(no_void=False),
    "void-largest": spec(Placement.LARGEST, no_void=False),
    "aligned": aligned(),
    "tuned": tuned(),
}
LENGTHS = st.one_of(
    st.integers(1, 64),
    st.sampled_from([1, 8, 16, 24, 40, 48, 64, 128, 256, 1016, 1024, 1025]),
    st.integers(1, 1500),
    st.sampled_from([4096, 5000, 2**31, 2**32 - 1]),
)
ALIGNMENTS = st.integers(0, 12).map(lambda exponent: 1 << exponent)


@dataclass
class Live:
    """What a user knows of a buffer."""

    content: bytes
    alignment: int


class HeapCalls(RuleBasedStateMachine):
    """Every call, right and wrong."""

    machine: Machine
    fresh: Any
    profile: Profile

    def __init__(self) -> None:
        super().__init__()
        self.machine.restore(self.fresh)
        self.live: dict[int, Live] = {}
        self.failed = 0
        self.calls = 0

    def begin(self, buffer: Any, length: int, alignment: int, kept: bytes = b"") -> None:
        """A buffer came back, or none did: then only the count of failed calls is other."""
        if buffer is None:
            self.failed += 1
            return
        address = int(buffer)
        assert address % alignment == 0
        assert self.machine.kmalloc_usable_size(address) >= length
        assert self.machine.read_virtual(address, len(kept)) == kept
        self.calls += 1
        content = random.Random(self.calls).randbytes(length)
        self.machine.write_virtual(address, content)
        self.live[address] = Live(content, alignment)

    def natural(self, length: int) -> int:
        """What the profile promises of buffers of a length."""
        if not self.profile.headerless:
            return self.profile.alignment
        return length if length & (length - 1) == 0 and 8 <= length <= 4096 else 8

    @rule(length=LENGTHS)
    def kmalloc(self, length: int) -> None:
        self.begin(self.machine.kmalloc(length), length, self.natural(length))

    @rule(length=st.sampled_from([8, 24, 24, 48, 100]), count=st.integers(10, 40))
    def kmalloc_many(self, length: int, count: int) -> None:
        """So many of a length that it is worth a run of slots."""
        for _ in range(count):
            self.begin(self.machine.kmalloc(length), length, self.natural(length))

    @rule(count=st.integers(1, 20), size=LENGTHS)
    def kcalloc(self, count: int, size: int) -> None:
        buffer = self.machine.kcalloc(count, size)
        zeros = bytes(count * size) if buffer is not None else b""
        self.begin(buffer, count * size, self.natural(count * size), zeros)

    @rule(length=LENGTHS, alignment=ALIGNMENTS)
    def kmalloc_aligned(self, length: int, alignment: int) -> None:
        buffer = self.machine.kmalloc_aligned(length, alignment)
        self.begin(buffer, length, max(alignment, self.profile.alignment))

    @precondition(lambda self: self.live)
    @rule(data=st.data(), length=LENGTHS)
    def krealloc(self, data: st.DataObject, length: int) -> None:
        """The contents stay, and an alignment up to a page; a failure leaves the old buffer."""
        address = data.draw(st.sampled_from(sorted(self.live)))
        old = self.live[address]
        moved = self.machine.krealloc(address, length)
        if moved is None:
            self.failed += 1
            return
        del self.live[address]
        self.begin(moved, length, max(self.natural(length), old.alignment), old.content[:length])

    @precondition(lambda self: self.live)
    @rule(data=st.data(), count=st.integers(1, 30))
    def kfree(self, data: st.DataObject, count: int) -> None:
        """Of some buffers; no one wrote to them in the meantime."""
        addresses = data.draw(st.permutations(sorted(self.live)))
        for address in addresses[:count]:
            self.machine.kfree(address)
            del self.live[address]

    @rule()
    def kernel_heap_trim(self) -> None:
        """No buffer notices; the segment is so much shorter."""
        end = int(self.machine.kernel_segment_info.segment_end)
        given = self.machine.kernel_heap_trim()
        assert given == end - int(self.machine.kernel_segment_info.segment_end)

    @rule(offset=st.integers(-40, 20_000), call=st.sampled_from(["krealloc", "kfree"]))
    def bad_address(self, offset: int, call: str) -> None:
        """A panic that names it, and nothing changes."""
        address = SEGMENT.start + offset
        if address not in self.live:
            with pytest.raises(KernelPanic, match=f"^{call}: {address:#x}"):
                self.machine.call(call, address, *[20] * (call == "krealloc"))

    @invariant()
    def is_sound(self) -> None:
        """By the checker, by the contents of all buffers, and by the counters."""
        machine = self.machine
        assert machine.validate_kernel_heap(), machine.console
        end = 0
        usable = 0
        for address, buffer in sorted(self.live.items()):
            assert address >= end
            length = int(machine.kmalloc_usable_size(address))
            usable += length
            end = address + length
            assert machine.read_virtual(address, len(buffer.content)) == buffer.content
        info = machine.kernel_heap_info
        assert end <= info.heap_end
        assert info.live_buffers == len(self.live)
        header = 0 if self.profile.headerless else 2 * machine.hardware.target.pointer_bytes
        assert info.live_bytes == usable + header * len(self.live)
        assert info.failed_calls == self.failed

    def teardown(self) -> None:
        """When all is freed and trimmed, nothing is left but what voids keep apart."""
        for address in self.live:
            self.machine.kfree(address)
        self.machine.kernel_heap_trim()
        assert self.machine.validate_kernel_heap(), self.machine.console
        info = self.machine.kernel_heap_info
        assert info.live_bytes == info.live_buffers == 0
        if not self.profile.voids:
            assert info.heap_end - info.heap_start == info.gap_bytes < 256


def check(name: str, pointer_bytes: int, examples: int, steps: int) -> None:
    """Random calls on a machine of few pages, so that memory is often out."""
    machine = flat(PAGES, PROFILES[name], pointer_bytes=pointer_bytes)
    machine.init_memory()
    attributes = {"machine": machine, "fresh": machine.snapshot(), "profile": PROFILES[name]}
    run_state_machine_as_test(
        type("HeapCallsOfProfile", (HeapCalls,), attributes),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("pointer_bytes", [8, 4])
@pytest.mark.parametrize("name", PROFILES)
def test_every_call_keeps_what_users_rely_on(name: str, pointer_bytes: int) -> None:
    check(name, pointer_bytes, 10, 25)


@pytest.mark.slow
@pytest.mark.parametrize("pointer_bytes", [8, 4])
@pytest.mark.parametrize("name", PROFILES)
def test_every_call_keeps_what_users_rely_on_in_long_runs(name: str, pointer_bytes: int) -> None:
    check(name, pointer_bytes, 15, 50)


# Compiled and interpreted -----------------------------------------------------------------------


def run(machine: Machine, calls: int) -> list[tuple[Any, ...]]:
    """The results of random calls, the heap's registry after each, and all contents at the end."""
    choices = random.Random(7)
    live: list[int] = []
    told: list[tuple[Any, ...]] = []
    info = machine.kernel_heap_info
    for number in range(calls):
        length = choices.choice([24, 24, 24, 64, choices.randrange(1, 3000)])
        call = choices.choice(["kmalloc", "kcalloc", "aligned", "krealloc", "krealloc", "kfree"])
        result: Any = None
        if call == "kmalloc":
            result = machine.kmalloc(length)
        elif call == "kcalloc":
            result = machine.kcalloc(3, length)
        elif call == "aligned":
            result = machine.kmalloc_aligned(length, 1 << choices.randrange(13))
        elif live:
            buffer = live.pop(choices.randrange(len(live)))
            result = machine.krealloc(buffer, length) if call == "krealloc" else None
            if result is None:
                machine.kfree(buffer)
        if result is not None:
            machine.write_virtual(int(result), bytes([number % 256]))
            live.append(int(result))
        told.append(
            (call, result, *(int(getattr(info, field.name)) for field in info.layout.fields))
        )
    sizes = [int(machine.kmalloc_usable_size(buffer)) for buffer in live]
    told.append(tuple(map(machine.read_virtual, live, sizes)))
    told.append((machine.kernel_heap_trim(), machine.validate_kernel_heap()))
    return told


@pytest.mark.parametrize("name", ["host", "unicorn"])
@pytest.mark.parametrize("profile", ["spec", "void", "aligned", "tuned"])
def test_compiled_calls_do_what_interpreted_ones_do(name: str, profile: str) -> None:
    """The same address and the same registry after every call, and the same contents."""
    close_machines()  # there can be one host machine at a time, and its profile is not this one
    expected = run(booted("model", PROFILES[profile]), 400)
    assert expected[-1][1]
    assert run(booted(name, PROFILES[profile]), 400) == expected
