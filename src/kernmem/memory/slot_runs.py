"""Runs of equal slots: how the tuned heap serves the lengths that are asked for again and again.

A run is a space of whole chunks: a header, and slots of one length, no more than a word has bits.
When enough buffers of a length are live, or wanted in quick succession, the next ones come from a
run.  The runs of a length with a free slot are in a list, so a slot is taken by a few
instructions; and as every chunk of a run says in the map where the run begins, a slot is given
back by a few more.
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
from kernmem.memory.profile import Idle

LONGEST_SLOT = 1016
CLASSES = LONGEST_SLOT // GRANULE + 1
MOST_SLOTS = 64
LONGEST_RUN = 8128
GRANULES_IN_4_GIB = (1 << 32) // GRANULE
FEW = 4
RECENT = 8
"""With up to so many buffers, a length gets a run if two of so many misses wanted it."""
EMPTIES = 8
"""Runs without a buffer that may stay, each in the place that its length has in a table."""


@struct("kernel_heap_run_t")
class Run(Struct):
    """The header of a run.  24 bytes."""

    free: u64  # a bit a slot
    next: u32  # of the runs of this length with a free slot, as a chunk's number + 1; 0: none
    previous: u32
    reciprocal: u32  # 2^32 / the length of a slot, rounded up: to multiply by, not to divide
    granules: u8  # of a slot
    slots: u8
    first: u16  # granules from the header's start to the first slot


@struct("kernel_heap_demand_t")
class Demand(Struct):
    """What tells whether a run pays."""

    misses: u32  # calls that found neither a slot nor a kept buffer; it may wrap


class SlotRuns(Component):
    """The runs of every length up to LONGEST_SLOT.  Lengths here are counted in granules."""

    def __init__(self, image: Image, space: GranuleSpace, idle: Idle, *, checked: bool) -> None:
        super().__init__(image)
        self.checked = checked
        self.opens_from = idle.opens_from
        self.slots_share = idle.slots_share
        self.fewest_slots = idle.fewest_slots
        self.space = space
        self.info = space.info
        self.map = space.map
        self.header_size = self.sizeof(Run)
        self.heads = self.static_array(u32, CLASSES, "kernel_heap_runs")
        self.demand = self.static(Demand, "kernel_heap_demand")
        self.lasts = self.static_array(u32, CLASSES, "kernel_heap_last_misses")  # by length
        self.buffers = self.static_array(u32, CLASSES, "kernel_heap_buffers")
        self.empties = self.static_array(u32, EMPTIES, "kernel_heap_empty_runs")  # their numbers

    @kernel
    def begin(self) -> None:
        """Begin without a run."""
        for granules in span(usize(0), usize(CLASSES)):
            self.heads[granules] = u32(0)
            self.buffers[granules] = u32(0)
            self.lasts[granules] = u32(0)
        self.demand.misses = u32(RECENT)
        for place in span(usize(0), usize(EMPTIES)):
            self.empties[place] = u32(0)

    # Slots ----------------------------------------------------------------------------------

    @kernel
    def first(self, granules: usize) -> Run | None:
        """The first run in the list of a length, which may be full; None if the list is empty."""
        number = self.heads[granules]
        return None if number == 0 else self.run(number)

    @kernel
    def take(self, run: Run, granules: usize) -> VirtualAddress:
        """A free slot of ``run``, which has one."""
        free = run.free
        run.free = free & (free - 1)
        self.info.live_buffers += 1
        self.info.live_bytes += granules * GRANULE
        slot = usize(lowest_bit(free))
        return address_of(run) + (usize(run.first) + slot * granules) * GRANULE

    @kernel
    def take_from_next(self, granules: usize) -> VirtualAddress | None:
        """The same of a run behind the first one, which is full and leaves the list.

        None if there is no other, or none at all.
        """
        self._drop_full(granules)
        run = self.first(granules)
        return None if run is None else self.take(run, granules)

    @kernel
    def give_back(self, address: VirtualAddress, offset: usize, code: u8) -> bool:
        """Free the slot at ``address``, ``offset`` bytes into the heap; its chunk says ``code``.

        False, with nothing changed, if none in use begins there.  If ``checked`` is False, one
        does.
        """
        run = self.at(Run, self.map.run_start(offset, code))
        first = address_of(run) + usize(run.first) * GRANULE
        if self.checked and address < first:
            return False
        product = self._product(run, address - first)
        if self.checked and not self._begins_slot(run, product):
            return False
        bit = u64(1) << (product >> 32)
        before = run.free
        if self.checked and before & bit != 0:
            return False
        free = before | bit
        run.free = free
        self.info.live_buffers -= 1
        self.info.live_bytes -= usize(run.granules) * GRANULE
        if before == 0:
            self._link(run)
        elif free & wrap_add(free, u64(1)) == 0:  # as it is if all are free, and seldom else
            self._close_if_empty(run)
        return True

    @kernel
    def _product(self, run: Run, distance: usize) -> u64:
        """``distance`` over the length of a slot, as a number with 32 bits behind the point."""
        return wrap_multiply(u64(distance), u64(run.reciprocal))

    @kernel
    def _begins_slot(self, run: Run, product: u64) -> bool:
        """Whether nothing is behind the point but what the reciprocal's rounding up left there.

        Exact for distances within a run (Lemire, Kaser, Kurz: Faster Remainder by Direct
        Computation, 2019, section 3.2).
        """
        return truncate(u32, product) < run.reciprocal

    @kernel
    def holds(self, address: VirtualAddress) -> bool:
        """Whether a slot in use begins at ``address``, which lies in a run."""
        run = self._run_of(address)
        first = address_of(run) + usize(run.first) * GRANULE
        if address < first:
            return False
        product = self._product(run, address - first)
        return self._begins_slot(run, product) and run.free >> (product >> 32) & 1 == 0

    @kernel
    def length(self, address: VirtualAddress) -> usize:
        """The bytes of the slot at ``address``."""
        return usize(self._run_of(address).granules) * GRANULE

    @kernel
    def _run_of(self, address: VirtualAddress) -> Run:
        offset = self.map.offset(address)
        return self.at(Run, self.map.run_start(offset, self.map.chunk_at(offset)))

    # Runs -----------------------------------------------------------------------------------

    @kernel
    def is_wanted(self, granules: usize) -> bool:
        """Whether a run pays: buffers of this length are many, or asked for in quick succession.

        Called once for each call that found no slot, nor a kept buffer.
        """
        number = wrap_add(self.demand.misses, u32(1))
        since = wrap_subtract(number, self.lasts[granules])
        self.demand.misses = number
        self.lasts[granules] = number
        buffers = self.buffers[granules]
        return buffers >= self.opens_from or (buffers <= FEW and since < RECENT)

    @kernel
    def is_enough(self, most: usize, granules: usize) -> bool:
        """Whether ``most`` bytes do for a run."""
        return most >= granules * (GRANULE * self.fewest_slots)

    @rare
    def open(self, granules: usize, most: usize) -> VirtualAddress | None:
        """A slot of a new run, whose slots have ``most`` bytes or little more.

        None if there is no space for it.
        """
        length = granules * GRANULE
        slots = usize(self.buffers[granules] >> self.slots_share)
        if slots < self.fewest_slots:
            slots = usize(self.fewest_slots)
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
        run.reciprocal = self.reciprocal(granules)
        run.granules = truncate(u8, granules)
        run.slots = truncate(u8, slots)
        run.first = truncate(u16, first // GRANULE)
        self.buffers[granules] += truncate(u32, slots)
        self.info.overhead_bytes += whole - slots * length
        self._link(run)
        return self.take(run, granules)

    @kernel
    def reciprocal(self, granules: usize) -> u32:
        """What a distance is multiplied by to be divided by the length of a slot."""
        return GRANULES_IN_4_GIB // truncate(u32, granules) + 1

    @rare
    def _close_if_empty(self, run: Run) -> None:
        """Give the run back if no slot is in use.

        The last of its length with free slots stays, but no more than EMPTIES such runs.
        """
        if not self.is_empty(run):
            return
        self._drop_full(usize(run.granules))
        if run.next != 0 or run.previous != 0:
            self.close(run)
            return
        place = usize(run.granules) % EMPTIES
        other = self.empties[place]
        number = self._number(run)
        if other != number:
            if other != 0 and self.is_empty(self.run(other)):
                self.close(self.run(other))
            self.empties[place] = number

    @rare
    def close_empty(self) -> bool:
        """Give back the runs that stayed; whether there was one."""
        closed = False
        for place in span(usize(0), usize(EMPTIES)):
            number = self.empties[place]
            if number != 0:
                self.empties[place] = u32(0)
                if self.is_empty(self.run(number)):
                    self.close(self.run(number))
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

    @kernel
    def _drop_full(self, granules: usize) -> None:
        """Take the first run out of its list if it is full."""
        first = self.first(granules)
        if first is not None and first.free == 0:
            self._unlink(first)

    @rare
    def _link(self, run: Run) -> None:
        """Put a run that was full into its list, if it ever left it.

        Behind the first, which is used up before another is begun; in its place if it is full.
        """
        granules = usize(run.granules)
        number = self._number(run)
        head = self.heads[granules]
        if head == number:
            return
        before = head
        after = u32(0)
        if head != 0:
            first = self.run(head)
            after = first.next
            if first.free == 0:
                before = u32(0)
            else:
                first.next = number
        if before == 0:
            self.heads[granules] = number
        run.previous = before
        run.next = after
        if after != 0:
            self.run(after).previous = number

    @rare
    def _unlink(self, run: Run) -> None:
        after = run.next
        before = run.previous
        if after != 0:
            self.run(after).previous = before
        if before != 0:
            self.run(before).next = after
        else:
            self.heads[usize(run.granules)] = after

    @kernel
    def _number(self, run: Run) -> u32:
        return truncate(u32, (address_of(run) - self.info.heap_start) // CHUNK + 1)

    @kernel
    def run(self, number: u32) -> Run:
        """The run of a number: that of its first chunk in the heap, and 1."""
        return self.at(Run, self.info.heap_start + (usize(number) - 1) * CHUNK)
