"""Kernel heap: every sequence of a few calls, in a segment that two or three large buffers fill.

The calls are kmalloc of each of three lengths, and kfree of each live buffer.  They are made in C,
by ``heap_sequences.c``; those that are shorter also interpreted, with all bytes compared.
"""

from __future__ import annotations

import ctypes
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from lone_heap import PROFILES, CompiledHeap, Heap, alignment

FOUND = Path(__file__).with_name("heap_sequences.json")
CALLS = 7
CALLS_BOTH_WAYS = 4


@dataclass(frozen=True)
class Case:
    """A heap, the lengths that are asked of it, and the words whose changes are counted."""

    name: str
    profile: str
    lengths: tuple[int, ...] = (1, 100, 400)
    segment: int = 1024
    step: int = 256
    calls: int = CALLS
    watched: tuple[tuple[str, str], ...] = (("kernel_heap_info", "gaps"),)

    def make(self, kind: type[Heap]) -> Any:
        """The heap, empty, in one way or the other."""
        heap = kind(PROFILES[self.profile], self.segment, self.step)
        heap.begin()
        return heap


VOIDS = (("kernel_heap_info", "gaps"), ("kernel_heap_info", "voids"))
REUSE = (
    ("kernel_heap_info", "gaps"),
    ("kernel_heap_info", "overhead_bytes"),  # more: a run was opened; less: one was closed
    ("kernel_heap_kept", "bytes"),  # more: a buffer was kept; less: taken, or given back
)
CASES = [
    *(Case(name, name) for name in PROFILES if not name.startswith(("void", "tuned-eager"))),
    *(Case(name, name, watched=VOIDS) for name in PROFILES if name.startswith("void")),
    Case("eager-24", "tuned-eager", (24, 64, 400), 1536, watched=REUSE),
    Case("eager-8", "tuned-eager", (8, 16, 400), 1536, watched=REUSE),
    Case("eager-16", "tuned-eager", (16, 200, 500), 1536, watched=REUSE),
    Case(
        "eager-large",  # buffers that lie apart, and a top that is given back
        "tuned-eager",
        (24, 70_000, 200_000),
        8 << 16,
        1 << 16,
        calls=5,
        watched=(*REUSE, ("kernel_segment_info", "segment_end")),
    ),
]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


