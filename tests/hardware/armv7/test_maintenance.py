"""What must be done around a change of live tables, and what the model says if it is not.

The rules are those of :mod:`kernmem.hardware.vmsa`, tested at length for AArch64; here is what
differs: names, formats, branch prediction, and root and ASID in two registers.
"""

from __future__ import annotations

import pytest

from hardware.armv7.bench import (
    FRAMES,
    NORMAL_PAGE,
    NORMAL_SECTION,
    NOT_GLOBAL,
    OTHER_ROOT,
    PAGES,
    ROOT,
    SECTION,
    SPARE,
    TABLE,
    Bench,
)
from hardware.bench import Broken
from kernmem.hardware.armv7_virt import ARMV7_VIRT, build
from kernmem.hardware.virt import PROGRAM
from kernmem.language import Image, PageFault, PhysicalAddress, set_pointer_bytes
from kernmem.memory.architecture import Region

WALKS_IN_CACHE = 0x6A


@pytest.fixture
def bench() -> Bench:
    """A fresh one, with its MMU on."""
    return Bench()


def test_map_and_access(bench: Bench) -> None:
    """All barriers right: no complaint, the right memory, and it can be changed again."""
    bench.map(0, 1)
    assert bench.read(0) == 1
    bench.unmap(0)
    with pytest.raises(PageFault, match="translation fault, level 2"):
        bench.read(0)
    bench.map(0, 2)
    assert bench.read(0) == 2


def test_map_without_a_barrier(bench: Bench) -> None:
    """The walker may see the old entry, or the new one."""
    bench.set(0, bench.page(1))
    with Broken("NEW_NOT_VISIBLE") as broken:
        bench.read(0)
    assert broken.text == (
        "NEW_NOT_VISIBLE: read of 0xc0000000: the descriptor at 0x41080000 (level 2, for "
        "0xc0000000 to 0xc0001000) was changed from 0x0 to 0x42001c5e, and the old value may "
        "still be in use; missing: DSB ISHST and ISB after the store"
    )


@pytest.mark.parametrize(
    ("instructions", "rule"),
    [
        ("dsb ishst, isb", "STALE_TRANSLATION"),
        ("TLB, dsb ish, isb", "INVALIDATE_BEFORE_VISIBLE"),
        ("dsb ishst, TLB, bpiallis, isb", "INVALIDATE_INCOMPLETE"),
        ("dsb ishst, TLB, bpiallis, dsb ishst, isb", "INVALIDATE_INCOMPLETE"),
        ("dsb ishst, TLB, bpiallis, dsb nsh, isb", "INVALIDATE_INCOMPLETE"),
        ("dsb ishst, TLB, bpiallis, dsb ish", "NO_CONTEXT_SYNC"),
        ("dsb ishst, ASID 7, bpiall, dsb ish, isb", "INVALIDATE_MISSED"),
        ("dsb ishst, TLB, dsb ish, isb", "BRANCH_PREDICTOR"),
        ("bpiallis, dsb ishst, TLB, dsb ish, isb", "BRANCH_PREDICTOR"),
    ],
)
def test_unmap_with_too_little(bench: Bench, instructions: str, rule: str) -> None:
    """Each step of the sequence is named when it is missing."""
    bench.map(0, 1)
    bench.set(0, 0)
    names = {"TLB": f"tlbimvaais,{PAGES:x}", "ASID 7": "tlbiasid,7"}
    with Broken(rule):
        bench.do(*(names.get(each, each) for each in instructions.split(", ")))
        bench.read(0)


def test_data_that_is_never_executed_is_never_branched_to(bench: Bench) -> None:
    """So the branch predictor may stay."""
    bench.map(0, 1, NORMAL_PAGE | 1)
    bench.set(0, 0)
    bench.do("dsb ishst", f"tlbimvaais,{PAGES:x}", "dsb ish", "isb")
    with pytest.raises(PageFault):
        bench.read(0)


def test_another_address_needs_break_before_make(bench: Bench) -> None:
    """Both could be cached at once."""
    bench.map(0, 1)
    with Broken("BBM_REQUIRED"):
        bench.set(0, bench.page(2))


