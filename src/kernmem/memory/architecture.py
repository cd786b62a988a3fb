"""What a hardware gives the memory manager.  To add one, fill these types, top to bottom.

1. :class:`EntryFormat`: what the bits of a page-table entry mean.  Pure functions of numbers.
2. :class:`Mmu`: the registers, barriers and invalidations around a change of the tables.
3. :class:`MemoryMap`: where the board has its RAM and its devices.
4. :class:`Board`: one character out, an exit status, and a load or store that may fault.

Levels count from the bottom: level 0 maps pages, the root is level ``levels - 1``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag

from kernmem.language import (
    Component,
    Image,
    PhysicalAddress,
    VirtualAddress,
    enumeration,
    intrinsic,
    kernel,
    linear,
    u8,
    u32,
    u64,
    usize,
)


@enumeration("mapping_t")
class Mapping(IntFlag):
    """How a page is mapped.  One access kind, and what it adds to the default.

    By default a page is normal memory that may be executed.
    """

    KERNEL = 0  # the kernel reads and writes; user code has no access
    USER_READ_ONLY = 1  # kernel and user read; nobody writes
    USER_READ_WRITE = 2  # kernel and user read and write
    NO_EXECUTE = 4  # nobody executes
    DEVICE = 8  # device memory: not cached, not reordered


@enumeration("fault_t")
class Fault(IntEnum):
    """What became of an access that was allowed to fault."""

    NONE = 0
    NOT_MAPPED = 1
    PERMISSION = 2
    OTHER = 3


class EntryFormat(Component):
    """Page-table entries of one architecture and granule, as pure functions.

    Attributes (build-time numbers):
        page_bits: bits of an address within a page.
        page_length: bytes of a page, and of a table: ``1 << page_bits``.
        levels: how many tables a walk goes through.
        index_bits: bits of the address that index one table.
        address_bits: width of a virtual address that the root can translate.
        physical_bits: width of a physical address that an entry can hold.
        block_levels: the highest level whose entries may be blocks (0: pages only).
    """

    page_bits: int
    page_length: int
    levels: int
    index_bits: int
    address_bits: int
    physical_bits: int
    block_levels: int

    def __init__(self, image: Image) -> None:
        super().__init__(image)
        self._load = image.memory.loader(8)
        self._store = image.memory.storer(8)

    # Where entries lie: as most architectures have it, 8 bytes each, in tables of one page ------

    @kernel
    def shift(self, level: u32) -> u32:
        """The lowest address bit that the index of ``level`` uses."""
        return level * self.index_bits + self.page_bits

    @kernel
    def read(self, table: PhysicalAddress, index: usize) -> u64:
        """The entry at ``index``; the table must be linearly addressable."""
        return self.load_entry(linear(table) + index * 8)

    @kernel
    def write(self, table: PhysicalAddress, index: usize, entry: u64) -> None:
        """Store an entry in one access, as the walker may read it at any time."""
        self.store_entry(linear(table) + index * 8, entry)

    @intrinsic(c="return *(volatile const uint64_t *)(uintptr_t)address;")
    def load_entry(self, address: VirtualAddress) -> u64:
        """Load 8 bytes in one access."""
        return u64(self._load(int(address)))

    @intrinsic(c="*(volatile uint64_t *)(uintptr_t)address = entry;")
    def store_entry(self, address: VirtualAddress, entry: u64) -> None:
        """Store 8 bytes in one access: the walker never sees half an entry."""
        self._store(int(address), int(entry))

    # What their bits mean -----------------------------------------------------------------------

    @kernel
    def is_valid(self, entry: u64) -> bool:
        """Whether a walk goes on from ``entry``, to a table or to memory."""
        raise NotImplementedError

    @kernel
    def is_leaf(self, entry: u64, level: u32) -> bool:
        """Whether a valid ``entry`` of ``level`` is a page or block, not a table."""
        raise NotImplementedError

    @kernel
    def leaf(self, physical: PhysicalAddress, mapping: Mapping, level: u32) -> u64:
        """The entry that maps a page (level 0) or a block at ``physical``."""
        raise NotImplementedError

    @kernel
    def table(self, physical: PhysicalAddress) -> u64:
        """The entry that leads to the next lower table at ``physical``."""
        raise NotImplementedError

    @kernel
    def frame(self, entry: u64, level: u32) -> PhysicalAddress:
        """The physical address that a leaf of ``level`` maps."""
        raise NotImplementedError

    @kernel
    def next_table(self, entry: u64) -> PhysicalAddress:
        """The physical address of the table that a table entry leads to."""
        raise NotImplementedError

    @kernel
    def mapping(self, entry: u64, level: u32) -> Mapping:
        """How a leaf maps: the inverse of :meth:`leaf`."""
        raise NotImplementedError


class Mmu(Component):
    """What must be done around a change of the page tables; the order is the caller's.

    ======================  ==================================================================
    the caller has          and calls
    ======================  ==================================================================
    made an entry valid     :meth:`publish`, before the first access through it
    filled a new table      :meth:`publish`, before linking it
    made a leaf invalid     :meth:`retire_page`, before it or its memory is used again
    unlinked a table, or    :meth:`retire_table`, before the entry or the table is used again
    broken up a block
    ======================  ==================================================================
    """

    @kernel
    def enable(self, table: PhysicalAddress) -> None:
        """Turn the MMU on; the running code is mapped linearly in ``table``."""
        raise NotImplementedError

    @kernel
    def switch(self, table: PhysicalAddress) -> None:
        """Translate by ``table`` from now on; no translation of another table survives."""
        raise NotImplementedError

    @kernel
    def publish(self) -> None:
        """Make the entries written so far visible to the walker."""
        raise NotImplementedError

    @kernel
    def retire_page(self, address: VirtualAddress) -> None:
        """Forget the leaf translation of ``address``, everywhere."""
        raise NotImplementedError

    @kernel
    def retire_table(self, address: VirtualAddress) -> None:
        """Forget every translation of ``address``, those of its upper levels too."""
        raise NotImplementedError


@dataclass(frozen=True)
class Region:
    """A range of addresses known at build time; ``end`` is the first byte after it."""

    start: int
    end: int


class MemoryMap(Component):
    """Where things are.

    Attributes (build-time):
        devices: the peripherals, mapped linearly, as device memory, in every kernel space.
        linear_end: the linear space maps addresses from 0 (or ``linear_start``) up to here.
        segment_start, segment_end: where the kernel segment may lie, in virtual addresses.
        program_start: the first byte of the kernel image.
    """

    devices: tuple[Region, ...]
    linear_start: int
    linear_end: int
    segment_start: int
    segment_end: int
    program_start: int

    @kernel
    def program_end(self) -> PhysicalAddress:
        """The first byte after the kernel image, its stack and its variables."""
        raise NotImplementedError

    @kernel
    def physical_end(self) -> PhysicalAddress:
        """The first byte after the RAM."""
        raise NotImplementedError


class Board(Component):
    """The little that a self-testing kernel needs of the board, and nothing else does."""

    @kernel
    def put(self, character: u8) -> None:
        """Write one character to the console."""
        raise NotImplementedError

    @kernel
    def exit(self, status: u32) -> None:
        """Leave the machine with an exit status; 0 is success."""
        raise NotImplementedError

    @kernel
    def probe_read(self, address: VirtualAddress) -> Fault:
        """Load 8 bytes at ``address`` and say what the MMU thought of it."""
        raise NotImplementedError

    @kernel
    def probe_write(self, address: VirtualAddress, value: u64) -> Fault:
        """Store 8 bytes at ``address`` and say what the MMU thought of it."""
        raise NotImplementedError


@dataclass(frozen=True)
class Hardware:
    """One hardware, put together for one image."""

    format: EntryFormat
    mmu: Mmu
    memory_map: MemoryMap
    board: Board
