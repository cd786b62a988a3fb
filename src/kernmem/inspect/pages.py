"""Physical pages: the list of the free ones, and a map of all."""

from __future__ import annotations

from dataclasses import dataclass

from kernmem.machine.port import Machine


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


def read_free_list(machine: Machine) -> FreeList:
    """Follow the markers in the free pages, in physical memory."""
    info = machine.physical_mem_info
    start, end = int(info.physical_heap_start), int(info.physical_heap_end)
    length, count = int(info.page_length), int(info.free_pages_count)
    pointer = machine.hardware.target.pointer_bytes
    pages: dict[int, None] = {}
    problems: list[str] = []
    page, before = int(info.free_pages_list or 0), 0
    while page:
        if page in pages:
            problems.append(f"the list comes back to {page:#x}, from {before:#x}")
            break
        if not start <= page < end or (page - start) % length:
            problems.append(f"the list leads to {page:#x}, which is no page, from {before:#x}")
            break
        marker = machine.read_physical(page, 2 * pointer)
        previous = int.from_bytes(marker[pointer:], "little")
        if previous != before:
            problems.append(f"{page:#x} says that {previous:#x} is before it, not {before:#x}")
        pages[page] = None
        page, before = int.from_bytes(marker[:pointer], "little"), page
    if len(pages) != count:
        problems.append(f"free_pages_count is {count}, and the list has {len(pages)}")
    return FreeList(tuple(pages), int(info.page_quantity), length, tuple(problems))


def page_map(machine: Machine, width: int = 64, rows: int = 16) -> str:
    """All pages drawn to scale: ``#`` used, ``.`` free, ``+`` both."""
    free_list = read_free_list(machine)
    start = int(machine.physical_mem_info.physical_heap_start)
    length = free_list.page_length
    free = {(page - start) // length for page in free_list.pages}
    cell = max(1, -(-free_list.quantity // (width * rows)))
    marks = []
    for first in range(0, free_list.quantity, cell):
        numbers = range(first, min(first + cell, free_list.quantity))
        found = sum(number in free for number in numbers)
        marks.append("." if found == len(numbers) else "+" if found else "#")
    text = "".join(marks)
    lines = [f"{cell} pages a character: # used  . free  + both"]
    for at in range(0, len(text), width):
        lines.append(f"{start + at * cell * length:#014x}  {text[at : at + width]}")
    return "\n".join([*lines, *free_list.problems])
