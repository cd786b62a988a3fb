"""Physical: allocation and deallocation of physical pages.

Every unused page starts with a marker, and the markers form a list.  One bit a page, kept right
after the program, says which pages are on it, so that a second free is found exactly and at once.

The functions touch pages at their physical addresses: they may be called only while the MMU is
off or the linear space is current, and panic otherwise.
"""

from __future__ import annotations

from kernmem.language import (
    Component,
    Image,
    PhysicalAddress,
    Struct,
    VirtualAddress,
    address_of,
    api,
    from_linear,
    kernel,
    linear,
    panic,
    span,
    struct,
    u64,
    usize,
)
from kernmem.memory.architecture import MemoryMap

BITS = 64  # pages that one word of the map stands for


@struct("free_page_marker_t")
class FreePageMarker(Struct):
    """Lies at the start of each unused page."""

    next: FreePageMarker | None
    previous: FreePageMarker | None


@struct("physical_mem_info_t")
class PhysicalMemInfo(Struct):
    """How the physical memory is used.

    program_end <= physical_heap_start <= physical_heap_end <= physical_end; the heap is
    page_quantity pages of page_length bytes, free_pages_count of them on free_pages_list.
    """

    program_end: PhysicalAddress
    physical_heap_start: PhysicalAddress
    physical_heap_end: PhysicalAddress
    physical_end: PhysicalAddress
    physical_heap_length: usize
    page_quantity: usize
    page_length: usize
    free_pages_list: FreePageMarker | None
    free_pages_count: usize


@struct("physical_mem_state_t")
class PhysicalMemState(Struct):
    """What the module keeps beside the registry."""

    free_map: VirtualAddress  # a bit a page: 1 is free; addressed linearly
    addressable: bool  # the MMU is off, or the linear space is current


class PhysicalMemory(Component):
    """Hands out and takes back physical pages, each call in constant time."""

    c_module = "physical"

    def __init__(self, image: Image, memory_map: MemoryMap, page_length: int) -> None:
        super().__init__(image)
        self.memory_map = memory_map
        self.page_length = page_length
        self.info = self.static(PhysicalMemInfo, "physical_mem_info")
        self.state = self.static(PhysicalMemState, "physical_mem_state")

    @api
    def init_physical_memory_manager(self) -> None:
        """Link every whole page between the program and the end of the RAM, in ascending order.

        Call it first, with the MMU off.  O(pages).
        """
        info = self.info
        info.program_end = self.memory_map.program_end()
        info.physical_end = self.memory_map.physical_end()
        if info.physical_end < info.program_end:
            panic(f"RAM ends at {info.physical_end}, before the program at {info.program_end}")
        words = (info.physical_end - info.program_end) // self.page_length // BITS + 1
        free_map = self._align_up(info.program_end, usize(8))
        start = self._align_up(free_map + words * 8, usize(self.page_length))
        end = info.physical_end - info.physical_end % self.page_length
        if end <= start:  # no room for a page: an empty heap, within the RAM
            start = info.physical_end
            end = start
        info.physical_heap_start = start
        info.physical_heap_end = end
        info.physical_heap_length = end - start
        info.page_length = usize(self.page_length)
        info.page_quantity = (end - start) // self.page_length
        self.state.free_map = linear(free_map)
        self.state.addressable = True
        self._link_all_pages()

    @kernel
    def _link_all_pages(self) -> None:
        """Put every page of the heap on the free list and into the map."""
        info = self.info
        info.free_pages_count = info.page_quantity
        info.free_pages_list = None
        if info.page_quantity == 0:
            return  # there may be no room for the map either
        previous: FreePageMarker | None = None
        for index in span(usize(0), info.page_quantity):
            page = info.physical_heap_start + index * self.page_length
            marker = self.at(FreePageMarker, linear(page))
            marker.previous = previous
            marker.next = None
            if previous is None:
                info.free_pages_list = marker
            else:
                previous.next = marker
            previous = marker
        free_map = self.array_at(u64, self.state.free_map)
        for word in span(usize(0), info.page_quantity // BITS):
            free_map[word] = ~u64(0)
        free_map[info.page_quantity // BITS] = (u64(1) << info.page_quantity % BITS) - 1

    @api
    def alloc_physical_page(self) -> PhysicalAddress | None:
        """Take the page that was freed last; None when none is left.  O(1)."""
        self.require_addressable()
        info = self.info
        marker = info.free_pages_list
        if marker is None:
            return None
        following = marker.next
        info.free_pages_list = following
        if following is not None:
            following.previous = None
        info.free_pages_count -= 1
        page = from_linear(address_of(marker))
        index = (page - info.physical_heap_start) // self.page_length
        free_map = self.array_at(u64, self.state.free_map)
        free_map[index // BITS] &= ~(u64(1) << index % BITS)
        return page

    @api
    def free_physical_page(self, page: PhysicalAddress) -> None:
        """Give back a page taken with :meth:`alloc_physical_page`.  O(1).

        Panics for a page outside the heap, a misaligned address, and a page free already.
        """
        self.require_addressable()
        info = self.info
        start = info.physical_heap_start
        end = info.physical_heap_end
        if page < start or page >= end:
            panic(f"free_physical_page: {page} is outside the physical heap, {start} to {end}")
        if (page - start) % self.page_length != 0:
            panic(f"free_physical_page: {page} is not a multiple of the page length")
        index = (page - start) // self.page_length
        bit = u64(1) << index % BITS
        free_map = self.array_at(u64, self.state.free_map)
        if free_map[index // BITS] & bit != 0:
            panic(f"free_physical_page: {page} is free already")
        free_map[index // BITS] |= bit
        marker = self.at(FreePageMarker, linear(page))
        head = info.free_pages_list
        marker.previous = None
        marker.next = head
        if head is not None:
            head.previous = marker
        info.free_pages_list = marker
        info.free_pages_count += 1

    @kernel
    def require_addressable(self) -> None:
        """Panic unless physical addresses can be used as they are."""
        if not self.state.addressable:
            panic(
                "physical memory is not addressable here: the MMU must be off or the linear "
                "space current; call enter_linear_space first"
            )

    @kernel
    def set_addressable(self, addressable: bool) -> None:
        """Say whether physical addresses can be used as they are from now on."""
        self.state.addressable = addressable

    @kernel
    def _align_up(self, address: PhysicalAddress, alignment: usize) -> PhysicalAddress:
        """The lowest multiple of ``alignment`` that is not below ``address``."""
        above = address + (alignment - 1)
        return above - above % alignment
