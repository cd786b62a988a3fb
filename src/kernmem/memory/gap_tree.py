"""A balanced binary tree (AVL) of gaps, written once for the length tree and the addr tree.

Nodes are the gaps' own records.  A node leans left or right by at most one level, so a tree of n
gaps is at most 1.44 log2(n + 2) levels deep, and every operation is a loop, not a recursion.

Source: Knuth, The Art of Computer Programming, volume 3, section 6.2.3.
"""

from __future__ import annotations

from kernmem.language import Component, Image, Struct, kernel, struct, u8
from kernmem.memory.gap import Gap

LEFT = True
RIGHT = False

# How a node leans; the sum of two opposite leans is 2 * EVEN.
LEANS_LEFT = 0
EVEN = 1
LEANS_RIGHT = 2


@struct("kernel_heap_tree_t")
class Tree(Struct):
    """A tree, by its topmost gap."""

    root: Gap | None


class GapTree(Component):
    """The part that both trees share: links, rotations and balance.

    Subclasses say which fields of the gap are the links, and know the order.
    """

    def __init__(self, image: Image, c_name: str) -> None:
        super().__init__(image)
        self.tree = self.static(Tree, c_name)

    # The links, given by the subclass -----------------------------------------------------------

    @kernel
    def parent(self, gap: Gap) -> Gap | None:
        """The node above ``gap``."""
        raise NotImplementedError

    @kernel
    def set_parent(self, gap: Gap, parent: Gap | None) -> None:
        """Set the node above ``gap``."""
        raise NotImplementedError

    @kernel
    def child(self, gap: Gap, side: bool) -> Gap | None:
        """The node below ``gap`` on a side."""
        raise NotImplementedError

    @kernel
    def set_child(self, gap: Gap, side: bool, child: Gap | None) -> None:
        """Set the node below ``gap`` on a side."""
        raise NotImplementedError

    @kernel
    def lean(self, gap: Gap) -> u8:
        """How ``gap`` leans."""
        raise NotImplementedError

    @kernel
    def set_lean(self, gap: Gap, lean: u8) -> None:
        """Set how ``gap`` leans."""
        raise NotImplementedError

    @kernel
    def precedes(self, gap: Gap, other: Gap) -> bool:
        """Whether ``gap`` stands before ``other`` in the order of the tree."""
        raise NotImplementedError

    @kernel
    def refresh(self, gap: Gap) -> None:
        """Recompute what ``gap`` says of its subtree, after its children changed."""

    # Reading ------------------------------------------------------------------------------------

    @kernel
    def edge(self, side: bool) -> Gap | None:
        """The first gap in order (LEFT) or the last (RIGHT)."""
        gap = self.tree.root
        if gap is None:
            return None
        below = self.child(gap, side)
        while below is not None:
            gap = below
            below = self.child(gap, side)
        return gap

    @kernel
    def neighbour(self, gap: Gap, side: bool) -> Gap | None:
        """The gap right before (LEFT) or right after (RIGHT) ``gap`` in order."""
        below = self.child(gap, side)
        if below is not None:
            inner = self.child(below, not side)
            while inner is not None:
                below = inner
                inner = self.child(below, not side)
            return below
        parent = self.parent(gap)
        while parent is not None and self.child(parent, side) == gap:
            gap = parent
            parent = self.parent(gap)
        return parent

    # Changing -----------------------------------------------------------------------------------

    @kernel
    def link(self, gap: Gap, parent: Gap | None, side: bool) -> None:
        """Add ``gap`` as a leaf, on a free ``side`` of ``parent`` (None: the tree is empty)."""
        self.set_parent(gap, parent)
        self.set_child(gap, LEFT, None)
        self.set_child(gap, RIGHT, None)
        self.set_lean(gap, u8(EVEN))
        self.refresh(gap)
        if parent is None:
            self.tree.root = gap
            return
        self.set_child(parent, side, gap)
        self.refresh_path(parent)
        self._grown(gap)

    @kernel
    def unlink(self, gap: Gap) -> None:
        """Take ``gap`` out of the tree."""
        left = self.child(gap, LEFT)
        right = self.child(gap, RIGHT)
        if left is not None and right is not None:
            # The next gap in order, which has no left child, takes the place of this one.
            heir = right
            inner = self.child(heir, LEFT)
            while inner is not None:
                heir = inner
                inner = self.child(heir, LEFT)
            parent = self.parent(heir)
            below = self.child(heir, RIGHT)
            side = LEFT
            if parent is None or parent == gap:
                parent = heir
                side = RIGHT
            else:
                self.set_child(parent, LEFT, below)
                if below is not None:
                    self.set_parent(below, parent)
                self.set_child(heir, RIGHT, right)
                self.set_parent(right, heir)
            self.set_child(heir, LEFT, left)
            self.set_parent(left, heir)
            self.set_lean(heir, self.lean(gap))
            self._put_in_place_of(gap, heir)
            self.refresh_path(parent)
            self._shrunk(parent, side)
            return
        below = right if left is None else left
        parent = self.parent(gap)
        side = parent is not None and self.child(parent, LEFT) == gap
        self._put_in_place_of(gap, below)
        if parent is not None:
            self.refresh_path(parent)
            self._shrunk(parent, side)

    @kernel
    def replace(self, old: Gap, new: Gap) -> None:
        """Put ``new`` where ``old`` is.  The records may overlap: all is read, then written."""
        parent = self.parent(old)
        left = self.child(old, LEFT)
        right = self.child(old, RIGHT)
        lean = self.lean(old)
        if parent is None:
            self.tree.root = new
        else:
            self.set_child(parent, self.child(parent, LEFT) == old, new)
        self.set_parent(new, parent)
        self.set_child(new, LEFT, left)
        self.set_child(new, RIGHT, right)
        self.set_lean(new, lean)
        if left is not None:
            self.set_parent(left, new)
        if right is not None:
            self.set_parent(right, new)

    @kernel
    def refresh_path(self, gap: Gap) -> None:
        """Refresh ``gap`` and every node above it."""

    @kernel
    def _put_in_place_of(self, gap: Gap, other: Gap | None) -> None:
        """Let the node above ``gap`` lead to ``other`` instead."""
        parent = self.parent(gap)
        if parent is None:
            self.tree.root = other
        else:
            self.set_child(parent, self.child(parent, LEFT) == gap, other)
        if other is not None:
            self.set_parent(other, parent)

    # Balance ------------------------------------------------------------------------------------

    @kernel
    def _grown(self, gap: Gap) -> None:
        """The subtree of ``gap`` is one level deeper than it was: restore the balance above."""
        parent = self.parent(gap)
        while parent is not None:
            side = self.child(parent, LEFT) == gap
            toward = u8(LEANS_LEFT) if side else u8(LEANS_RIGHT)
            lean = self.lean(parent)
            if lean == toward:
                self._rotate(parent, side)
                return
            if lean != EVEN:
                self.set_lean(parent, u8(EVEN))
                return
            self.set_lean(parent, toward)
            gap = parent
            parent = self.parent(gap)

    @kernel
    def _shrunk(self, gap: Gap, side: bool) -> None:
        """The subtree below ``gap`` on ``side`` is one level shallower: restore the balance."""
        while True:
            away = u8(LEANS_RIGHT) if side else u8(LEANS_LEFT)
            lean = self.lean(gap)
            if lean == EVEN:
                self.set_lean(gap, away)
                return
            top = gap
            if lean == away:
                top = self._rotate(gap, not side)
                if self.lean(top) != EVEN:
                    return
            else:
                self.set_lean(gap, u8(EVEN))
            parent = self.parent(top)
            if parent is None:
                return
            side = self.child(parent, LEFT) == top
            gap = parent

    @kernel
    def _rotate(self, gap: Gap, side: bool) -> Gap:
        """Raise the deeper ``side`` of ``gap`` by one level; the new top of the subtree."""
        toward = u8(LEANS_LEFT) if side else u8(LEANS_RIGHT)
        away = 2 * EVEN - toward
        pivot = self._required(self.child(gap, side))
        lean = self.lean(pivot)
        if lean != away:
            self._raise(gap, pivot, side)
            if lean == EVEN:  # only after a removal; the subtree keeps its depth
                self.set_lean(gap, toward)
                self.set_lean(pivot, away)
            else:
                self.set_lean(gap, u8(EVEN))
                self.set_lean(pivot, u8(EVEN))
            return pivot
        middle = self._required(self.child(pivot, not side))
        lean = self.lean(middle)
        self._raise(pivot, middle, not side)
        self._raise(gap, middle, side)
        self.set_lean(gap, away if lean == toward else u8(EVEN))
        self.set_lean(pivot, toward if lean == away else u8(EVEN))
        self.set_lean(middle, u8(EVEN))
        return middle

    @kernel
    def _raise(self, gap: Gap, pivot: Gap, side: bool) -> None:
        """One rotation: ``pivot``, the child of ``gap`` on ``side``, takes its place."""
        inner = self.child(pivot, not side)
        self._put_in_place_of(gap, pivot)
        self.set_child(pivot, not side, gap)
        self.set_parent(gap, pivot)
        self.set_child(gap, side, inner)
        if inner is not None:
            self.set_parent(inner, gap)
        self.refresh(gap)
        self.refresh(pivot)

    @kernel
    def _required(self, gap: Gap | None) -> Gap:
        """``gap``, which the balance says is there."""
        assert gap is not None, "a gap tree says that it leans where it has no child"
        return gap
