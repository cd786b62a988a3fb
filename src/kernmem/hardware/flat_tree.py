"""Makes flattened device trees (the Devicetree Specification, v0.4, chapter 5): for simulators,
which must pass one as firmware does, and for tests of the reader.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

BEGIN_NODE, END_NODE, PROPERTY, END = (number.to_bytes(4, "big") for number in (1, 2, 3, 9))


@dataclass(frozen=True)
class TreeNode:
    """A node: its name, its properties in order, its children in order."""

    name: str
    properties: Mapping[str, bytes] = field(default_factory=dict)
    children: Sequence[TreeNode] = ()


def cells(*values: int) -> bytes:
    """Numbers of 32 bits, the highest byte first."""
    return b"".join(value.to_bytes(4, "big") for value in values)


def wide(*values: int) -> bytes:
    """Numbers of 64 bits, the highest byte first."""
    return b"".join(value.to_bytes(8, "big") for value in values)


def flatten(root: TreeNode, reservations: Sequence[tuple[int, int]] = (), least: int = 0) -> bytes:
    """The tree as firmware passes it; ``reservations`` are addresses and lengths.

    Some firmware leaves room for more in it: it says to have ``least`` bytes, if it has less.
    """
    strings: dict[str, int] = {}
    structure = _node(root, strings) + END
    texts = b"".join(name.encode() + b"\0" for name in strings)
    reserved = b"".join(wide(*each) for each in (*reservations, (0, 0)))
    at_structure = 40 + len(reserved)
    at_strings = at_structure + len(structure)
    texts += bytes(max(0, least - at_strings - len(texts)))
    total = at_strings + len(texts)
    header = (0xD00DFEED, total, at_structure, at_strings, 40, 17, 16, 0, len(texts))
    return cells(*header, len(structure)) + reserved + structure + texts


def _node(node: TreeNode, strings: dict[str, int]) -> bytes:
    parts = [BEGIN_NODE, _padded(node.name.encode() + b"\0")]
    for name, value in node.properties.items():
        if name not in strings:
            strings[name] = sum(len(known) + 1 for known in strings)
        parts += [PROPERTY, cells(len(value), strings[name]), _padded(value)]
    parts += [_node(child, strings) for child in node.children]
    return b"".join((*parts, END_NODE))


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
