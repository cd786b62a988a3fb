"""Memory that is given back and used again while the hart may still translate to it."""

from __future__ import annotations

import pytest

from hardware.bench import Broken
from hardware.riscv64.bench import (
    FULL,
    GIB,
    MIDDLE,
    OTHER_ROOT,
    PAGE,
    PAGES,
    ROOT,
    SPARE,
    TABLE,
    Bench,
    V,
    W,
    entry,
)
from kernmem.language import PhysicalAddress

MARKER = 0x8200_F000  # what a free page begins with: the address of another
BLOCK = 0x20_0000
BLOCK_FRAMES = 0x8600_0000


@pytest.fixture
def bench() -> Bench:
    """Page 0 leads to frame 1, page 5 to frame 2."""
    made = Bench()
    made.set(0, made.page(1))
    made.set(5, made.page(2))
    made.fence()
    return made


def test_a_page_is_reused_too_early(bench: Bench) -> None:
    """The message says which store, to what, what was changed, and what is missing."""
    bench.set(0, 0)
    bench.model.store(bench.frame(3), MARKER)
    with Broken("FRAME_REUSED_LIVE") as caught:
        bench.model.store(bench.frame(1) + 0x500, MARKER)
    assert caught.text.startswith(
        f"FRAME_REUSED_LIVE: storing {MARKER:#x} at {bench.frame(1) + 0x500:#x}, in memory that "
        f"was unmapped but is in use: an access: the entry at {TABLE:#x} (level 0, for {PAGES:#x} "
    )
    assert caught.text.endswith("missing: SFENCE.VMA va, x0 after the store")
    bench.fence(PAGES)
    bench.model.store(bench.frame(1) + 0x500, MARKER)


def test_a_fence_for_another_page_or_space_does_not_help(bench: Bench) -> None:
    bench.set(0, 0)
    bench.fence(bench.virtual(1))
    bench.fence(PAGES, bench.asid + 1)
    with Broken("FRAME_REUSED_LIVE"):
        bench.model.store(bench.frame(1), MARKER)
    bench.fence(PAGES, bench.asid)
    bench.model.store(bench.frame(1), MARKER)


def test_a_page_that_stays_mapped_is_not_reused(bench: Bench) -> None:
    """Only a permission changes: whoever writes it by the old one owns it still."""
    bench.set(0, bench.page(1, FULL & ~W))
    bench.model.store(bench.frame(1), 7)
    assert bench.model.load(bench.frame(1)) == 7


def test_a_page_of_the_upper_half_stays_mapped(bench: Bench) -> None:
    """The address that a walk is made for has all its upper bits set."""
    bench.store(SPARE, 0, entry(BLOCK_FRAMES, FULL))
    bench.store(ROOT, 511, entry(SPARE, V))
    bench.fence()
    bench.store(SPARE, 0, entry(BLOCK_FRAMES, FULL & ~W))
    bench.model.store(BLOCK_FRAMES, 7)


def test_a_page_of_a_block_is_reused_too_early(bench: Bench) -> None:
    """Any of the many that a block maps."""
    bench.store(MIDDLE, 2, entry(BLOCK_FRAMES, FULL))
    bench.fence()
    bench.store(MIDDLE, 2, 0)
    with Broken("FRAME_REUSED_LIVE"):
        bench.model.store(BLOCK_FRAMES + BLOCK - 8, MARKER)
    bench.model.store(BLOCK_FRAMES + BLOCK, MARKER)
    bench.fence(PAGES + 2 * BLOCK)
    bench.model.store(BLOCK_FRAMES + BLOCK - 8, MARKER)


def test_a_block_becomes_a_table_of_the_same_pages_but_one(bench: Bench) -> None:
    """Each leads where it did, and so is in use by right; the one is given back too early."""
    bench.store(MIDDLE, 2, entry(BLOCK_FRAMES, FULL))
    bench.fence()
    for number in range(512):
        if number != 9:
            bench.store(SPARE, number, entry(BLOCK_FRAMES + number * PAGE, FULL))
    bench.store(MIDDLE, 2, entry(SPARE, V))
    bench.model.store(BLOCK_FRAMES + 8 * PAGE, 7)
    with Broken("FRAME_REUSED_LIVE"):
        bench.model.store(BLOCK_FRAMES + 9 * PAGE, 7)


def test_the_pages_below_an_unlinked_table_are_reused_too_early(bench: Bench) -> None:
    """A fence for an address leaves the entry that led to the table, and so all below."""
    bench.set(5, 0)
    bench.store(ROOT, PAGES // GIB, 0)
    bench.fence(bench.virtual(0))
    for frame in (1, 2):
        with Broken("FRAME_REUSED_LIVE"):
            bench.model.store(bench.frame(frame), MARKER)
    bench.fence()
    for frame in (1, 2):
        bench.model.store(bench.frame(frame), MARKER)


def test_the_root_is_reused_while_it_is_in_use(bench: Bench) -> None:
    """After a switch to another it may be."""
    with Broken("ROOT_FREED_LIVE") as caught:
        bench.store(ROOT, 3, MARKER)
    assert caught.text.endswith(
        f"storing {MARKER:#x} over 0x0 at {ROOT + 24:#x}, which is no entry of a table, in the "
        f"root {ROOT:#x}, which is in use; missing: a write of another to satp"
    )
    bench.mmu.switch(PhysicalAddress(OTHER_ROOT))
    bench.store(ROOT, 3, MARKER)


def test_a_table_is_reused_while_it_is_linked(bench: Bench) -> None:
    """What is no address of a page is the kernel's to remember."""
    bench.store(TABLE, 9, MARKER | 0x80)
    with Broken("TABLE_FREED_LIVE"):
        bench.store(TABLE, 9, MARKER)
