"""The simulated walk, against the tables of the manual."""

from __future__ import annotations

import pytest

from hardware.armv7.bench import (
    EXECUTE_NEVER,
    FRAMES,
    NORMAL_PAGE,
    NORMAL_SECTION,
    PAGES,
    ROOT,
    SECTION,
    TABLE,
    Bench,
)
from hardware.bench import Broken
from kernmem.hardware.armv7.simulated.mmu import decode
from kernmem.hardware.simulation import Access
from kernmem.language import PageFault

MANAGER_OF_0 = 0b11
ACCESS_FLAG = 1 << 29
DOMAIN_5 = 5 << 5


@pytest.fixture
def bench() -> Bench:
    """A fresh one, with its MMU on."""
    return Bench()


def page_with(bench: Bench, permission: int, never: int = 0) -> int:
    """The address of a page with this AP[2:0]."""
    bits = NORMAL_PAGE & ~0b10_0011_0000 | permission >> 2 << 9 | (permission & 0b11) << 4
    bench.map(0, 1, bits | never)
    return bench.virtual(0)


def rights(bench: Bench, address: int, *, user: bool) -> str:
    """What may be done at an address: any of r, w and x."""
    found = ""
    for letter, access in zip("rwx", Access, strict=True):
        try:
            bench.simulated.translate(address, access, 4, user=user)
        except PageFault:
            continue
        found += letter
    return found


@pytest.mark.parametrize(
    ("permission", "kernel", "user"),
    [
        (0b000, "", ""),
        (0b001, "rwx", ""),
        (0b010, "rwx", "rx"),
        (0b011, "rwx", "rwx"),
        (0b101, "rx", ""),
        (0b110, "rx", "rx"),
        (0b111, "rx", "rx"),
    ],
)
def test_access_permissions(bench: Bench, permission: int, kernel: str, user: str) -> None:
    """DDI 0406, B3.7.1: by AP[2:0]; what may be read may be executed, unless XN."""
    address = page_with(bench, permission)
    assert rights(bench, address, user=False) == kernel
    assert rights(bench, address, user=True) == user
    bench.unmap(0)
    page_with(bench, permission, EXECUTE_NEVER)
    assert rights(bench, address, user=False) == kernel.replace("x", "")
    assert rights(bench, address, user=True) == user.replace("x", "")


def test_the_reserved_permission(bench: Bench) -> None:
    """AP 100 may mean anything."""
    address = page_with(bench, 0b100)
    with Broken("RESERVED_BITS"):
        rights(bench, address, user=False)


def test_faults_and_their_status(bench: Bench) -> None:
    """DDI 0406, B3.13.3: status, domain in bits 7:4, WnR in bit 11; IFSR has no domain."""
    bench.store(ROOT, 0xC10, FRAMES | NORMAL_SECTION | DOMAIN_5)
    bench.publish()
    for address, access, status in (
        (0xC200_0000, Access.READ, 0x005),
        (0xC200_0000, Access.WRITE, 0x805),
        (PAGES, Access.READ, 0x007),
        (PAGES, Access.EXECUTE, 0x007),
        (0xC100_0000, Access.WRITE, 0x859),
        (0xC100_0000, Access.EXECUTE, 0x009),
    ):
        with pytest.raises(PageFault) as caught:
            bench.simulated.translate(address, access, 4)
        assert f"{caught.value.syndrome:#x}" == f"{status:#x}"
        assert caught.value.address == address


