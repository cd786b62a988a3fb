"""What the simulated processor keeps under a PCID, and when it counts again."""

from __future__ import annotations

import pytest

from hardware.x86_64.bench import DIRECTORY, OTHER_ROOT, PAGES, ROOT, TABLE, Bench
from kernmem.language import ModelViolation, PageFault

KEEP, PCIDE = 1 << 63, 1 << 17
OURS, OTHERS = 5, 6  # PCIDs


def use(bench: Bench, root: int, pcid: int, keep: int = KEEP) -> None:
    """MOV to CR3, and nothing more."""
    bench.simulated.execute("mov cr3", root | pcid | keep)


def left() -> Bench:
    """A bench whose page 0 is mapped to frame 1 in a space that is not in use."""
    bench = Bench()
    bench.map(0, 1)
    use(bench, ROOT, OURS, 0)
    assert bench.read(0) == 1
    use(bench, OTHER_ROOT, OTHERS, 0)
    return bench


def test_pcids_keep_spaces_apart() -> None:
    """Nothing need be dropped to go there and back."""
    bench = left()
    for _ in range(2):
        with pytest.raises(PageFault):
            bench.read(0)
        use(bench, ROOT, OURS)
        assert bench.read(0) == 1
        use(bench, OTHER_ROOT, OTHERS)


def test_what_changed_meanwhile_is_stale() -> None:
    """INVLPG is about the PCID in use; without bit 63, all of the PCID goes."""
    bench = left()
    bench.set(0, bench.page(2))
    bench.invlpg(0)
    use(bench, ROOT, OURS)
    with pytest.raises(ModelViolation, match="STALE_TRANSLATION: read of 0x8000000000"):
        bench.read(0)
    use(bench, ROOT, OURS, 0)
    assert bench.read(0) == 2


def test_a_table_that_was_unlinked_meanwhile_is_still_walked() -> None:
    """By the paging-structure caches of its PCID; INVLPG there drops them."""
    bench = left()
    bench.store(DIRECTORY, 0, 0)
    use(bench, ROOT, OURS)
    with pytest.raises(ModelViolation, match="WALK_CACHE_STALE"):
        bench.read(0)
    bench.invlpg(0)
    with pytest.raises(PageFault):
        bench.read(0)


def test_what_was_not_present_is_not_cached() -> None:
    """A page that was mapped meanwhile is there at once."""
    bench = left()
    bench.set(1, bench.page(2))
    use(bench, ROOT, OURS)
    assert bench.read(1) == 2


def test_the_memory_of_a_space_that_was_left_is_free() -> None:
    """No walk comes there; but its PCID must not come back with another root."""
    bench = left()
    for offset in range(0, 64, 4):
        bench.model.memory.storer(4)(TABLE + offset, 0xFFFF_FFFF)  # any bytes, of any length
    with pytest.raises(ModelViolation, match="PCID_ALIAS: CR3 becomes 0x206000 with PCID 0x5"):
        use(bench, OTHER_ROOT, OURS)
    use(bench, OTHER_ROOT, OURS, 0)
    with pytest.raises(PageFault):
        bench.read(0)


def test_only_the_first_value_was_seen() -> None:
    """What an entry was in between, while no walk could read it, does not matter."""
    bench = left()
    bench.set(0, bench.page(2))
    bench.set(0, bench.page(1))
    use(bench, ROOT, OURS)
    assert bench.model.load(PAGES) == 1


def test_pge_drops_every_pcid() -> None:
    """All of the TLB, of spaces that were left too."""
    bench = left()
    bench.set(0, bench.page(2))
    bench.set_pge(False)
    use(bench, ROOT, OURS)
    assert bench.read(0) == 2


def test_pcids_are_turned_on_by_the_rules() -> None:
    """Only if there are any, and while CR3 has none."""
    bench = Bench(pcids=False)
    cr4 = bench.simulated.execute("mov r, cr4")
    assert cr4 & PCIDE == 0
    with pytest.raises(ModelViolation, match=r"PCIDE: .* there are no PCIDs"):
        bench.simulated.execute("mov cr4", cr4 | PCIDE)
    with pytest.raises(ModelViolation, match="ROOT_ALIGN"):
        use(bench, ROOT, 0, KEEP)
    with pytest.raises(ModelViolation, match="ROOT_ALIGN"):
        use(bench, ROOT, OURS, 0)


def test_with_pcids_a_switch_drops_nothing() -> None:
    """From the second time on that a table is in use."""
    bench = Bench()
    written: list[int] = []
    execute = bench.simulated.execute

    def log(instruction: str, operand: int = 0) -> int:
        if instruction == "mov cr3":
            written.append(operand)
        return execute(instruction, operand)

    bench.simulated.execute = log  # type: ignore[method-assign]
    other = bench.new_root(0, 3)
    for _ in range(3):
        bench.mmu.switch(other)
        bench.mmu.switch(bench.root)
    assert [value & KEEP != 0 for value in written] == [False, True, True, True, True, True]
