"""What the model says when tables are changed and fences are missing, by hand."""

from __future__ import annotations

import pytest

from hardware.riscv64.bench import (
    FULL,
    GIB,
    MIDDLE,
    OTHER_ROOT,
    PAGES,
    ROOT,
    SPARE,
    TABLE,
    A,
    Bench,
    D,
    G,
    R,
    V,
    entry,
)
from kernmem.hardware.riscv_virt import PROGRAM
from kernmem.hardware.simulation import Access
from kernmem.language import ModelViolation, PageFault, PhysicalAddress


def test_an_invalid_entry_may_be_cached() -> None:
    """So a new mapping needs a fence; the message says all there is to know."""
    bench = Bench()
    bench.set(0, bench.page(1))
    with pytest.raises(ModelViolation) as caught:
        bench.read(0)
    assert str(caught.value) == (
        "INVALID_CACHED: read of 0x2000000000: the entry at 0x81002000 (level 0, for 0x2000000000 "
        "to 0x2000001000) was changed from 0x0 to 0x208004cf, and the old value may still be in "
        "use; missing: SFENCE.VMA va, x0 after the store"
    )
    bench.fence(bench.virtual(0))
    assert bench.read(0) == 1


def test_a_fence_for_one_address_is_about_its_leaf_alone() -> None:
    """Not about another page's, and not about entries that lead to tables."""
    bench = Bench()
    bench.set(0, bench.page(1))
    bench.fence(bench.virtual(1))
    with pytest.raises(ModelViolation, match="INVALID_CACHED"):
        bench.read(0)
    bench.fence(bench.virtual(0))
    bench.store(SPARE, 0, entry(bench.frame(2), FULL))
    bench.store(MIDDLE, 1, entry(SPARE, V))
    bench.fence(PAGES + 0x20_0000)
    with pytest.raises(ModelViolation, match=r"missing: SFENCE\.VMA x0, x0"):
        bench.model.load(PAGES + 0x20_0000)
    bench.fence()
    assert bench.model.load(PAGES + 0x20_0000) == 2


def test_a_block_is_forgotten_whole_by_any_of_its_addresses() -> None:
    """It is one entry."""
    bench = Bench()
    bench.store(MIDDLE, 5, entry(0x8200_0000, FULL))
    bench.fence()
    bench.store(MIDDLE, 5, 0)
    bench.fence(PAGES + 5 * 0x20_0000 + 0x1_2345)
    with pytest.raises(PageFault):
        bench.model.load(PAGES + 5 * 0x20_0000)


@pytest.mark.parametrize("address", [None, PAGES])
def test_a_fence_for_one_space_spares_global_entries(address: int | None) -> None:
    """Whether the leaf or an entry above it is global."""
    bench = Bench()
    bench.set(0, bench.page(1, FULL | G))
    bench.fence()
    bench.set(0, bench.page(2))
    bench.fence(address, bench.asid)
    with pytest.raises(ModelViolation, match="STALE_TRANSLATION"):
        bench.read(0)
    bench.fence(PAGES)
    assert bench.read(0) == 2
    bench.store(MIDDLE, 0, entry(TABLE, V | G))
    bench.fence()
    bench.set(1, bench.page(3))
    bench.fence(None, bench.asid)
    with pytest.raises(ModelViolation, match="INVALID_CACHED"):
        bench.read(1)


def test_permissions_that_are_loosened_need_a_fence_too() -> None:
    """Or the access may fault; reads do not notice."""
    bench = Bench()
    bench.set(0, bench.page(1, V | R | A | D))
    bench.fence()
    bench.set(0, bench.page(1))
    assert bench.read(0) == 1
    with pytest.raises(ModelViolation, match="STALE_TRANSLATION"):
        bench.write(0)


@pytest.mark.parametrize(("flag", "noticed_by_reads"), [(D, False), (A, True)])
def test_accessed_and_dirty_are_cleared_with_a_fence(flag: int, noticed_by_reads: bool) -> None:
    """Without it a write may go through, and nobody learns that the page was used."""
    bench = Bench()
    bench.set(0, bench.page(1))
    bench.fence()
    bench.set(0, bench.page(1, FULL & ~flag))
    with pytest.raises(ModelViolation, match="STALE_TRANSLATION"):
        bench.write(0)
    if not noticed_by_reads:
        assert bench.read(0) == 1
    bench.fence(bench.virtual(0))
    with pytest.raises(PageFault, match="is 0, and the core does not set it"):
        bench.write(0)


def test_what_an_access_cannot_notice_is_no_error() -> None:
    """Software's bits, and bits of entries that are not valid."""
    bench = Bench()
    bench.set(0, bench.page(1))
    bench.fence()
    bench.set(0, bench.page(1, FULL | 1 << 8))
    assert bench.read(0) == 1
    bench.fence()
    bench.set(0, 0)
    bench.fence()
    bench.store(TABLE, 0, 0x1234_5678)
    with pytest.raises(PageFault):
        bench.read(0)


def test_a_table_is_not_free_until_the_fence() -> None:
    """Walks may read it still, so nothing may be stored there."""
    bench = Bench()
    bench.store(MIDDLE, 0, 0)
    with pytest.raises(ModelViolation, match="TABLE_FREED_LIVE: a store to 0x810"):
        bench.store(TABLE, 3, 1)
    bench.fence(PAGES)
    with pytest.raises(ModelViolation, match="TABLE_FREED_LIVE"):
        bench.store(TABLE, 3, 1)
    bench.fence()
    bench.store(TABLE, 3, 1)


