"""Switching address spaces, and turning the MMU on."""

from __future__ import annotations

import pytest

from hardware.aarch64.bench import (
    BLOCK,
    FRAMES,
    NORMAL_PAGE,
    NOT_GLOBAL,
    OTHER_ROOT,
    PAGE,
    PAGES,
    ROOT,
    SPARE,
    Bench,
)
from hardware.bench import Broken
from kernmem.hardware.lab import LAB
from kernmem.language import PageFault, PhysicalAddress


@pytest.fixture
def bench() -> Bench:
    """A fresh one, with its MMU on."""
    return Bench()


# Address spaces -----------------------------------------------------------------------------


def test_switch_back_and_forth(bench: Bench) -> None:
    """More often than there are ASIDs, with different tables for the same addresses."""
    bench.store(OTHER_ROOT, PAGES // BLOCK, bench.link(SPARE))
    bench.store(SPARE, 0, bench.page(2))
    bench.map(0, 1)
    for _ in range(300):
        bench.mmu.switch(PhysicalAddress(OTHER_ROOT))
        assert bench.read(0) == 2
        bench.mmu.switch(PhysicalAddress(ROOT))
        assert bench.read(0) == 1


def test_change_the_tables_of_another_space(bench: Bench) -> None:
    """Under another ASID nothing of them is in the TLB; they must only be visible."""
    bench.mmu.switch(PhysicalAddress(OTHER_ROOT))
    bench.set(0, bench.page(1))
    bench.publish()
    bench.mmu.switch(PhysicalAddress(ROOT))
    assert bench.read(0) == 1
    bench.mmu.switch(PhysicalAddress(OTHER_ROOT))
    bench.set(0, bench.page(2))
    with Broken("NEW_NOT_VISIBLE"):
        bench.mmu.switch(PhysicalAddress(ROOT))


def ttbr(root: int, asid: int) -> str:
    """The instruction that makes a space current."""
    return f"msr ttbr0_el1,{asid << 48 | root:x}"


def test_two_roots_under_one_asid(bench: Bench) -> None:
    """At once, or one after another without invalidation."""
    with Broken("ASID_ALIAS"):
        bench.do(ttbr(OTHER_ROOT, 0))
    bench.do(ttbr(OTHER_ROOT, 1), "isb")
    with Broken("ASID_ALIAS"):
        bench.do(ttbr(OTHER_ROOT + PAGE, 0))
    for instruction, rule in (
        ("tlbi vmalle1", "INVALIDATE_INCOMPLETE"),
        ("dsb nsh", "NO_CONTEXT_SYNC"),
    ):
        bench.do(instruction)
        with Broken(rule):
            bench.do(ttbr(OTHER_ROOT, 0))
    bench.do("isb", ttbr(OTHER_ROOT, 0), "isb")


def test_back_to_an_asid(bench: Bench) -> None:
    """The same root: what was cached of its tables must not have changed since."""
    bench.do(ttbr(OTHER_ROOT, 1), "isb", ttbr(ROOT, 0), "isb", ttbr(OTHER_ROOT, 1), "isb")
    bench.set(0, bench.page(1))
    bench.publish()
    bench.do(ttbr(ROOT, 0), "isb")
    assert bench.read(0) == 1, "what was invalid was not cached"
    bench.do(ttbr(OTHER_ROOT, 1), "isb")
    bench.set(0, 0)
    bench.do("dsb ishst")
    with Broken("ASID_ALIAS") as broken:
        bench.do(ttbr(ROOT, 0))
    assert "the entry at 0x1002000000 was stored to" in broken.text
    bench.do("tlbi aside1,0", "dsb nsh", "isb", ttbr(ROOT, 0), "isb")
    with pytest.raises(PageFault):
        bench.read(0)


def test_with_asids_a_switch_invalidates_nothing(bench: Bench) -> None:
    """From the second time on that a table is in use."""
    lines: list[str] = []
    bench.mmu.switch(PhysicalAddress(OTHER_ROOT))
    bench.simulated.log = lines.append  # type: ignore[attr-defined]
    bench.mmu.switch(PhysicalAddress(ROOT))
    bench.mmu.switch(PhysicalAddress(OTHER_ROOT))
    assert [line.split()[0] for line in lines] == ["msr", "isb", "msr", "isb"]


GLOBAL_PAGE = NORMAL_PAGE & ~NOT_GLOBAL
VAAE1IS = f"tlbi vaae1is,{PAGES >> 12:x}"


@pytest.mark.parametrize(
    ("instructions", "rule"),
    [
        (["tlbi aside1,0", "tlbi aside1,1000000000000", "dsb ish", "isb"], "GLOBAL_LEAK"),
        ([f"tlbi vaae1is,{PAGES + PAGE >> 12:x}", "dsb ish", "isb"], "GLOBAL_LEAK"),
        ([VAAE1IS, "isb"], "INVALIDATE_INCOMPLETE"),
        ([VAAE1IS, "dsb nsh", "isb"], "INVALIDATE_INCOMPLETE"),
        ([VAAE1IS, "dsb ish"], "NO_CONTEXT_SYNC"),
        ([f"tlbi vale1,{0x77 << 48 | PAGES >> 12:x}", "dsb nsh", "isb"], None),
        ([f"tlbi vale1,{0b0110 << 44 | PAGES >> 12:x}", "dsb nsh", "isb"], "GLOBAL_LEAK"),
        ([VAAE1IS, "dsb ish", "isb"], None),
        (["tlbi vmalle1", "dsb nsh", "isb"], None),
    ],
)
def test_a_global_translation_counts_in_every_space(
    bench: Bench, instructions: list[str], rule: str | None
) -> None:
    """Until it is invalidated: by its address, under whatever ASID, or with all others."""
    bench.map(0, 1, GLOBAL_PAGE)
    bench.mmu.switch(PhysicalAddress(OTHER_ROOT))
    bench.do(*instructions)
    if rule is None:
        with pytest.raises(PageFault):
            bench.read(0)
    else:
        with Broken(rule):
            bench.read(0)


@pytest.mark.parametrize(
    ("frame", "bits", "is_same"),
    [
        (1, GLOBAL_PAGE, True),
        (1, NORMAL_PAGE, False),  # two entries for one address, that differ in nG
        (2, GLOBAL_PAGE, False),
        (1, GLOBAL_PAGE | 1 << 2, False),  # a device
    ],
)
def test_a_global_page_must_be_the_same_in_every_space(
    bench: Bench, frame: int, bits: int, *, is_same: bool
) -> None:
    """Of the same nature, too."""
    bench.map(0, 1, GLOBAL_PAGE)
    other = bench.new_root(0, frame)
    bench.store(int(other) + PAGE, 0, bench.page(frame, bits))
    bench.mmu.order_tables()
    bench.mmu.switch(other)
    if is_same:
        assert bench.read(0) == 1
    else:
        with Broken("GLOBAL_LEAK"):
            bench.read(0)


def test_a_global_page_must_be_of_the_same_length_in_every_space(bench: Bench) -> None:
    """Or the TLB may hold two entries for an address."""
    bench.map(0, 0, GLOBAL_PAGE)
    bench.store(OTHER_ROOT, PAGES // BLOCK, bench.block(FRAMES // BLOCK * BLOCK) & ~NOT_GLOBAL)
    bench.publish()
    at = FRAMES % BLOCK // PAGE
    bench.map(at, 0, GLOBAL_PAGE)
    bench.mmu.switch(PhysicalAddress(OTHER_ROOT))
    with Broken("GLOBAL_LEAK"):
        bench.read(at)


def test_what_was_global_and_changed_before_the_switch_is_kept(bench: Bench) -> None:
    """With as much of the sequence as was done: a TLBI before the DSB does not count."""
    bench.map(0, 1, GLOBAL_PAGE)
    bench.set(0, 0)
    bench.do(VAAE1IS)
    bench.mmu.switch(PhysicalAddress(OTHER_ROOT))
    bench.do("dsb ish", "isb")
    with Broken("GLOBAL_LEAK"):
        bench.read(0)
    bench.do(VAAE1IS, "dsb ish", "isb")
    with pytest.raises(PageFault):
        bench.read(0)


def test_switch_without_isb(bench: Bench) -> None:
    """Until then either space may be in use."""
    bench.do(ttbr(OTHER_ROOT, 1))
    with Broken("NO_CONTEXT_SYNC"):
        bench.model.load(LAB.statics_base)


def test_a_space_without_the_program(bench: Bench) -> None:
    """Found at the ISB that makes it current."""
    with Broken("SELF_UNMAP"):
        bench.mmu.switch(PhysicalAddress(SPARE))


def test_a_root_that_is_not_aligned(bench: Bench) -> None:
    """A root of 64 KiB."""
    with Broken("ROOT_ALIGN"):
        bench.do(ttbr(OTHER_ROOT + 0x1000, 1))


# Turning the MMU on -------------------------------------------------------------------------

REGISTERS = ["msr mair_el1,4ff", "msr tcr_el1,200807516", f"msr ttbr0_el1,{ROOT:x}"]
CLEAN = ["tlbi vmalle1", "ic iallu", "dsb nsh"]
ON = "msr sctlr_el1,30d01805"


@pytest.mark.parametrize(
    ("rule", "instructions"),
    [
        ("RESET_ICACHE", [*REGISTERS, "tlbi vmalle1", "dsb nsh", "isb", ON]),
        ("RESET_TLB", [*REGISTERS, "ic iallu", "dsb nsh", "isb", ON]),
        ("RESET_ICACHE", [*REGISTERS, "tlbi vmalle1", "ic iallu", "isb", ON]),
        ("RESET_TLB", [*REGISTERS, "ic iallu", "dsb nsh", "tlbi vmalle1", "isb", ON]),
        ("RESET_REGISTER", [*REGISTERS[1:], *CLEAN, "isb", ON]),
        ("RESET_REGISTER", [*REGISTERS[:2], *CLEAN, "isb", ON]),
        ("NO_CONTEXT_SYNC", [*CLEAN, "isb", *REGISTERS, ON]),
        ("SYSREG_NOT_FLUSHED", [*REGISTERS, *CLEAN, "isb", ON, "isb", REGISTERS[1]]),
    ],
)
def test_enable_with_a_step_missing(rule: str, instructions: list[str]) -> None:
    """DDI 0487, D8.2.1, D8.16.2."""
    bench = Bench(enable=False)
    with Broken(rule):
        bench.do(*instructions)


def test_enable_and_access() -> None:
    """Right, and right but for the last ISB."""
    bench = Bench(enable=False)
    bench.do(*REGISTERS, *CLEAN, "isb", ON)
    with Broken("NO_CONTEXT_SYNC"):
        bench.model.load(LAB.statics_base)
    bench.do("isb")
    assert bench.model.load(FRAMES + 3 * PAGE) == 3


def test_enable_without_the_program() -> None:
    """The very next instruction is fetched by the table."""
    bench = Bench(enable=False)
    with Broken("SELF_UNMAP"):
        bench.do(*REGISTERS[:2], f"msr ttbr0_el1,{SPARE:x}", *CLEAN, "isb", ON, "isb")


def test_enable_before_the_tables_are_visible() -> None:
    """The stores to them need a DSB too."""
    bench = Bench(enable=False)
    bench.do(*CLEAN, "isb")
    bench.store(ROOT, 1, 0)
    bench.do(*REGISTERS, "isb")
    with Broken("NEW_NOT_VISIBLE"):
        bench.do(ON)


def test_unaligned_accesses_with_the_mmu_off() -> None:
    """All memory is device memory then."""
    bench = Bench(enable=False)
    with pytest.raises(PageFault, match="alignment") as caught:
        bench.model.memory.loader(8)(FRAMES + 4)
    assert caught.value.syndrome == 0x9600_0021
    bench.mmu.enable(PhysicalAddress(ROOT))
    assert bench.model.memory.loader(8)(FRAMES + 4) == 0


def test_device_memory_must_be_aligned(bench: Bench) -> None:
    """With the MMU on, too."""
    bench.map(0, 1, NORMAL_PAGE & ~(0b11 << 8) | 1 << 2)
    assert bench.read(0) == 1
    with pytest.raises(PageFault, match="alignment"):
        bench.model.memory.loader(4)(bench.virtual(0) + 2)


def test_unknown_instructions(bench: Bench) -> None:
    """Not silently ignored."""
    for instruction in ("dsb ishld", "tlbi alle1", "msr ttbr1_el1", "wfi"):
        with pytest.raises(ValueError, match="does not know"):
            bench.do(instruction)


def test_the_log(bench: Bench) -> None:
    """Every instruction, and every store to a live table."""
    lines: list[str] = []
    bench.simulated.log = lines.append  # type: ignore[attr-defined]
    bench.unmap(0)
    bench.map(0, 1)
    assert lines == [
        "store 0x0 at 0x1002000000, a live table",
        "dsb ishst",
        "tlbi vaale1is 0x2000000",
        "dsb ish",
        "isb",
        "store 0x1005010f03 at 0x1002000000, a live table",
        "dsb ishst",
        "isb",
    ]
