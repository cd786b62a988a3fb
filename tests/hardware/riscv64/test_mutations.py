"""Weaken the MMU driver by one instruction: the model must notice, whichever it is.

Each mutant of :class:`Riscv64Mmu` lacks one instruction, or has a weaker one in its place, or in
another order.  All run the same workload, in which the original is clean.
"""

from __future__ import annotations

import inspect
import textwrap

import pytest

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
    G,
    R,
    U,
    V,
    entry,
)
from kernmem.hardware.riscv64 import mmu
from kernmem.hardware.riscv64.mmu import Riscv64Mmu
from kernmem.language import KernelPanic, ModelViolation, PageFault, PhysicalAddress, VirtualAddress

ALL = "self.cpu.sfence_all()"
PAGE = "self.cpu.sfence_page(address)"
SPACE = "self.cpu.sfence_space(u64(0))"
SATP = "self.cpu.write_satp(self.satp(table))"

MUTATIONS = [
    ("enable", "self.cpu.set_sstatus(u64(SUM))", "pass"),
    ("enable", ALL, "pass"),
    ("enable", ALL, SPACE),
    ("switch", SPACE, "pass"),
    ("switch", SPACE, "self.cpu.sfence_page(VirtualAddress(0))"),
    ("switch", f"{SATP}\n        {SPACE}", f"{SPACE}\n        {SATP}"),
    ("publish_page", PAGE, "pass"),
    ("publish_page", PAGE, SPACE),
    ("publish_range", ALL, "pass"),
    ("publish_range", ALL, SPACE),
    ("publish_range", ALL, "self.cpu.sfence_page(start)"),
    ("retire_page", PAGE, "pass"),
    ("retire_page", PAGE, SPACE),
    ("retire_range", ALL, "pass"),
    ("retire_range", ALL, SPACE),
    ("retire_range", ALL, "self.cpu.sfence_page(start)"),
]
"""A method, an instruction in it, and what takes its place."""


def mutant(method: str, old: str, new: str) -> type[Riscv64Mmu]:
    """The class with one place changed."""
    source = inspect.getsource(Riscv64Mmu)
    body = inspect.getsource(getattr(Riscv64Mmu, method))
    assert body.count(old) == 1, f"{method} has {old!r} not once: mend the list of mutations"
    changed = source.replace(body, body.replace(old, new))
    namespace = dict(vars(mmu))
    exec(compile("from __future__ import annotations\n" + textwrap.dedent(changed), mmu.__file__,
                 "exec"), namespace)  # fmt: skip
    result: type[Riscv64Mmu] = namespace["Riscv64Mmu"]
    return result


def workload(mmu_class: type[Riscv64Mmu]) -> None:
    """Everything that the interface promises, each followed by an access that relies on it."""
    bench = Bench(mmu_class, enable=False)
    bench.set(7, 7, V | R | U | A)
    bench.mmu.enable(PhysicalAddress(ROOT))
    page = VirtualAddress(bench.virtual(0))
    # enable: the kernel reads what user code may.
    assert bench.read(7) == 7
    # publish: a new entry is used, also a global one; a new table is linked and used.
    for number, flags in ((0, FULL), (1, FULL | G)):
        bench.set(number, number + 1, flags)
        bench.mmu.publish_page(bench.root, VirtualAddress(bench.virtual(number)))
        assert bench.read(number) == number + 1
    bench.store(SPARE, 0, entry(bench.frame(2), FULL))
    bench.store(MIDDLE, 1, entry(SPARE, V))
    bench.publish()
    assert bench.model.load(PAGES + 0x20_0000) == 2
    # retire_page: permissions, unmap; a global one.
    bench.set(0, 1, V | R | A | D)
    bench.mmu.retire_page(bench.root, page)
    with pytest.raises(PageFault):
        bench.write(0)
    for number in (0, 1):
        bench.clear(number)
        bench.mmu.retire_page(bench.root, VirtualAddress(bench.virtual(number)))
        with pytest.raises(PageFault):
            bench.read(number)
    # retire_range: a table is unlinked, its page reused, its entry filled anew.
    bench.clear(7)
    bench.mmu.retire_page(bench.root, VirtualAddress(bench.virtual(7)))
    bench.store(MIDDLE, 0, 0)
    bench.retire_range(page)
    with pytest.raises(PageFault):
        bench.read(0)
    bench.store(TABLE, 0, entry(bench.frame(4), FULL))
    bench.store(MIDDLE, 0, entry(TABLE, V | G))
    bench.publish()
    assert bench.read(0) == 4
    # switch: back and forth between spaces that differ.
    bench.store(MIDDLE, 0, 0)
    bench.retire_range(page)
    bench.store(TABLE, 0, entry(bench.frame(5), FULL))
    bench.store(MIDDLE, 0, entry(TABLE, V))
    bench.publish()
    for _ in range(2):
        bench.mmu.switch(PhysicalAddress(OTHER_ROOT))
        with pytest.raises(PageFault):
            bench.read(0)
        bench.mmu.switch(PhysicalAddress(ROOT))
        assert bench.read(0) == 5


def test_the_original_is_clean() -> None:
    """No complaint at all."""
    workload(Riscv64Mmu)


@pytest.mark.parametrize(
    ("method", "old", "new"),
    [pytest.param(*each, id=f"{each[0]}: {each[2]} for {each[1]}") for each in MUTATIONS],
)
def test_every_instruction_is_needed(method: str, old: str, new: str) -> None:
    """Without it the model finds a violation; without SUM, the MMU refuses."""
    with pytest.raises((ModelViolation, PageFault)):
        workload(mutant(method, old, new))


def test_a_hart_without_the_mode_is_found_out() -> None:
    """The write to satp is void then, and a kernel that did not look would run unprotected."""
    bench = Bench(enable=False, levels=2)
    with pytest.raises(KernelPanic, match="does not have the paging mode"):
        bench.mmu.enable(PhysicalAddress(ROOT))
