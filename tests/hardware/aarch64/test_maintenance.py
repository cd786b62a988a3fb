"""What must be done around a change of live tables, and what the model says if it is not."""

from __future__ import annotations

import pytest

from hardware.aarch64.bench import (
    ACCESSED,
    BLOCK,
    FRAMES,
    NORMAL_PAGE,
    NOT_GLOBAL,
    PAGE,
    PAGES,
    READ_ONLY,
    ROOT,
    SPARE,
    TABLE,
    Bench,
)
from hardware.bench import Broken
from kernmem.hardware.lab import LAB
from kernmem.language import PageFault, VirtualAddress


@pytest.fixture
def bench() -> Bench:
    """A fresh one, with its MMU on."""
    return Bench()


# Making entries valid -----------------------------------------------------------------------


def test_map_and_access(bench: Bench) -> None:
    """All barriers right: no complaint, the right memory, and it can be changed again."""
    bench.map(0, 1)
    assert bench.read(0) == 1
    bench.unmap(0)
    with pytest.raises(PageFault, match="translation fault, level 3") as caught:
        bench.read(0)
    assert caught.value.syndrome == 0x9600_0007
    bench.map(0, 2)
    assert bench.read(0) == 2


def test_map_without_a_barrier(bench: Bench) -> None:
    """The walker may see the old entry, or the new one."""
    bench.set(0, bench.page(1))
    with Broken("NEW_NOT_VISIBLE") as broken:
        bench.read(0)
    assert broken.text == (
        "NEW_NOT_VISIBLE: read of 0x2000000000: the descriptor at 0x1002000000 (level 3, for "
        "0x2000000000 to 0x2000010000) was changed from 0x0 to 0x1005010f03, and the old value "
        "may still be in use; missing: DSB ISHST and ISB after the store"
    )


def test_map_without_isb(bench: Bench) -> None:
    """The store is visible, but this core may have looked before."""
    bench.set(0, bench.page(1))
    bench.do("dsb ishst")
    with Broken("NO_CONTEXT_SYNC"):
        bench.read(0)


def test_isb_alone_is_not_enough(bench: Bench) -> None:
    """An ISB before the DSB does nothing."""
    bench.set(0, bench.page(1))
    bench.do("isb", "dsb ishst")
    with Broken("NO_CONTEXT_SYNC"):
        bench.read(0)


def test_neighbours_are_not_disturbed(bench: Bench) -> None:
    """A change is a matter of its own addresses."""
    bench.map(0, 1)
    bench.set(1, bench.page(2))
    assert bench.read(0) == 1


def test_an_entry_without_the_access_flag_was_never_cached(bench: Bench) -> None:
    """AF 0 to 1, or any other change of such an entry, needs no TLBI and no break (R_XCLRD)."""
    bench.map(0, 1, NORMAL_PAGE & ~ACCESSED)
    with pytest.raises(PageFault, match="access flag fault, level 3"):
        bench.read(0)
    bench.map(0, 2)
    assert bench.read(0) == 2


# Making entries invalid ---------------------------------------------------------------------


def unmapped_with(bench: Bench, *instructions: str) -> None:
    """Map page 0, clear its entry, then only this."""
    bench.map(0, 1)
    bench.set(0, 0)
    operand = f",{bench.virtual(0) >> 12:x}"
    bench.do(*(each + operand if each.startswith("tlbi va") else each for each in instructions))


@pytest.mark.parametrize(
    ("rule", "instructions"),
    [
        ("STALE_TRANSLATION", []),
        ("STALE_TRANSLATION", ["dsb ish", "isb"]),
        ("INVALIDATE_BEFORE_VISIBLE", ["tlbi vaale1is", "dsb ish", "isb"]),
        ("INVALIDATE_BEFORE_VISIBLE", ["tlbi vmalle1", "dsb ish", "isb"]),
        ("INVALIDATE_INCOMPLETE", ["dsb ishst", "tlbi vaale1is"]),
        ("INVALIDATE_INCOMPLETE", ["dsb ishst", "tlbi vaale1is", "isb"]),
        ("INVALIDATE_INCOMPLETE", ["dsb ishst", "tlbi vaale1is", "dsb ishst", "isb"]),
        ("INVALIDATE_INCOMPLETE", ["dsb ishst", "tlbi vaale1is", "dsb nsh", "isb"]),
        ("NO_CONTEXT_SYNC", ["dsb ishst", "tlbi vaale1is", "dsb ish"]),
    ],
)
def test_unmap_with_a_step_missing(bench: Bench, rule: str, instructions: list[str]) -> None:
    """Store, DSB ISHST, TLBI, DSB ISH, ISB: each is needed, in this order."""
    unmapped_with(bench, *instructions)
    with Broken(rule):
        bench.read(0)