def test_an_invalid_page_in_a_domain_without_access(bench: Bench) -> None:
    """A translation fault, not a domain fault: the walk comes first."""
    bench.store(ROOT, PAGES // SECTION, 0)
    bench.do("dsb ish", f"tlbimvaais,{PAGES:x}", "bpiallis", "dsb ish", "isb")
    bench.store(ROOT, PAGES // SECTION, TABLE | DOMAIN_5 | 0b01)
    bench.publish()
    with pytest.raises(PageFault, match="translation fault, level 2") as caught:
        bench.read(0)
    assert caught.value.syndrome == 0x057


@pytest.mark.parametrize("domain", [1, 5, 15])
def test_each_domain_has_its_own_bits_of_dacr(bench: Bench, domain: int) -> None:
    """A client is checked, a manager is not, without access all fault; 0b10 is reserved."""
    no_access = NORMAL_SECTION & ~(0b11 << 10)  # AP 000
    bench.store(ROOT, 0xC10, FRAMES | no_access | domain << 5)
    bench.publish()
    address = 0xC100_0000
    for value, found in ((0b01, "permission"), (0b00, "domain"), (0b11, "")):
        bench.do(f"mcr dacr,{value << 2 * domain | 0b01:x}", "isb")
        if not found:
            assert rights(bench, address, user=True) == "rwx"
            continue
        with pytest.raises(PageFault, match=f"{found} fault, level 1"):
            bench.simulated.translate(address, Access.READ, 4)
    bench.do(f"mcr dacr,{0b10 << 2 * domain | 0b01:x}", "isb")
    with Broken("RESERVED_BITS") as broken:
        bench.simulated.translate(address, Access.READ, 4)
    assert f"gives domain {domain}, of {FRAMES:#x}, a reserved value" in broken.text


def test_a_manager_is_not_checked(bench: Bench) -> None:
    """Neither AP nor XN."""
    address = page_with(bench, 0b000, EXECUTE_NEVER)
    bench.do(f"mcr dacr,{MANAGER_OF_0:x}", "isb")
    assert rights(bench, address, user=True) == "rwx"


def test_sections_and_pages_are_of_one_descriptor(bench: Bench) -> None:
    """Supersections and large pages, of 16, are refused."""
    bench.store(ROOT, 0xC10, FRAMES | NORMAL_SECTION | 1 << 18)
    bench.set(0, bench.frame(0) | 0b01)
    bench.publish()
    for address in (0xC100_0000, PAGES):
        with Broken("NOT_SIMULATED"):
            bench.model.load(address)


def test_the_access_flag() -> None:
    """With SCTLR.AFE, AP[0] is it; an entry without it was never cached."""
    bench = Bench(enable=False)
    sctlr = bench.simulated.execute("mrc sctlr")
    bench.do(f"mcr sctlr,{sctlr | ACCESS_FLAG:x}", "isb")
    bench.mmu.enable(bench.root)
    address = page_with(bench, 0b010)
    with pytest.raises(PageFault, match="access flag fault, level 2") as caught:
        bench.read(0)
    assert caught.value.syndrome == 0x006
    page_with(bench, 0b111)
    assert rights(bench, address, user=True) == "rx"


def test_device_memory_must_be_aligned(bench: Bench) -> None:
    """Normal memory need not be."""
    bench.map(0, 1)
    bench.map(1, 2, NORMAL_PAGE & ~(1 << 6 | 1 << 3))  # TEX, C, B: 000 0 1
    assert bench.simulated.translate(bench.virtual(0) + 2, Access.READ, 4).normal
    with pytest.raises(PageFault, match="alignment fault") as caught:
        bench.simulated.translate(bench.virtual(1) + 2, Access.READ, 4)
    assert caught.value.syndrome == 0x001


def test_memory_types_that_are_reserved(bench: Bench) -> None:
    """TEX, C, B 001 0 1."""
    bench.map(0, 1, NORMAL_PAGE & ~(1 << 3))
    with Broken("RESERVED_BITS"):
        bench.read(0)


def test_operations_by_their_names() -> None:
    """What each names; an unknown one is an error."""
    assert decode("tlbiall", 0).address is None
    assert decode("tlbiallis", 0).broadcast
    assert decode("tlbiasid", 0x12).asid == 0x12
    named = decode("tlbimva", 0x1234_5078)
    assert (named.address, named.asid, named.broadcast) == (0x1234_5000, 0x78, False)
    assert decode("tlbimvaais", 0x1234_5000).asid is None
    with pytest.raises(ValueError, match="does not know 'tlbimvaal'"):
        decode("tlbimvaal", 0)
