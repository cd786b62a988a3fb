"""The two orders in which the heap keeps its gaps: by length and by address."""

from __future__ import annotations

from kernmem.language import (
    Image,
    VirtualAddress,
    address_of,
    highest_bit,
    kernel,
    truncate,
    u8,
    u16,
    usize,
)
from kernmem.memory.gap import Gap
from kernmem.memory.gap_tree import LEFT, RIGHT, GapTree

CLASS_BITS = 10  # bits below the highest that tell lengths of one power of two apart


@kernel
def gap_length(gap: Gap) -> usize:
    """The bytes of a gap, its record included."""
    return gap.end - address_of(gap)


@kernel
def length_class(length: usize) -> u16:
    """A number that never falls as ``length`` grows, and takes 16 bits: its leading bits."""
    top = highest_bit(length)
    if top <= CLASS_BITS:
        return truncate(u16, length)
    kept = length >> (top - CLASS_BITS)  # CLASS_BITS + 1 bits, the highest set
    return truncate(u16, (usize(top - CLASS_BITS) << CLASS_BITS) + kept)


class LengthTree(GapTree):
    """Gaps by length; equal lengths by address."""

    @kernel
    def parent(self, gap: Gap) -> Gap | None:
        """The node above ``gap``."""
        return gap.length_parent

    @kernel
    def set_parent(self, gap: Gap, parent: Gap | None) -> None:
        """Set the node above ``gap``."""
        gap.length_parent = parent

    @kernel
    def child(self, gap: Gap, side: bool) -> Gap | None:
        """The node below ``gap`` on a side."""
        return gap.length_left if side else gap.length_right

    @kernel
    def set_child(self, gap: Gap, side: bool, child: Gap | None) -> None:
        """Set the node below ``gap`` on a side."""
        if side:
            gap.length_left = child
        else:
            gap.length_right = child

    @kernel
    def lean(self, gap: Gap) -> u8:
        """How ``gap`` leans."""
        return gap.balances & 0x0F

    @kernel
    def set_lean(self, gap: Gap, lean: u8) -> None:
        """Set how ``gap`` leans."""
        gap.balances = gap.balances & 0xF0 | lean

    @kernel
    def precedes(self, gap: Gap, other: Gap) -> bool:
        """Whether ``gap`` stands before ``other`` in the order of the tree."""
        length = gap_length(gap)
        other_length = gap_length(other)
        return length < other_length or (
            length == other_length and address_of(gap) < address_of(other)
        )

    @kernel
    def insert(self, gap: Gap) -> None:
        """Add ``gap``; O(log n)."""
        length = gap_length(gap)
        gap_start = address_of(gap)
        parent: Gap | None = None
        side = LEFT
        below = self.tree.root
        while below is not None:
            parent = below
            other = gap_length(below)
            side = length < other or (length == other and gap_start < address_of(below))
            below = self.child(below, side)
        self.link(gap, parent, side)

    @kernel
    def may_stay(self, gap: Gap, side: bool, length: usize, start: VirtualAddress) -> bool:
        """Whether the gap can keep its place when it becomes ``length`` bytes at ``start``.

        ``side`` is where it moves in the order: LEFT when it shrinks, RIGHT when it grows.
        """
        other = self.neighbour(gap, side)
        if other is None:
            return True
        other_length = gap_length(other)
        if length == other_length:
            return (address_of(other) < start) == side
        return (other_length < length) == side

    @kernel
    def shortest_from(self, length: usize) -> Gap | None:
        """The shortest gap of at least ``length`` bytes, the lowest among equals; O(log n)."""
        best: Gap | None = None
        gap = self.tree.root
        while gap is not None:
            if gap_length(gap) >= length:
                best = gap
                gap = gap.length_left
            else:
                gap = gap.length_right
        return best


