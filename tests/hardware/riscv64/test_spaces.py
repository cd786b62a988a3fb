"""What the simulated hart keeps of a space that was left, and when it counts again."""

from __future__ import annotations

import pytest

from hardware.riscv64.bench import (
    FULL,
    MIDDLE,
    OTHER_ROOT,
    PAGES,
    ROOT,
    SPARE,
    TABLE,
    Bench,
    G,
    V,
    entry,
)
from kernmem.language import ModelViolation, PageFault

OURS, OTHERS = 5, 6  # ASIDs


def use(bench: Bench, root: int, asid: int) -> None:
    """Write satp, and nothing more."""
    bench.simulated.execute("csrw satp", 8 << 60 | asid << 44 | root >> 12)


def left() -> Bench:
    """A bench whose page 0 is mapped to frame 1 in a space that is not in use."""
    bench = Bench()
    bench.set(0, bench.page(1))
    bench.fence()
    use(bench, ROOT, OURS)
    assert bench.read(0) == 1
    use(bench, OTHER_ROOT, OTHERS)
    return bench


def test_asids_keep_spaces_apart() -> None:
    """No fence is needed to go there and back."""
    bench = left()
    for _ in range(2):
        with pytest.raises(PageFault):
            bench.read(0)
        use(bench, ROOT, OURS)
        assert bench.read(0) == 1
        use(bench, OTHER_ROOT, OTHERS)


def test_what_changed_meanwhile_is_stale() -> None:
    """A fence for the address, or for all, but of that ASID, mends it."""
    for address, asid, enough in (
        (None, None, True),
        (PAGES, None, True),
        (None, OURS, True),
        (PAGES, OURS, True),
        (None, OTHERS, False),
        (PAGES, OTHERS, False),
        (PAGES + 0x1000, OURS, False),
    ):
        bench = left()
        bench.set(0, bench.page(2))
        bench.fence(address, asid)
        use(bench, ROOT, OURS)
        if enough:
            assert bench.read(0) == 2
        else:
            with pytest.raises(ModelViolation, match="STALE_TRANSLATION: read of 0x2000000000"):
                bench.read(0)


def test_what_was_not_valid_is_remembered_too() -> None:
    """A new leaf, and a new table."""
    bench = left()
    bench.set(1, bench.page(2))
    use(bench, ROOT, OURS)
    with pytest.raises(ModelViolation, match="INVALID_CACHED"):
        bench.read(1)
    bench = left()
    bench.store(SPARE, 0, entry(bench.frame(3), FULL))
    bench.store(MIDDLE, 1, entry(SPARE, V))
    with pytest.raises(ModelViolation, match="NEW_NOT_VISIBLE"):
        use(bench, ROOT, OURS)
    bench.fence(PAGES + 0x20_0000, OURS)  # about a leaf only
    use(bench, ROOT, OURS)
    with pytest.raises(ModelViolation, match="INVALID_CACHED"):
        bench.model.load(PAGES + 0x20_0000)
    bench.fence(None, OURS)
    assert bench.model.load(PAGES + 0x20_0000) == 3


def test_a_fence_for_an_address_orders_the_stores_to_its_leaf() -> None:
    """After a fence for all addresses, for those that changed since; and for no others."""
    bench = left()
    bench.fence(None, OURS)
    bench.set(1, bench.page(2))
    bench.set(2, bench.page(3))
    for address, asid in (
        (bench.virtual(1), OURS),
        (bench.virtual(3), OURS),
        (bench.virtual(2), OTHERS),
    ):
        bench.fence(address, asid)
        with pytest.raises(ModelViolation, match=r"NEW_NOT_VISIBLE: the table at 0x81002000"):
            use(bench, ROOT, OURS)
    bench.fence(bench.virtual(2), OURS)
    use(bench, ROOT, OURS)
    assert [bench.read(number) for number in range(3)] == [1, 2, 3]


def test_a_store_after_the_fence_for_its_leaf_is_not_ordered() -> None:
    bench = left()
    bench.fence(None, OURS)
    bench.set(1, bench.page(2))
    bench.fence(bench.virtual(1), OURS)
    bench.set(1, bench.page(3))
    with pytest.raises(ModelViolation, match="NEW_NOT_VISIBLE"):
        use(bench, ROOT, OURS)
    bench.fence(bench.virtual(1), None)
    use(bench, ROOT, OURS)
    assert bench.read(1) == 3


def test_a_fence_for_one_space_does_not_order_a_global_leaf() -> None:
    bench = left()
    bench.fence()
    bench.set(1, bench.page(2, FULL | G))
    bench.fence(bench.virtual(1), OURS)
    with pytest.raises(ModelViolation, match="NEW_NOT_VISIBLE"):
        use(bench, ROOT, OURS)
    bench.fence(bench.virtual(1), None)
    use(bench, ROOT, OURS)
    assert bench.read(1) == 2


def test_the_memory_of_a_space_that_was_left_is_free() -> None:
    """No walk comes there; but its ASID may be used again only after a fence."""
    bench = left()
    for offset in range(0, 64, 4):
        bench.model.memory.storer(4)(TABLE + offset, 0xFFFF_FFFF)  # any bytes, of any length
    bench.fence(None, OTHERS)
    use(bench, OTHER_ROOT, OURS)
    with pytest.raises(ModelViolation, match=r"ASID_ALIAS: .* has ASID 0x5"):
        bench.read(0)
    bench.fence(None, OURS)
    with pytest.raises(PageFault):
        bench.read(0)


def test_only_the_first_value_was_seen() -> None:
    """What an entry was in between, while no walk could read it, does not matter."""
    bench = left()
    bench.set(0, bench.page(2))
    bench.set(0, bench.page(1))
    use(bench, ROOT, OURS)
    assert bench.read(0) == 1


def test_global_entries_count_in_every_space() -> None:
    """A fence for one space does not forget them."""
    bench = Bench()
    bench.set(0, bench.page(1, FULL | G))
    bench.fence()
    use(bench, ROOT, OURS)
    use(bench, OTHER_ROOT, OTHERS)
    bench.fence(None, OURS)
    with pytest.raises(ModelViolation, match="GLOBAL_LEAK"):
        bench.read(0)
    bench.fence()
    with pytest.raises(PageFault):
        bench.read(0)
