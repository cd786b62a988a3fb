"""A reader of flattened device trees (the Devicetree Specification, v0.4, chapter 5).

It asks for what memory management needs: the RAM, what of it is reserved, and the kernel's
command line.  The tree comes from firmware and is not trusted: it is read in one pass, every step
of which goes forward, and no byte outside it is read.  What is wrong gives a status.

Names are at most 16 bytes here, packed into two integers as they lie in memory; so the compiler,
which has no strings, compares them with build-time numbers.
"""

from __future__ import annotations

from enum import IntEnum

from kernmem.language import (
    Array,
    Component,
    Image,
    PhysicalAddress,
    Struct,
    enumeration,
    kernel,
    linear,
    span,
    struct,
    u8,
    u32,
    u64,
    usize,
)

MAGIC = 0xD00D_FEED
HEADER_LENGTH = 40
VERSION = 17
COMPATIBLE = 16  # the last version that version 17 is compatible with

BEGIN_NODE, END_NODE, PROPERTY, NOP, END = 1, 2, 3, 4, 9  # tokens of the structure block

AT = ord("@")  # after it, a node's name goes on with its address

MAX_DEPTH = 64
MAX_RANGES = 32  # of RAM, and of reserved memory


def packed(name: str) -> tuple[int, int]:
    """A name of at most 16 bytes as :meth:`DeviceTree.pack` packs it."""
    data = name.encode()
    assert 0 < len(data) <= 16, name
    return int.from_bytes(data[:8], "little"), int.from_bytes(data[8:], "little")


@enumeration("device_tree_status_t")
class DeviceTreeStatus(IntEnum):
    """What became of reading a tree."""

    OK = 0
    NO_TREE = 1  # not aligned to 8 bytes, or without the magic number
    BAD_HEADER = 2  # sizes and offsets that cannot be, or another version
    BAD_STRUCTURE = 3  # not a tree, or one that ends too early
    BAD_NAME = 4  # a name that does not end, or lies outside its block
    BAD_PROPERTY = 5  # a property that is read here has a value that cannot be
    TOO_DEEP = 6  # more than MAX_DEPTH nodes in each other
    TOO_MANY = 7  # more than MAX_RANGES ranges of a kind


@enumeration("device_tree_node_t")
class Node(IntEnum):
    """The nodes that the reader knows, by what it does with their properties."""

    OTHER = 0
    ROOT = 1
    MEMORY = 2  # /memory or /memory@…
    RESERVED = 3  # /reserved-memory
    RESERVED_RANGE = 4  # a child of it
    CHOSEN = 5  # /chosen


@struct("device_tree_info_t")
class DeviceTreeInfo(Struct):
    """What was found; ranges are in ``device_tree_memory`` and ``device_tree_reserved``."""

    start: PhysicalAddress
    length: usize  # of the whole tree
    memory_count: usize
    reserved_count: usize  # reserved by the tree; the tree itself is not among them
    command_line: PhysicalAddress | None  # /chosen/bootargs, which ends with a 0
    # The rest is of use while reading.
    structure: usize  # offsets of the blocks, and of the first byte after each
    structure_end: usize
    strings: usize
    strings_end: usize
    address_cells: u32  # of the root's children
    size_cells: u32
    reserved_address_cells: u32  # of the children of /reserved-memory
    reserved_size_cells: u32
    name_low: u64  # the name that was packed last
    name_high: u64


