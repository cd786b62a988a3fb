"""The simulated walk against the manual's algorithm, case by case."""

from __future__ import annotations

import pytest

from hardware.riscv64.bench import (
    FULL,
    GIB,
    MIDDLE,
    PAGES,
    ROOT,
    SPARE,
    TABLE,
    A,
    Bench,
    D,
    G,
    R,
    U,
    V,
    X,
    entry,
)
from kernmem.hardware.riscv64.simulated.walk import Fault, FaultKind, Leaf, Scheme, walk
from kernmem.hardware.simulation import Access
from kernmem.language import ModelViolation, PageFault, PhysicalAddress

CAUSES = {Access.EXECUTE: 12, Access.READ: 13, Access.WRITE: 15}
ACCESS_CAUSES = {Access.EXECUTE: 1, Access.READ: 5, Access.WRITE: 7}
SUM, MXR = 1 << 18, 1 << 19


def cause(bench: Bench, address: int, access: Access, *, user: bool = False) -> int:
    """The cause of the fault that an access meets; 0 if it meets none."""
    try:
        bench.simulated.translate(address, access, user=user)
    except PageFault as fault:
        return fault.syndrome or -1
    return 0


def refused(flags: int, *, user: bool, sum_: bool = False, mxr: bool = False) -> str:
    """Which of r, w, x a page with these flags refuses."""
    bench = Bench()
    bench.set(0, bench.page(1, flags))
    bench.fence()
    bench.simulated.execute("csrc sstatus", SUM | MXR)
    bench.simulated.execute("csrs sstatus", SUM * sum_ | MXR * mxr)
    found = ""
    for letter, access in (("r", Access.READ), ("w", Access.WRITE), ("x", Access.EXECUTE)):
        met = cause(bench, bench.virtual(0), access, user=user)
        assert met in (0, CAUSES[access])
        found += letter if met else ""
    return found


@pytest.mark.parametrize(
    ("flags", "user", "sum_", "mxr", "expected"),
    [
        (FULL, False, False, False, ""),
        (FULL, True, False, False, "rwx"),  # the supervisor's
        (FULL | U, True, False, False, ""),
        (FULL | U, False, False, False, "rwx"),
        (FULL | U, False, True, False, "x"),  # never executed by the supervisor
        (V | R | A | D, False, False, False, "wx"),
        (V | X | A | D, False, False, False, "rw"),
        (V | X | A | D, False, False, True, "w"),  # MXR: make executable readable
        (V | X | U | A | D, True, False, True, "w"),
        (V | X | U | A | D, False, True, True, "wx"),
        (FULL & ~A, False, False, False, "rwx"),  # A = 0 (Svade)
        (FULL & ~D, False, False, False, "w"),  # D = 0
        (FULL & ~R & ~X, False, False, False, "rwx"),  # reserved
        (FULL & ~R, False, False, False, "rwx"),  # reserved
        (V | A, False, False, False, "rwx"),  # a pointer at level 0
        (FULL & ~V, False, False, False, "rwx"),
    ],
)
def test_permissions(flags: int, user: bool, sum_: bool, mxr: bool, expected: str) -> None:
    """Steps 5 to 9 of the algorithm, by the letters of the accesses that fault."""
    if flags == V | A:  # the model's own rule comes first when such an entry is stored
        with pytest.raises(ModelViolation, match="RESERVED_NONLEAF"):
            refused(flags, user=user, sum_=sum_, mxr=mxr)
        flags = V
    assert refused(flags, user=user, sum_=sum_, mxr=mxr) == expected


@pytest.mark.parametrize("access", list(Access))
@pytest.mark.parametrize(
    "address", [1 << 38, (1 << 39) - 1, 1 << 39, 1 << 63, (1 << 64) - (1 << 38) - 1]
)
def test_addresses_that_are_not_canonical(address: int, access: Access) -> None:
    """A page fault, not an access fault; bits 63:39 must equal bit 38."""
    assert cause(Bench(), address, access) == CAUSES[access]


def test_the_upper_half() -> None:
    """The last entry of the root translates the last addresses of all."""
    bench = Bench()
    bench.store(ROOT, 511, entry(0x8000_0000, FULL))
    bench.fence()
    top = bench.simulated.translate((1 << 64) - 8, Access.READ)
    assert top.physical == 0x8000_0000 + GIB - 8