@pytest.mark.parametrize(
    "operation",
    ["vaale1is", "vaae1is", "vale1is", "vae1is", "vaale1", "vaae1", "vale1", "vae1", "vmalle1",
     "vmalle1is", "aside1", "aside1is"],
)  # fmt: skip
def test_operations_that_drop_a_page(bench: Bench, operation: str) -> None:
    """All that name the page, or everything, under ASID 0, which is current."""
    unmapped_with(bench, "dsb ishst", f"tlbi {operation}", "dsb ish", "isb")
    with pytest.raises(PageFault):
        bench.read(0)


@pytest.mark.parametrize("operation", ["vae1is", "vale1is"])
def test_the_wrong_asid(bench: Bench, operation: str) -> None:
    """An operation that names another ASID drops nothing."""
    unmapped_with(bench, "dsb ishst")
    bench.tlbi(operation, bench.virtual(0), asid=7)
    bench.do("dsb ish", "isb")
    with Broken("INVALIDATE_MISSED") as broken:
        bench.read(0)
    assert "named ASID 7, but the old value is cached under ASID 0" in broken.text


def test_the_wrong_address(bench: Bench) -> None:
    """An operation on the next page drops nothing of this one."""
    unmapped_with(bench, "dsb ishst")
    bench.tlbi("vaae1is", bench.virtual(1))
    bench.do("dsb ish", "isb")
    with Broken("STALE_TRANSLATION"):
        bench.read(0)


def test_the_wrong_level_hint(bench: Bench) -> None:
    """A TTL that says level 2 (64 KiB granule) need not look at level 3."""
    unmapped_with(bench, "dsb ishst")
    bench.tlbi("vaale1is", bench.virtual(0), hint=0b1110)
    bench.do("dsb ish", "isb")
    with Broken("INVALIDATE_MISSED"):
        bench.read(0)


def test_an_entry_is_cached_though_nobody_used_it(bench: Bench) -> None:
    """Speculation: a page that was never accessed must be invalidated all the same."""
    bench.map(0, 1)
    bench.set(0, 0)
    bench.do("dsb ish", "isb")
    with Broken("STALE_TRANSLATION"):
        bench.read(0)


def test_a_short_lived_entry_may_be_cached(bench: Bench) -> None:
    """Written and cleared before any DSB: the walker may have seen it."""
    bench.set(0, bench.page(1))
    bench.set(0, 0)
    bench.do("dsb ish", "isb")
    with Broken("STALE_TRANSLATION"):
        bench.read(0)


# Valid to valid -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (NORMAL_PAGE, NORMAL_PAGE | PAGE, "the output address changes"),
        (NORMAL_PAGE, NORMAL_PAGE | 1 << 2, "memory type"),
        (NORMAL_PAGE, NORMAL_PAGE & ~(0b11 << 8), "shareability"),
        (NORMAL_PAGE, NORMAL_PAGE & ~NOT_GLOBAL, "nG changes from 1 to 0"),
    ],
)
def test_changes_that_need_break_before_make(bench: Bench, old: int, new: int, reason: str) -> None:
    """R_DDMVT, R_WHZWS: found when the new entry is stored."""
    bench.map(0, 0, old)
    with Broken("BBM_REQUIRED") as broken:
        bench.set(0, bench.page(0, new))
    assert reason in broken.text


def test_a_block_is_dropped_by_an_operation_on_any_page_of_it(bench: Bench) -> None:
    """Not by one that hints at the level of pages."""
    index = PAGES // BLOCK + 3
    address = PAGES + 3 * BLOCK + 7 * PAGE
    for hint, rule in ((0b1111, "INVALIDATE_MISSED"), (0b1110, None), (0, None)):
        bench.store(ROOT, index, bench.block(0x10_0000_0000))
        bench.publish()
        bench.store(ROOT, index, 0)
        bench.do("dsb ishst")
        bench.tlbi("vaale1is", address, hint=hint)
        bench.do("dsb ish", "isb")
        if rule is not None:
            with Broken(rule):
                bench.model.load(address)
            bench.do("tlbi vmalle1is", "dsb ish", "isb")
        with pytest.raises(PageFault):
            bench.model.load(address)


def test_the_same_entry_again(bench: Bench) -> None:
    """Nothing changes, nothing is needed; software bits are nobody's business."""
    bench.map(0, 1)
    bench.set(0, bench.page(1))
    bench.set(0, bench.page(1) | 1 << 55)
    assert bench.read(0) == 1


def test_tighten_a_permission(bench: Bench) -> None:
    """RW to RO is allowed live, but old permissions last until invalidated."""
    bench.map(0, 1)
    bench.set(0, bench.page(1, NORMAL_PAGE | READ_ONLY))
    assert bench.read(0) == 1  # reading is the same under both
    with Broken("STALE_TRANSLATION"):
        bench.model.store(bench.virtual(0), 5)
    bench.mmu.retire_page(bench.root, VirtualAddress(bench.virtual(0)), is_global=False)
    with pytest.raises(PageFault, match="permission fault, level 3") as caught:
        bench.model.store(bench.virtual(0), 5)
    assert caught.value.syndrome == 0x9600_004F
    assert bench.read(0) == 1


