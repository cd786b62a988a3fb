"""The regions of the physical heap: pages side by side, and a map of those that are free.

Below a region's ``fresh`` the map has one bit a page.  From there on no page was ever handed out,
all are free, and neither they nor their part of the map have been touched.
"""

from __future__ import annotations

from kernmem.language import (
    Array,
    Component,
    Image,
    PhysicalAddress,
    Struct,
    address_of,
    kernel,
    linear,
    lowest_bit,
    struct,
    usize,
    wrap_subtract,
)


@struct("page_region_t")
class PageRegion(Struct):
    """A run of pages; start <= fresh <= end.

    The record lies in front of the pages, and between both the map: the bit of a page below
    ``fresh`` is 1 if it is free; the others are whatever the RAM held.
    """

    next: PageRegion | None  # the next higher one
    start: PhysicalAddress
    end: PhysicalAddress
    fresh: PhysicalAddress  # the lowest page that was never handed out


@struct("page_regions_t")
class PageRegionList(Struct):
    """All regions, in ascending order."""

    lowest: PageRegion | None
    recent: PageRegion | None  # the one that was looked for last


class PageRegions(Component):
    """Which pages there are, and which of them are free."""

    def __init__(self, image: Image, page_length: int) -> None:
        super().__init__(image)
        self.page_length = page_length
        self.word_bytes = self.target.pointer_bytes
        self.word_bits = 8 * self.word_bytes
        self.record_length = self.sizeof(PageRegion)
        self.list = self.static(PageRegionList, "page_regions")

    @kernel
    def clear(self) -> None:
        """Forget every region."""
        self.list.lowest = None
        self.list.recent = None

    @kernel
    def add(
        self, lower: PageRegion | None, start: PhysicalAddress, end: PhysicalAddress
    ) -> PageRegion | None:
        """Make a region of the bytes from ``start`` to ``end``, above the ``lower`` one.

        None if they are too few for a record, a map and a page.
        """
        if end - start < self.page_length:
            return None
        words = (end - start) // self.page_length // self.word_bits + 1
        record = self._align_up(start, usize(self.word_bytes))
        map_end = record + self.record_length + words * self.word_bytes
        first = self._align_up(map_end, usize(self.page_length))
        last = end - end % self.page_length
        if first >= last:
            return None
        region = self.at(PageRegion, linear(record))
        region.next = None
        region.start = first
        region.end = last
        region.fresh = first
        if lower is None:
            self.list.lowest = region
        else:
            lower.next = region
        return region

    @kernel
    def _align_up(self, address: PhysicalAddress, alignment: usize) -> PhysicalAddress:
        """The lowest multiple of ``alignment`` that is not below ``address``."""
        above = address + (alignment - 1)
        return above - above % alignment

    @kernel
    def around(self, page: PhysicalAddress) -> PageRegion | None:
        """The region with the byte at ``page``; at once if it is that of the last call."""
        region = self.list.recent
        if region is not None and region.start <= page and page < region.end:
            return region
        region = self.list.lowest
        while region is not None:
            if region.start <= page and page < region.end:
                self.list.recent = region
                return region
            region = region.next
        return None

    # The map --------------------------------------------------------------------------------

    @kernel
    def _index(self, region: PageRegion, page: PhysicalAddress) -> usize:
        """The number of a page in its region."""
        return (page - region.start) // self.page_length

    @kernel
    def _map(self, region: PageRegion) -> Array[usize]:
        """The words of the map; bit 0 of each is the lowest page."""
        return self.array_at(usize, address_of(region) + self.record_length)

    @kernel
    def is_free(self, region: PageRegion, page: PhysicalAddress) -> bool:
        """Whether a page is free."""
        if page >= region.fresh:
            return True
        index = self._index(region, page)
        return self._map(region)[index // self.word_bits] >> index % self.word_bits & 1 != 0

    @kernel
    def set_free(self, region: PageRegion, page: PhysicalAddress) -> None:
        """Note that a page below ``fresh`` is free."""
        index = self._index(region, page)
        self._map(region)[index // self.word_bits] |= usize(1) << index % self.word_bits

    @kernel
    def set_used(self, region: PageRegion, page: PhysicalAddress) -> None:
        """Note that a page below ``fresh`` is in use."""
        index = self._index(region, page)
        self._map(region)[index // self.word_bits] &= ~(usize(1) << index % self.word_bits)

    @kernel
    def enter_fresh(self, region: PageRegion) -> None:
        """Enter the fresh page into the map, free; the next one is fresh then."""
        page = region.fresh
        region.fresh = page + self.page_length
        self.set_free(region, page)

    @kernel
    def next_page(
        self, region: PageRegion, page: PhysicalAddress, stop: PhysicalAddress, free: bool
    ) -> PhysicalAddress:
        """The first page from ``page`` on that is free, or used; ``stop`` if none is before it.

        O(pages / bits of a word).
        """
        free_map = self._map(region)
        flipped = usize(0) if free else ~usize(0)
        known = stop if stop < region.fresh else region.fresh
        index = self._index(region, page)
        last = (known - region.start) // self.page_length
        while index < last:
            word = (free_map[index // self.word_bits] ^ flipped) >> index % self.word_bits
            if word != 0:
                index += usize(lowest_bit(word))
                if index < last:
                    return region.start + index * self.page_length
            else:
                index += self.word_bits - index % self.word_bits
        if not free:
            return stop
        fresh = page if page > known else known
        return fresh if fresh < stop else stop

    @kernel
    def find_run(
        self, region: PageRegion, length: usize, alignment: usize, limit: PhysicalAddress
    ) -> PhysicalAddress | None:
        """The lowest run of ``length`` free bytes at a multiple of ``alignment``.

        It ends by ``limit``, if that is not 0.  Each word of the map is read once or twice.
        """
        end = region.end if limit == 0 or region.end < limit else limit
        page = region.start
        while page < end:
            page = self.next_page(region, page, end, True)
            skipped = wrap_subtract(usize(0), page % alignment) % alignment
            if skipped > end - page or length > end - page - skipped:
                return None
            page += skipped
            used = self.next_page(region, page, page + length, False)
            if used == page + length:
                return page
            page = used + self.page_length
        return None