@pytest.mark.parametrize("level", [1, 2])
def test_blocks(level: int) -> None:
    """A block translates all its addresses; a misaligned one faults, whichever bit is wrong."""
    table, index = {1: (MIDDLE, 3), 2: (ROOT, 7)}[level]
    start = PAGES + 3 * 0x20_0000 if level == 1 else 7 * GIB
    length = 1 << 12 + 9 * level
    bench = Bench()
    bench.store(table, index, entry(0x100_0000_0000, FULL))
    bench.fence()
    for offset in (0, length // 2 + 5, length - 1):
        found = bench.simulated.translate(start + offset, Access.WRITE)
        assert found.physical == 0x100_0000_0000 + offset
    for bit in range(12, 12 + 9 * level):
        bench.store(table, index, entry(0x100_0000_0000 + (1 << bit), FULL))
        bench.fence()
        assert cause(bench, start, Access.READ) == 13


@pytest.mark.parametrize(("levels", "level"), [(4, 3), (5, 4)])
def test_the_largest_blocks_of_sv48_and_sv57(levels: int, level: int) -> None:
    """512 GiB and 256 TiB: of the address that they hold, no bit below their length may be set."""
    scheme, length = Scheme(levels, 56), 1 << 12 + 9 * level

    def end(block: int) -> Fault | Leaf:
        """Where the walk for a byte near the end of the root's second entry ends."""
        table = {8: entry(block, FULL)}
        (outcome,) = walk(scheme, 0, 2 * length - 5, lambda place: [(table.get(place, 0), None)])
        return outcome.end

    found = end(3 * length)
    assert isinstance(found, Leaf)
    assert (found.physical, found.level) == (4 * length - 5, level)
    for bit in range(12, 12 + 9 * level):
        reason = f"the block at {3 * length + (1 << bit):#x} is misaligned"
        assert end(3 * length + (1 << bit)) == Fault(FaultKind.PAGE, reason, level)


@pytest.mark.parametrize("bit", range(54, 64))
def test_reserved_bits(bit: int) -> None:
    """N, PBMT and 60:54 fault; the model refuses them when they are stored already."""
    bench = Bench(enable=False)
    bench.store(TABLE, 0, entry(bench.frame(1), FULL) | 1 << bit)
    with pytest.raises(ModelViolation, match="RESERVED_BITS"):
        bench.mmu.enable(PhysicalAddress(ROOT))


@pytest.mark.parametrize("flag", [U, A, D])
def test_reserved_flags_of_a_pointer(flag: int) -> None:
    """U, A and D of an entry that leads to a table are for software to clear."""
    bench = Bench()
    with pytest.raises(ModelViolation, match=r"RESERVED_NONLEAF.*\(level 1\)"):
        bench.store(MIDDLE, 9, entry(SPARE, V | flag))


def test_outside_physical_memory() -> None:
    """An access fault of the original kind: for a leaf, and for a table."""
    bench = Bench(physical_bits=40)
    bench.store(TABLE, 0, entry(1 << 40, FULL))
    bench.store(MIDDLE, 1, entry(1 << 45, V))
    bench.fence()
    for access in Access:
        assert cause(bench, bench.virtual(0), access) == ACCESS_CAUSES[access]
        assert cause(bench, PAGES + 0x20_0000, access) == ACCESS_CAUSES[access]


def test_a_root_outside_physical_memory() -> None:
    """The fetch of the next instruction would be an access fault."""
    bench = Bench(physical_bits=40)
    with pytest.raises(ModelViolation, match=r"SELF_UNMAP: .* execute: .* outside physical memory"):
        bench.simulated.execute("csrw satp", 8 << 60 | 7 << 44 | 1 << 40 - 12)


def test_without_translation() -> None:
    """In mode Bare every address is physical."""
    bench = Bench(enable=False, physical_bits=40)
    assert bench.simulated.translate(0x1234, Access.READ).physical == 0x1234
    assert cause(bench, 1 << 40, Access.WRITE) == 7


@pytest.mark.parametrize("levels", [4, 5])
def test_sv48_and_sv57(levels: int) -> None:
    """More levels above the same ones."""
    bench = Bench(enable=False)
    upper = [0x8180_0000 + number * 0x1000 for number in range(levels - 3)]
    for table, below in zip(upper, [*upper[1:], ROOT], strict=True):
        bench.store(table, 0, entry(below, V))
    bench.set(0, bench.page(5, FULL | G))
    bench.fence()
    bench.simulated.execute("csrw satp", {4: 9, 5: 10}[levels] << 60 | upper[0] >> 12)
    assert bench.read(0) == 5
    limit = 1 << 12 + 9 * levels - 1
    assert cause(bench, limit, Access.READ) == 13
    bench.store(upper[0], 1, entry(0, FULL))
    bench.fence()
    assert cause(bench, 1 << 12 + 9 * (levels - 1), Access.READ) == 0


def test_every_outcome_of_a_walk_counts() -> None:
    """Old pointer, new leaf: mixtures of cached entries are outcomes too."""
    bench = Bench()
    bench.set(0, bench.page(1))
    bench.fence()
    assert bench.read(0) == 1
    bench.store(SPARE, 0, entry(bench.frame(2), FULL))
    bench.store(MIDDLE, 0, entry(SPARE, V))
    with pytest.raises(ModelViolation, match="WALK_CACHE_STALE"):
        bench.read(0)
    bench.fence()
    assert bench.read(0) == 2