class AddrTree(GapTree):
    """Gaps by address.

    For first fit (``with_reach``) each node also knows the class of the longest gap under it, so
    that subtrees without a fitting gap are passed over.
    """

    def __init__(self, image: Image, c_name: str, *, with_reach: bool) -> None:
        super().__init__(image, c_name)
        self.with_reach = with_reach

    @kernel
    def parent(self, gap: Gap) -> Gap | None:
        """The node above ``gap``."""
        return gap.addr_parent

    @kernel
    def set_parent(self, gap: Gap, parent: Gap | None) -> None:
        """Set the node above ``gap``."""
        gap.addr_parent = parent

    @kernel
    def child(self, gap: Gap, side: bool) -> Gap | None:
        """The node below ``gap`` on a side."""
        return gap.addr_left if side else gap.addr_right

    @kernel
    def set_child(self, gap: Gap, side: bool, child: Gap | None) -> None:
        """Set the node below ``gap`` on a side."""
        if side:
            gap.addr_left = child
        else:
            gap.addr_right = child

    @kernel
    def lean(self, gap: Gap) -> u8:
        """How ``gap`` leans."""
        return gap.balances >> 4

    @kernel
    def set_lean(self, gap: Gap, lean: u8) -> None:
        """Set how ``gap`` leans."""
        gap.balances = gap.balances & 0x0F | lean << 4

    @kernel
    def precedes(self, gap: Gap, other: Gap) -> bool:
        """Whether ``gap`` stands before ``other`` in the order of the tree."""
        return address_of(gap) < address_of(other)

    @kernel
    def last_before(self, address: VirtualAddress) -> Gap | None:
        """The last gap that begins before ``address``; O(log n)."""
        best: Gap | None = None
        gap = self.tree.root
        while gap is not None:
            if address_of(gap) < address:
                best = gap
                gap = gap.addr_right
            else:
                gap = gap.addr_left
        return best

    @kernel
    def insert_after(self, gap: Gap, before: Gap | None) -> None:
        """Add ``gap`` right after ``before`` in order (None: as the first); O(log n)."""
        if before is None:
            self.link(gap, self.edge(LEFT), LEFT)
        elif before.addr_right is None:
            self.link(gap, before, RIGHT)
        else:
            self.link(gap, self.neighbour(before, RIGHT), LEFT)

    # First fit ------------------------------------------------------------------------------

    @kernel
    def reach_of(self, gap: Gap) -> u16:
        """The class of the longest gap among ``gap`` and those below it."""
        reach = length_class(gap_length(gap))
        left = gap.addr_left
        if left is not None and left.reach > reach:
            reach = left.reach
        right = gap.addr_right
        if right is not None and right.reach > reach:
            reach = right.reach
        return reach

    @kernel
    def refresh(self, gap: Gap) -> None:
        """Recompute the reach of ``gap`` from its length and its children."""
        if self.with_reach:
            gap.reach = self.reach_of(gap)

    @kernel
    def refresh_path(self, gap: Gap) -> None:
        """Refresh ``gap`` and every node above it."""
        if self.with_reach:
            node: Gap | None = gap
            while node is not None:
                self.refresh(node)
                node = node.addr_parent

    @kernel
    def first_from(self, length: usize) -> Gap | None:
        """The lowest gap of at least ``length`` bytes.

        O(log n), and another O(log n) for each gap that is shorter but of the same class, which
        is to say by less than one part in a thousand.
        """
        wanted = length_class(length)
        gap = self.tree.root
        if gap is None or gap.reach < wanted:
            return None
        descending = True
        while True:
            if descending:
                left = gap.addr_left
                while left is not None and left.reach >= wanted:
                    gap = left
                    left = gap.addr_left
            if gap_length(gap) >= length:
                return gap
            right = gap.addr_right
            if right is not None and right.reach >= wanted:
                gap = right
                descending = True
            else:
                # Climb to the first node that this one lies to the left of.
                parent = gap.addr_parent
                while parent is not None and parent.addr_left != gap:
                    gap = parent
                    parent = gap.addr_parent
                if parent is None:
                    return None
                gap = parent
                descending = False
