"""The reader of device trees: what it finds, what it refuses, and that it stays in the blob."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.both import BASE, SIZE, Both
from kernmem.hardware.device_tree import (
    MAX_DEPTH,
    MAX_RANGES,
    DeviceTree,
    DeviceTreeStatus,
)
from kernmem.hardware.flat_tree import TreeNode, cells, flatten, wide
from kernmem.hardware.riscv_virt import device_tree
from kernmem.language import (
    Array,
    Component,
    Image,
    PhysicalAddress,
    Target,
    VirtualAddress,
    api,
    span,
    u64,
    usize,
)

BLOB = 0x10_0000
STATICS = 0x1000
CELLS = {"#address-cells": cells(2), "#size-cells": cells(2)}
Ranges = list[tuple[int, int]]


class BlobMemory:
    """A blob of which every byte may be read, and nothing else but the reader's variables."""

    def __init__(self) -> None:
        self.blob = b""
        self.statics = bytearray(0x1000)

    def loader(self, size: int) -> Callable[[int], int]:
        def load(address: int) -> int:
            place = int(address) - BLOB
            if place >= 0:
                assert place + size <= len(self.blob), f"read at offset {place:#x} outside the blob"
                return int.from_bytes(self.blob[place : place + size], "little")
            place = int(address) - STATICS
            return int.from_bytes(self.statics[place : place + size], "little")

        return load

    def storer(self, size: int) -> Callable[[int, int], None]:
        def store(address: int, value: int) -> None:
            place = int(address) - STATICS
            assert 0 <= place <= len(self.statics) - size, f"store to {int(address):#x}"
            self.statics[place : place + size] = int(value).to_bytes(size, "little")

        return store

    def zero(self, address: int, length: int) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Found:
    """What the reader said of a blob."""

    status: DeviceTreeStatus
    memory: Ranges
    reserved: Ranges
    command_line: bytes | None


@functools.cache
def reader() -> tuple[BlobMemory, DeviceTree]:
    """One reader for all tests: it keeps nothing from one tree to the next."""
    memory = BlobMemory()
    return memory, DeviceTree(Image(Target("riscv64", 8), memory, STATICS))


def read(blob: bytes, limit: int | None = None) -> Found:
    """Read a tree, of which at most ``limit`` bytes are there."""
    memory, tree = reader()
    memory.blob = blob
    status = tree.read(PhysicalAddress(BLOB), usize(len(blob) if limit is None else limit))
    line = tree.info.command_line
    start = None if line is None else int(line) - BLOB
    return Found(
        status,
        ranges(tree.memory, tree.info.memory_count),
        ranges(tree.reserved, tree.info.reserved_count),
        None if start is None else blob[start : blob.index(0, start)],
    )


def ranges(words: Array[u64], number: usize) -> Ranges:
    """The ranges in an array of the reader's."""
    assert number <= MAX_RANGES
    return [(int(words[2 * each]), int(words[2 * each + 1])) for each in range(int(number))]


def refused(blob: bytes) -> DeviceTreeStatus:
    """Why a tree is refused."""
    status = read(blob).status
    assert status != DeviceTreeStatus.OK
    return status


def tree(*children: TreeNode, **properties: bytes) -> bytes:
    """A tree with 64-bit addresses and lengths."""
    return flatten(TreeNode("", {**CELLS, **properties}, children))


# Good trees -----------------------------------------------------------------------------------


def test_what_firmware_of_the_board_passes() -> None:
    """128 MiB, of which OpenSBI has the first half MiB."""
    assert read(device_tree()) == Found(
        DeviceTreeStatus.OK,
        [(0x8000_0000, 0x8800_0000)],
        [(0x8000_0000, 0x8008_0000)],
        None,
    )


