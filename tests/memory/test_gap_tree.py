"""The balanced trees: every order of up to seven nodes, in both trees."""

from __future__ import annotations

import math
import random
from itertools import permutations
from typing import Any

import pytest
from flat import SEGMENT, flat

from kernmem.language import VirtualAddress, address_of
from kernmem.machine.port import Machine
from kernmem.memory.gap import Gap
from kernmem.memory.gap_tree import EVEN, LEFT, RIGHT
from kernmem.memory.profile import Placement, spec

START = SEGMENT.start
STEP = 128  # bytes from one record to the next
TREES = ("by_length", "by_addr", "by_addr with reach")


class Nodes:
    """A tree, and gaps numbered in its order that can be put into it."""

    def __init__(self, name: str, count: int) -> None:
        placement = Placement.FIRST if "reach" in name else Placement.BEST
        machine = flat(profile=spec(placement))
        self.machine: Machine = machine
        heap: Any = machine.kernel.kernel_heap.buffers  # type: ignore[attr-defined]
        self.tree: Any = heap.by_length if name == "by_length" else heap.by_addr
        self.by_length = name == "by_length"
        self.reaches = "reach" in name
        self.gaps: list[Any] = []
        for number in range(count):
            gap = heap.at(Gap, VirtualAddress(START + number * STEP))
            # By length: three of each length, so that equal lengths are told apart by address.
            length = 1000 + number // 3 if self.by_length else 900 + number * 37 % 101 * 50
            gap.end = address_of(gap) + length
            self.gaps.append(gap)
        self.clear()

    def clear(self) -> None:
        """Empty the tree."""
        self.tree.tree.root = None
        self.members: set[int] = set()

    def insert(self, number: int, *, check: bool = True) -> None:
        """Put one gap in."""
        gap = self.gaps[number]
        if self.by_length:
            self.tree.insert(gap)
        else:
            before = [each for each in self.members if each < number]
            self.tree.insert_after(gap, self.gaps[max(before)] if before else None)
        self.members.add(number)
        if check:
            self.check()

    def unlink(self, number: int) -> None:
        """Take one gap out."""
        self.tree.unlink(self.gaps[number])
        self.members.remove(number)
        self.check()

    def check(self) -> None:
        """Linked both ways, in order, balanced at every node, and no node missing."""
        order: list[int] = []
        depth = self.visit(self.tree.tree.root, None, order)
        expected = [int(self.gaps[number]) for number in sorted(self.members)]
        assert order == expected
        assert depth <= 1.44 * math.log2(len(order) + 2)
        ends = [self.tree.edge(side) for side in (LEFT, RIGHT)]
        assert [end and int(end) for end in ends] == (
            [expected[0], expected[-1]] if expected else [None, None]
        )

    def visit(self, gap: Any, parent: Any, order: list[int]) -> int:
        """Check a subtree; its depth."""
        if gap is None:
            return 0
        assert self.tree.parent(gap) == parent
        left = self.visit(self.tree.child(gap, LEFT), gap, order)
        order.append(int(gap))
        right = self.visit(self.tree.child(gap, RIGHT), gap, order)
        assert right - left == int(self.tree.lean(gap)) - EVEN
        assert abs(right - left) <= 1
        if self.reaches:
            assert gap.reach == self.tree.reach_of(gap)
        return 1 + max(left, right)


@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize("count", range(1, 6))
def test_every_order_of_insertion_and_removal(name: str, count: int) -> None:
    """Up to five nodes: every insertion order with every removal order, checked at each step."""
    nodes = Nodes(name, count)
    removals = list(permutations(range(count)))
    shapes: dict[tuple[Any, ...], list[int]] = {}
    for order in permutations(range(count)):
        nodes.clear()
        for number in order:
            nodes.insert(number)
        shapes.setdefault(shape(nodes), list(order))
    # Insertion orders that give the same tree need only one run of all the removals.
    for order in shapes.values():
        for removal in removals:
            nodes.clear()
            for number in order:
                nodes.insert(number)
            for number in removal:
                nodes.unlink(number)


def shape(nodes: Nodes) -> tuple[Any, ...]:
    """The tree as nested tuples."""

    def of(gap: Any) -> Any:
        if gap is None:
            return None
        children = (nodes.tree.child(gap, side) for side in (LEFT, RIGHT))
        return (int(gap), *(of(each) for each in children))

    return (of(nodes.tree.tree.root),)


