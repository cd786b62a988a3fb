"""Page-table entries whose bits say one thing each: what most architectures have.

An architecture lists, from its manual, which bits say what of a leaf (:class:`LeafBits`); how a
leaf is made of them, and how it is read again, is written here, once for all.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernmem.language import Image, PhysicalAddress, kernel, u32, usize
from kernmem.memory.architecture import ALL_MAPPINGS, EntryFormat, Mapping


@dataclass(frozen=True)
class LeafBits:
    """The bits that are set in a leaf, by what the mapping is.

    ============================  =============================================================
    of these, each leaf has       what it says
    ============================  =============================================================
    ``always``
    ``valid``, or not             that a walk ends here; without it nobody has access
    ``kernel``, ``read_only``,    who may read and write: only the kernel, which only reads in
    ``user_read_only`` or         the second case; or user code too, where in the third case
    ``user_read_write``           nobody writes
    ``normal``, ``device`` or     the kind of memory; None: it cannot be said
    ``uncached``
    ``executable`` or             whether anybody executes it, who has access; device memory is
    ``never_execute``             never executable, as a speculative fetch could disturb a device
    ``one_space`` or              whether it belongs to one address space, or is global
    ``every_space``
    ============================  =============================================================
    """

    always: int
    valid: int
    kernel: int
    read_only: int
    user_read_only: int
    user_read_write: int
    normal: int
    device: int
    uncached: int | None
    executable: int = 0
    never_execute: int = 0
    one_space: int = 0
    every_space: int = 0


class BitFormat(EntryFormat):
    """Entries of such bits; the rest of an entry is an address.

    Subclasses give :meth:`is_leaf`, and override what differs: where the address lies
    (:meth:`with_address`, :meth:`address`), and what a level changes (:meth:`at_level`,
    :meth:`attributes`).

    Attributes:
        address_mask: the bits of an entry that are an address.
        table_bits: what is set in an entry that leads to a table.
        break_mask: the bits by which :meth:`must_break` judges.
    """

    address_mask: int
    table_bits: int
    break_mask: int = 0

    def __init__(self, image: Image, bits: LeafBits, page_bits: int) -> None:
        super().__init__(image)
        self.page_bits = page_bits
        self.page_length = 1 << page_bits
        self.valid = bits.valid
        self.kernel = bits.kernel
        self.read_only = bits.read_only
        self.user_read_only = bits.user_read_only
        self.user_read_write = bits.user_read_write
        self.normal = bits.normal
        self.device = bits.device
        self.has_uncached = bits.uncached is not None
        self.uncached = bits.normal if bits.uncached is None else bits.uncached
        self.executable = bits.executable
        self.never_execute = bits.never_execute
        self.one_space = bits.one_space
        self.every_space = bits.every_space
        self.default = bits.always | bits.valid | bits.kernel | bits.normal
        self.default |= bits.executable | bits.one_space
        self.mappings = ALL_MAPPINGS if self.has_uncached else ALL_MAPPINGS & ~Mapping.UNCACHED
        # By which of its bits each thing is told from the others.
        self.execute_mask = bits.executable ^ bits.never_execute
        self.space_mask = bits.one_space ^ bits.every_space
        self.memory_mask = _difference(self.normal, self.device, self.uncached)
        access = (self.kernel, self.read_only, self.user_read_only, self.user_read_write)
        self.access_mask = _difference(*access) & ~self.execute_mask
        if len({each & self.access_mask for each in access}) < len(access):
            raise ValueError(f"the bits of each access kind must be its own, not {bits!r}")

    # What an architecture may override ----------------------------------------------------------

    @kernel
    def with_address(self, physical: PhysicalAddress) -> usize:
        """An entry with nothing but an address in it."""
        return usize(physical)

    @kernel
    def address(self, entry: usize) -> PhysicalAddress:
        """The address in an entry."""
        return PhysicalAddress(entry & self.address_mask)

    @kernel
    def at_level(self, bits: usize, level: u32) -> usize:
        """The bits of a leaf, as they stand at ``level``."""
        return bits

    @kernel
    def attributes(self, entry: usize, level: u32) -> usize:
        """The bits of a leaf of ``level``: the inverse of :meth:`at_level`, without ``valid``."""
        return entry

    # The same for all ---------------------------------------------------------------------------

    @kernel
    def is_valid(self, entry: usize) -> bool:
        """Whether a walk goes on from ``entry``, to a table or to memory."""
        return entry & self.valid != 0

    @kernel
    def leaf(self, physical: PhysicalAddress, mapping: Mapping, level: u32) -> usize:
        """The entry that maps a page (level 0) or a block at ``physical``; never 0."""
        bits = usize(self.default)
        if Mapping.USER_READ_WRITE in mapping:
            bits = bits ^ (self.kernel ^ self.user_read_write)
        elif Mapping.USER_READ_ONLY in mapping:
            bits = bits ^ (self.kernel ^ self.user_read_only)
        elif Mapping.READ_ONLY in mapping:
            bits = bits ^ (self.kernel ^ self.read_only)
        if Mapping.DEVICE in mapping:
            bits = bits ^ (self.normal ^ self.device)
        elif Mapping.UNCACHED in mapping:
            bits = bits ^ (self.normal ^ self.uncached)
        if Mapping.GLOBAL in mapping:
            bits = bits ^ (self.one_space ^ self.every_space)
        if Mapping.NO_ACCESS in mapping:
            bits = bits ^ self.valid
        # Last, as what forbids user code to execute may be among the bits of an access kind.
        if Mapping.NO_EXECUTE in mapping or Mapping.DEVICE in mapping:
            bits = bits & ~usize(self.executable) | self.never_execute
        return self.with_address(physical) | self.at_level(bits, level)

    @kernel
    def mapping(self, entry: usize, level: u32) -> Mapping:
        """How a leaf maps: ``leaf(frame, mapping)`` makes the same entry again.

        A device leaf is reported as NO_EXECUTE too, which it always is; READ_ONLY is not
        reported beside USER_READ_ONLY, which says it.
        """
        bits = self.attributes(entry, level)
        mapping = Mapping.KERNEL
        access = bits & self.access_mask
        if access == self.user_read_write & self.access_mask:
            mapping = Mapping.USER_READ_WRITE
        elif access == self.user_read_only & self.access_mask:
            mapping = Mapping.USER_READ_ONLY
        elif access == self.read_only & self.access_mask:
            mapping = Mapping.READ_ONLY
        memory = bits & self.memory_mask
        if memory == self.device & self.memory_mask:
            mapping = mapping | Mapping.DEVICE
        elif self.has_uncached and memory == self.uncached & self.memory_mask:
            mapping = mapping | Mapping.UNCACHED
        if bits & self.execute_mask == self.never_execute & self.execute_mask:
            mapping = mapping | Mapping.NO_EXECUTE
        if self.is_global(entry, level):
            mapping = mapping | Mapping.GLOBAL
        if not self.is_valid(entry):
            mapping = mapping | Mapping.NO_ACCESS
        return mapping

    @kernel
    def is_global(self, entry: usize, level: u32) -> bool:
        """Whether a leaf was made as :attr:`Mapping.GLOBAL`."""
        return self.attributes(entry, level) & self.space_mask == self.every_space & self.space_mask

    @kernel
    def must_break(self, old: usize, new: usize, level: u32) -> bool:
        """Whether a valid leaf must not become another at once: one of the bits differs."""
        changed = self.attributes(old, level) ^ self.attributes(new, level)
        return changed & self.break_mask != 0

    @kernel
    def table(self, physical: PhysicalAddress) -> usize:
        """The entry that leads to the next lower table at ``physical``."""
        return self.with_address(physical) | self.table_bits

    @kernel
    def frame(self, entry: usize, level: u32) -> PhysicalAddress:
        """The physical address that a leaf of ``level`` maps.

        What of the address is below its length is 0 in all that :meth:`leaf` makes.
        """
        return self.address(entry)

    @kernel
    def step(self, length: usize) -> usize:
        """By how much a leaf grows if its frame does by ``length``, a multiple of a page."""
        return self.with_address(PhysicalAddress(length))

    @kernel
    def next_table(self, entry: usize) -> PhysicalAddress:
        """The physical address of the table that a table entry leads to."""
        return self.address(entry)


def _difference(*values: int) -> int:
    """The bits in which the values are not all alike."""
    difference = 0
    for value in values:
        difference |= value ^ values[0]
    return difference
