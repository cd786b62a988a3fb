"""The heap without headers, element by element: the map of granules says where each ends."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from kernmem.inspect.heap_reader import Damage, Element, HeapReader
from kernmem.machine.port import Machine
from kernmem.memory.buffer_cache import ENTRIES, GRANULES
from kernmem.memory.gap import Gap
from kernmem.memory.gaps import RECORD, GapEnd, ShortGap
from kernmem.memory.granule_buffers import GranuleBuffers
from kernmem.memory.granules import (
    BEFORE_THE_HEAP,
    CHUNK,
    FAR,
    GRANULE,
    HIGH_LENGTH,
    IN_RUN,
    LONG,
    LOW_LENGTH,
    NEAR,
    WORD_BYTES,
)
from kernmem.memory.slot_runs import MOST_SLOTS, Run


class GranuleReader(HeapReader):
    """Follows the map, and believes of gaps and runs what it confirms."""

    trees = ("length",)
    record = RECORD

    def __init__(self, machine: Machine, heap: GranuleBuffers) -> None:
        super().__init__(machine)
        self.top = int(machine.kernel_heap_space.top)
        self.limit = self.start + heap.longest_request
        self.words: tuple[int, ...] = ()

    def elements(self) -> Iterator[Element]:
        """The row; raises Damage."""
        self.words = self._read_map()
        kept = dict(self._kept())
        gaps: set[int] = set()
        place = self.start
        while place < self.top:
            if (place - self.start) % CHUNK == 0 and self._chunk(place) >= IN_RUN:
                run = list(self._run(place))
                yield from run
                place = run[-1].end
                continue
            if self._next_mark(place, place + GRANULE) is not None:
                element = Element("gap", place, self._end_of_gap(place))
                if element.length > GRANULE:
                    gaps.add(place)
            else:
                end = self._end_of_buffer(place)
                is_kept = kept.get(place) == end
                element = Element("kept" if is_kept else "buffer", place, end)
                if is_kept:
                    del kept[place]
            yield element
            place = element.end
        if self.top < self.end:
            if self._next_mark(self.top, self.top + GRANULE) is None:
                self.problems.append(f"the gap at the top, {self.top:#x}, is not marked")
            yield Element("gap", self.top, self.end)
        self.problems += [
            f"{start:#x} to {end:#x} is kept, but no buffer" for start, end in kept.items()
        ]
        found = set(self._listed())
        self.problems += [f"the gap at {gap:#x} is in no list" for gap in sorted(gaps - found)]
        self.problems += [f"a list leads to {gap:#x}, no gap" for gap in sorted(found - gaps)]

    def is_record(self, node: int) -> bool:
        """Whether the gap around it says the same of its length in three places."""
        start = node - RECORD
        end = self.field(Gap, node, "end")
        length = self.field(ShortGap, start, "length") * GRANULE
        return end == start + length <= self.end and self._length_before(end) == length

    # Elements -------------------------------------------------------------------------------

    def _end_of_gap(self, start: int) -> int:
        length = self.field(ShortGap, start, "length") * GRANULE
        end = start + length
        if not start < end <= self.top:
            raise Damage(f"the gap at {start:#x} would end at {end:#x}")
        if self._length_before(end) != length:
            self.problems.append(f"the gap {start:#x} to {end:#x} has another length at its end")
        mark = self._next_mark(start + GRANULE, end)
        if mark is not None:
            self.problems.append(f"{mark:#x} is marked, in the gap {start:#x} to {end:#x}")
        return end

    def _length_before(self, end: int) -> int:
        """The length of a gap by its last bytes."""
        size = int(self._layout(GapEnd).size)
        return self.field(GapEnd, end - size, "length") * GRANULE

    def _end_of_buffer(self, start: int) -> int:
        second = start + WORD_BYTES - (start - self.start) % WORD_BYTES  # the next word's
        last = self._next_mark(start, second)
        if last is None:
            word = self._word(second)
            if word >> 59 == LONG:
                return self._end_of_long_buffer(start, second + WORD_BYTES, word)
            last = self._next_mark(second, second + WORD_BYTES)
        if last is None or last >= self.top:
            raise Damage(f"the buffer at {start:#x} has no end")
        return last + GRANULE

    def _end_of_long_buffer(self, start: int, third: int, word: int) -> int:
        """The same of one whose second word says its length; ``third`` is where the next begins."""
        granules = word & LOW_LENGTH | (word >> 32 & HIGH_LENGTH) << 5
        end = start + granules * GRANULE
        if not third < end <= self.top:
            raise Damage(f"the buffer at {start:#x} would end at {end:#x}")
        mark = self._next_mark(third, end)
        if mark != end - GRANULE:
            self.problems.append(
                f"the buffer {start:#x} to {end:#x} is not marked at its end alone"
            )
        return end

    def _run(self, start: int) -> Iterator[Element]:
        names = ("slots", "granules", "first", "free")
        slots, granules, first, free = (self.field(Run, start, name) for name in names)
        place = start + first * GRANULE
        end = place + slots * granules * GRANULE
        header = int(self._layout(Run).size)
        if not start + header <= place < end <= self.top or (end - start) % CHUNK != 0:
            raise Damage(f"the run at {start:#x} would end at {end:#x}")
        if slots > MOST_SLOTS or free >> slots != 0:
            raise Damage(f"the run at {start:#x} has {slots} slots, of which {free:#x} are free")
        for number, chunk in enumerate(range(start, end, CHUNK)):
            steps = number if number < NEAR else NEAR + (number - NEAR) // FAR
            if self._chunk(chunk) != IN_RUN + steps:
                self.problems.append(f"the chunk at {chunk:#x} is not marked as the run's")
        yield Element("run", start, place)
        for slot in range(slots):
            is_free = free >> slot & 1 != 0
            yield Element("free slot" if is_free else "slot", place, place + granules * GRANULE)
            place += granules * GRANULE

    # The map --------------------------------------------------------------------------------

    def _read_map(self) -> tuple[int, ...]:
        """Its words, from the one before the heap to the one behind it."""
        place = self.machine.kernel_heap_map
        ordered = self.start <= self.top <= self.end <= self.limit
        if not ordered or (self.end - self.start) % CHUNK != 0:
            heap = f"{self.start:#x} to {self.end:#x}, with its top at {self.top:#x}"
            raise Damage(f"the heap cannot be {heap}")
        if int(place.heap_start) != self.start:
            raise Damage(f"the map is that of a heap at {int(place.heap_start):#x}")
        count = (self.end - self.start) // WORD_BYTES + 3
        words = struct.unpack(f"<{count}Q", self.machine.read_virtual(int(place.words), 8 * count))
        if words[0] != BEFORE_THE_HEAP:
            self.problems.append(f"the word of the map before the heap is {words[0]:#x}")
        return words

    def _word(self, address: int) -> int:
        return self.words[(address - self.start) // WORD_BYTES + 1]

    def _chunk(self, address: int) -> int:
        return self._word(address) >> (address - self.start) % WORD_BYTES // GRANULE & 0xFF

    def _next_mark(self, start: int, end: int) -> int | None:
        """The first granule from ``start`` on that is marked; None if none before ``end`` is."""
        place = start
        while place < end:
            marks = self._word(place) >> (place - self.start) % WORD_BYTES // GRANULE
            if marks != 0:
                mark = place + ((marks & -marks).bit_length() - 1) * GRANULE
                return mark if mark < end else None
            place += WORD_BYTES - (place - self.start) % WORD_BYTES
        return None

    # What is found otherwise ----------------------------------------------------------------

    def _kept(self) -> Iterator[tuple[int, int]]:
        """The start and the end of each buffer that is kept."""
        machine = self.machine
        occupied = int(machine.kernel_heap_kept.occupied)
        for index in range(ENTRIES):
            if occupied >> index & 1:
                entry = int(machine.kernel_heap_kept_buffers[index])
                start = self.start + (entry >> 32) * GRANULE
                yield start, start + (entry & GRANULES) * GRANULE

    def _listed(self) -> Iterator[int]:
        """The gaps that the lists and the tree lead to."""
        seen: set[int] = set()
        heads = self.machine.kernel_heap_short_gaps
        for granules in range(int(heads.length)):
            number = int(heads[granules])
            while number != 0:
                gap = self.start + (number - 1) * GRANULE
                if gap in seen or gap >= self.top:
                    self.problems.append(f"the list of {granules} granules leads to {gap:#x}")
                    break
                seen.add(gap)
                yield gap
                number = self.field(ShortGap, gap, "next")
        for tree_gap in self.gaps("length"):
            yield tree_gap.start