def test_nor_are_the_tables_below_it() -> None:
    """A subtree is unlinked by one store."""
    bench = Bench()
    bench.store(ROOT, PAGES >> 30, 0)
    with pytest.raises(ModelViolation, match="TABLE_FREED_LIVE"):
        bench.store(TABLE, 3, 1)
    with pytest.raises(ModelViolation, match="TABLE_FREED_LIVE: a new link to 0x81002000"):
        bench.store(ROOT, 9, entry(TABLE, V))
    bench.fence()
    bench.store(TABLE, 3, 1)


def test_entries_are_stored_whole() -> None:
    """Half an entry may be read by a walk."""
    bench = Bench()
    with pytest.raises(ModelViolation, match="TORN_ENTRY: a store of 4 bytes"):
        bench.model.memory.storer(4)(0x8100_2000, 1)


def test_a_page_is_one_table_at_most() -> None:
    """A table in two places would have entries that mean two things."""
    bench = Bench()
    with pytest.raises(ModelViolation, match="DOUBLE_TABLE"):
        bench.store(MIDDLE, 4, entry(TABLE, V))


def test_a_switch_forgets_nothing_by_itself() -> None:
    """Without ASIDs, what is cached of the last space is of the next one too."""
    bench = Bench(asid_bits=0)
    bench.set(0, bench.page(1))
    bench.fence()
    bench.simulated.execute("csrw satp", 8 << 60 | OTHER_ROOT >> 12)
    with pytest.raises(ModelViolation, match="ASID_ALIAS: read of 0x2000000000"):
        bench.read(0)
    bench.fence(None, bench.asid)
    with pytest.raises(PageFault):
        bench.read(0)


def test_global_entries_outlive_a_switch() -> None:
    """The fence of a switch spares them: they must be the same in every space."""
    bench = Bench()
    bench.set(0, bench.page(1, FULL | G))
    bench.fence()
    bench.mmu.switch(PhysicalAddress(OTHER_ROOT))
    with pytest.raises(ModelViolation, match="GLOBAL_LEAK: read of 0x2000000000"):
        bench.read(0)
    bench.fence()
    with pytest.raises(PageFault):
        bench.read(0)


def test_a_space_is_visible_before_it_is_entered() -> None:
    """The very next instruction is fetched through it."""
    bench = Bench()
    bench.store(OTHER_ROOT, 5, entry(0x4000_0000, FULL))
    with pytest.raises(ModelViolation, match=r"NEW_NOT_VISIBLE: the table at 0x81004000"):
        bench.simulated.execute("csrw satp", 8 << 60 | 9 << 44 | OTHER_ROOT >> 12)
    bench.fence(None, 8)
    with pytest.raises(ModelViolation, match=r"NEW_NOT_VISIBLE: the table at 0x81004000"):
        bench.simulated.execute("csrw satp", 8 << 60 | 9 << 44 | OTHER_ROOT >> 12)
    bench.fence(None, 9)
    bench.simulated.execute("csrw satp", 8 << 60 | 9 << 44 | OTHER_ROOT >> 12)


def test_the_program_stays_mapped() -> None:
    """The next instruction must be there."""
    bench = Bench()
    bench.fence()
    with pytest.raises(
        ModelViolation,
        match=r"SELF_UNMAP: the running program, at 0x80200000, is not there .* not valid",
    ):
        bench.simulated.execute("csrw satp", 8 << 60 | SPARE >> 12)


def test_the_running_program_is_not_unmapped() -> None:
    """Not even for a moment; in a space that is not in use it may be."""
    bench = Bench()
    index = PROGRAM.start // GIB
    with pytest.raises(ModelViolation, match=r"SELF_UNMAP: storing 0x0 over .* \(level 2, for"):
        bench.store(ROOT, index, 0)
    bench.store(OTHER_ROOT, index, 0)


def test_reset_leaves_the_caches_unknown() -> None:
    """So a fence comes before the first translation."""
    bench = Bench(enable=False)
    with pytest.raises(ModelViolation, match="RESET_TLB"):
        bench.simulated.execute("csrw satp", 8 << 60 | ROOT >> 12)


def test_satp() -> None:
    """An unknown mode is ignored whole; Bare takes zeros; an ASID has as many bits as there are."""
    bench = Bench(levels=4, asid_bits=3)
    before = bench.simulated.registers()["satp"]
    for mode in (1, 10, 15):
        bench.simulated.execute("csrw satp", mode << 60 | ROOT >> 12)
        assert bench.simulated.execute("csrr satp") == before
    bench.simulated.execute("csrw satp", 8 << 60 | 0xFFFF << 44 | ROOT >> 12)
    assert bench.simulated.execute("csrr satp") == 8 << 60 | 7 << 44 | ROOT >> 12
    with pytest.raises(ModelViolation, match="in mode Bare all else must be 0"):
        bench.simulated.execute("csrw satp", ROOT >> 12)
    bench.simulated.execute("csrw satp", 0)
    assert not bench.simulated.enabled
    assert bench.simulated.translate(0x8200_0000, Access.READ).physical == 0x8200_0000


def test_a_snapshot_holds_what_is_owed() -> None:
    """Old values too."""
    bench = Bench()
    bench.set(0, bench.page(1))
    owing = bench.model.snapshot()
    bench.fence()
    assert bench.read(0) == 1
    for _ in range(2):
        bench.model.restore(owing)
        with pytest.raises(ModelViolation, match="INVALID_CACHED"):
            bench.read(0)
