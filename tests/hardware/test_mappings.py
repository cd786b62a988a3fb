"""What each combination of mapping flags allows, on every architecture: the truth table.

Formed by the entry format, judged by the simulated MMU, which was written apart from it.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from kernmem.hardware import find
from kernmem.hardware.simulation import Access
from kernmem.language import PageFault, PhysicalAddress, u32
from kernmem.machine.model import Model
from kernmem.memory.architecture import Mapping
from kernmem.memory.manager import MemoryManager
from kernmem.memory.pagetable import PagetableStatus
from kernmem.memory.profile import spec

BOARDS = ("lab", "virt", "pc", "riscv-virt", "armv7-virt")
USER = Mapping.USER_READ_ONLY | Mapping.USER_READ_WRITE
NO_WRITES = Mapping.USER_READ_ONLY | Mapping.READ_ONLY
FLAGS = (
    Mapping.USER_READ_ONLY,
    Mapping.USER_READ_WRITE,
    Mapping.NO_EXECUTE,
    Mapping.DEVICE,
    Mapping.READ_ONLY,
    Mapping.GLOBAL,
    Mapping.UNCACHED,
    Mapping.NO_ACCESS,
)


def combinations() -> list[Mapping]:
    """All sets of flags that do not contradict each other, whatever the hardware has."""
    found = []
    for chosen in itertools.product((False, True), repeat=len(FLAGS)):
        mapping = Mapping(0)
        for flag, is_set in zip(FLAGS, chosen, strict=True):
            mapping |= flag if is_set else Mapping(0)
        if Mapping.USER_READ_WRITE in mapping and mapping & NO_WRITES:
            continue
        if Mapping.DEVICE in mapping and Mapping.UNCACHED in mapping:
            continue
        found.append(mapping)
    return found


def said(mapping: Mapping) -> Mapping:
    """A mapping as a table reports it: with what follows, without what is said twice."""
    if Mapping.DEVICE in mapping:
        mapping |= Mapping.NO_EXECUTE
    if Mapping.USER_READ_ONLY in mapping:
        mapping &= ~Mapping.READ_ONLY
    return mapping


def allowed(mapping: Mapping) -> dict[tuple[str, Access], bool]:
    """Who may do what.  What the kernel may execute of user memory is the architecture's."""
    user = bool(mapping & USER)
    writable = not mapping & NO_WRITES
    executable = not mapping & (Mapping.NO_EXECUTE | Mapping.DEVICE)
    table = {
        ("kernel", Access.READ): True,
        ("kernel", Access.WRITE): writable,
        ("user", Access.READ): user,
        ("user", Access.WRITE): user and writable,
        ("user", Access.EXECUTE): user and executable,
    }
    if not user:
        table["kernel", Access.EXECUTE] = executable
    if Mapping.NO_ACCESS in mapping:
        return dict.fromkeys(table, False)
    return table


class Kernel:
    """A machine in its linear space, with a page and a block beyond all that is mapped."""

    def __init__(self, board: str) -> None:
        self.machine = Model(find(board), lambda image, parts: MemoryManager(image, parts, spec()))
        parts: Any = self.machine.kernel
        self.entries = parts.virtual.entries
        places = parts.physical.memory_map
        top = 1 << int(self.entries.shift(u32(1 if self.entries.levels == 2 else 2)))
        self.start = -(-max(places.linear_end, places.segment_end) // top) * top
        self.machine.init_memory()
        self.machine.enter_linear_space()
        self.table = self.machine.linear_space_info.pagetable
        block = 1 << int(self.entries.shift(u32(1)))
        self.hole = -(-max(ram.end for ram in find(board).ram) // block) * block
        self.lengths = (self.entries.page_length, block)

    def may(self, who: str, access: Access) -> bool:
        """Whether the MMU lets an access through."""
        try:
            self.machine.memory.mmu.translate(self.start, access, user=who == "user")
        except PageFault:
            return False
        return True


@pytest.mark.parametrize("board", BOARDS)
def test_the_mmu_allows_what_the_flags_say(board: str) -> None:
    """As a page and as a block, for the kernel and for user code."""
    kernel = Kernel(board)
    tried = 0
    for mapping, length in itertools.product(combinations(), kernel.lengths):
        status = kernel.machine.pagetable_map_range(
            kernel.table, kernel.start, kernel.hole, length, mapping
        )
        if mapping | kernel.entries.mappings != kernel.entries.mappings:
            assert status == PagetableStatus.BAD_MAPPING
            continue
        assert status == PagetableStatus.OK
        for (who, access), wanted in allowed(mapping).items():
            assert kernel.may(who, access) == wanted, (mapping, length, who, access)
        assert (
            kernel.machine.pagetable_unmap_range(kernel.table, kernel.start, length)
            == PagetableStatus.OK
        )
        tried += 1
    assert tried >= 2 * 64


@pytest.mark.parametrize("board", BOARDS)
def test_a_leaf_says_how_it_was_made(board: str) -> None:
    """Frame and flags come back, at each level with leaves."""
    entries = Kernel(board).entries
    for mapping in combinations():
        if mapping | entries.mappings != entries.mappings:
            continue
        for level in map(u32, range(entries.block_levels + 1)):
            frame = PhysicalAddress(1 << max(30, int(entries.shift(level))))
            entry = entries.leaf(frame, mapping, level)
            assert entry != 0
            assert entries.is_leaf(entry, level)
            assert not entries.is_table(entry, level)
            assert entries.is_valid(entry) == (Mapping.NO_ACCESS not in mapping)
            assert entries.frame(entry, level) == frame
            assert entries.is_global(entry, level) == (Mapping.GLOBAL in mapping)
            assert entries.mapping(entry, level) == said(mapping)
