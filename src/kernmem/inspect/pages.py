"""Physical pages: the regions they lie in, the list of the free ones, and a map of all."""

from __future__ import annotations

from dataclasses import dataclass

from kernmem.machine.port import Machine


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
    """The regions of the physical heap, ascending, as far as their records can be believed."""
    return tuple(_read_regions(machine)[0])


def _read_regions(machine: Machine) -> tuple[list[PageRegion], list[str]]:
    """Follow the records of the regions in physical memory; what is damaged."""
    pointer = machine.hardware.target.pointer_bytes
    heap_end = int(machine.physical_mem_info.physical_heap_end)
    regions: list[PageRegion] = []
    record, below = int(machine.page_regions.lowest or 0), 0
    while record:
        if not below <= record < heap_end:
            return regions, [f"the list of regions leads to {record:#x}, from below {below:#x}"]
        data = machine.read_physical(record, 4 * pointer)
        following, start, end, fresh = (
            int.from_bytes(data[at : at + pointer], "little")
            for at in range(0, 4 * pointer, pointer)
        )
        if not record < start <= fresh <= end <= heap_end:
            return regions, [
                f"the region at {record:#x} is from {start:#x} to {end:#x}, fresh from {fresh:#x}"
            ]
        regions.append(PageRegion(start, end, fresh))
        record, below = following, end
    return regions, []


def read_free_list(machine: Machine) -> FreeList:
    """Follow the markers in the free pages, in physical memory."""
    info = machine.physical_mem_info
    regions, problems = _read_regions(machine)
    length, count = int(info.page_length), int(info.free_pages_count)
    pointer = machine.hardware.target.pointer_bytes
    pages: dict[int, None] = {}
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
