"""Page tables, as a person reads them: ranges, not entries.

The walk is not the kernel's ``pagetable_next_range``, which believes its tables, and runs only
where they can be addressed.  This one reads a machine that stopped anywhere, with tables that may
be damaged, and takes nothing for granted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy

from kernmem.language import u32, usize
from kernmem.machine.port import Machine, components
from kernmem.memory.architecture import EntryFormat, Mapping

UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


@dataclass(frozen=True)
class MappedRange:
    """Leaves of one level and mapping, side by side on both sides; guards, without access, too.

    Attributes:
        level: of the entries; 0 maps pages, a higher one blocks.
    """

    virtual: int
    physical: int
    length: int
    mapping: Mapping
    level: int

    def __str__(self) -> str:
        return (
            f"{self.virtual:#014x}  {self.physical:#014x}  {size(self.length):>9}  "
            f"{flags(self.mapping)}  {'block' if self.level else 'page '} (level {self.level})"
        )


@dataclass(frozen=True)
class Pagetable:
    """A page table that was walked.

    Attributes:
        root: its physical address.
        ranges: what it maps, by virtual address.
        tables: the physical addresses of the root and all tables under it.
        problems: what could not be followed, with addresses.
    """

    root: int
    ranges: tuple[MappedRange, ...]
    tables: tuple[int, ...]
    problems: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"page table {self.root:#x}: {len(self.tables)} tables"]
        if self.ranges:
            lines.append(f"{'virtual':14}  {'physical':14}  {'length':>9}  mapping")
        lines += [str(each) for each in self.ranges]
        lines += [f"PROBLEM: {problem}" for problem in self.problems]
        return "\n".join(lines)


def read_pagetable(machine: Machine, table: int | None = None) -> Pagetable:
    """Walk the tables under ``table``; by default those that the MMU translates by."""
    if table is None:
        table = machine.virtual_mem_info.current_pagetable
        if table is None:
            raise ValueError("the MMU is off: say which table to read")
    walk = _Walk(machine)
    ranges = tuple(_merged(walk.leaves(int(table), walk.entries.levels - 1, 0)))
    return Pagetable(int(table), ranges, tuple(walk.tables), tuple(walk.problems))


class _Walk:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.entries = entry_format(machine)
        self.tables: list[int] = []
        self.problems: list[str] = []

    def leaves(self, table: int, level: int, start: int) -> Iterator[MappedRange]:
        """The leaves under a table, one by one; ``start`` is its first virtual address."""
        if not self._is_table(table, level, start):
            return
        self.tables.append(table)
        entries = self.entries
        size, count = entries.entry_length, int(entries.table_length(u32(level)))
        data = self.machine.read_physical(table, size * count)
        shift = int(entries.shift(u32(level)))
        for index, word in enumerate(numpy.frombuffer(data, f"<u{size}").tolist()):
            if word == 0:
                continue
            entry, place = usize(word), table + index * size
            virtual = self._canonical(start + (index << shift))
            if entries.is_table(entry, u32(level)):
                if level == 0:
                    self.problems.append(f"{place:#x} leads to a table, at level 0")
                else:
                    yield from self.leaves(int(entries.next_table(entry)), level - 1, virtual)
            elif level > entries.block_levels:
                self.problems.append(f"{place:#x} holds {word:#x}: no leaf can be at level {level}")
            else:
                frame = int(entries.frame(entry, u32(level)))
                mapping = entries.mapping(entry, u32(level))
                yield MappedRange(virtual, frame, 1 << shift, mapping, level)

    def _canonical(self, virtual: int) -> int:
        """The upper half of the root is for the last of all addresses."""
        entries = self.entries
        if entries.upper_half and entries.last_virtual < virtual < entries.upper_start:
            return virtual - (entries.last_virtual + 1) + entries.upper_start
        return virtual

    def _is_table(self, table: int, level: int, start: int) -> bool:
        """Whether there can be a table; two entries that lead to one would never end."""
        is_root = level == self.entries.levels - 1
        pages = self.entries.root_pages if is_root else 1
        if table in self.tables:
            self.problems.append(f"the table {table:#x} is reached again, for {start:#x}")
        elif table % (pages * self.entries.page_length):
            self.problems.append(f"the table {table:#x}, for {start:#x}, is misaligned")
        elif not any(each.start <= table < each.end for each in self.machine.hardware.ram):
            self.problems.append(f"the table {table:#x}, for {start:#x}, is not in RAM")
        else:
            return True
        return False


def _merged(leaves: Iterator[MappedRange]) -> Iterator[MappedRange]:
    """Leaves that continue each other, as one range."""
    last: MappedRange | None = None
    for leaf in leaves:
        if (
            last is not None
            and (last.level, last.mapping) == (leaf.level, leaf.mapping)
            and last.virtual + last.length == leaf.virtual
            and last.physical + last.length == leaf.physical
        ):
            length = last.length + leaf.length
            last = MappedRange(last.virtual, last.physical, length, last.mapping, last.level)
            continue
        if last is not None:
            yield last
        last = leaf
    if last is not None:
        yield last


def entry_format(machine: Machine) -> EntryFormat:
    """What the bits of the machine's entries mean."""
    for component in components(machine.kernel):
        if isinstance(component, EntryFormat):
            return component
    raise ValueError(f"the kernel of {machine!r} has no page tables")


def flags(mapping: Mapping) -> str:
    """Who may do what, and the memory type, e.g. ``kernel rw user r- x normal``."""
    kernel, user = "rw", "--"
    if Mapping.USER_READ_WRITE in mapping:
        user = "rw"
    elif Mapping.USER_READ_ONLY in mapping:
        kernel = user = "r-"
    elif Mapping.READ_ONLY in mapping:
        kernel = "r-"
    execute = "-" if Mapping.NO_EXECUTE in mapping else "x"
    if Mapping.NO_ACCESS in mapping:
        kernel, user, execute = "--", "--", "-"
    memory = "normal"
    if Mapping.DEVICE in mapping:
        memory = "device"
    elif Mapping.UNCACHED in mapping:
        memory = "uncached"
    return f"kernel {kernel} user {user} {execute} {memory:8}"


def size(length: int) -> str:
    """A length in the largest unit that divides it."""
    for unit, name in UNITS:
        if length % unit == 0 and length:
            return f"{length // unit} {name}"
    return f"{length} B"
