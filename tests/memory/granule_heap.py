"""The tuned heap over an arena: where its tests run it, and how they read its map."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flat import SEGMENT, flat

from kernmem.hardware import find
from kernmem.kernels.arena_heap import ArenaHeap
from kernmem.language import Image, VirtualAddress, api
from kernmem.machine.host import HostMachine
from kernmem.machine.port import Machine
from kernmem.memory.buffer_cache import ENTRIES, GRANULES
from kernmem.memory.gap import Gap
from kernmem.memory.gaps import SHORTEST_LONG, ShortGap
from kernmem.memory.heap_check import HeapCheck
from kernmem.memory.profile import tuned
from kernmem.memory.slot_runs import Run

MIB = 1 << 20
IN_RUN = 0xE0  # from here on, a byte of the map is a run's


class Heap(ArenaHeap):
    """The tuned heap over an arena, with its checker, and what kfree asks itself."""

    def __init__(self, image: Image) -> None:
        super().__init__(image, tuned())
        self.check = HeapCheck(image, self.heap)

    @api
    def is_buffer(self, address: VirtualAddress) -> bool:
        """Whether a live buffer starts at ``address``."""
        return self.heap.buffers.holds(address)


class Bench:
    """A machine with that heap, and where it has room for an arena."""

    def __init__(self, machine: Machine, start: int) -> None:
        self.machine = machine
        self.start = start
        self.fresh = machine.snapshot()

    def begin(self, length: int = MIB) -> Machine:
        """The machine with an empty heap over ``length`` bytes, those of its shadow included."""
        self.machine.restore(self.fresh)
        self.machine.init_arena_heap(self.start, length)
        return self.machine


@contextmanager
def bench_on(name: str, *, counting: bool = False, pointer_bytes: int = 8) -> Iterator[Bench]:
    """The flat memory, on which the source runs, or the host, on which the C runs."""
    if name == "flat":
        machine = flat(
            kernel=lambda image, _: Heap(image), counting=counting, pointer_bytes=pointer_bytes
        )
        yield Bench(machine, SEGMENT.start)
    else:
        lab = find("lab")
        with HostMachine(lab, lambda image, _: Heap(image)) as host:
            yield Bench(host, lab.program.end)


# The map, as its definition says ----------------------------------------------------------------


def map_at(machine: Machine, address: int) -> int:
    """Where the byte of the map is that tells of the 64 bytes around ``address``."""
    arena = machine.arena_info
    return int(arena.shadow_start) + 8 + (address - int(arena.segment_start)) // 64


def flip_mark(machine: Machine, address: int) -> None:
    """Mark the granule at ``address`` if it is not, else take the mark away."""
    place = map_at(machine, address)
    machine.store(place, machine.load(place, 1) ^ 1 << address // 8 % 8, 1)


def in_run(machine: Machine, address: int) -> bool:
    """Whether a run lies at ``address``."""
    return machine.load(map_at(machine, address), 1) >= IN_RUN


def run_of(machine: Machine, address: int) -> int:
    """Where the run begins that ``address`` lies in: its first chunk is 0 chunks behind it."""
    place = address // 64 * 64
    while machine.load(map_at(machine, place), 1) != IN_RUN:
        place -= 64
    return place


def marks(machine: Machine) -> list[int]:
    """The granules that are marked in the map."""
    arena = machine.arena_info
    start, end = int(arena.segment_start), int(arena.segment_end)
    data = machine.read_virtual(map_at(machine, start), (end - start) // 64)
    bits = int.from_bytes(data, "little")
    return [start + 8 * bit for bit in range((end - start) // 8) if bits >> bit & 1]


@dataclass(frozen=True)
class Element:
    """One of the row: ``kind`` is ``"buffer"``, live or kept, ``"gap"``, ``"run"`` or ``"top"``."""

    start: int
    end: int
    kind: str

    @property
    def length(self) -> int:
        """In bytes."""
        return self.end - self.start


def elements(machine: Machine) -> list[Element]:
    """The row of elements of a sound heap."""
    info = machine.kernel_heap_info
    top, end = int(machine.static("kernel_heap_space").top), int(info.heap_end)
    marked = marks(machine)
    found = []
    place = int(info.heap_start)
    while place < top:
        if in_run(machine, place):
            run = machine.reference(Run, place)
            kind, length = "run", 8 * (int(run.first) + int(run.slots) * int(run.granules))
        elif place in marked:
            kind, length = "gap", 8 * machine.load(place, 4)
        else:
            kind, length = "buffer", length_of_buffer(machine, place, marked)
        found.append(Element(place, place + length, kind))
        place += length
    return [*found, Element(top, end, "top")] if top < end else found


def length_of_buffer(machine: Machine, start: int, marked: list[int]) -> int:
    """To the next mark; or as the word behind the one it begins in says."""
    offset = start - int(machine.arena_info.segment_start)
    second = start + 512 - offset % 512
    last = next(mark for mark in marked if mark >= start)
    word = machine.load(map_at(machine, second))
    if last < second or word >> 59 != 7:
        return last + 8 - start
    low, high = word & 0x1F1F1F1F, word >> 32 & 0x07070707
    return 8 * (low | high << 5)


# A heap to look at -------------------------------------------------------------------------------


LONG = (1200, 1304, 1600, 2000, 4096)


class Used:
    """A heap with some of everything, and where it is."""

    def __init__(self, bench: Bench) -> None:
        self.machine = machine = bench.begin(350_000)
        for _ in range(3):
            machine.kmalloc(50_000)
        slots = [machine.kmalloc(length) for length in [24] * 60 + [96] * 110 + [64] * 30]
        plain = []
        for _ in range(4):  # so many others in between that none has a run
            for length in (16, 40, 104, 200, 304, 504, 600, 704, 808, 912, *LONG):
                plain.append(machine.kmalloc(length))
                machine.kmalloc(1040)
        for length in (1048, 1040):  # with a granule in between
            last = machine.kmalloc(length)
        short = 312
        while machine.kmalloc(short) < last:  # until one is the last of all
            short += 8
        last_of_64 = [slot for slot in slots[170:] if in_run(machine, int(slot))]
        for buffer in [*slots[:100:3], *last_of_64, *plain]:
            machine.kfree(buffer)
        assert machine.validate_kernel_heap(), machine.console
        self.elements = elements(machine)
        self.top = self.elements[-1]
        assert self.top.kind == "top"
        self.start = self.elements[0].start
        self.state = machine.snapshot()

    def of(self, kind: str) -> list[Element]:
        """All elements of a kind."""
        return [element for element in self.elements if element.kind == kind]

    def gaps(self, length: int) -> list[Element]:
        """The gaps of a length."""
        return [gap for gap in self.of("gap") if gap.length == length]

    def listed(self, length: int) -> list[Element]:
        """The gaps of a short length in the order of their list."""
        number = self.static("kernel_heap_short_gaps")[length // 8]
        found = []
        while number:
            start = self.start - 8 + 8 * int(number)
            found.append(next(gap for gap in self.of("gap") if gap.start == start))
            number = self.machine.reference(ShortGap, start).next
        return found

    def long_gaps(self) -> list[Any]:
        """The records of the long gaps."""
        gaps = [gap for gap in self.of("gap") if gap.length >= SHORTEST_LONG]
        return [self.machine.reference(Gap, gap.start + 8) for gap in gaps]

    def runs(self, granules: int) -> list[Any]:
        """The headers of the runs with slots of a length."""
        found = [self.machine.reference(Run, run.start) for run in self.of("run")]
        return [run for run in found if run.granules == granules]

    def static(self, name: str) -> Any:
        """A static variable of the heap."""
        return self.machine.static(name)

    def kept(self) -> list[int]:
        """The entries of the cache that are occupied."""
        occupied = int(self.static("kernel_heap_kept").occupied)
        return [entry for entry in range(ENTRIES) if occupied >> entry & 1]

    def kept_buffer(self, entry: int) -> tuple[int, int]:
        """Where the buffer of an entry begins, and how many granules it has."""
        packed = int(self.static("kernel_heap_kept_buffers")[entry])
        return self.start + (packed >> 32) * 8, packed & GRANULES

    def first(self, granules: int) -> int:
        """The number of the first run in the list of a length; 0 if there is none."""
        return int(self.static("kernel_heap_runs")[granules])

    def number(self, run: Any) -> int:
        """The number of a run."""
        return (int(run) - self.start) // 64 + 1

    def is_listed(self, run: Any) -> bool:
        """Whether it is in a list: it has a free slot, or is the first and was not found full."""
        return run.free != 0 or self.first(int(run.granules)) == self.number(run)

    def damaged(self, *lines: str) -> None:
        """The checker says no, and these lines; then the damage is undone."""
        before = len(self.machine.console)
        assert not self.machine.validate_kernel_heap()
        said = self.machine.console[before:].splitlines()
        self.machine.restore(self.state)
        assert said == list(lines)
