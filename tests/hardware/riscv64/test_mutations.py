"""Weaken the MMU driver by one instruction: the model must notice, whichever it is.

Each mutant of :class:`Riscv64Mmu` lacks one instruction, or has a weaker one in its place, or in
another order.  All run the same workload, in which the original is clean.
"""

from __future__ import annotations

import ast
import textwrap

import pytest
from _pytest.outcomes import Failed

from hardware.bench import change_global_pages, made, written_out
from hardware.riscv64.bench import (
    FULL,
    MIDDLE,
    OTHER_ROOT,
    PAGES,
    ROOT,
    SPARE,
    TABLE,
    A,
    Bench,
    D,
    R,
    U,
    V,
    entry,
)
from kernmem.hardware.riscv64.mmu import Riscv64Mmu
from kernmem.language import KernelPanic, ModelViolation, PageFault, PhysicalAddress, VirtualAddress
from kernmem.memory.address_spaces import SPACES

ALL = "self.cpu.sfence_all()"
LEAF = "self.cpu.sfence_leaf(address)"
PAGE = "self.cpu.sfence_page(address, asid)"
SPACE = "self.cpu.sfence_space(asid)"
SATP = "self.cpu.write_satp(self.satp(table, asid))"
IF_NEW = "if not kept:\n            "
OF_PAGE = "self.forget_page(table, address, is_global)"
OF_SPACE = "self.forget_space(table, is_global)"

MUTATIONS = [
    ("enable", "self.cpu.set_sstatus(usize(SUM))", "pass"),
    ("enable", ALL, "pass"),
    ("enable", ALL, "self.cpu.sfence_space(usize(0))"),
    ("enable", "self.spaces.start(asids + 1)", "self.spaces.start(usize(8))"),
    ("switch", f"{SPACE}\n        {SATP}", f"pass\n        {SATP}"),
    ("switch", f"{SATP}\n        {IF_NEW}{SPACE}", f"{SATP}\n        {IF_NEW}pass"),
    ("switch", SATP, "pass"),
    ("switch", "self.satp(table, asid)", "self.satp(table, usize(0))"),
    ("publish_page", OF_PAGE, "pass"),
    ("publish_range", OF_SPACE, "pass"),
    ("publish_range", OF_SPACE, "self.forget_page(table, start, is_global)"),
    ("retire_page", OF_PAGE, "pass"),
    ("retire_range", OF_SPACE, "pass"),
    ("retire_range", OF_SPACE, "self.forget_page(table, start, is_global)"),
    ("retire_page", "is_global)", "False)"),
    ("retire_range", "is_global)", "False)"),
    ("forget_page", LEAF, "pass"),
    ("forget_page", LEAF, "self.cpu.sfence_page(address, self.spaces.info.current)"),
    ("forget_space", ALL, "pass"),
    ("forget_space", ALL, "self.cpu.sfence_space(self.spaces.info.current)"),
    ("forget_page", PAGE, "pass"),
    ("forget_page", PAGE, "self.cpu.sfence_page(address, self.spaces.info.current)"),
    ("forget_space", SPACE, "pass"),
    ("forget_space", SPACE, "self.cpu.sfence_space(self.spaces.info.current)"),
    ("forget", "self.spaces.forget(table)", "pass"),
]
"""A method, an instruction in it, and what takes its place."""


def mutant(method: str, old: str, new: str) -> type[Riscv64Mmu]:
    """The class with one place changed."""
    tree = written_out(Riscv64Mmu)
    (found,) = (
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == method
    )
    body = textwrap.indent(ast.unparse(found), " " * 4)
    assert body.count(old) == 1, f"{method} has {old!r} not once: mend the list of mutations"
    found.body = ast.parse(textwrap.dedent(body.replace(old, new))).body[0].body
    result: type[Riscv64Mmu] = made(tree, Riscv64Mmu)
    return result


