"""Page tables, as a person reads them: ranges, not entries.

The walk is not the kernel's ``pagetable_next_range``, which believes its tables, and runs only
where they can be addressed.  This one reads a machine that stopped anywhere, with tables that may
be damaged, and takes nothing for granted.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy

from kernmem.language import PhysicalAddress, u32, usize
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
        """The leaves under a table; ``start`` is its first virtual address."""
        if not self._is_table(table, level, start):
            return
        self.tables.append(table)
        entries = self.entries
        size, count = entries.entry_length, int(entries.table_length(u32(level)))
        words = numpy.frombuffer(self.machine.read_physical(table, size * count), f"<u{size}")
        shift = int(entries.shift(u32(level)))
        for first, end in _runs(words, self._step(level)):
            virtual = start + (first << shift)
            run = self._range(words[first:end].tolist(), level, virtual)
            if run is not None:
                yield run
                continue
            for index in range(first, end):
                place, word = table + index * size, int(words[index])
                yield from self._entry(place, word, level, start + (index << shift))

    def _step(self, level: int) -> int:
        """By how much two entries differ whose leaves lie side by side."""
        at, leaf = u32(level), self.entries.leaf
        second = leaf(PhysicalAddress(1 << int(self.entries.shift(at))), Mapping.KERNEL, at)
        return int(second) - int(leaf(PhysicalAddress(0), Mapping.KERNEL, at))

    def _range(self, words: list[int], level: int, start: int) -> MappedRange | None:
        """Entries that differ by one step each, as one range; None if that is not what they are.

        If the last one is what it must be, no step has left the bits of the address.
        """
        entries, at = self.entries, u32(level)
        first, last = usize(words[0]), usize(words[-1])
        if level > entries.block_levels or entries.is_table(first, at):
            return None
        rest = (len(words) - 1) << int(entries.shift(at))
        virtual, physical = self._canonical(start), int(entries.frame(first, at))
        mapping = entries.mapping(first, at)
        if len(words) > 1 and (
            entries.is_table(last, at)
            or entries.mapping(last, at) != mapping
            or int(entries.frame(last, at)) != physical + rest
            or self._canonical(start + rest) != virtual + rest
        ):
            return None
        return MappedRange(virtual, physical, rest + (1 << int(entries.shift(at))), mapping, level)

    def _entry(self, place: int, word: int, level: int, start: int) -> Iterator[MappedRange]:
        """What one entry leads to."""
        entries, entry = self.entries, usize(word)
        if entries.is_table(entry, u32(level)):
            if level == 0:
                self.problems.append(f"{place:#x} leads to a table, at level 0")
            else:
                yield from self.leaves(
                    int(entries.next_table(entry)), level - 1, self._canonical(start)
                )
        elif level > entries.block_levels:
            self.problems.append(f"{place:#x} holds {word:#x}: no leaf can be at level {level}")
        else:
            run = self._range([word], level, start)
            assert run is not None  # a leaf is side by side with itself
            yield run

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


def _runs(words: Any, step: int) -> Iterator[tuple[int, int]]:
    """Entries that are not 0, where each is the one before it and a step: (first, end) of each."""
    used = numpy.flatnonzero(words)
    if not used.size:
        return
    values = words[used]
    breaks = (numpy.diff(used) != 1) | (numpy.diff(values) != step)
    borders = [0, *(numpy.flatnonzero(breaks) + 1).tolist(), len(used)]
    for first, end in itertools.pairwise(borders):
        start = int(used[first])
        yield start, start + end - first


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
