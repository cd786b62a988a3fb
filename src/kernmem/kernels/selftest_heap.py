"""The self-test's chapter on the kernel heap: a long pseudo-random run, checked all along."""

from __future__ import annotations

from kernmem.language import (
    Component,
    Image,
    Struct,
    VirtualAddress,
    address_of,
    kernel,
    span,
    struct,
    truncate,
    u8,
    u32,
    u64,
    usize,
    wrap_add,
    wrap_multiply,
)
from kernmem.memory.gap import Buffer
from kernmem.memory.manager import MemoryManager

CALLS = 4000
CHECK_EVERY = 500
SLOTS = 128
SEED = 0x5EED


@struct("selftest_random_t")
class Random(Struct):
    """The state of a linear congruential generator (Knuth's MMIX)."""

    state: u64


class HeapTest(Component):
    """Buffers of all sizes taken, filled, checked and given back in no order."""

    def __init__(self, image: Image, manager: MemoryManager) -> None:
        super().__init__(image)
        self.heap = manager.kernel_heap
        self.check = manager.heap_check
        self.random = self.static(Random, "selftest_random")
        self.addresses = self.static_array(usize, SLOTS, "selftest_addresses")
        self.lengths = self.static_array(usize, SLOTS, "selftest_lengths")

    @kernel
    def run(self) -> None:
        """The whole chapter; at the end all is free, and no more than one gap."""
        self.random.state = u64(SEED)
        for call in span(u32(0), u32(CALLS)):
            self._toggle(usize(self._next(u32(SLOTS))))
            if call % CHECK_EVERY == 0:
                sound = self.check.validate_kernel_heap()
                assert sound, f"the heap is damaged at call {call}"
        info = self.heap.info
        self.print(f"kernel heap: {CALLS} calls, {info.live_buffers} buffers live")
        for slot in span(usize(0), usize(SLOTS)):
            if self.addresses[slot] != 0:
                self._toggle(slot)
        self.heap.kernel_heap_trim()
        sound = self.check.validate_kernel_heap()
        assert sound, "the heap is damaged after the last kfree"
        assert info.live_bytes == 0, f"{info.live_bytes} bytes are live, and nobody's"
        whole = info.heap_end - info.heap_start
        free = info.gap_bytes + info.void_bytes
        assert free == whole, f"{whole - free} bytes of an empty heap are not free"
        assert info.gaps <= 1, f"{info.gaps} gaps are left of an empty heap"
        nothing = self.heap.kmalloc(usize(0))
        assert nothing is None, "kmalloc(0) gave a buffer"
        self.heap.kfree(None)
        self.print("  every invariant held, every byte came back: ok")

    @kernel
    def _next(self, limit: u32) -> u32:
        """The next pseudo-random number below ``limit``."""
        product = wrap_multiply(self.random.state, u64(6364136223846793005))
        self.random.state = wrap_add(product, u64(1442695040888963407))
        return truncate(u32, self.random.state >> 33) % limit

    @kernel
    def _toggle(self, slot: usize) -> None:
        """Take a buffer for an empty slot; check and give back that of a full one."""
        if self.addresses[slot] == 0:
            length = usize(self._next(u32(1) << self._next(u32(14)))) + 1
            buffer = self.heap.kmalloc(length)
            assert buffer is not None, f"no memory for {length} bytes"
            self.addresses[slot] = address_of(buffer) - VirtualAddress(0)
            self.lengths[slot] = length
            self._fill(slot)
            return
        self._check(slot)
        self.heap.kfree(self.at(Buffer, VirtualAddress(self.addresses[slot])))
        self.addresses[slot] = usize(0)

    @kernel
    def _fill(self, slot: usize) -> None:
        """Mark both ends of the buffer of ``slot``."""
        content = self.array_at(u8, VirtualAddress(self.addresses[slot]))
        content[0] = truncate(u8, slot)
        content[self.lengths[slot] - 1] = truncate(u8, slot)

    @kernel
    def _check(self, slot: usize) -> None:
        """The marks of ``slot`` are as they were written."""
        content = self.array_at(u8, VirtualAddress(self.addresses[slot]))
        first = content[0]
        last = content[self.lengths[slot] - 1]
        mark = truncate(u8, slot)
        assert first == mark and last == mark, f"the buffer of slot {slot} was overwritten"