def test_loosen_a_permission(bench: Bench) -> None:
    """RO to RW: without a TLBI the old permission may last for ever."""
    bench.map(0, 1, NORMAL_PAGE | READ_ONLY)
    bench.set(0, bench.page(1))
    bench.do("dsb ishst", "isb")
    with Broken("STALE_TRANSLATION"):
        bench.model.store(bench.virtual(0), 5)
    bench.mmu.retire_page(bench.root, VirtualAddress(bench.virtual(0)), is_global=False)
    bench.model.store(bench.virtual(0), 5)


def test_make_before_clean(bench: Bench) -> None:
    """A new entry may be stored only when the old one is gone from the TLB."""
    bench.map(0, 1)
    bench.set(0, 0)
    bench.do("dsb ishst")
    with Broken("BBM_MAKE_BEFORE_CLEAN"):
        bench.set(0, bench.page(2))
    bench.tlbi("vaale1is", bench.virtual(0))
    with Broken("BBM_MAKE_BEFORE_CLEAN"):
        bench.set(0, bench.page(2))
    bench.do("dsb ish")
    bench.map(0, 2)
    assert bench.read(0) == 2


def test_global_entries(bench: Bench) -> None:
    """nG 0 to 1 is allowed live; an operation by ASID alone leaves global entries."""
    bench.map(0, 1, NORMAL_PAGE & ~NOT_GLOBAL)
    bench.set(0, 0)
    bench.do("dsb ishst", "tlbi aside1is", "dsb ish", "isb")
    with Broken("INVALIDATE_MISSED") as broken:
        bench.read(0)
    assert "the old value is global" in broken.text
    bench.mmu.retire_page(bench.root, VirtualAddress(bench.virtual(0)), is_global=False)
    bench.map(0, 1, NORMAL_PAGE & ~NOT_GLOBAL)
    bench.set(0, bench.page(1))
    bench.mmu.retire_page(bench.root, VirtualAddress(bench.virtual(0)), is_global=False)
    assert bench.read(0) == 1


# Tables -------------------------------------------------------------------------------------