def workload(mmu_class: type[Riscv64Mmu], asid_bits: int) -> None:
    """Everything that the interface promises, each followed by an access that relies on it."""
    bench = Bench(mmu_class, enable=False, asid_bits=asid_bits)
    bench.set(7, bench.page(7, V | R | U | A))
    bench.mmu.enable(PhysicalAddress(ROOT))
    page = VirtualAddress(bench.virtual(0))
    # enable: the kernel reads what user code may.
    assert bench.read(7) == 7
    # publish: a new entry is used; a new table is linked and used.
    for number in (0, 1):
        bench.set(number, bench.page(number + 1))
        bench.mmu.publish_page(bench.root, VirtualAddress(bench.virtual(number)), is_global=False)
        assert bench.read(number) == number + 1
    bench.store(SPARE, 0, entry(bench.frame(2), FULL))
    bench.store(MIDDLE, 1, entry(SPARE, V))
    bench.publish()
    assert bench.model.load(PAGES + 0x20_0000) == 2
    # retire_page: permissions, unmap.
    bench.set(0, bench.page(1, V | R | A | D))
    bench.mmu.retire_page(bench.root, page, is_global=False)
    with pytest.raises(PageFault):
        bench.write(0)
    for number in (0, 1):
        bench.set(number, 0)
        bench.mmu.retire_page(bench.root, VirtualAddress(bench.virtual(number)), is_global=False)
        with pytest.raises(PageFault):
            bench.read(number)
    # retire_range: a table is unlinked, its page reused, its entry filled anew.
    bench.set(7, 0)
    bench.mmu.retire_page(bench.root, VirtualAddress(bench.virtual(7)), is_global=False)
    bench.store(MIDDLE, 0, 0)
    bench.retire_range(page)
    with pytest.raises(PageFault):
        bench.read(0)
    bench.store(TABLE, 0, entry(bench.frame(5), FULL))
    bench.store(MIDDLE, 0, entry(TABLE, V))
    bench.publish()
    # switch: back and forth between spaces that differ.
    for _ in range(2):
        bench.mmu.switch(PhysicalAddress(OTHER_ROOT))
        with pytest.raises(PageFault):
            bench.read(0)
        bench.mmu.switch(PhysicalAddress(ROOT))
        assert bench.read(0) == 5
    # A space that is not in use is changed all the same, leaf by leaf and by whole tables.
    for number, frame in ((1, 1), (1, 0), (0, 3)):
        bench.mmu.switch(PhysicalAddress(OTHER_ROOT))
        bench.set(number, bench.page(frame, FULL if frame else 0))
        if frame:
            bench.mmu.publish_page(
                bench.root, VirtualAddress(bench.virtual(number)), is_global=False
            )
        else:
            bench.mmu.retire_page(
                bench.root, VirtualAddress(bench.virtual(number)), is_global=False
            )
        bench.mmu.switch(PhysicalAddress(ROOT))
        if frame:
            assert bench.read(number) == frame
        else:
            with pytest.raises(PageFault):
                bench.read(number)
    for link in (0, entry(SPARE, V)):
        bench.mmu.switch(PhysicalAddress(OTHER_ROOT))
        bench.store(MIDDLE, 1, link)
        if link:
            bench.publish()
        else:
            bench.mmu.retire_range(
                bench.root, VirtualAddress(PAGES), VirtualAddress(PAGES), is_global=False
            )
        bench.mmu.switch(PhysicalAddress(ROOT))
        if link:
            assert bench.model.load(PAGES + 0x20_0000) == 2
        else:
            with pytest.raises(PageFault):
                bench.model.load(PAGES + 0x20_0000)
    # More spaces than identifiers; each maps the page to a frame of its own.
    roots = [bench.new_root(number, number) for number in range(SPACES + 2)]
    for _ in range(2):
        for number, root in enumerate(roots):
            bench.mmu.switch(root)
            assert bench.read(0) == number
    # forget: the page of a root that is gone becomes another root.
    bench.mmu.switch(bench.root)
    bench.mmu.forget(roots[-1])
    root = bench.new_root(SPACES + 1, 1)
    bench.mmu.switch(root)
    assert bench.read(0) == 1
    spaces = [bench.new_root(SPACES + 2 + number, 0) for number in range(2)]
    change_global_pages(
        bench,
        spaces,
        OTHER_ROOT,
        lambda space, mapped: bench.set_global(space, 6 if mapped else None),
        reads=(0, 6),
        many=64,
    )


def workloads(mmu_class: type[Riscv64Mmu]) -> None:
    """On harts without ASIDs, with two, and with more than are lent."""
    for asid_bits in (0, 1, 16):
        workload(mmu_class, asid_bits)


def test_the_original_is_clean() -> None:
    """No complaint at all."""
    workloads(Riscv64Mmu)


@pytest.mark.parametrize(
    ("method", "old", "new"),
    [
        pytest.param(*each, id=" ".join(f"{each[0]}: {each[2]} for {each[1]}".split()))
        for each in MUTATIONS
    ],
)
def test_every_instruction_is_needed(method: str, old: str, new: str) -> None:
    """Without it the model finds a violation, or an access ends otherwise, on one of the harts."""
    weaker = mutant(method, old, new)
    with pytest.raises((ModelViolation, PageFault, AssertionError, Failed)):
        workloads(weaker)


def test_a_hart_without_the_mode_is_found_out() -> None:
    """The write to satp is void then, and a kernel that did not look would run unprotected."""
    bench = Bench(enable=False, levels=2)
    with pytest.raises(KernelPanic, match="does not have the paging mode"):
        bench.mmu.enable(PhysicalAddress(ROOT))
