"""A small kernel whose C is kept beside it: pages in a list, and a table of counts."""

from __future__ import annotations

from enum import IntEnum
from typing import NoReturn

from kernmem.language import (
    Array,
    Component,
    Image,
    PhysicalAddress,
    Struct,
    address_of,
    api,
    array,
    enumeration,
    from_linear,
    intrinsic,
    kernel,
    linear,
    panic,
    rare,
    span,
    struct,
    u8,
    u32,
    usize,
)


@enumeration("page_status_t")
class PageStatus(IntEnum):
    """What became of a page."""

    OK = 0
    MISALIGNED = 1
    OUTSIDE = 2


@struct("free_page_t")
class FreePage(Struct):
    """A free page starts with one."""

    next: FreePage | None
    previous: FreePage | None


@struct("page_info_t", packed=True)
class PageInfo(Struct):
    """What is known of all pages."""

    kind: u8  # of the memory
    free_count: usize  # pages in the list
    free_list: FreePage | None  # the page freed last
    uses: Array[u32] = array(u32, 16)


class Barrier(Component):
    """The architecture's part."""

    c_module = "barrier"

    @intrinsic(aarch64='__asm__ volatile("dsb ish" ::: "memory");', c="")
    def wait(self) -> None:
        """Wait for all stores."""


class Pages(Component):
    """Hands out pages and takes them back."""

    c_module = "pages"

    def __init__(self, image: Image) -> None:
        super().__init__(image)
        self.page_length = 0x1000
        self.heap_start = PhysicalAddress(0x80_0000)
        self.heap_pages = 256
        self.counts = True
        self.barrier = Barrier(image)
        self.info = self.static(PageInfo, "page_info")

    @api
    def init_pages(self) -> None:
        """Link every page, the lowest first.  O(n)."""
        self.info.free_list = None
        self.info.free_count = usize(0)
        for i in span(usize(0), usize(self.heap_pages)):
            page = self.heap_start + (self.heap_pages - 1 - i) * self.page_length
            self._link(page)
        self.barrier.wait()

    @api
    def free_page(self, page: PhysicalAddress) -> PageStatus:
        """Take back a page.  O(1).

        It must have come from alloc_page, and must not have come back since; what it held is
        overwritten.
        """
        if page % self.page_length != 0:
            return PageStatus.MISALIGNED
        end = self.heap_start + self.heap_pages * self.page_length
        if page < self.heap_start or page >= end:
            return PageStatus.OUTSIDE
        self._link(page)
        return PageStatus.OK

    @api
    def alloc_page(self) -> PhysicalAddress | None:
        """Hand out a page; None when none is left.  O(1)."""
        page = self.info.free_list
        if page is None:
            return None
        if page.previous is not None:
            self._refuse(page)
        self.info.free_list = page.next
        if page.next is not None:
            page.next.previous = None
        self.info.free_count -= 1
        address = from_linear(address_of(page))
        if self.counts:
            slot = (address - self.heap_start) // self.page_length % 16
            self.info.uses[slot] += 1
        return address

    @rare
    def _refuse(self, page: FreePage) -> NoReturn:
        """Panic about a free page that is not the first."""
        panic(f"the first free page, {page}, has {page.previous} before it")

    @kernel
    def _link(self, address: PhysicalAddress) -> None:
        """Put a page in front of the list."""
        page = self.at(FreePage, linear(address))
        page.previous = None
        page.next = self.info.free_list
        if page.next is not None:
            page.next.previous = page
        self.info.free_list = page
        self.info.free_count += 1
