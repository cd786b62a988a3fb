"""What the readers of both layouts of the heap share: elements, and the trees of gaps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

from kernmem.language import PageFault, Struct
from kernmem.machine.port import Machine
from kernmem.memory.gap import Gap

T = TypeVar("T")

Kind = Literal["superbuffer", "void", "gap", "buffer", "kept", "run", "slot", "free slot"]


@dataclass(frozen=True)
class Element:
    """One element of the row that the heap is.

    Attributes:
        kind: a live ``superbuffer``, ``buffer`` or ``slot``; a ``gap``, or a ``void``; the
            beginning of a ``run``, whose slots follow; a ``kept`` buffer or a ``free slot``,
            which wait for a call of their length.
    """

    kind: Kind
    start: int
    end: int

    @property
    def length(self) -> int:
        """Its bytes, header or record included."""
        return self.end - self.start

    def __str__(self) -> str:
        return f"{self.start:#014x}  {self.end:#014x}  {self.length:>9}  {self.kind}"


@dataclass(frozen=True)
class TreeGap:
    """A gap as a tree has it.

    Attributes:
        depth: links from the root.
        side: of its parent: -1 left, 1 right; 0 for the root.
    """

    start: int
    end: int
    depth: int
    side: int


class Damage(Exception):
    """Where an element should be there is none: the row cannot be followed."""


class HeapReader(ABC):
    """Reads the heap of a machine, and notes what is wrong with it."""

    trees: ClassVar[tuple[str, ...]]
    """Which trees the gaps stand in: ``length``, ``addr``."""
    record: ClassVar[int]
    """How far into a gap the node lies that stands in the trees."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        info = machine.kernel_heap_info
        self.start, self.end = int(info.heap_start), int(info.heap_end)
        self.problems: list[str] = []
        self._gap_size = int(self._layout(Gap).size)

    def up_to_damage(self, found: Iterable[T]) -> tuple[T, ...]:
        """What is found before it comes to damage, which is noted."""
        before = []
        try:
            for each in found:
                before.append(each)
        except Damage as damage:
            self.problems.append(str(damage))
        except PageFault as fault:
            self.problems.append(f"{fault.address:#x} cannot be read here: {fault.reason}")
        return tuple(before)

    @abstractmethod
    def elements(self) -> Iterator[Element]:
        """The row; raises Damage."""

    @abstractmethod
    def is_record(self, node: int) -> bool:
        """Whether the node at an address within the heap is the record of a gap."""

    def field(self, struct: type[Struct], address: int, name: str) -> int:
        """A field of the struct at an address, as a number."""
        field = next(each for each in self._layout(struct).fields if each.name == name)
        return self.machine.load(address + field.offset, field.size)

    def _layout(self, struct: type[Struct]) -> Any:
        bound: Any = self.machine.image.bound[struct]
        return bound.layout

    def gaps(self, tree: str) -> Iterator[TreeGap]:
        """The gaps of a tree in order.  A link is followed once, and only to a gap's record."""
        seen: set[int] = set()
        root = int(getattr(self.machine, f"kernel_heap_{tree}_tree").root or 0)
        waiting = [(root, 0, 0, False)]
        while waiting:
            node, depth, side, ready = waiting.pop()
            if ready:
                yield TreeGap(node - self.record, self.field(Gap, node, "end"), depth, side)
            elif node and self._may_follow(node, tree, seen):
                right, left = (self.field(Gap, node, f"{tree}_{way}") for way in ("right", "left"))
                waiting.append((right, depth + 1, 1, False))
                waiting.append((node, depth, side, True))
                waiting.append((left, depth + 1, -1, False))

    def _may_follow(self, node: int, tree: str, seen: set[int]) -> bool:
        if node in seen:
            self.problems.append(f"the {tree} tree leads to {node:#x} twice")
        elif not self.start + self.record <= node <= self.end - self._gap_size:
            self.problems.append(f"the {tree} tree leads to {node:#x}, outside the heap")
        elif not self.is_record(node):
            self.problems.append(f"the {tree} tree leads to {node:#x}, which is no gap")
        else:
            seen.add(node)
            return True
        return False
