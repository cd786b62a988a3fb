"""The checker of one tree of gaps, whichever layout of the heap keeps it."""

from __future__ import annotations

from kernmem.language import Component, Image, address_of, kernel, u32, usize
from kernmem.memory.gap import Gap
from kernmem.memory.gap_tree import EVEN, LEANS_RIGHT, LEFT, RIGHT, GapTree


class TreeCheck(Component):
    """The links, the order and the balance of one tree.

    Nothing is trusted: a link is followed only to a gap's record within the heap that links back.
    So no gap is reached twice on the way down, and the walk ends however the tree is damaged.

    Subclasses know what a gap's record is.
    """

    def __init__(self, image: Image, tree: GapTree) -> None:
        super().__init__(image)
        self.tree = tree

    @kernel
    def is_record(self, gap: Gap) -> bool:
        """Whether ``gap``, wherever a link led, is the record of a gap; says so if it is not."""
        raise NotImplementedError

    @kernel
    def is_sound(self, gaps: usize) -> bool:
        """Whether the tree holds ``gaps`` gaps, linked both ways, ordered and balanced."""
        return self._is_linked(gaps) and self._is_balanced()

    @kernel
    def _is_linked(self, gaps: usize) -> bool:
        """Walk the tree in order, along checked links only."""
        gap = self.tree.tree.root
        if gap is not None and not self._may_follow(None, gap):
            return False
        before: Gap | None = None
        count = usize(0)
        descending = True
        while gap is not None:
            if descending:
                count += 1
                if count > gaps:
                    self.print(f"tree: more than {gaps} gaps, with {address_of(gap)}")
                    return False
                left = self.tree.child(gap, LEFT)
                if left is not None:
                    if not self._may_follow(gap, left):
                        return False
                    gap = left
                    continue
            if before is not None and not self.tree.precedes(before, gap):
                self.print(f"tree: {address_of(before)} must not stand before {address_of(gap)}")
                return False
            before = gap
            right = self.tree.child(gap, RIGHT)
            if right is not None:
                if not self._may_follow(gap, right):
                    return False
                gap = right
                descending = True
                continue
            parent = self.tree.parent(gap)
            while parent is not None and self.tree.child(parent, LEFT) != gap:
                gap = parent
                parent = self.tree.parent(gap)
            gap = parent
            descending = False
        if count != gaps:
            self.print(f"tree: {count} gaps, not {gaps}")
        return count == gaps

    @kernel
    def _may_follow(self, parent: Gap | None, gap: Gap) -> bool:
        """Whether ``gap`` is the record of a gap, and links back to ``parent``."""
        if not self.is_record(gap):
            return False
        if self.tree.parent(gap) != parent:
            self.print(f"tree: {address_of(gap)} does not link back to the node above it")
            return False
        return True

    @kernel
    def _is_balanced(self) -> bool:
        """Whether every node leans as the depths of its two sides say; the links are sound."""
        gap = self.tree.edge(LEFT)
        while gap is not None:
            left = self._depth(self.tree.child(gap, LEFT))
            right = self._depth(self.tree.child(gap, RIGHT))
            lean = self.tree.lean(gap)
            if lean > LEANS_RIGHT or left + u32(lean) != right + EVEN:
                self.print(
                    f"tree: {address_of(gap)} leans {lean} between depths {left} and {right}"
                )
                return False
            gap = self.tree.neighbour(gap, RIGHT)
        return True

    @kernel
    def _depth(self, gap: Gap | None) -> u32:
        """The levels under ``gap``, counted down the side that it leans to."""
        depth = u32(0)
        while gap is not None:
            depth += 1
            gap = self.tree.child(gap, self.tree.lean(gap) != LEANS_RIGHT)
        return depth
