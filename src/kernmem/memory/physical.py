"""Physical: allocation and deallocation of physical pages.

The heap is some regions of RAM.  Every unused page starts with a marker, and the markers form a
list.  One bit a page says which pages are on it, so that a second free is found exactly and at
once, and runs of pages are found however the list is shuffled.

Starting costs the same whatever the length of the RAM.  Of the pages that were never handed out,
each region lists its lowest only, and that gets a successor when it is taken: a page has its
marker as soon as a walk over the list can reach it.

The functions touch pages at their physical addresses: they may be called only while the MMU is
off or the linear space is current, and panic otherwise.
"""

from __future__ import annotations

from kernmem.language import (
    Component,
    Image,
    PhysicalAddress,
    Struct,
    address_of,
    api,
    from_linear,
    kernel,
    linear,
    panic,
    struct,
    u64,
    usize,
)
from kernmem.memory.architecture import MemoryMap
from kernmem.memory.page_regions import PageRegion, PageRegions
from kernmem.memory.ranges import NOWHERE


@struct("free_page_marker_t")
class FreePageMarker(Struct):
    """Lies at the start of each unused page that the list has reached."""

    next: FreePageMarker | None
    previous: FreePageMarker | None


@struct("physical_mem_info_t")
class PhysicalMemInfo(Struct):
    """How the physical memory is used.

    physical_heap_start and physical_heap_end enclose the regions of the heap, and what lies
    between these.  It has page_quantity pages of page_length bytes, of which free_pages_count
    are free; free_pages_list leads to the one that is handed out next.
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

    addressable: bool  # the MMU is off, or the linear space is current


class PhysicalMemory(Component):
    """Hands out and takes back physical pages: one in constant time, or a run of them."""

    c_module = "physical"

    def __init__(self, image: Image, memory_map: MemoryMap, page_length: int) -> None:
        super().__init__(image)
        self.memory_map = memory_map
        self.page_length = page_length
        self.ranges = memory_map.ranges
        self.regions = PageRegions(image, page_length)
        self.bottom = memory_map.linear_start
        # No region ends at the end of all addresses, which is no address any more.
        self.top = min(memory_map.linear_end, (1 << 8 * self.target.pointer_bytes) - page_length)
        self.info = self.static(PhysicalMemInfo, "physical_mem_info")
        self.state = self.static(PhysicalMemState, "physical_mem_state")

    # Start-up -------------------------------------------------------------------------------

    @api
    def init_physical_memory_manager(self) -> None:
        """Make every whole page of RAM free in which nothing is reserved.

        Call it first, with the MMU off.  The first pages are handed out in ascending order.
        """
        info = self.info
        self.ranges.clear()
        self.memory_map.report()
        info.program_end = self.memory_map.program_end()
        self._reserve_what_is_known()
        end = self.ranges.ram_end()
        info.physical_end = PhysicalAddress(end if end < self.top else u64(self.top))
        info.page_length = usize(self.page_length)
        info.page_quantity = usize(0)
        info.physical_heap_start = info.physical_end
        info.physical_heap_end = info.physical_end
        info.free_pages_list = None
        self.regions.clear()
        self.state.addressable = True
        lower: PageRegion | None = None
        start = self.ranges.first(u64(0), True)
        while start != NOWHERE:
            end = self.ranges.first(start, False)
            lower = self._add_usable(lower, start, end)
            start = self.ranges.first(end, True)
        info.physical_heap_length = info.physical_heap_end - info.physical_heap_start
        info.free_pages_count = info.page_quantity

    @kernel
    def _reserve_what_is_known(self) -> None:
        """Reserve the program, the devices, and the page whose address is None."""
        self.ranges.reserve(u64(0), u64(self.page_length))
        for device in self.memory_map.devices:
            self.ranges.reserve(u64(device.start), u64(device.end))
        start = u64(self.memory_map.program_start)
        end = u64(self.info.program_end)
        if self.ranges.first(start, False) < end:
            panic(f"the program, {start:#x} to {end:#x}, does not lie in free RAM")
        self.ranges.reserve(start, end)

    @kernel
    def _add_usable(self, lower: PageRegion | None, start: u64, end: u64) -> PageRegion | None:
        """Make a region of usable RAM above the ``lower`` one.  Returns the highest region now."""
        counts = self.ranges.info
        counts.usable_bytes += end - start
        first = start if start > self.bottom else u64(self.bottom)
        last = end if end < self.top else u64(self.top)
        if first >= last:
            counts.outside_bytes += end - start
            return lower
        counts.outside_bytes += end - start - (last - first)
        region = self.regions.add(lower, PhysicalAddress(first), PhysicalAddress(last))
        if region is None:
            counts.overhead_bytes += last - first
            return lower
        counts.overhead_bytes += last - first - u64(region.end - region.start)
        self._list_region(lower, region)
        return region

    @kernel
    def _list_region(self, lower: PageRegion | None, region: PageRegion) -> None:
        """Take in a new region, above the ``lower`` one: its fresh page ends the list."""
        info = self.info
        marker = self.at(FreePageMarker, linear(region.fresh))
        marker.next = None
        marker.previous = None
        if lower is None:
            info.physical_heap_start = region.start
            info.free_pages_list = marker
        else:
            before = self.at(FreePageMarker, linear(lower.fresh))
            before.next = marker
            marker.previous = before
        info.physical_heap_end = region.end
        info.page_quantity += (region.end - region.start) // self.page_length

    # One page -------------------------------------------------------------------------------

    @api
    def alloc_physical_page(self) -> PhysicalAddress | None:
        """Take the page that was freed last; None when none is left.  O(1)."""
        self.require_addressable()
        marker = self.info.free_pages_list
        if marker is None:
            return None
        page = from_linear(address_of(marker))
        region = self.regions.around(page)
        if region is None:
            panic(f"the list of free pages leads to {page}, which is outside the physical heap")
        self._take(region, page)
        return page

    @api
    def free_physical_page(self, page: PhysicalAddress) -> None:
        """Give back a page taken with :meth:`alloc_physical_page`, or one of a run.  O(1).

        Panics for a page outside the heap, a misaligned address, and a page free already.
        """
        region = self._region_to_free_in(page)
        if self.regions.is_free(region, page):
            panic(f"physical page {page} cannot be freed: it is free already")
        self._put(region, page)

    # Runs of pages --------------------------------------------------------------------------

    @api
    def alloc_physical_pages(
        self, count: usize, alignment: usize, limit: PhysicalAddress
    ) -> PhysicalAddress | None:
        """Take ``count`` pages side by side: the lowest run there is; None if there is none.

        The address is a multiple of ``alignment`` bytes, a power of 2; 0 asks for no more than
        whole pages.  The last byte lies below ``limit``; 0 is no limit.  O(pages / bits of a
        word + count), and as much for fresh pages that are passed over for the alignment.
        """
        self.require_addressable()
        if count == 0:
            panic("alloc_physical_pages: the count must be at least 1, not 0")
        if alignment != 0 and alignment & (alignment - 1) != 0:
            panic(f"alloc_physical_pages: the alignment must be a power of 2, not {alignment}")
        if count > self.info.free_pages_count:
            return None
        length = count * self.page_length
        least = alignment if alignment > self.page_length else usize(self.page_length)
        region = self.regions.list.lowest
        while region is not None:
            run = self.regions.find_run(region, length, least, limit)
            if run is not None:
                while region.fresh < run + length:
                    self._refresh(region)
                page = run
                while page < run + length:
                    self._take(region, page)
                    page += self.page_length
                return run
            region = region.next
        return None

    @api
    def free_physical_pages(self, base: PhysicalAddress, count: usize) -> None:
        """Give back ``count`` pages from ``base`` on, whichever calls they were taken by.

        Panics, with nothing changed, where :meth:`free_physical_page` would for one of them.
        The lowest will be handed out first.  O(count).
        """
        region = self._region_to_free_in(base)
        if count > (region.end - base) // self.page_length:
            panic(f"{count} physical pages from {base} on cannot be freed: the region ends before")
        page = base + count * self.page_length
        free = self.regions.next_page(region, base, page, True)
        if free < page:
            panic(f"physical page {free} cannot be freed: it is free already")
        while page > base:
            page -= self.page_length
            self._put(region, page)

    # The list and the map -------------------------------------------------------------------

    @kernel
    def _region_to_free_in(self, page: PhysicalAddress) -> PageRegion:
        """The region of a page that may be free or not, but is one."""
        self.require_addressable()
        region = self.regions.around(page)
        if region is None:
            start = self.info.physical_heap_start
            end = self.info.physical_heap_end
            panic(
                f"physical page {page} cannot be freed: it is outside the regions of the "
                f"physical heap, which lie in {start} to {end}"
            )
        if page % self.page_length != 0:
            panic(f"physical page {page} cannot be freed: not a multiple of the page length")
        return region

    @kernel
    def _put(self, region: PageRegion, page: PhysicalAddress) -> None:
        """Put a used page at the start of the list."""
        self.regions.set_free(region, page)
        marker = self.at(FreePageMarker, linear(page))
        head = self.info.free_pages_list
        marker.previous = None
        marker.next = head
        if head is not None:
            head.previous = marker
        self.info.free_pages_list = marker
        self.info.free_pages_count += 1

    @kernel
    def _take(self, region: PageRegion, page: PhysicalAddress) -> None:
        """Take a free page off the list, wherever it is."""
        if page == region.fresh:
            self._refresh(region)
        self.regions.set_used(region, page)
        marker = self.at(FreePageMarker, linear(page))
        previous = marker.previous
        following = marker.next
        if previous is None:
            self.info.free_pages_list = following
        else:
            previous.next = following
        if following is not None:
            following.previous = previous
        self.info.free_pages_count -= 1

    @kernel
    def _refresh(self, region: PageRegion) -> None:
        """Make the fresh page like other free ones; the one above it is listed after it."""
        marker = self.at(FreePageMarker, linear(region.fresh))
        self.regions.enter_fresh(region)
        if region.fresh < region.end:
            added = self.at(FreePageMarker, linear(region.fresh))
            following = marker.next
            added.next = following
            added.previous = marker
            if following is not None:
                following.previous = added
            marker.next = added

    # Where physical memory can be used ------------------------------------------------------

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
