"""Physical pages: the regions they lie in, the list of the free ones, and a map of all."""

from __future__ import annotations

from dataclasses import dataclass

from kernmem.machine.port import Machine

MOST_REGIONS = 1000  # more means that their list is damaged


@dataclass(frozen=True)
class PageRegion:
    """Pages side by side, from ``start`` to ``end``.

    Attributes:
        fresh: the lowest page that was never handed out; the free list stops there, and means
            all from there on.
    """

    start: int
    end: int
    fresh: int


@dataclass(frozen=True)
class FreeList:
    """The free pages, in the order in which they will be handed out.

    Attributes:
        pages: their physical addresses, as far as the list could be followed.
        quantity: of all pages of the physical heap.
        problems: what is damaged, with addresses.
    """

    pages: tuple[int, ...]
    quantity: int
    page_length: int
    problems: tuple[str, ...]

    def __str__(self) -> str:
        used = self.quantity - len(self.pages)
        lines = [
            f"{self.quantity} pages of {self.page_length} bytes: {used} used, "
            f"{len(self.pages)} free"
        ]
        if self.pages:
            shown = " ".join(f"{page:#x}" for page in self.pages[:4])
            lines.append(f"next: {shown}{' ...' if len(self.pages) > 4 else ''}")
        lines += [f"PROBLEM: {problem}" for problem in self.problems]
        return "\n".join(lines)


def read_regions(machine: Machine) -> tuple[PageRegion, ...]:
    """The regions of the physical heap, ascending, from their records in physical memory."""
    pointer = machine.hardware.target.pointer_bytes
    regions: list[PageRegion] = []
    record = int(machine.page_regions.lowest or 0)
    while record and len(regions) < MOST_REGIONS:
        data = machine.read_physical(record, 4 * pointer)
        record, start, end, fresh = (
            int.from_bytes(data[at : at + pointer], "little")
            for at in range(0, 4 * pointer, pointer)
        )
        regions.append(PageRegion(start, end, fresh))
    return tuple(regions)


def read_free_list(machine: Machine) -> FreeList:
    """Follow the markers in the free pages, in physical memory."""
    info = machine.physical_mem_info
    regions = read_regions(machine)
    length, count = int(info.page_length), int(info.free_pages_count)
    pointer = machine.hardware.target.pointer_bytes
    pages: dict[int, None] = {}
    problems: list[str] = []
    page, before = int(info.free_pages_list or 0), 0
    while page:
        region = next((each for each in regions if each.start <= page < each.end), None)
        if page in pages:
            problems.append(f"the list comes back to {page:#x}, from {before:#x}")
            break
        if region is None or page % length:
            problems.append(f"the list leads to {page:#x}, which is no page, from {before:#x}")
            break
        marker = machine.read_physical(page, 2 * pointer)
        previous = int.from_bytes(marker[pointer:], "little")
        if previous != before:
            problems.append(f"{page:#x} says that {previous:#x} is before it, not {before:#x}")
        until = region.end if page == region.fresh else page + length
        pages.update(dict.fromkeys(range(page, until, length)))
        page, before = int.from_bytes(marker[:pointer], "little"), page
    if len(pages) != count:
        problems.append(f"free_pages_count is {count}, and the list has {len(pages)}")
    return FreeList(tuple(pages), int(info.page_quantity), length, tuple(problems))


def page_map(machine: Machine, width: int = 64, rows: int = 16) -> str:
    """All pages drawn to scale: ``#`` used, ``.`` free, ``+`` both."""
    free_list = read_free_list(machine)
    length = free_list.page_length
    free = set(free_list.pages)
    cell = max(1, -(-free_list.quantity // (width * rows)))
    lines = [f"{cell} pages a character: # used  . free  + both"]
    for region in read_regions(machine):
        row = width * cell * length
        for start in range(region.start, region.end, row):
            text = ""
            for first in range(start, min(start + row, region.end), cell * length):
                cells = range(first, min(first + cell * length, region.end), length)
                found = sum(page in free for page in cells)
                text += "." if found == len(cells) else "+" if found else "#"
            lines.append(f"{start:#014x}  {text}")
    return "\n".join([*lines, *free_list.problems])
