"""What an address that was given to kfree really is, in the tuned heap."""

from __future__ import annotations

from typing import NoReturn

from kernmem.language import Component, Image, VirtualAddress, kernel, panic, rare, usize
from kernmem.memory.buffer_cache import BufferCache
from kernmem.memory.granule_space import GranuleSpace
from kernmem.memory.granules import GRANULE, IN_RUN
from kernmem.memory.slot_runs import Run, SlotRuns


class BadFrees(Component):
    """The end of a bad free: a panic that says where the address lies.  O(buffers)."""

    def __init__(
        self, image: Image, space: GranuleSpace, runs: SlotRuns, cache: BufferCache
    ) -> None:
        super().__init__(image)
        self.info = space.info
        self.space = space.space
        self.map = space.map
        self.gaps = space.gaps
        self.runs = runs
        self.cache = cache

    @rare
    def refuse(self, address: VirtualAddress) -> NoReturn:
        """Panic with what ``address`` is, which is not the start of a live buffer."""
        info = self.info
        if address < info.heap_start or address >= info.heap_end:
            panic(f"kfree: {address} was never in the heap, {info.heap_start} to {info.heap_end}")
        top = self.space.top
        if address >= top:
            panic(f"kfree: {address} is inside the gap {top} to {info.heap_end}")
        code = self.map.chunk(address)
        if code >= IN_RUN:
            self._refuse_in_run(address, self.map.run_start(address - info.heap_start, code))
        start = info.heap_start
        end = self._end(start)
        while end <= address:
            start = end
            end = self._end(start)
        if self.map.has_mark(start):
            panic(f"kfree: {address} is inside the gap {start} to {end}")
        if self.cache.holds(start, end - start):
            self._refuse_free(address, start, end)
        panic(f"kfree: {address} is inside the buffer {start} to {end}")

    @kernel
    def _refuse_in_run(self, address: VirtualAddress, run_start: VirtualAddress) -> NoReturn:
        run = self.at(Run, run_start)
        first = run_start + usize(run.first) * GRANULE
        if address < first:
            panic(f"kfree: {address} is in the header of the run {run_start} to {first}")
        length = usize(run.granules) * GRANULE
        start = first + (address - first) // length * length
        if not self.runs.holds(start):
            self._refuse_free(address, start, start + length)
        panic(f"kfree: {address} is inside the buffer {start} to {start + length}")

    @kernel
    def _refuse_free(
        self, address: VirtualAddress, start: VirtualAddress, end: VirtualAddress
    ) -> NoReturn:
        if address == start:
            panic(f"kfree: {address} is free already, the buffer up to {end}")
        panic(f"kfree: {address} is inside the free buffer {start} to {end}")

    @kernel
    def _end(self, start: VirtualAddress) -> VirtualAddress:
        """Where the element at ``start`` ends."""
        if self.map.chunk(start) >= IN_RUN:
            end = self.runs.end(self.at(Run, start))
        elif self.map.has_mark(start):
            end = start + self.gaps.length(start)
        else:
            end = self.map.end_of_buffer(start)
        if end <= start or end > self.space.top:
            panic(f"kfree: the element at {start} is damaged: it would end at {end}")
        return end
