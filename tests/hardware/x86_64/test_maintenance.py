"""What must be done around a change of live tables, and what the model says if it is not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hardware.x86_64.bench import (
    ACCESSED,
    BLOCK,
    DIRECTORY,
    DIRTY,
    GLOBAL,
    KERNEL_BLOCK,
    KERNEL_PAGE,
    LINK,
    NEVER,
    OTHER_ROOT,
    PAGE,
    PAGES,
    POINTERS,
    ROOT,
    SPARE,
    TABLE,
    USER,
    WRITABLE,
    Bench,
)
from kernmem.hardware.simulation import Access
from kernmem.language import ModelViolation, PageFault, PhysicalAddress, VirtualAddress

SMEP = 1 << 20


@pytest.fixture
def bench() -> Bench:
    """A fresh one, with its own tables in use."""
    return Bench()


@contextmanager
def broken(rule: str) -> Iterator[None]:
    """The block must raise this violation."""
    with pytest.raises(ModelViolation) as caught:
        yield
    assert caught.value.rule == rule, str(caught.value)


@contextmanager
def faults(code: int) -> Iterator[None]:
    """The block must raise a page fault with this error code."""
    with pytest.raises(PageFault) as caught:
        yield
    assert caught.value.syndrome == 14 << 32 | code, str(caught.value)


# Making entries present ---------------------------------------------------------------------


def test_map_needs_no_invalidation(bench: Bench) -> None:
    """What was not present is never cached, not even after a fault (SDM 4.10.2.3)."""
    with faults(0):
        bench.read(0)
    bench.set(0, bench.page(1))
    assert bench.read(0) == 1


def test_a_new_table_needs_no_invalidation(bench: Bench) -> None:
    """Filled, then linked: the walker sees stores in order."""
    bench.store(SPARE, 0, bench.page(2))
    bench.store(DIRECTORY, 1, SPARE | LINK)
    assert bench.model.load(PAGES + BLOCK) == 2


# Making entries not present, and other changes ----------------------------------------------


def test_unmap_without_invlpg(bench: Bench) -> None:
    """The old frame may be read still; the message says which store, and what is missing."""
    bench.map(0, 1)
    bench.set(0, 0)
    with pytest.raises(ModelViolation) as caught:
        bench.read(0)
    assert str(caught.value) == (
        "STALE_TRANSLATION: read of 0x8000000000: the entry at 0x204000 (level 0, for "
        "0x8000000000 to 0x8000001000) was changed from 0x301063 to 0x0, and the old value may "
        "still be in use; missing: INVLPG of 0x8000000000 after the store"
    )
    bench.invlpg(0)
    with faults(0):
        bench.read(0)


def test_invlpg_of_another_page_or_before_the_store(bench: Bench) -> None:
    """Neither helps."""
    bench.map(0, 1)
    bench.invlpg(0)
    bench.set(0, 0)
    bench.invlpg(1)
    with broken("STALE_TRANSLATION"):
        bench.read(0)


def test_another_frame(bench: Bench) -> None:
    """Allowed in one store, but not without invalidation."""
    bench.map(0, 1)
    bench.set(0, bench.page(2))
    with broken("STALE_TRANSLATION"):
        bench.read(0)
    bench.invlpg(0)
    assert bench.read(0) == 2


@pytest.mark.parametrize(
    ("bits", "access", "code"),
    [
        (KERNEL_PAGE & ~WRITABLE, Access.WRITE, 3),
        (KERNEL_PAGE | NEVER, Access.EXECUTE, 0x11),
    ],
)
def test_tightening(bench: Bench, bits: int, access: Access, code: int) -> None:
    """The old right may still be had; reads are the same either way."""
    bench.map(0, 1)
    bench.set(0, bench.page(1, bits))
    assert bench.read(0) == 1
    with broken("STALE_TRANSLATION"):
        bench.translate(0, access)
    bench.invlpg(0)
    with faults(code):
        bench.translate(0, access)


def test_loosening_costs_one_fault_at_most(bench: Bench) -> None:
    """Which drops the old translation (SDM 4.10.4.3); INVLPG saves it."""
    bench.map(0, 1, KERNEL_PAGE & ~WRITABLE)
    bench.set(0, bench.page(1))
    with faults(3):
        bench.write(0)
    bench.write(0)
    bench.map(1, 2, KERNEL_PAGE & ~WRITABLE)
    bench.set(1, bench.page(2))
    bench.invlpg(1)
    bench.write(1)


def test_a_memory_type_is_part_of_a_translation(bench: Bench) -> None:
    """PCD and PWT set without invalidation."""
    bench.map(0, 1)
    bench.set(0, bench.page(1, KERNEL_PAGE | 0x18))
    with broken("STALE_TRANSLATION"):
        bench.read(0)


@pytest.mark.parametrize("bit", [9, 10, 11, 52, 58, 59, 62])
def test_software_bits_need_nothing(bench: Bench, bit: int) -> None:
    """The processor does not look at them."""
    bench.map(0, 1)
    bench.set(0, bench.page(1, KERNEL_PAGE | 1 << bit))
    bench.write(0)


def test_accessed_and_dirty_are_noted(bench: Bench) -> None:
    """A in every entry of the walk, D in the leaf, and only by a write (SDM 4.8)."""
    bench.map(0, 1, KERNEL_PAGE & ~(ACCESSED | DIRTY))
    bench.store(DIRECTORY, 0, TABLE | LINK & ~ACCESSED)
    bench.invlpg(0)
    bench.read(0)
    assert bench.entry(0) == bench.page(1, KERNEL_PAGE & ~DIRTY)
    assert bench.model.read_physical(DIRECTORY, 1)[0] == LINK
    bench.write(0)
    assert bench.entry(0) == bench.page(1)


def test_a_write_leaves_a_at_every_level_and_d_in_the_leaf_alone(bench: Bench) -> None:
    """From entries with neither; a write that is refused leaves A in what led to the leaf."""
    places = (ROOT + 8, POINTERS, DIRECTORY)
    bench.map(0, 1, KERNEL_PAGE & ~(ACCESSED | DIRTY | WRITABLE))
    for place, below in zip(places, (*places[1:], TABLE), strict=True):
        bench.model.store(place, below & ~0xFFF | LINK & ~ACCESSED)
    bench.invlpg(0)
    with faults(3):
        bench.write(0)
    entries = [bench.model.load(place) & 0xFFF for place in places]
    assert (entries, bench.entry(0) & DIRTY) == ([LINK] * 3, 0)
    bench.set(0, bench.page(1, KERNEL_PAGE & ~(ACCESSED | DIRTY)))
    bench.invlpg(0)
    bench.write(0)
    assert [bench.model.load(place) & 0xFFF for place in places] == [LINK] * 3
    assert bench.entry(0) == bench.page(1)


def test_with_smep_a_page_given_to_user_code_needs_invlpg(bench: Bench) -> None:
    """The kernel could execute it still; user code only meets one fault (SDM 4.10.4.3)."""
    bench.simulated.execute("mov cr4", bench.simulated.execute("mov r, cr4") | SMEP)
    for table, index, below in ((ROOT, 1, POINTERS), (POINTERS, 0, DIRECTORY)):
        assert bench.model.load(table + 8 * index) == below | LINK
    bench.map(0, 1)
    bench.set(0, bench.page(1, KERNEL_PAGE | USER))
    with broken("STALE_TRANSLATION"):
        bench.translate(0, Access.EXECUTE)
    with faults(5):
        bench.translate(0, Access.READ, user=True)
    bench.translate(0, Access.READ, user=True)
    bench.invlpg(0)
    with faults(0x11):
        bench.translate(0, Access.EXECUTE)


def test_an_entry_that_was_never_accessed_is_not_cached(bench: Bench) -> None:
    """A = 0: any change is safe (SDM 4.10.2.3)."""
    bench.map(0, 1, KERNEL_PAGE & ~ACCESSED)
    bench.set(0, bench.page(2))
    assert bench.read(0) == 2


def test_dirty_is_lost_without_invlpg(bench: Bench) -> None:
    """The TLB remembers that the page was dirty, and would not note it again."""
    bench.map(0, 1)
    bench.set(0, bench.page(1, KERNEL_PAGE & ~DIRTY))
    assert bench.read(0) == 1
    with broken("DIRTY_LOST"):
        bench.write(0)


# Tables -------------------------------------------------------------------------------------


def test_an_unlinked_table_is_cached_even_if_empty(bench: Bench) -> None:
    """It is not to be used for anything else before an INVLPG (SDM 4.10.4.2)."""
    bench.store(DIRECTORY, 0, 0)
    with broken("TABLE_FREED_LIVE"):
        bench.store(TABLE, 5, 0x1234_5678)
    bench.simulated.execute("invlpg", 0)  # of any address: it drops all cached tables
    bench.store(TABLE, 5, 0x1234_5678)


def test_a_table_that_was_exchanged(bench: Bench) -> None:
    """Walks may go on from the old one."""
    bench.store(SPARE, 0, bench.page(2))
    bench.map(0, 1)
    bench.store(DIRECTORY, 0, SPARE | LINK)
    with broken("WALK_CACHE_STALE"):
        bench.read(0)
    bench.invlpg(1)
    with broken("STALE_TRANSLATION"):  # the translation itself has its own place in the TLB
        bench.read(0)
    bench.invlpg(0)
    assert bench.read(0) == 2


def test_rights_of_a_table(bench: Bench) -> None:
    """R/W cleared high up is cached too."""
    bench.map(0, 1)
    bench.store(ROOT, 1, int.from_bytes(bench.model.read_physical(ROOT + 8, 8), "little") & ~2)
    with broken("WALK_CACHE_STALE"):
        bench.write(0)


def test_a_block_in_pieces_takes_one_invlpg(bench: Bench) -> None:
    """Of any address in it (SDM 4.10.4.1)."""
    bench.store(DIRECTORY, 1, 0x20_0000 | KERNEL_BLOCK)
    bench.store(DIRECTORY, 1, 0)
    bench.simulated.execute("invlpg", PAGES + BLOCK + 7 * PAGE)
    with faults(0):
        bench.model.load(PAGES + BLOCK)


def test_half_an_entry(bench: Bench) -> None:
    """The walker could see it between two stores."""
    with broken("TORN_ENTRY"):
        bench.model.write_virtual(TABLE, b"\x63\x10\x30\x00")


def test_the_running_program_stays_mapped(bench: Bench) -> None:
    """In the table in use, and in the next."""
    with broken("SELF_UNMAP"):
        bench.store(0x20_8000, 0, 0)
    bench.store(SPARE, 0, 0)
    with broken("SELF_UNMAP"):
        bench.mmu.switch(PhysicalAddress(SPARE))


# Switching ----------------------------------------------------------------------------------


def test_a_switch_drops_everything_but_global_pages(bench: Bench) -> None:
    """MOV to CR3 (SDM 4.10.4.1)."""
    bench.map(0, 1)
    bench.set(0, 0)
    bench.store(DIRECTORY, 0, 0)
    bench.mmu.switch(PhysicalAddress(OTHER_ROOT))
    with faults(0):
        bench.read(0)
    bench.store(TABLE, 0, 0x1234_5678)


def test_a_global_page_survives_a_switch(bench: Bench) -> None:
    """Unless CR4.PGE is off; switching it off and on drops them."""
    bench.map(0, 1, KERNEL_PAGE | GLOBAL)
    bench.mmu.switch(PhysicalAddress(OTHER_ROOT))
    with broken("GLOBAL_LEAK"):
        bench.read(0)
    bench.set_pge(False)
    with faults(0):
        bench.read(0)


def test_a_stale_global_page_survives_a_switch(bench: Bench) -> None:
    """INVLPG drops it, whatever the table."""
    bench.map(0, 1, KERNEL_PAGE | GLOBAL)
    bench.set(0, 0)
    bench.mmu.switch(PhysicalAddress(ROOT))
    with broken("STALE_TRANSLATION"):
        bench.read(0)
    bench.mmu.retire_page(bench.root, VirtualAddress(bench.virtual(0)), is_global=False)
    with faults(0):
        bench.read(0)


# The state ----------------------------------------------------------------------------------


def test_snapshots(bench: Bench) -> None:
    """What is stale comes back, more than once."""
    bench.map(0, 1, KERNEL_PAGE | USER)
    bench.set(0, 0)
    state = bench.model.snapshot()
    for _ in range(2):
        bench.invlpg(0)
        with faults(0):
            bench.read(0)
        bench.model.restore(state)
        with broken("STALE_TRANSLATION"):
            bench.read(0)
