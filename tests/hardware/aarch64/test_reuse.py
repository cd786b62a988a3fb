"""Memory that is given back and used again while something may still translate to it, or by it."""

from __future__ import annotations

import pytest

from hardware.aarch64.bench import (
    BLOCK,
    NORMAL_PAGE,
    OTHER_ROOT,
    PAGES,
    READ_ONLY,
    ROOT,
    TABLE,
    Bench,
)
from hardware.bench import Broken
from kernmem.language import PhysicalAddress, VirtualAddress

MARKER = 0x10_0800_0000  # what a free page begins with: the address of another


@pytest.fixture
def bench() -> Bench:
    """Page 0 leads to frame 1, page 5 to frame 2."""
    made = Bench()
    made.map(0, 1)
    made.map(5, 2)
    return made


# Pages ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missing", "instructions"),
    [
        ("DSB ISHST, TLBI VAALE1IS, DSB ISH and ISB after the store", []),
        ("TLBI VAALE1IS, DSB ISH and ISB", ["dsb ishst"]),
        (
            "a DSB between the store and the TLBI VAALE1IS, which came too early",
            ["tlbi vaale1is", "dsb ish", "isb"],
        ),
        (
            "a DSB for loads and stores (DSB ISH) after the TLBI",
            ["dsb ishst", "tlbi vaale1is", "dsb ishst", "isb"],
        ),
    ],
)
def test_a_page_is_reused_too_early(bench: Bench, missing: str, instructions: list[str]) -> None:
    """An error at the first store to it, which says what was changed and what is missing."""
    bench.set(0, 0)
    operand = f",{bench.virtual(0) >> 12:x}"
    bench.do(*(each + operand if each.startswith("tlbi") else each for each in instructions))
    with Broken("FRAME_REUSED_LIVE") as broken:
        bench.model.store(bench.frame(1) + 0x500, MARKER)
    assert f"storing {MARKER:#x} at {bench.frame(1) + 0x500:#x}" in broken.text
    assert (
        f"the descriptor at {TABLE:#x} (level 3, for 0x2000000000 to 0x2000010000) was changed "
        f"from {bench.page(1):#x} to 0x0" in broken.text
    )
    assert broken.text.endswith(f"missing: {missing}")


def test_a_page_is_reused_in_time(bench: Bench) -> None:
    """After the retirement; other pages at any time."""
    bench.set(0, 0)
    bench.model.store(bench.frame(3), MARKER)
    bench.mmu.retire_page(bench.root, VirtualAddress(bench.virtual(0)), is_global=False)
    bench.model.store(bench.frame(1), MARKER)
    assert bench.model.load(bench.frame(1)) == MARKER


def test_a_page_that_stays_mapped_is_not_reused(bench: Bench) -> None:
    """Only its permissions change: whoever writes it by the old ones owns it still."""
    bench.set(0, bench.page(1, NORMAL_PAGE | READ_ONLY))
    bench.model.store(bench.frame(1), 7)
    assert bench.model.load(bench.frame(1)) == 7


def test_a_page_of_a_block_is_reused_too_early(bench: Bench) -> None:
    """Any of the many that a block maps."""
    index = PAGES // BLOCK + 2
    start = 0x10_0000_0000
    bench.store(ROOT, index, bench.block(start))
    bench.publish()
    bench.store(ROOT, index, 0)
    with Broken("FRAME_REUSED_LIVE"):
        bench.model.store(start + 0x0FFF_0000, MARKER)
    bench.mmu.retire_page(bench.root, VirtualAddress(PAGES + 2 * BLOCK), is_global=False)
    bench.model.store(start + 0x0FFF_0000, MARKER)


def test_the_pages_below_an_unlinked_table_are_reused_too_early(bench: Bench) -> None:
    """Each until its own translation is invalidated; one was cleared before the table went."""
    bench.set(5, 0)
    bench.store(ROOT, PAGES // BLOCK, 0)
    for frame in (1, 2):
        with Broken("FRAME_REUSED_LIVE"):
            bench.model.store(bench.frame(frame), MARKER)
    bench.retire_range(VirtualAddress(bench.virtual(0)))
    bench.model.store(bench.frame(1), MARKER)
    with Broken("FRAME_REUSED_LIVE"):
        bench.model.store(bench.frame(2), MARKER)
    bench.mmu.retire_page(bench.root, VirtualAddress(bench.virtual(5)), is_global=False)
    bench.model.store(bench.frame(2), MARKER)


# Tables -----------------------------------------------------------------------------------------


def test_the_root_is_reused_while_it_is_in_use(bench: Bench) -> None:
    """After a switch to another it may be."""
    with Broken("ROOT_FREED_LIVE") as broken:
        bench.store(ROOT, 3, MARKER)
    assert f"storing {MARKER:#x} over 0x0" in broken.text
    assert broken.text.endswith(
        f"in the root {ROOT:#x}, which is in use; missing: the switch to another root, and ISB"
    )
    bench.mmu.switch(PhysicalAddress(OTHER_ROOT))
    bench.store(ROOT, 3, MARKER)


def test_a_table_is_reused_while_it_is_linked(bench: Bench) -> None:
    """Before anything of it was undone."""
    with Broken("TABLE_FREED_LIVE") as broken:
        bench.store(TABLE, 9, MARKER)
    place = ROOT + 8 * (PAGES // BLOCK)
    assert f"in the table {TABLE:#x}, which is in use" in broken.text
    assert f"missing: a store of 0 to the descriptor at {place:#x}, DSB ISHST" in broken.text