def test_a_section_does_not_become_a_table_in_one_store(bench: Bench) -> None:
    """Nor the other way round."""
    with Broken("BBM_REQUIRED"):
        bench.store(ROOT, PAGES // SECTION, FRAMES | NORMAL_SECTION)


def test_entries_are_stored_whole(bench: Bench) -> None:
    """All four bytes at once."""
    bench.map(0, 1)
    with Broken("TORN_ENTRY") as broken:
        bench.model.store(TABLE, 0x12, 1)
    assert "store all 4 bytes at once" in broken.text


@pytest.mark.parametrize("bits", [1 << 9, 1 << 4, 1 << 3])
def test_reserved_bits_of_a_table_entry(bench: Bench, bits: int) -> None:
    """SBZ, NS, and what is left to the implementation."""
    with Broken("RES0_SET"):
        bench.store(ROOT, 0xC20, SPARE | 0b01 | bits)


def test_the_table_is_filled_before_it_is_linked(bench: Bench) -> None:
    """And a DSB is between the two."""
    bench.store(SPARE, 0, bench.page(1))
    with Broken("TABLE_LINKED_UNINIT"):
        bench.store(ROOT, 0xC20, SPARE | 0b01)


@pytest.mark.parametrize(
    "instructions",
    [
        "dsb ishst",
        "dsb ishst, bpiallis, dsb ish, isb",
        "TLB, bpiallis, dsb ish, isb",
        "dsb ishst, TLB, bpiallis, dsb ishst, isb",
    ],
)
def test_a_table_is_not_free_until_the_walks_to_it_are_dropped(
    bench: Bench, instructions: str
) -> None:
    """Nor may another be linked in its place."""
    bench.store(ROOT, PAGES // SECTION, 0)
    names = {"TLB": f"tlbimvaais,{PAGES:x}"}
    bench.do(*(names.get(each, each) for each in instructions.split(", ")))
    with Broken("TABLE_FREED_LIVE"):
        bench.store(TABLE, 0, 0xDEAD_BEEC)
    with Broken("BBM_MAKE_BEFORE_CLEAN"):
        bench.store(ROOT, PAGES // SECTION, SPARE | 0b01)
    bench.do("dsb ish", f"tlbimvaais,{PAGES:x}", "bpiallis", "dsb ish", "isb")
    bench.store(TABLE, 0, 0xDEAD_BEEC)


def test_one_table_in_two_places(bench: Bench) -> None:
    """Which addresses would a change then be for?"""
    with Broken("DOUBLE_TABLE"):
        bench.store(ROOT, PAGES // SECTION + 1, TABLE | 0b01)


# Address spaces -----------------------------------------------------------------------------


def test_root_and_asid_do_not_change_together(bench: Bench) -> None:
    """Walks of the one would be cached under the other."""
    bench.do(f"mcr ttbr0,{OTHER_ROOT | WALKS_IN_CACHE:x}", "mcr contextidr,1")
    with Broken("ASID_ALIAS") as broken:
        bench.do("isb")
    assert "missing: ISB between the writes to TTBR0 and CONTEXTIDR" in broken.text


def test_two_roots_under_one_asid(bench: Bench) -> None:
    """Unless one has only what the other has, by the same sections."""
    bench.map(0, 1)
    bench.store(OTHER_ROOT, 0xC20, FRAMES | NORMAL_SECTION)
    bench.do("dsb ish", f"mcr ttbr0,{OTHER_ROOT | WALKS_IN_CACHE:x}")
    with Broken("ASID_ALIAS"):
        bench.do("isb")


def test_under_the_bridge_only_the_program_is_in_reach(bench: Bench) -> None:
    """What else is cached is of the root before."""
    bench.map(0, 1)
    bench.do("dsb ish", f"mcr ttbr0,{OTHER_ROOT | WALKS_IN_CACHE:x}", "isb")
    bench.model.load(PROGRAM.start)
    with Broken("ASID_ALIAS"):
        bench.read(0)


def test_an_asid_is_not_used_again_before_it_is_invalidated(bench: Bench) -> None:
    """After all others were."""
    bench.store(OTHER_ROOT, 0xC20, FRAMES | NORMAL_SECTION)
    bench.publish()
    bench.mmu.switch(PhysicalAddress(OTHER_ROOT))
    bench.mmu.switch(bench.root)
    bench.do("mcr contextidr,1")
    with Broken("ASID_ALIAS") as broken:
        bench.do("isb")
    assert "missing: TLBIALL or TLBIASID, DSB NSH and ISB" in broken.text


def test_a_global_page_survives_a_switch(bench: Bench) -> None:
    """Until it is invalidated by its address, or all is; not by an ASID."""
    bench.map(0, 1, NORMAL_PAGE & ~NOT_GLOBAL)
    assert bench.read(0) == 1
    bench.mmu.switch(PhysicalAddress(OTHER_ROOT))
    bench.do("tlbiasid,0", "tlbiasid,1", "bpiall", "dsb nsh", "isb")
    with Broken("GLOBAL_LEAK"):
        bench.read(0)
    bench.do(f"tlbimvaais,{PAGES:x}", "dsb ish", "isb")
    with pytest.raises(PageFault):
        bench.read(0)


def test_a_global_section_must_be_one_in_every_space(bench: Bench) -> None:
    """Not a page, which the TLB may hold beside it."""
    bench.set_global(OTHER_ROOT, mapped=True)
    bench.publish()
    bench.map(1, 1, NORMAL_PAGE & ~NOT_GLOBAL)
    bench.mmu.switch(PhysicalAddress(OTHER_ROOT))
    with Broken("GLOBAL_LEAK"):
        bench.read(1)


def test_the_program_must_be_in_the_new_space(bench: Bench) -> None:
    """Or the next instruction is not there."""
    empty = PhysicalAddress(0x4140_0000)
    with Broken("SELF_UNMAP"):
        bench.mmu.switch(empty)


# Turning it on ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("register", "value", "rule"),
    [
        ("ttbr0", ROOT | WALKS_IN_CACHE | 0x1000, "ROOT_ALIGN"),
        ("ttbr0", ROOT, "TTBR"),
        ("ttbr0", ROOT | WALKS_IN_CACHE & ~0x2, "TTBR"),
        ("ttbcr", 1, "TTBCR"),
        ("contextidr", 0x100, "ASID_WIDTH"),
        ("sctlr", 0x10C5_0078, "SCTLR"),
        ("sctlr", 0x00C5_1078, "RESET_ICACHE"),
        ("sctlr", 0x00C5_0878, "RESET_ICACHE"),
        ("sctlr", 0x00C5_0079, "RESET_TLB"),
    ],
)
def test_registers_that_are_refused(register: str, value: int, rule: str) -> None:
    """What is not simulated, and what no kernel should do."""
    bench = Bench(enable=False)
    with Broken(rule):
        bench.simulated.execute(f"mcr {register}", value)


def test_the_program_lies_in_whole_sections() -> None:
    """Or it would be mapped by pages here, and as part of a section there."""
    set_pointer_bytes(4)
    image = Image(ARMV7_VIRT.target)
    mmu = build(image).mmu
    with pytest.raises(ValueError, match="whole sections of 0x100000 bytes, not from 0x40001000"):
        type(mmu)(image, mmu.cpu, mmu.entries, Region(0x4000_1000, 0x4010_0000))  # type: ignore[attr-defined, call-arg]


def test_a_switch_back_forgets_nothing(bench: Bench) -> None:
    """While the space has its ASID; one that is new is invalidated first."""
    log: list[str] = []
    bench.simulated.log = log.append  # type: ignore[attr-defined]
    for root, invalidated in ((OTHER_ROOT, True), (ROOT, False), (OTHER_ROOT, False)):
        log.clear()
        bench.mmu.switch(PhysicalAddress(root))
        assert any("tlbi" in line for line in log) == invalidated