def test_every_kind_of_range() -> None:
    """Reservations by the block come first; empty ranges are none; other nodes do not count."""
    blob = flatten(
        TreeNode(
            "",
            {"#address-cells": cells(2), "#size-cells": cells(1)},
            (
                TreeNode(
                    "cpus", {"#size-cells": cells(0)}, (TreeNode("memory", {"reg": cells(1)}),)
                ),
                TreeNode("memory@0", {"reg": wide(0) + cells(4096) + wide(1 << 40) + cells(8192)}),
                TreeNode("memory@5", {"reg": wide(5) + cells(0)}),
                TreeNode("memoryless", {"reg": cells(1)}),
                TreeNode(
                    "reserved-memory",
                    {"#address-cells": cells(1), "#size-cells": cells(2), "ranges": b""},
                    (
                        TreeNode("a@1000", {"reg": cells(0x1000) + wide(0x2000)}),
                        TreeNode("later", {"size": cells(0x1000), "no-map": b""}),
                        TreeNode("b", {"reg": cells(0x9000) + wide(1), "#size-cells": cells(7)}),
                    ),
                ),
                TreeNode("memory", {"reg": wide(0x7000) + cells(1)}),
                TreeNode("chosen", {"bootargs": b"quiet\0", "linux,initrd-start": cells(1)}),
            ),
        ),
        [(0x10_0000, 0x1000), (0, 1)],
    )
    assert read(blob) == Found(
        DeviceTreeStatus.OK,
        [(0, 4096), (1 << 40, (1 << 40) + 8192), (0x7000, 0x7001)],
        [(0x10_0000, 0x10_1000), (0, 1), (0x1000, 0x3000), (0x9000, 0x9001)],
        b"quiet",
    )


def test_bytes_after_the_tree_are_not_read() -> None:
    """The header says how long it is; there may be more room."""
    blob = tree(TreeNode("memory", {"reg": wide(1, 2)}))
    assert read(blob, len(blob) + 4096).memory == [(1, 3)]


RANGE = st.tuples(st.integers(0, 1 << 62), st.integers(0, 1 << 62))


@given(st.lists(RANGE, max_size=5), st.lists(RANGE, max_size=5), st.lists(RANGE, max_size=5))
def test_all_ranges_are_found(memory: Ranges, block: Ranges, nodes: Ranges) -> None:
    """In order, as first byte and end."""
    block = [each for each in block if each != (0, 0)]
    blob = flatten(
        TreeNode(
            "",
            CELLS,
            (
                *(TreeNode(f"memory@{n}", {"reg": wide(*each)}) for n, each in enumerate(memory)),
                TreeNode(
                    "reserved-memory",
                    CELLS,
                    [TreeNode(f"r{n}", {"reg": wide(*each)}) for n, each in enumerate(nodes)],
                ),
            ),
        ),
        block,
    )
    found = read(blob)

    def ends(ranges: Ranges) -> Ranges:
        return [(start, start + length) for start, length in ranges if length]

    assert found == Found(DeviceTreeStatus.OK, ends(memory), ends([*block, *nodes]), None)


# Bad trees ------------------------------------------------------------------------------------

GOOD = tree(
    TreeNode("memory@0", {"reg": wide(0x1000, 0x2000)}), TreeNode("chosen", {"bootargs": b"a\0"})
)


def with_word(offset: int, value: int) -> bytes:
    """The good tree with one header word changed."""
    return GOOD[:offset] + cells(value) + GOOD[offset + 4 :]


