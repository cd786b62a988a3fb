"""Runs of equal slots: how the tuned heap serves the lengths that are asked for again and again.

A run is a space of whole chunks: a header, and slots of one length, no more than a word has bits.
When enough buffers of a length are live, the next ones come from a run.  The runs of a length with
a free slot are in a list, so a slot is taken by a few instructions; and as every chunk of a run
says in the map where the run begins, a slot is given back by a few more.
"""

from __future__ import annotations

from kernmem.language import (
    Component,
    Image,
    Struct,
    VirtualAddress,
    address_of,
    kernel,
    lowest_bit,
    rare,
    span,
    struct,
    truncate,
    u8,
    u16,
    u32,
    u64,
    usize,
    wrap_add,
    wrap_multiply,
    wrap_subtract,
)
from kernmem.memory.granule_space import GranuleSpace
from kernmem.memory.granules import CHUNK, GRANULE

LONGEST_SLOT = 1016
CLASSES = LONGEST_SLOT // GRANULE + 1
MOST_SLOTS = 64
FEWEST_SLOTS = 4
LONGEST_RUN = 8128
OPENS_FROM = 24  # buffers of a length, live or in runs, from which it gets a run,
SHARE = 2  # of a fourth as many slots
EMPTIES = 8
"""Runs without a buffer that may stay, each in the place that its length has in a table."""
RECIPROCAL_BITS = 20  # enough: offsets have 10 bits, lengths of slots 7


@struct("kernel_heap_run_t")
class Run(Struct):
    """The header of a run.  24 bytes."""

    free: u64  # a bit a slot
    next: u32  # of the runs of this length with a free slot, as a chunk's number + 1; 0: none
    previous: u32
    reciprocal: u32  # 2^20 / granules, rounded up: a multiplication finds the slot of an offset
    granules: u8  # of a slot
    slots: u8
    first: u16  # granules from the header's start to the first slot


