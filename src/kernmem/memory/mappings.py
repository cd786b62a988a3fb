"""What a page table maps, range by range; and what of it is both writable and executable."""

from __future__ import annotations

from kernmem.language import (
    Component,
    Image,
    PhysicalAddress,
    Struct,
    VirtualAddress,
    api,
    struct,
    u32,
    usize,
    wrap_add,
)
from kernmem.memory.architecture import EntryFormat, Mapping
from kernmem.memory.physical import PhysicalMemory
from kernmem.memory.tables import Tables, Walk


@struct("pagetable_range_t")
class PagetableRange(Struct):
    """Leaves of one level that continue each other, mapped alike.  All 0: before the first."""

    virtual: VirtualAddress
    physical: PhysicalAddress
    length: usize
    mapping: Mapping
    level: u32


class Mappings(Component):
    """A walk over everything under a root, in the order of the addresses."""

    c_module = "virtual"

    def __init__(
        self, image: Image, entries: EntryFormat, physical: PhysicalMemory, tables: Tables
    ) -> None:
        super().__init__(image)
        self.entries = entries
        self.physical = physical
        self.tables = tables
        self.upper_half = entries.upper_half
        self.upper_start = entries.upper_start

    @api
    def pagetable_next_range(self, pagetable: PhysicalAddress, found: PagetableRange) -> bool:
        """Find what is mapped next after ``found``; False when there is no more.

        To begin, clear ``found``.  A leaf without access counts, with its flags and its frame.
        The table may change between the calls.
        """
        self.physical.require_addressable()
        address = VirtualAddress(wrap_add(usize(found.virtual), found.length))
        if address == VirtualAddress(0) and found.length != 0:
            return False
        length = usize(0)
        with self.local(Walk) as walk:
            walk.pagetable = pagetable
            while True:
                if not self.entries.translates(address, address):
                    if not self.upper_half or length != 0:
                        break
                    address = VirtualAddress(self.upper_start)
                walk.address = address
                self.tables.walk(walk)
                if walk.entry != 0:
                    physical = self.entries.frame(walk.entry, walk.level)
                    mapping = self.entries.mapping(walk.entry, walk.level)
                    if length == 0:
                        found.virtual = address
                        found.physical = physical
                        found.mapping = mapping
                        found.level = walk.level
                    elif (
                        walk.level != found.level
                        or mapping != found.mapping
                        or physical != found.physical + length
                    ):
                        break
                    length += walk.mask + 1
                elif length != 0:
                    break
                address = VirtualAddress(
                    wrap_add(usize(address - (address & walk.mask)), walk.mask + 1)
                )
                if address == VirtualAddress(0):
                    break
        if length == 0:
            return False
        found.length = length
        return True

    @api
    def pagetable_next_writable_executable(
        self, pagetable: PhysicalAddress, found: PagetableRange
    ) -> bool:
        """Find the next range that somebody may write and somebody may execute; False if none.

        As :meth:`pagetable_next_range`, but only of what a kernel that keeps to "write or
        execute" would not have.
        """
        while self.pagetable_next_range(pagetable, found):
            mapping = found.mapping
            if (
                Mapping.NO_EXECUTE not in mapping
                and Mapping.DEVICE not in mapping
                and Mapping.USER_READ_ONLY not in mapping
                and Mapping.READ_ONLY not in mapping
                and Mapping.NO_ACCESS not in mapping
            ):
                return True
        return False