@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize("count", [6, 7])
def test_every_order_of_six_and_seven(name: str, count: int) -> None:
    """Every insertion order; from every tree that comes out, every order of three removals."""
    nodes = Nodes(name, count)
    image = [(START, count * STEP), (int(nodes.tree.tree), 8)]
    shapes: dict[tuple[Any, ...], list[bytes]] = {}
    for order in permutations(range(count)):
        nodes.clear()
        for number in order:
            nodes.insert(number, check=False)
        nodes.check()
        shapes.setdefault(
            shape(nodes), [nodes.machine.read_virtual(at, length) for at, length in image]
        )
    assert len(shapes) == {6: 4, 7: 17}[count]
    for memory in shapes.values():
        for removal in permutations(range(count), 3):
            for (at, _), data in zip(image, memory, strict=True):
                nodes.machine.write_virtual(at, data)
            nodes.members = set(range(count))
            for number in removal:
                nodes.unlink(number)


@pytest.mark.parametrize("name", TREES)
def test_a_long_random_run(name: str) -> None:
    """Two thousand changes of a tree of up to 120 nodes."""
    nodes = Nodes(name, 120)
    chance = random.Random(5)
    for _ in range(2000 // 8):
        for number in chance.sample(range(120), 8):
            if number in nodes.members:
                nodes.unlink(number)
            else:
                nodes.insert(number)


@pytest.mark.parametrize("name", TREES)
def test_neighbours(name: str) -> None:
    """Every node's neighbours on both sides, and None past the ends."""
    nodes = Nodes(name, 20)
    for number in random.Random(1).sample(range(20), 20):
        nodes.insert(number)
    for number, gap in enumerate(nodes.gaps):
        before, after = nodes.tree.neighbour(gap, LEFT), nodes.tree.neighbour(gap, RIGHT)
        assert before == (nodes.gaps[number - 1] if number else None)
        assert after == (nodes.gaps[number + 1] if number < 19 else None)


@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize("shift", [-32, -8, 8, 32])
def test_replace_may_overlap(name: str, shift: int) -> None:
    """Each node of a tree moved by less than its own length."""
    for number in range(7):
        nodes = Nodes(name, 7)
        for each in range(7):
            nodes.insert(each)
        old = nodes.gaps[number]
        end = old.end
        moved = nodes.tree.at(Gap, VirtualAddress(int(old) + shift))
        nodes.tree.replace(old, moved)
        moved.end = end
        nodes.gaps[number] = moved
        if not nodes.reaches:
            nodes.check()


def test_shortest_from_finds_the_lowest_of_the_shortest() -> None:
    nodes = Nodes("by_length", 30)  # lengths 1000, 1000, 1000, 1001, ...
    assert nodes.tree.shortest_from(nodes.gaps[0].end - address_of(nodes.gaps[0])) is None
    for number in random.Random(2).sample(range(30), 30):
        nodes.insert(number)
    length = nodes.gaps[0].end - address_of(nodes.gaps[0])
    for more in range(10):
        assert nodes.tree.shortest_from(length + more) == nodes.gaps[3 * more]
    assert nodes.tree.shortest_from(length + 10) is None


def test_first_from_finds_the_lowest_that_fits() -> None:
    """For every length, against a search of the list; classes hold several lengths."""
    nodes = Nodes("by_addr with reach", 60)
    for number in random.Random(3).sample(range(60), 60):
        nodes.insert(number)
    lengths = [gap.end - address_of(gap) for gap in nodes.gaps]
    for length in sorted(
        {*lengths, *(each + 1 for each in lengths), *(each - 1 for each in lengths)}
    ):
        fitting = [number for number in range(60) if lengths[number] >= length]
        expected = nodes.gaps[fitting[0]] if fitting else None
        assert nodes.tree.first_from(length) == expected


def test_last_before() -> None:
    nodes = Nodes("by_addr", 20)
    for number in range(0, 20, 2):
        nodes.insert(number)
    assert nodes.tree.last_before(VirtualAddress(START)) is None
    for number in range(1, 20):
        at = VirtualAddress(START + number * STEP)
        assert nodes.tree.last_before(at) == nodes.gaps[(number - 1) // 2 * 2]
