"""What a hardware gives the memory manager.  To add one, fill these types, top to bottom.

1. :class:`EntryFormat`: what the bits of a page-table entry mean.  Pure functions of numbers.
2. :class:`Mmu`: the registers, barriers and invalidations around a change of the tables.
3. :class:`MemoryMap`: where the board has its RAM and its devices.
4. :class:`Console`, :class:`Power`, :class:`Probe`: one character out, an exit status, and a load
   or store that may fault.

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
from kernmem.memory.ranges import MemoryRanges


@enumeration("mapping_t")
class Mapping(IntFlag):
    """How a page is mapped.  One access kind, and what it adds to the default.

    By default a page is normal memory that may be executed, and belongs to one address space.
    """

    KERNEL = 0  # the kernel reads and writes; user code has no access
    USER_READ_ONLY = 1  # kernel and user read; nobody writes
    USER_READ_WRITE = 2  # kernel and user read and write
    NO_EXECUTE = 4  # nobody executes
    DEVICE = 8  # device memory: not cached, not reordered; nobody executes
    READ_ONLY = 16  # nobody writes, the kernel neither
    GLOBAL = 32  # mapped alike in every table that is used, so that a switch need not forget it
    UNCACHED = 64  # normal memory, not cached: what a device that does not snoop shares
    NO_ACCESS = 128  # nobody may do anything: a guard page; the frame is remembered


ALL_MAPPINGS = Mapping(0xFF)
"""What an architecture can express that lacks nothing."""


@enumeration("fault_t")
class Fault(IntEnum):
    """What became of an access that was allowed to fault."""

    NONE = 0
    NOT_MAPPED = 1
    PERMISSION = 2
    OTHER = 3


class EntryFormat(Component):
    """Page-table entries of one architecture and granule, as pure functions.

    An entry is as wide as a pointer.  All tables but the root have a page of their own, if they
    need it whole or not; the root has :meth:`root_pages` pages, aligned to its length.

    Attributes (build-time numbers):
        entry_length: bytes of an entry.
        page_bits: bits of an address within a page.
        page_length: bytes of a page: ``1 << page_bits``.
        levels: how many tables a walk goes through.
        index_bits: bits of the address that index one table.
        root_index_bits: bits of the address that index the root, where they are more.
        address_bits: the root translates the addresses of so many bits, from 0 up.
        upper_half: whether it also translates as many just below the end of all addresses.
        physical_bits: width of a physical address that an entry can hold.
        block_levels: the highest level whose entries may be blocks (0: pages only).
        mappings: the flags that :meth:`leaf` can express.
    """

    page_bits: int
    page_length: int
    levels: int
    index_bits: int
    root_index_bits: int | None = None
    address_bits: int
    upper_half: bool = False
    physical_bits: int
    block_levels: int
    mappings: Mapping

    def __init__(self, image: Image) -> None:
        super().__init__(image)
        self.entry_length = image.target.pointer_bytes
        self._load = image.memory.loader(self.entry_length)
        self._store = image.memory.storer(self.entry_length)

    @property
    def root_pages(self) -> int:
        """How many pages a root takes."""
        length = self.entry_length << (self.root_index_bits or self.index_bits)
        return -(-length // self.page_length)

    @property
    def last_virtual(self) -> int:
        """The last address of the lower half."""
        return (1 << self.address_bits) - 1

    @property
    def upper_start(self) -> int:
        """The first address of the upper half, if there is one."""
        return (1 << 8 * self.entry_length) - (1 << self.address_bits)

    # Where entries lie --------------------------------------------------------------------------

    @kernel
    def shift(self, level: u32) -> u32:
        """The lowest address bit that the index of ``level`` uses."""
        return level * self.index_bits + self.page_bits

    @kernel
    def read(self, table: PhysicalAddress, index: usize) -> usize:
        """The entry at ``index``; the table must be linearly addressable."""
        return self.load_entry(linear(table) + index * self.entry_length)

    @kernel
    def write(self, table: PhysicalAddress, index: usize, entry: usize) -> None:
        """Store an entry in one access, as the walker may read it at any time."""
        self.store_entry(linear(table) + index * self.entry_length, entry)

    @intrinsic(c="return *(volatile const uintptr_t *)(uintptr_t)address;")
    def load_entry(self, address: VirtualAddress) -> usize:
        """Load an entry in one access."""
        return usize(self._load(int(address)))

    @intrinsic(c="*(volatile uintptr_t *)(uintptr_t)address = entry;")
    def store_entry(self, address: VirtualAddress, entry: usize) -> None:
        """Store an entry in one access: the walker never sees half of it."""
        self._store(int(address), int(entry))

    @kernel
    def table_length(self, level: u32) -> usize:
        """How many entries a table of ``level`` has."""
        if self.root_index_bits is not None and level == self.levels - 1:
            return usize(1 << self.root_index_bits)
        return usize(1 << self.index_bits)

    @kernel
    def index(self, virtual: VirtualAddress, level: u32) -> usize:
        """Where the table of ``level`` holds the entry of ``virtual``."""
        return (virtual >> self.shift(level)) % self.table_length(level)

    @kernel
    def translates(self, start: VirtualAddress, last: VirtualAddress) -> bool:
        """Whether a root has entries for all addresses from ``start`` to ``last``."""
        if self.upper_half and start >= self.upper_start:
            return True
        return last <= self.last_virtual

    # What their bits mean -----------------------------------------------------------------------

    @kernel
    def is_valid(self, entry: usize) -> bool:
        """Whether a walk goes on from ``entry``, to a table or to memory."""
        raise NotImplementedError

    @kernel
    def is_leaf(self, entry: usize, level: u32) -> bool:
        """Whether an ``entry``, not 0, is a page or a block, with access or not; no table."""
        raise NotImplementedError

    @kernel
    def is_table(self, entry: usize, level: u32) -> bool:
        """Whether ``entry`` leads to a table."""
        return self.is_valid(entry) and not self.is_leaf(entry, level)

    @kernel
    def leaf(self, physical: PhysicalAddress, mapping: Mapping, level: u32) -> usize:
        """The entry that maps a page (level 0) or a block at ``physical``; never 0."""
        raise NotImplementedError

    @kernel
    def step(self, length: usize) -> usize:
        """By how much a leaf grows if its frame does by ``length``, a multiple of a page."""
        return length

    @kernel
    def is_global(self, entry: usize, level: u32) -> bool:
        """Whether a leaf was made as :attr:`Mapping.GLOBAL`."""
        raise NotImplementedError

    @kernel
    def table(self, physical: PhysicalAddress) -> usize:
        """The entry that leads to the next lower table at ``physical``."""
        raise NotImplementedError

    @kernel
    def frame(self, entry: usize, level: u32) -> PhysicalAddress:
        """The physical address that a leaf of ``level`` maps."""
        raise NotImplementedError

    @kernel
    def next_table(self, entry: usize) -> PhysicalAddress:
        """The physical address of the table that a table entry leads to."""
        raise NotImplementedError

    @kernel
    def must_break(self, old: usize, new: usize, level: u32) -> bool:
        """Whether a valid leaf must not become another at once.

        It must be invalid in between, and retired, or both may be cached, with what follows from
        that: two memory types for one page, or two translations for one address.
        """
        raise NotImplementedError

    @kernel
    def mapping(self, entry: usize, level: u32) -> Mapping:
        """How a leaf maps: the inverse of :meth:`leaf`."""
        raise NotImplementedError


class Mmu(Component):
    """What must be done around a change of the page tables; the order is the caller's.

    ==================================  ========================================================
    the caller has                      and calls
    ==================================  ========================================================
    filled a new table                  :meth:`order_tables`, before linking it
    made one leaf valid                 :meth:`publish_page`, before the first access through it
    made several valid, or linked       :meth:`publish_range`, before the first access through
    a table                             any
    made one leaf invalid, or less      :meth:`retire_page`, before its entry or its memory is
    permissive                          used again
    changed several so, or unlinked     :meth:`retire_range`, before the entries, the memory or
    a table                             the tables are used again
    stopped using a root for good       :meth:`forget`, before its memory is used again
    ==================================  ========================================================

    ``table`` is the root that the change was made under, current or not.  ``is_global`` says
    whether any of the leaves is global, or was: what is cached of those is not of that root alone.
    Ranges go from ``start`` to ``last``, the last byte: the end of all addresses has no number.
    """

    @kernel
    def enable(self, table: PhysicalAddress) -> None:
        """Turn the MMU on; the running code is mapped linearly in ``table``."""
        raise NotImplementedError

    @kernel
    def switch(self, table: PhysicalAddress) -> None:
        """Translate by ``table`` from now on, and of others by nothing but what is global."""
        raise NotImplementedError

    @kernel
    def order_tables(self) -> None:
        """Whoever sees an entry written from now on also sees those written so far."""
        raise NotImplementedError

    @kernel
    def publish_page(
        self, table: PhysicalAddress, address: VirtualAddress, is_global: bool
    ) -> None:
        """Let the walker see the new leaf of ``address``, in a table that was there already."""
        raise NotImplementedError

    @kernel
    def publish_range(
        self, table: PhysicalAddress, start: VirtualAddress, last: VirtualAddress, is_global: bool
    ) -> None:
        """Let the walker see new leaves, and new tables that lead to them."""
        raise NotImplementedError

    @kernel
    def retire_page(self, table: PhysicalAddress, address: VirtualAddress, is_global: bool) -> None:
        """Forget the leaf translation of ``address``, page or block, everywhere."""
        raise NotImplementedError

    @kernel
    def retire_range(
        self, table: PhysicalAddress, start: VirtualAddress, last: VirtualAddress, is_global: bool
    ) -> None:
        """Forget every translation in the range, and what led to its tables, everywhere."""
        raise NotImplementedError

    @kernel
    def forget(self, table: PhysicalAddress) -> None:
        """Forget whatever was remembered under the root ``table``, which is not current."""
        raise NotImplementedError


@dataclass(frozen=True)
class Region:
    """A range of addresses known at build time; ``end`` is the first byte after it."""

    start: int
    end: int


@dataclass(frozen=True)
class Places:
    """Where things are that are known at build time.

    Attributes:
        program: the window that the kernel image, its stack and its variables lie in.
        devices: the peripherals, mapped linearly, as device memory, in every kernel space.
        linear: the linear space maps what of RAM and devices is in this range.
        segment: where the kernel segment may lie, in virtual addresses.
    """

    program: Region
    devices: tuple[Region, ...]
    linear: Region
    segment: Region


class MemoryMap(Component):
    """Where things are, and what the firmware says of the RAM.

    Attributes:
        ranges: takes what :meth:`report` says.
    """

    c_module = "physical"

    def __init__(self, image: Image, places: Places) -> None:
        super().__init__(image)
        self.ranges = MemoryRanges(image)
        self.devices = places.devices
        self.linear_start = places.linear.start
        self.linear_end = places.linear.end
        self.segment_start = places.segment.start
        self.segment_end = places.segment.end
        self.program_start = places.program.start
        self.window_end = places.program.end

    @kernel
    def program_end(self) -> PhysicalAddress:
        """The first byte after the kernel image, its stack and its variables."""
        return PhysicalAddress(self.window_end)

    @kernel
    def report(self) -> None:
        """Tell :attr:`ranges` all RAM, and what of it is not free; called once, with the MMU off.

        In any order, overlapping or not.  The program, the devices and the page at address 0
        need not be told.
        """
        raise NotImplementedError


# What a self-testing kernel needs, and nothing else does --------------------------------------


class Console(Component):
    """Where text goes."""

    @kernel
    def put(self, character: u8) -> None:
        """Write one character to the console."""
        raise NotImplementedError


class Power(Component):
    """The way out."""

    @kernel
    def exit(self, status: u32) -> None:
        """Leave the machine with an exit status; 0 is success."""
        raise NotImplementedError


class Probe(Component):
    """Loads and stores that may fault."""

    @kernel
    def read(self, address: VirtualAddress) -> Fault:
        """Load 8 bytes at ``address`` and say what the MMU thought of it."""
        raise NotImplementedError

    @kernel
    def write(self, address: VirtualAddress, value: u64) -> Fault:
        """Store 8 bytes at ``address`` and say what the MMU thought of it."""
        raise NotImplementedError


@dataclass(frozen=True)
class Hardware:
    """One hardware, put together for one image."""

    format: EntryFormat
    mmu: Mmu
    memory_map: MemoryMap
    console: Console
    power: Power
    probe: Probe
