"""Memory that is given back and used again while the processor may still translate to it."""

from __future__ import annotations

import pytest

from hardware.bench import Broken
from hardware.x86_64.bench import (
    BLOCK,
    DIRECTORY,
    FRAMES,
    GLOBAL,
    KERNEL_BLOCK,
    KERNEL_PAGE,
    LINK,
    OTHER_ROOT,
    PAGE,
    PAGES,
    ROOT,
    SPARE,
    TABLE,
    WRITABLE,
    Bench,
)
from kernmem.language import PhysicalAddress

MARKER = 0x30_F000  # what a free page begins with: the address of another


@pytest.fixture
def bench() -> Bench:
    """Page 0 leads to frame 1, page 5 to frame 2."""
    made = Bench()
    made.map(0, 1)
    made.map(5, 2)
    return made


def test_a_page_is_reused_too_early(bench: Bench) -> None:
    """The message says which store, to what, what was changed, and what is missing."""
    bench.set(0, 0)
    bench.model.store(bench.frame(3), MARKER)
    with Broken("FRAME_REUSED_LIVE") as caught:
        bench.model.store(bench.frame(1) + 0x500, MARKER)
    assert caught.text == (
        "FRAME_REUSED_LIVE: storing 0x30f000 at 0x301500, in memory that was unmapped but is in "
        "use: an access: the entry at 0x204000 (level 0, for 0x8000000000 to 0x8000001000) was "
        "changed from 0x301063 to 0x0, and the old value may still be in use; missing: INVLPG of "
        "0x8000000000 after the store"
    )
    bench.invlpg(0)
    bench.model.store(bench.frame(1) + 0x500, MARKER)


def test_a_page_that_was_never_accessed_is_not_cached(bench: Bench) -> None:
    """Bit A is clear (SDM 4.10.2.3)."""
    bench.map(1, 4, KERNEL_PAGE & ~0x20)
    bench.set(1, 0)
    bench.model.store(bench.frame(4), MARKER)


def test_a_page_that_stays_mapped_is_not_reused(bench: Bench) -> None:
    """Only a permission changes: whoever writes it by the old one owns it still."""
    bench.set(0, bench.page(1, KERNEL_PAGE & ~WRITABLE))
    bench.model.store(bench.frame(1), 7)
    assert bench.model.load(bench.frame(1)) == 7


def test_a_page_of_a_block_is_reused_too_early(bench: Bench) -> None:
    """Any of the many that a block maps."""
    bench.store(DIRECTORY, 2, 2 * BLOCK | KERNEL_BLOCK)
    bench.store(DIRECTORY, 2, 0)
    with Broken("FRAME_REUSED_LIVE"):
        bench.model.store(3 * BLOCK - 8, MARKER)
    bench.model.store(3 * BLOCK, MARKER)
    bench.simulated.execute("invlpg", PAGES + 2 * BLOCK)
    bench.model.store(3 * BLOCK - 8, MARKER)


def test_a_block_becomes_a_table_of_the_same_pages_but_one(bench: Bench) -> None:
    """Each leads where it did, and so is in use by right; the one is given back too early."""
    block = FRAMES - FRAMES % BLOCK
    bench.store(DIRECTORY, 2, block | KERNEL_BLOCK)
    for number in range(512):
        if number != 9:
            bench.store(SPARE, number, block + number * PAGE | KERNEL_PAGE)
    bench.store(DIRECTORY, 2, SPARE | LINK)
    bench.model.store(block + 8 * PAGE, 7)
    with Broken("FRAME_REUSED_LIVE"):
        bench.model.store(block + 9 * PAGE, 7)


def test_the_pages_below_an_unlinked_table_are_reused_too_early(bench: Bench) -> None:
    """Each until its own translation is invalidated; one was cleared before the table went."""
    bench.set(5, 0)
    bench.store(DIRECTORY, 0, 0)
    for frame in (1, 2):
        with Broken("FRAME_REUSED_LIVE"):
            bench.model.store(bench.frame(frame), MARKER)
    bench.invlpg(0)
    bench.model.store(bench.frame(1), MARKER)
    with Broken("FRAME_REUSED_LIVE"):
        bench.model.store(bench.frame(2), MARKER)
    bench.invlpg(5)
    bench.model.store(bench.frame(2), MARKER)


def test_a_global_page_of_another_table_is_not_given_back(bench: Bench) -> None:
    """It stays cached over the switch, and its memory belongs to who mapped it."""
    bench.set_pge(True)
    bench.map(1, 4, KERNEL_PAGE | GLOBAL)
    bench.mmu.switch(PhysicalAddress(OTHER_ROOT))
    bench.model.store(bench.frame(4), 7)


def test_the_root_is_reused_while_it_is_in_use(bench: Bench) -> None:
    """After a switch to another it may be."""
    with Broken("ROOT_FREED_LIVE") as caught:
        bench.store(ROOT, 3, MARKER)
    assert caught.text.endswith(
        "changed from 0x0 to 0x30f000, which is no entry of a table, in the root 0x201000, which "
        "is in use; missing: MOV to CR3 of another"
    )
    bench.mmu.switch(PhysicalAddress(OTHER_ROOT))
    bench.store(ROOT, 3, MARKER)


def test_a_table_is_reused_while_it_is_linked(bench: Bench) -> None:
    """What is no address of a page is the kernel's to remember."""
    bench.store(TABLE, 9, MARKER | 0x80)
    with Broken("TABLE_FREED_LIVE"):
        bench.store(TABLE, 9, MARKER)