class DeviceTree(Component):
    """The reader.  It knows no board: any physical address may hold a tree."""

    c_module = "device_tree"

    def __init__(self, image: Image) -> None:
        super().__init__(image)
        self.memory_name = packed("memory")
        self.reserved_name = packed("reserved-memory")
        self.chosen_name = packed("chosen")
        self.address_cells_name = packed("#address-cells")
        self.size_cells_name = packed("#size-cells")
        self.reg_name = packed("reg")
        self.command_line_name = packed("bootargs")
        self.info = self.static(DeviceTreeInfo, "device_tree_info")
        # Each range: its first byte, and the first byte after it.
        self.memory = self.static_array(u64, 2 * MAX_RANGES, "device_tree_memory")
        self.reserved = self.static_array(u64, 2 * MAX_RANGES, "device_tree_reserved")

    @kernel
    def read(self, start: PhysicalAddress, limit: usize) -> DeviceTreeStatus:
        """Read the tree at ``start``, of which at most ``limit`` bytes are there.

        Physical memory must be addressable.  O(bytes of the tree).
        """
        info = self.info
        info.start = start
        info.length = usize(0)
        info.memory_count = usize(0)
        info.reserved_count = usize(0)
        info.command_line = None
        status = self.read_header(limit)
        if status == DeviceTreeStatus.OK:
            status = self.read_reservations()
        if status == DeviceTreeStatus.OK:
            status = self.read_nodes()
        return status

    # Bytes ----------------------------------------------------------------------------------

    @kernel
    def byte(self, offset: usize) -> u8:
        """A byte of the tree."""
        return self.array_at(u8, linear(self.info.start))[offset]

    @kernel
    def cell(self, offset: usize) -> u32:
        """Four bytes, the highest first."""
        data = self.array_at(u8, linear(self.info.start))
        high = u32(data[offset]) << 24 | u32(data[offset + 1]) << 16
        return high | u32(data[offset + 2]) << 8 | u32(data[offset + 3])

    @kernel
    def cells(self, offset: usize, count: u32) -> u64:
        """One or two cells, the highest first."""
        value = u64(self.cell(offset))
        if count == 2:
            value = value << 32 | u64(self.cell(offset + 4))
        return value

    @kernel
    def pack(self, offset: usize, end: usize, separator: u8) -> usize:
        """Pack the name at ``offset`` up to a 0 or ``separator`` into the info.

        Returns the offset after its 0, or 0 if it does not end before ``end``.  A name of more
        than 16 bytes is packed as none at all.
        """
        info = self.info
        info.name_low = u64(0)
        info.name_high = u64(0)
        length = u32(0)
        separated = False
        place = offset
        while place < end:
            byte = self.byte(place)
            place += 1
            if byte == 0:
                return place
            if byte == separator:
                separated = True
            if not separated:
                if length < 8:
                    info.name_low |= u64(byte) << length * 8
                elif length < 16:
                    info.name_high |= u64(byte) << (length - 8) * 8
                else:
                    info.name_low = u64(0)
                    info.name_high = u64(0)
                    separated = True
                length += 1
        return usize(0)

    # The header and the reservations (5.2, 5.3) ---------------------------------------------

    @kernel
    def read_header(self, limit: usize) -> DeviceTreeStatus:
        """Check the header, and remember where the blocks are."""
        info = self.info
        if info.start % 8 != 0 or limit < HEADER_LENGTH or self.cell(usize(0)) != MAGIC:
            return DeviceTreeStatus.NO_TREE
        total = usize(self.cell(usize(4)))
        structure = usize(self.cell(usize(8)))
        strings = usize(self.cell(usize(12)))
        strings_length = usize(self.cell(usize(32)))
        structure_length = usize(self.cell(usize(36)))
        if self.cell(usize(20)) < VERSION or self.cell(usize(24)) > COMPATIBLE + 1:
            return DeviceTreeStatus.BAD_HEADER
        if total < HEADER_LENGTH or total > limit:
            return DeviceTreeStatus.BAD_HEADER
        if structure % 4 != 0 or structure_length % 4 != 0:
            return DeviceTreeStatus.BAD_HEADER
        if structure < HEADER_LENGTH or structure > total or structure_length > total - structure:
            return DeviceTreeStatus.BAD_HEADER
        if strings < HEADER_LENGTH or strings > total or strings_length > total - strings:
            return DeviceTreeStatus.BAD_HEADER
        info.length = total
        info.structure = structure
        info.structure_end = structure + structure_length
        info.strings = strings
        info.strings_end = strings + strings_length
        return DeviceTreeStatus.OK

    @kernel
    def read_reservations(self) -> DeviceTreeStatus:
        """Read the pairs of address and length, up to one of zeros."""
        place = usize(self.cell(usize(16)))
        if place < HEADER_LENGTH or place % 8 != 0:
            return DeviceTreeStatus.BAD_HEADER
        while place <= self.info.length and self.info.length - place >= 16:
            start = self.cells(place, u32(2))
            length = self.cells(place + 8, u32(2))
            place += 16
            if start == 0 and length == 0:
                return DeviceTreeStatus.OK
            status = self.reserve(start, length)
            if status != DeviceTreeStatus.OK:
                return status
        return DeviceTreeStatus.BAD_HEADER

    @kernel
    def reserve(self, start: u64, length: u64) -> DeviceTreeStatus:
        """Note a range of reserved memory; an empty one is none."""
        count = self.info.reserved_count
        status = self.note(self.reserved, count, start, length)
        if status == DeviceTreeStatus.OK and length != 0:
            self.info.reserved_count = count + 1
        return status

    @kernel
    def note(self, ranges: Array[u64], count: usize, start: u64, length: u64) -> DeviceTreeStatus:
        """Write a range as number ``count``, if it is one."""
        if length == 0:
            return DeviceTreeStatus.OK
        if length > ~u64(0) - start:
            return DeviceTreeStatus.BAD_PROPERTY
        if count == MAX_RANGES:
            return DeviceTreeStatus.TOO_MANY
        ranges[count * 2] = start
        ranges[count * 2 + 1] = start + length
        return DeviceTreeStatus.OK

    # The structure block (5.4) --------------------------------------------------------------

    @kernel
    def read_nodes(self) -> DeviceTreeStatus:
        """Walk all nodes.  Each round goes forward by a token at least."""
        info = self.info
        info.address_cells = u32(2)  # what holds where a tree does not say (2.3.5)
        info.size_cells = u32(1)
        info.reserved_address_cells = u32(2)
        info.reserved_size_cells = u32(1)
        place = info.structure
        end = info.structure_end
        depth = u32(0)
        node = Node.OTHER
        parent = Node.OTHER  # the node at depth 2 that is open, or was last
        rooted = False
        while end - place >= 4:
            token = self.cell(place)
            place += 4
            if token == BEGIN_NODE:
                if depth == 0 and rooted:
                    return DeviceTreeStatus.BAD_STRUCTURE
                if depth == MAX_DEPTH:
                    return DeviceTreeStatus.TOO_DEEP
                rooted = True
                depth += 1
                place = self.pack(place, end, u8(AT))
                if place == 0:
                    return DeviceTreeStatus.BAD_NAME
                place = self.align(place)
                node = self.node_at(depth, parent)
                if depth == 2:
                    parent = node
            elif token == END_NODE:
                if depth == 0:
                    return DeviceTreeStatus.BAD_STRUCTURE
                depth -= 1
                # A node's properties come before its children (5.4.1), so none may follow.
                node = Node.OTHER
            elif token == PROPERTY:
                if depth == 0 or end - place < 8:
                    return DeviceTreeStatus.BAD_STRUCTURE
                length = usize(self.cell(place))
                name = usize(self.cell(place + 4))
                place += 8
                if length > end - place:
                    return DeviceTreeStatus.BAD_STRUCTURE
                if name >= info.strings_end - info.strings:
                    return DeviceTreeStatus.BAD_NAME
                if self.pack(info.strings + name, info.strings_end, u8(0)) == 0:
                    return DeviceTreeStatus.BAD_NAME
                status = self.read_property(node, place, length)
                if status != DeviceTreeStatus.OK:
                    return status
                place = self.align(place + length)
            elif token == END:
                return (
                    DeviceTreeStatus.OK
                    if self.closed(depth, rooted)
                    else (DeviceTreeStatus.BAD_STRUCTURE)
                )
            elif token != NOP:
                return DeviceTreeStatus.BAD_STRUCTURE
            if place > end:
                return DeviceTreeStatus.BAD_STRUCTURE
        return DeviceTreeStatus.BAD_STRUCTURE

    @kernel
    def closed(self, depth: u32, rooted: bool) -> bool:
        """Whether the tree may end here."""
        return depth == 0 and rooted

    @kernel
    def align(self, offset: usize) -> usize:
        """The next token is at a multiple of 4."""
        return (offset + 3) // 4 * 4

    @kernel
    def is_named(self, low: u64, high: u64) -> bool:
        """Whether the name packed last is this one."""
        return self.info.name_low == low and self.info.name_high == high

    @kernel
    def node_at(self, depth: u32, parent: Node) -> Node:
        """The node that begins with the name packed last."""
        if depth == 1:
            return Node.ROOT
        if depth == 2:
            if self.is_named(u64(self.memory_name[0]), u64(self.memory_name[1])):
                return Node.MEMORY
            if self.is_named(u64(self.reserved_name[0]), u64(self.reserved_name[1])):
                return Node.RESERVED
            if self.is_named(u64(self.chosen_name[0]), u64(self.chosen_name[1])):
                return Node.CHOSEN
        if depth == 3 and parent == Node.RESERVED:
            return Node.RESERVED_RANGE
        return Node.OTHER

    # Properties -----------------------------------------------------------------------------

    @kernel
    def read_property(self, node: Node, place: usize, length: usize) -> DeviceTreeStatus:
        """Take what is of use from the property whose name was packed last."""
        info = self.info
        if node == Node.ROOT or node == Node.RESERVED:
            address = self.is_named(
                u64(self.address_cells_name[0]), u64(self.address_cells_name[1])
            )
            size = self.is_named(u64(self.size_cells_name[0]), u64(self.size_cells_name[1]))
            if not address and not size:
                return DeviceTreeStatus.OK
            if length != 4:
                return DeviceTreeStatus.BAD_PROPERTY
            count = self.cell(place)
            if node == Node.ROOT:
                if address:
                    info.address_cells = count
                else:
                    info.size_cells = count
            elif address:
                info.reserved_address_cells = count
            else:
                info.reserved_size_cells = count
        elif node == Node.MEMORY or node == Node.RESERVED_RANGE:
            if self.is_named(u64(self.reg_name[0]), u64(self.reg_name[1])):
                return self.read_ranges(node, place, length)
        elif node == Node.CHOSEN and self.is_named(
            u64(self.command_line_name[0]), u64(self.command_line_name[1])
        ):
            if length == 0 or self.byte(place + length - 1) != 0:
                return DeviceTreeStatus.BAD_PROPERTY
            info.command_line = info.start + place
        return DeviceTreeStatus.OK

    @kernel
    def read_ranges(self, node: Node, place: usize, length: usize) -> DeviceTreeStatus:
        """Note the pairs of address and length of a "reg" (2.3.6)."""
        info = self.info
        address_cells = info.address_cells
        size_cells = info.size_cells
        if node == Node.RESERVED_RANGE:
            address_cells = info.reserved_address_cells
            size_cells = info.reserved_size_cells
        if address_cells < 1 or address_cells > 2 or size_cells < 1 or size_cells > 2:
            return DeviceTreeStatus.BAD_PROPERTY
        step = usize(address_cells + size_cells) * 4
        if length % step != 0:
            return DeviceTreeStatus.BAD_PROPERTY
        for number in span(usize(0), length // step):
            start = self.cells(place + number * step, address_cells)
            size = self.cells(place + number * step + usize(address_cells) * 4, size_cells)
            if node == Node.RESERVED_RANGE:
                status = self.reserve(start, size)
            else:
                status = self.note(self.memory, info.memory_count, start, size)
                if status == DeviceTreeStatus.OK and size != 0:
                    info.memory_count += 1
            if status != DeviceTreeStatus.OK:
                return status
        return DeviceTreeStatus.OK