class SlotRuns(Component):
    """The runs of every length up to LONGEST_SLOT.  Lengths here are counted in granules."""

    def __init__(self, image: Image, space: GranuleSpace, *, checked: bool) -> None:
        super().__init__(image)
        self.checked = checked
        self.space = space
        self.info = space.info
        self.map = space.map
        self.header_size = self.sizeof(Run)
        self.heads = self.static_array(u32, CLASSES, "kernel_heap_runs")
        self.buffers = self.static_array(u32, CLASSES, "kernel_heap_buffers")
        self.empties = self.static_array(u32, EMPTIES, "kernel_heap_empty_runs")  # their numbers

    @kernel
    def begin(self) -> None:
        """Begin without a run."""
        for granules in span(usize(0), usize(CLASSES)):
            self.heads[granules] = u32(0)
            self.buffers[granules] = u32(0)
        for place in range(EMPTIES):
            self.empties[place] = u32(0)

    # Slots ----------------------------------------------------------------------------------

    @kernel
    def take(self, number: u32, granules: usize) -> VirtualAddress:
        """A free slot of the run ``number``, the first in the list of its length."""
        run = self._run(number)
        free = run.free
        left = free & (free - 1)
        run.free = left
        self.info.live_buffers += 1
        self.info.live_bytes += granules * GRANULE
        slot = (
            address_of(run)
            + usize(run.first) * GRANULE
            + usize(lowest_bit(free)) * granules * GRANULE
        )
        if left == 0:
            return self._take_last(run, slot)
        return slot

    @rare
    def _take_last(self, run: Run, slot: VirtualAddress) -> VirtualAddress:
        """The last free slot: the run leaves the list."""
        self._unlink(run)
        return slot

    @kernel
    def give_back(self, address: VirtualAddress, code: u8) -> bool:
        """Free the slot at ``address``, whose chunk says ``code``; False if none is in use.

        If ``checked`` is False, one is.
        """
        run = self.at(Run, self.map.run_start(address, code))
        granules = u32(run.granules)
        offset = self._offset(run, address)
        slot = self._slot(run, offset)
        if self.checked and slot * granules != offset:
            return False
        bit = u64(1) << u64(slot)
        free = run.free
        if self.checked and free & bit != 0:
            return False
        self.info.live_buffers -= 1
        self.info.live_bytes -= usize(granules) * GRANULE
        run.free = free | bit
        if free == 0:
            self._link(run)
        else:
            free |= bit
            if free & wrap_add(free, u64(1)) == 0:  # as it is if all are free, and seldom else
                self._close_if_empty(run)
        return True

    @kernel
    def _offset(self, run: Run, address: VirtualAddress) -> u32:
        """The granules from the first slot to ``address``; before it, more than any slot's."""
        offset = truncate(u32, (address - address_of(run)) // GRANULE)
        return wrap_subtract(offset, u32(run.first))

    @kernel
    def _slot(self, run: Run, offset: u32) -> u32:
        """The number of the slot that begins ``offset`` granules behind the first, if one does."""
        return wrap_multiply(offset, run.reciprocal) >> RECIPROCAL_BITS

    @kernel
    def holds(self, address: VirtualAddress) -> bool:
        """Whether a slot in use begins at ``address``, which lies in a run."""
        run = self.at(Run, self.map.run_start(address, self.map.chunk(address)))
        offset = self._offset(run, address)
        slot = self._slot(run, offset)
        if slot * u32(run.granules) != offset:
            return False
        return run.free & (u64(1) << u64(slot)) == 0

    @kernel
    def length(self, address: VirtualAddress) -> usize:
        """The bytes of the slot at ``address``."""
        run = self.at(Run, self.map.run_start(address, self.map.chunk(address)))
        return usize(run.granules) * GRANULE

    # Runs -----------------------------------------------------------------------------------

    @rare
    def open(self, granules: usize, most: usize) -> VirtualAddress | None:
        """A slot of a new run, whose slots have ``most`` bytes or little more.

        None if that is too few for a run, or there is no space for it.
        """
        length = granules * GRANULE
        if most < FEWEST_SLOTS * length:
            return None
        slots = usize(self.buffers[granules] >> SHARE)
        if slots > MOST_SLOTS:
            slots = usize(MOST_SLOTS)
        most = most if most < LONGEST_RUN - CHUNK else usize(LONGEST_RUN - CHUNK)
        if slots * length > most:
            slots = most // length
        first = usize(self.header_size)
        alignment = usize(CHUNK)
        lead = usize(0)
        if length & 15 == 0:
            first = usize((self.header_size + 15) // 16 * 16)
        if length & (length - 1) == 0 and length >= CHUNK:
            first = usize(CHUNK)
            alignment = length
            lead = CHUNK & (length - 1)
        slots = (self._whole_chunks(first + slots * length) - first) // length
        if slots > MOST_SLOTS:
            slots = usize(MOST_SLOTS)
        if slots > CHUNK // GRANULE and length % CHUNK != 0:
            while (first + slots * length) % CHUNK != 0:  # ends within 8 rounds
                slots -= 1
        whole = self._whole_chunks(first + slots * length)
        # What is over lies before the slots: behind them, its offset would pass for a slot's.
        first = whole - slots * length
        start = self.space.take(whole, alignment, lead)
        if start is None:
            start = self.space.take_from_top(whole, alignment, lead)
            if start is None:
                return None
        self.map.mark_run(start, start + whole)
        run = self.at(Run, start)
        run.free = ~u64(0) >> u64(MOST_SLOTS - slots)
        run.reciprocal = ((1 << RECIPROCAL_BITS) - 1 + truncate(u32, granules)) // truncate(
            u32, granules
        )
        run.granules = truncate(u8, granules)
        run.slots = truncate(u8, slots)
        run.first = truncate(u16, first // GRANULE)
        self.buffers[granules] += truncate(u32, slots)
        self.info.overhead_bytes += whole - slots * length
        self._link(run)
        return self.take(self.heads[granules], granules)

    @rare
    def _close_if_empty(self, run: Run) -> None:
        """Give the run back if no slot is in use.

        The last of its length with free slots stays, but no more than EMPTIES such runs.
        """
        if not self.is_empty(run):
            return
        if run.next != 0 or run.previous != 0:
            self.close(run)
            return
        place = usize(run.granules) % EMPTIES
        other = self.empties[place]
        number = self._number(run)
        if other != number:
            if other != 0 and self.is_empty(self._run(other)):
                self.close(self._run(other))
            self.empties[place] = number

    @rare
    def close_empty(self) -> bool:
        """Give back the runs that stayed; whether there was one."""
        closed = False
        for place in range(EMPTIES):
            number = self.empties[place]
            if number != 0:
                self.empties[place] = u32(0)
                if self.is_empty(self._run(number)):
                    self.close(self._run(number))
                    closed = True
        return closed

    @kernel
    def is_empty(self, run: Run) -> bool:
        """Whether no slot is in use."""
        return run.free == ~u64(0) >> u64(MOST_SLOTS - run.slots)

    @rare
    def close(self, run: Run) -> None:
        """Make a gap of an empty run."""
        self._unlink(run)
        granules = usize(run.granules)
        if self.empties[granules % EMPTIES] == self._number(run):
            self.empties[granules % EMPTIES] = u32(0)
        slots = usize(run.slots) * granules * GRANULE
        start = address_of(run)
        end = self.end(run)
        self.buffers[granules] -= u32(run.slots)
        self.info.overhead_bytes -= end - start - slots
        self.map.unmark_run(start, end)
        self.space.give_back(start, end)

    @kernel
    def end(self, run: Run) -> VirtualAddress:
        """Where the run ends."""
        granules = usize(run.first) + usize(run.slots) * usize(run.granules)
        return address_of(run) + granules * GRANULE

    @kernel
    def _whole_chunks(self, length: usize) -> usize:
        return (length + (CHUNK - 1)) // CHUNK * CHUNK

    # Lists of runs with a free slot ---------------------------------------------------------

    @rare
    def _link(self, run: Run) -> None:
        granules = usize(run.granules)
        head = self.heads[granules]
        number = self._number(run)
        run.previous = u32(0)
        run.next = head
        if head != 0:
            self._run(head).previous = number
        self.heads[granules] = number

    @rare
    def _unlink(self, run: Run) -> None:
        after = run.next
        before = run.previous
        if after != 0:
            self._run(after).previous = before
        if before != 0:
            self._run(before).next = after
        else:
            self.heads[usize(run.granules)] = after

    @kernel
    def _number(self, run: Run) -> u32:
        return truncate(u32, (address_of(run) - self.info.heap_start) // CHUNK + 1)

    @kernel
    def _run(self, number: u32) -> Run:
        return self.at(Run, self.info.heap_start + (usize(number) - 1) * CHUNK)