def test_link_a_filled_table(bench: Bench) -> None:
    """Fill, DSB, link, DSB, ISB."""
    bench.store(SPARE, 3, bench.page(1))
    bench.publish()
    bench.store(ROOT, PAGES // BLOCK + 1, bench.link(SPARE))
    bench.publish()
    assert bench.model.load(PAGES + BLOCK + 3 * PAGE) == 1


def test_link_a_table_before_its_contents_are_visible(bench: Bench) -> None:
    """The walker may find what lay in the page before."""
    bench.store(SPARE, 3, bench.page(1))
    with Broken("TABLE_LINKED_UNINIT") as broken:
        bench.store(ROOT, PAGES // BLOCK + 1, bench.link(SPARE))
    assert "missing: DSB ISHST between filling and linking" in broken.text


def test_every_store_to_a_linked_table_counts(bench: Bench) -> None:
    """A page that becomes a table is watched from then on, also through remembered addresses."""
    bench.store(SPARE, 3, 0)
    bench.publish()
    bench.store(ROOT, PAGES // BLOCK + 1, bench.link(SPARE))
    bench.publish()
    bench.store(SPARE, 3, bench.page(1))
    with Broken("NEW_NOT_VISIBLE"):
        bench.model.load(PAGES + BLOCK + 3 * PAGE)


def test_free_an_empty_table(bench: Bench) -> None:
    """Unlink, retire the table, then the page can be anything."""
    bench.store(ROOT, PAGES // BLOCK, 0)
    bench.retire_range(VirtualAddress(PAGES))
    bench.store(TABLE, 0, 0xDEAD_BEEF)
    with pytest.raises(PageFault, match="level 2"):
        bench.read(0)


@pytest.mark.parametrize(
    ("rule", "instructions"),
    [
        ("STALE_TRANSLATION", ["dsb ishst"]),
        ("WALK_CACHE_STALE", ["dsb ishst", "tlbi vaale1is", "dsb ish", "isb"]),
        ("INVALIDATE_BEFORE_VISIBLE", ["tlbi vaae1is", "dsb ish", "isb"]),
        ("INVALIDATE_INCOMPLETE", ["dsb ishst", "tlbi vaae1is", "dsb ishst", "isb"]),
    ],
)
def test_free_a_table_too_early(bench: Bench, rule: str, instructions: list[str]) -> None:
    """Reusing the page is an error; so is linking a new table before the old one is gone."""
    bench.store(ROOT, PAGES // BLOCK, 0)
    operand = f",{PAGES >> 12:x}"
    bench.do(*(each + operand if each.startswith("tlbi va") else each for each in instructions))
    with Broken("TABLE_FREED_LIVE"):
        bench.store(TABLE, 0, 0xDEAD_BEEF)
    with Broken("BBM_MAKE_BEFORE_CLEAN"):
        bench.store(ROOT, PAGES // BLOCK, bench.link(SPARE))


def test_a_table_with_leaves_needs_a_tlbi_for_each(bench: Bench) -> None:
    """Translations below an unlinked table are cached on their own."""
    bench.map(0, 1)
    bench.map(5, 2)
    bench.store(ROOT, PAGES // BLOCK, 0)
    bench.retire_range(VirtualAddress(bench.virtual(0)))
    with Broken("INVALIDATE_MISSED") as broken:
        bench.read(5)
    assert "1 left, the first 0x2000050000" in broken.text
    bench.mmu.retire_page(bench.root, VirtualAddress(bench.virtual(5)), is_global=False)
    with pytest.raises(PageFault, match="level 2"):
        bench.read(5)


def test_a_leaf_comes_back_through_a_cached_walk(bench: Bench) -> None:
    """Invalidating the leaf first, then the walk to it, leaves a gap between the two."""
    bench.map(5, 2)
    bench.store(ROOT, PAGES // BLOCK, 0)
    bench.mmu.retire_page(bench.root, VirtualAddress(bench.virtual(5)), is_global=False)
    bench.retire_range(VirtualAddress(bench.virtual(0)))
    with Broken("INVALIDATE_MISSED") as broken:
        bench.read(5)
    assert "after the walk to it is dropped" in broken.text


def test_a_cleared_leaf_below_an_unlinked_table_still_counts(bench: Bench) -> None:
    """Clear a leaf, unlink its table, invalidate only the walk: the leaf is still cached."""
    bench.map(5, 2)
    bench.set(5, 0)
    bench.store(ROOT, PAGES // BLOCK, 0)
    bench.do("dsb ishst")
    bench.tlbi("vaae1is", bench.virtual(0))
    bench.do("dsb ish", "isb")
    with Broken("INVALIDATE_MISSED"):
        bench.read(5)


def test_block_to_table(bench: Bench) -> None:
    """Never live; with break-before-make it is right."""
    index = PAGES // BLOCK + 2
    bench.store(ROOT, index, bench.block(0x10_0000_0000))
    bench.publish()
    bench.store(SPARE, 0x501, bench.page(1))
    bench.publish()
    address = PAGES + 2 * BLOCK + 0x501 * PAGE
    assert bench.model.load(address) == 1
    with Broken("BBM_REQUIRED") as broken:
        bench.store(ROOT, index, bench.link(SPARE))
    assert "a table and a leaf change places" in broken.text
    bench.store(ROOT, index, 0)
    bench.retire_range(VirtualAddress(PAGES + 2 * BLOCK))
    bench.store(ROOT, index, bench.link(SPARE))
    bench.publish()
    assert bench.model.load(address) == 1


def test_table_to_block_must_drop_the_walk(bench: Bench) -> None:
    """With the operation that leaves table descriptors alone it is not enough."""
    bench.map(0, 1)
    bench.unmap(0)
    bench.store(ROOT, PAGES // BLOCK, 0)
    bench.mmu.retire_page(bench.root, VirtualAddress(PAGES), is_global=False)
    with Broken("BBM_MAKE_BEFORE_CLEAN") as broken:
        bench.store(ROOT, PAGES // BLOCK, bench.block(0x10_0000_0000))
    assert "use the operation without L" in broken.text


def test_one_table_in_two_places(bench: Bench) -> None:
    """Which addresses would a change then be for?"""
    with Broken("DOUBLE_TABLE"):
        bench.store(ROOT, PAGES // BLOCK + 1, bench.link(TABLE))


def test_half_an_entry(bench: Bench) -> None:
    """The walker may see it."""
    with Broken("TORN_ENTRY"):
        bench.model.store(TABLE + 4, 1, 4)


@pytest.mark.parametrize(
    ("index", "entry", "rule"),
    [(0, FRAMES | NORMAL_PAGE & ~2, "BAD_LEVEL"), (0, FRAMES | NORMAL_PAGE | 1 << 50, "RES0_SET")],
)
def test_entries_that_mean_nothing(bench: Bench, index: int, entry: int, rule: str) -> None:
    """Refused when they are stored."""
    with Broken(rule):
        bench.set(index, entry)


def test_unmap_the_running_program(bench: Bench) -> None:
    """Not even for a moment."""
    with Broken("SELF_UNMAP"):
        bench.store(ROOT, LAB.program.start // BLOCK, 0)