class Piece(ctypes.Structure):
    """``struct piece``."""

    _fields_: ClassVar = [("start", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class Watch(ctypes.Structure):
    """``struct watch``."""

    _fields_: ClassVar = [
        ("word", ctypes.c_void_p),
        ("rose", ctypes.c_size_t),
        ("fell", ctypes.c_size_t),
    ]


class Sequences(ctypes.Structure):
    """``struct sequences`` of ``heap_sequences.c``."""

    _fields_: ClassVar = [
        ("calls", ctypes.c_size_t),
        ("kinds", ctypes.c_size_t),
        ("lengths", ctypes.c_void_p),
        ("alignments", ctypes.c_void_p),
        ("pieces", ctypes.c_size_t),
        ("state", ctypes.c_void_p),
        ("saved", ctypes.c_void_p),
        ("state_length", ctypes.c_size_t),
        ("watches", ctypes.c_size_t),
        ("watched", ctypes.c_void_p),
        ("room", ctypes.c_size_t),
        ("digests", ctypes.c_void_p),
        ("sequences", ctypes.c_size_t),
        ("failed", ctypes.c_size_t),
        ("depth", ctypes.c_size_t),
        ("sequence", ctypes.c_size_t * 16),
        ("wrong", ctypes.c_char_p),
    ]


@dataclass(frozen=True)
class Found:
    """What all the sequences came to.

    Attributes:
        sequences: how many there are.
        states: different states of all memory that they end in.
        failed: how many end with a kmalloc that fails.
        rose, fell: how many end with a call that raises, or lowers, a word.
    """

    sequences: int
    states: int
    failed: int
    rose: dict[str, int]
    fell: dict[str, int]


def address(memory: memoryview) -> int:
    """Where it is in this process."""
    return ctypes.addressof(ctypes.c_ubyte.from_buffer(memory))


def go_through(case: Case, calls: int) -> Found:
    """Every sequence of up to so many calls; fails with the first that goes wrong."""
    heap = case.make(CompiledHeap)
    state = [heap.block(), *(heap.static_bytes(name) for name in heap.statics)]
    watched = case.watched
    pieces = (Piece * len(state))(*(Piece(address(each), len(each)) for each in state))
    length = sum(map(len, state))
    saved = ctypes.create_string_buffer(calls * length)
    sizes = ctypes.c_size_t * len(case.lengths)
    lengths = sizes(*case.lengths)
    alignments = sizes(*(alignment(heap.profile, length) for length in case.lengths))
    watches = (Watch * len(watched))(*(Watch(address(heap.field(*each)), 0, 0) for each in watched))
    digests = np.zeros(most_sequences(len(case.lengths), calls), np.uint64)
    sequences = Sequences(
        calls=calls,
        kinds=len(case.lengths),
        lengths=ctypes.addressof(lengths),
        alignments=ctypes.addressof(alignments),
        pieces=len(state),
        state=ctypes.addressof(pieces),
        saved=ctypes.addressof(saved),
        state_length=length,
        watches=len(watched),
        watched=ctypes.addressof(watches),
        room=len(digests),
        digests=digests.ctypes.data,
    )
    heap.library.heap_sequences(ctypes.byref(sequences))
    if sequences.wrong is not None:
        made = described(case, list(sequences.sequence[: sequences.depth]))
        pytest.fail(f"{sequences.wrong.decode()}\nafter {made}\n{heap.text}")
    return Found(
        sequences.sequences,
        len(np.unique(digests[: sequences.sequences])),
        sequences.failed,
        {name: watch.rose for (_, name), watch in zip(watched, watches, strict=True)},
        {name: watch.fell for (_, name), watch in zip(watched, watches, strict=True)},
    )


def most_sequences(kinds: int, calls: int, live: int = 0) -> int:
    """How many sequences there are if no call fails."""
    if calls == 0:
        return 0
    freed = live * (1 + most_sequences(kinds, calls - 1, live - 1)) if live else 0
    return kinds * (1 + most_sequences(kinds, calls - 1, live + 1)) + freed


def described(case: Case, sequence: list[int]) -> str:
    """A sequence as calls; buffers are numbered in the order in which they are live."""
    kinds = len(case.lengths)
    return ", ".join(
        f"kmalloc({case.lengths[choice]})" if choice < kinds else f"kfree(live {choice - kinds})"
        for choice in sequence
    )


# The tests --------------------------------------------------------------------------------------


@every_case
def test_every_sequence_of_calls(case: Case, request: pytest.FixtureRequest) -> None:
    """Sound after each call, buffers untouched; and as many states as there were, exactly."""
    found = asdict(go_through(case, case.calls))
    print(f"{case.name}: {found}")
    known = json.loads(FOUND.read_text()) if FOUND.exists() else {}
    if request.config.getoption("--update-golden"):
        FOUND.write_text(json.dumps({**known, case.name: found}, indent=1, sort_keys=True) + "\n")
    else:
        assert found == known[case.name], "to be reviewed: pytest --update-golden writes it anew"
    for name in found["rose"]:
        assert found["rose"][name] > 0, f"no sequence raises {name}"
        assert found["fell"][name] > 0, f"no sequence lowers {name}"


@every_case
def test_every_sequence_leaves_the_same_bytes_both_ways(case: Case) -> None:
    """Interpreted and compiled: results and all memory."""
    heaps = case.make(Heap), case.make(CompiledHeap)
    count = walk_both_ways(case, heaps, [], CALLS_BOTH_WAYS)
    assert count <= most_sequences(len(case.lengths), CALLS_BOTH_WAYS)
    assert count > 3**CALLS_BOTH_WAYS


def walk_both_ways(
    case: Case, heaps: tuple[Heap, Heap], live: list[int], calls: int, done: tuple[int, ...] = ()
) -> int:
    """All sequences that go on from here; how many there are."""
    before = [heap.snapshot() for heap in heaps]
    count = 0
    for choice in range(len(case.lengths) + len(live)):
        left = list(live)
        if choice < len(case.lengths):
            buffers = {heap.kmalloc(case.lengths[choice]) for heap in heaps}
            assert len(buffers) == 1, described(case, [*done, choice])
            left += buffers - {0}
        else:
            buffer = left.pop(choice - len(case.lengths))
            for heap in heaps:
                heap.kfree(buffer)
        one, other = (heap.snapshot() for heap in heaps)
        assert one == other, described(case, [*done, choice])
        count += 1
        if calls > 1:
            count += walk_both_ways(case, heaps, left, calls - 1, (*done, choice))
        for heap, state in zip(heaps, before, strict=True):
            heap.restore(state)
    return count