HEADER = {
    "magic": (0, 0xEDFE0DD0, "NO_TREE"),
    "too long": (4, len(GOOD) + 1, "BAD_HEADER"),
    "too short": (4, 39, "BAD_HEADER"),
    "structure in the header": (8, 36, "BAD_HEADER"),
    "structure misaligned": (8, 58, "BAD_HEADER"),
    "structure outside": (8, len(GOOD) // 4 * 4 + 4, "BAD_HEADER"),
    "structure far outside": (8, 0xFFFF_FFFC, "BAD_HEADER"),
    "strings outside": (12, len(GOOD) + 1, "BAD_HEADER"),
    "strings in the header": (12, 0, "BAD_HEADER"),
    "reservations outside": (16, 0xFFFF_FFF8, "BAD_HEADER"),
    "reservations in the header": (16, 0, "BAD_HEADER"),
    "reservations misaligned": (16, 44, "BAD_HEADER"),
    "reservations without an end": (16, len(GOOD) // 8 * 8 - 16, "BAD_HEADER"),
    "an old version": (20, 16, "BAD_HEADER"),
    "a version to come": (24, 18, "BAD_HEADER"),
    "strings too long": (32, 0xFFFF_FFFF, "BAD_HEADER"),
    "structure too long": (36, 0xFFFF_FFFC, "BAD_HEADER"),
    "structure misaligned at its end": (36, 6, "BAD_HEADER"),
    "structure empty": (36, 0, "BAD_STRUCTURE"),
    "structure cut off": (36, 64, "BAD_STRUCTURE"),
    "strings empty": (32, 0, "BAD_NAME"),
    "strings cut off": (32, 9, "BAD_NAME"),
}


@pytest.mark.parametrize(("offset", "value", "status"), HEADER.values(), ids=HEADER)
def test_bad_headers(offset: int, value: int, status: str) -> None:
    """One word is wrong."""
    assert refused(with_word(offset, value)).name == status


def test_a_place_that_cannot_hold_a_tree() -> None:
    """Misaligned, or too little room for a header: nothing is read."""
    memory, tree_reader = reader()
    memory.blob = b""
    for start, limit in ((BLOB + 4, 4096), (BLOB, 39), (BLOB, 0)):
        status = tree_reader.read(PhysicalAddress(start), usize(limit))
        assert status == DeviceTreeStatus.NO_TREE


def structure(*words: int | bytes) -> bytes:
    """A tree with this structure block; the string at 0 is "reg"."""
    body = b"".join(word if isinstance(word, bytes) else cells(word) for word in words)
    header = (0xD00DFEED, 60 + len(body), 56, 56 + len(body), 40, 17, 16, 0, 4, len(body))
    return cells(*header) + bytes(16) + body + b"reg\0"


STRUCTURES = {
    "no node": (structure(9), "BAD_STRUCTURE"),
    "no end": (structure(1, 0, 2), "BAD_STRUCTURE"),
    "a node that is not closed": (structure(1, 0, 9), "BAD_STRUCTURE"),
    "a node closed twice": (structure(1, 0, 2, 2, 9), "BAD_STRUCTURE"),
    "two roots": (structure(1, 0, 2, 1, 0, 2, 9), "BAD_STRUCTURE"),
    "a token that is none": (structure(1, 0, 5, 2, 9), "BAD_STRUCTURE"),
    "a property of no node": (structure(3, 0, 0, 1, 0, 2, 9), "BAD_STRUCTURE"),
    "a property cut off": (structure(1, 0, 3, 0), "BAD_STRUCTURE"),
    "a property of a huge length": (structure(1, 0, 3, 0xFFFF_FFFF, 0, 2, 9), "BAD_STRUCTURE"),
    "a property to the very end": (structure(1, 0, 3, 8, 0, 2, 9), "BAD_STRUCTURE"),
    "a name outside": (structure(1, 0, 3, 0, 4, 2, 9), "BAD_NAME"),
    "a node's name without an end": (structure(1, b"abcd"), "BAD_NAME"),
    "a tree too deep": (structure(*(1, 0) * (MAX_DEPTH + 1)), "TOO_DEEP"),
}


@pytest.mark.parametrize(("blob", "status"), STRUCTURES.values(), ids=STRUCTURES)
def test_bad_structures(blob: bytes, status: str) -> None:
    """Tokens in an order that makes no tree."""
    assert refused(blob).name == status


def test_the_deepest_tree() -> None:
    """As many nodes in each other as are allowed, with NOPs between."""
    blob = structure(*(4, 1, 0) * MAX_DEPTH, *(4, 2) * MAX_DEPTH, 4, 9)
    assert read(blob).status == DeviceTreeStatus.OK


def memory(reg: bytes) -> TreeNode:
    """A memory node."""
    return TreeNode("memory", {"reg": reg})


PROPERTIES = {
    "half a range": (tree(memory(wide(1))), "BAD_PROPERTY"),
    "a range past the last address": (tree(memory(wide(1 << 63, 1 << 63))), "BAD_PROPERTY"),
    "no cells": (tree(memory(wide(1, 1)), **{"#size-cells": cells(0)}), "BAD_PROPERTY"),
    "too many cells": (tree(memory(wide(1, 1)), **{"#size-cells": cells(3)}), "BAD_PROPERTY"),
    "a huge count": (tree(memory(wide(1)), **{"#size-cells": cells(0xFFFF_FFFF)}), "BAD_PROPERTY"),
    "cells that are no cell": (tree(**{"#size-cells": wide(1)}), "BAD_PROPERTY"),
    "a command line without an end": (tree(TreeNode("chosen", {"bootargs": b"a"})), "BAD_PROPERTY"),
    "an empty command line": (tree(TreeNode("chosen", {"bootargs": b""})), "BAD_PROPERTY"),
    "too much memory": (tree(memory(wide(*range(1, 67)))), "TOO_MANY"),
    "too many reservations": (flatten(TreeNode("", CELLS), [(1, 1)] * 33), "TOO_MANY"),
}  # fmt: skip


@pytest.mark.parametrize(("blob", "status"), PROPERTIES.values(), ids=PROPERTIES)
def test_bad_properties(blob: bytes, status: str) -> None:
    """What is read must make sense."""
    assert refused(blob).name == status


@pytest.mark.parametrize("length", range(0, len(GOOD), 4))
def test_every_truncation(length: int) -> None:
    """With the header as it was, and with one that owns up to it."""
    refused(GOOD[:length])
    if length >= 8:
        refused(with_word(4, length)[:length])


# Fuzzing --------------------------------------------------------------------------------------

WORD = st.one_of(
    st.sampled_from([0, 1, 2, 3, 4, 8, 9, 40, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFC, 0xFFFF_FFFF]),
    st.integers(0, len(GOOD)),
    st.integers(0, (1 << 32) - 1),
)
CHANGES = st.lists(st.tuples(st.integers(0, len(GOOD) // 4 - 1), WORD), min_size=1, max_size=6)


@settings(max_examples=400)
@given(CHANGES)
def test_no_tree_leads_out_of_itself(changes: list[tuple[int, int]]) -> None:
    """Any words of a good tree changed: an answer, and no byte read outside."""
    blob = bytearray(GOOD)
    for index, word in changes:
        blob[4 * index : 4 * index + 4] = cells(word)
    check(bytes(blob))


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_random_bytes_after_a_good_header(body: bytes) -> None:
    """The same with blocks of random bytes."""
    size = len(body) // 4 * 4
    header = (0xD00DFEED, 56 + len(body), 56, 56, 40, 17, 16, 0, len(body), size)
    check(cells(*header) + bytes(16) + body)


def check(blob: bytes) -> None:
    """The reader comes to an end and stays inside; what it accepts makes sense."""
    found = read(blob)
    if found.status == DeviceTreeStatus.OK:
        assert all(start < end for start, end in (*found.memory, *found.reserved))


# Compiled -------------------------------------------------------------------------------------


class Reader(Component):
    """Reads a tree at the start of the memory and leaves what was found after it."""

    def __init__(self, image: Image) -> None:
        super().__init__(image)
        self.tree = DeviceTree(image)
        self.results = BASE + SIZE // 4

    @api
    def read_tree(self, limit: u64) -> u64:
        """The status; counts and ranges go to the results."""
        status = self.tree.read(PhysicalAddress(BASE), usize(limit))
        results = self.array_at(u64, VirtualAddress(self.results))
        results[0] = u64(self.tree.info.memory_count)
        results[1] = u64(self.tree.info.reserved_count)
        for index in span(usize(0), self.tree.info.memory_count * 2):
            results[index + 2] = self.tree.memory[index]
        for index in span(usize(0), self.tree.info.reserved_count * 2):
            results[index + 2 + 2 * MAX_RANGES] = self.tree.reserved[index]
        return u64(status)


@functools.cache
def compiled() -> Both:
    """The reader, interpreted and compiled by gcc with warnings as errors."""
    return Both(Reader)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_the_compiled_reader_says_the_same() -> None:
    """Of good trees, bad ones, and random changes."""
    both = compiled()
    blobs = [
        GOOD,
        device_tree(),
        *(blob for blob, _ in (*STRUCTURES.values(), *PROPERTIES.values())),
    ]
    for blob in blobs:
        outcome = both.run("read_tree", len(blob), memory=blob)
        assert outcome.result == read(blob).status

    @settings(max_examples=200, deadline=None)
    @given(CHANGES)
    def fuzz(changes: list[tuple[int, int]]) -> None:
        blob = bytearray(GOOD)
        for index, word in changes:
            blob[4 * index : 4 * index + 4] = cells(word)
        both.run("read_tree", len(blob), memory=bytes(blob))

    fuzz()
