"""The self-test kernel passes on a sound kernel, and fails with a message on a broken one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kernmem.hardware import find
from kernmem.hardware.simulation import MachineExit
from kernmem.kernels.selftest import SelfTest
from kernmem.language import KernelPanic, KernmemError, ModelViolation, PageFault
from kernmem.machine.model import Model
from kernmem.memory.profile import Checks, Placement, Profile, aligned, spec, tuned

LOG = """\
kernmem self-test
physical: {pages} pages of {length} bytes
  allocated, freed, exhausted, counted: ok
  runs aligned, kept below a limit, given back: ok
MMU on, in the linear space
page tables:
  two spaces map two pages crosswise: ok
  a read-only page and an unmapped page fault: ok
  two spaces share a global page, and then another: ok
  a page unmapped in the space in use is out of reach: ok
  a block is split around the page that is unmapped: ok
  every page given back: ok
linear space: entered, nested, left: ok
kernel segment: 5 pages written, found in physical memory: ok
kernel heap: 4000 calls, 64 buffers live
  every invariant held, every byte came back: ok
PASS
"""


def selftest(profile: Profile | None = None, hardware: str = "lab") -> Model:
    """A model with the self-test kernel in it."""
    chosen = profile or spec()
    return Model(find(hardware), lambda image, parts: SelfTest(image, parts, chosen))


@pytest.mark.parametrize("hardware", ["rpi3", "lab"])
def test_it_prints_the_log_and_exits_with_0(hardware: str) -> None:
    machine = selftest(hardware=hardware)
    with pytest.raises(MachineExit) as left:
        machine.kernel_main()
    assert left.value.status == 0
    info = machine.physical_mem_info
    assert machine.console == LOG.format(pages=info.page_quantity, length=info.page_length)


@pytest.mark.parametrize(
    "profile",
    [
        spec(no_void=False),
        spec(Placement.FIRST),
        aligned(Placement.LARGEST),
        tuned(),
        replace(tuned(), checks=Checks.NONE),
        replace(tuned(), checks=Checks.FULL),
    ],
    ids=["void", "first", "aligned-largest", "tuned", "unchecked", "guarded"],
)
def test_it_passes_in_every_profile(profile: Profile) -> None:
    machine = selftest(profile)
    with pytest.raises(MachineExit) as left:
        machine.kernel_main()
    assert left.value.status == 0
    assert machine.console.endswith("PASS\n")


# Broken on purpose ------------------------------------------------------------------------------


def nothing(*_: Any) -> None:
    """What a step does that is left out."""


def one_page_past_the_end(kernel: Any) -> None:
    """The known trap: the heap ends a page too far."""
    regions = kernel.physical.regions
    add = regions.add

    def broken(lower: Any, start: Any, end: Any) -> Any:
        return add(lower, start, end + regions.page_length)

    regions.add = broken


def first_in_first_out(kernel: Any) -> None:
    """A freed page goes nowhere: it is never handed out again."""
    kernel.physical.free_physical_page = nothing


def alignment_ignored(kernel: Any) -> None:
    """Runs begin anywhere."""
    find_run = kernel.physical.regions.find_run

    def broken(region: Any, length: Any, alignment: Any, limit: Any) -> Any:
        return find_run(region, length, type(alignment)(kernel.physical.page_length), limit)

    kernel.physical.regions.find_run = broken


def limit_ignored(kernel: Any) -> None:
    """Runs end anywhere."""
    find_run = kernel.physical.regions.find_run

    def broken(region: Any, length: Any, alignment: Any, limit: Any) -> Any:
        return find_run(region, length, alignment, type(limit)(0))

    kernel.physical.regions.find_run = broken


def no_publish(kernel: Any) -> None:
    """No barrier after an entry is made."""
    kernel.manager.virtual.mmu.publish_page = nothing
    kernel.manager.virtual.mmu.publish_range = nothing


def no_retire(kernel: Any) -> None:
    """No invalidation after an entry is cleared."""
    kernel.manager.virtual.mmu.retire_page = nothing
    kernel.manager.virtual.mmu.retire_range = nothing


def no_switch(kernel: Any) -> None:
    """The register of the tables is never written again."""
    kernel.manager.virtual.mmu.switch = nothing


def everything_writable(kernel: Any) -> None:
    """Read-only pages are mapped writable."""
    entries = kernel.manager.virtual.entries
    leaf = entries.leaf

    def broken(physical: Any, mapping: Any, level: Any) -> Any:
        return leaf(physical, mapping & ~3, level)

    entries.leaf = broken


def split_loses_a_neighbour(kernel: Any) -> None:
    """Unmapping a page of a block unmaps the one before, too."""
    virtual = kernel.manager.virtual
    unmap = virtual.pagetable_unmap

    def broken(table: Any, address: Any) -> Any:
        status = unmap(table, address)
        if address % (1 << 29) != 0 and address < kernel.segment.segment_start:
            unmap(table, address - virtual.page_length)
        return status

    virtual.pagetable_unmap = broken


def leave_stays(kernel: Any) -> None:
    """leave_linear_space does not switch back."""
    kernel.linear_space.leave_linear_space = nothing


def segment_stands_still(kernel: Any) -> None:
    """Extending gives the same page again."""
    extend = kernel.segment.extend_kernel_segment
    first: list[Any] = []

    def broken() -> Any:
        if not first:
            first.append(extend())
        return first[0]

    kernel.segment.extend_kernel_segment = broken


def no_merge(kernel: Any) -> None:
    """A freed superbuffer never finds the gap before it."""
    kernel.manager.kernel_heap.buffers.by_addr.last_before = nothing


def length_tree_not_rekeyed(kernel: Any) -> None:
    """The known trap: a gap changes its length and keeps its place."""
    kernel.manager.kernel_heap.buffers.by_length.may_stay = lambda *_: True


def mark_stays(kernel: Any) -> None:
    """Without headers: the map keeps what was there before."""
    kernel.manager.kernel_heap.buffers.map.unmark = nothing


def mark_is_missing(kernel: Any) -> None:
    """Without headers: the map does not learn where elements end."""
    kernel.manager.kernel_heap.buffers.map.mark = nothing


BROKEN: list[tuple[Callable[[Any], None], type[Exception], str]] = [
    (one_page_past_the_end, KernmemError, ""),
    (first_in_first_out, KernelPanic, "was freed last"),
    (alignment_ignored, KernelPanic, "is not aligned"),
    (limit_ignored, KernelPanic, "found below the limit"),
    (no_publish, ModelViolation, ""),
    (no_retire, ModelViolation, ""),
    (no_switch, KernelPanic, ""),
    (everything_writable, KernelPanic, "read-only page"),
    (split_loses_a_neighbour, KernelPanic, "is not linear"),
    (leave_stays, KernelPanic, "leave did not switch back"),
    (segment_stands_still, KernelPanic, "words of the pattern"),
    (no_merge, Exception, ""),
    (length_tree_not_rekeyed, KernelPanic, "the heap is damaged"),
]
HEADERLESS_BROKEN: list[tuple[Callable[[Any], None], str]] = [
    (mark_stays, "the heap is damaged"),
    (mark_is_missing, "the heap is damaged"),
]


@pytest.mark.parametrize(
    ("breaks", "error", "text"), BROKEN, ids=[b.__name__ for b, _, _ in BROKEN]
)
def test_it_fails_on_a_broken_kernel(
    breaks: Callable[[Any], None], error: type[Exception], text: str
) -> None:
    """And never says PASS."""
    fails(selftest(), breaks, error, text)


@pytest.mark.parametrize(
    ("breaks", "text"), HEADERLESS_BROKEN, ids=[b.__name__ for b, _ in HEADERLESS_BROKEN]
)
def test_it_fails_on_a_broken_heap_without_headers(
    breaks: Callable[[Any], None], text: str
) -> None:
    fails(selftest(tuned()), breaks, KernelPanic, text)


def fails(machine: Model, breaks: Callable[[Any], None], error: type[Exception], text: str) -> None:
    breaks(machine.kernel)
    with pytest.raises(Exception, match=text or None) as failure:
        machine.kernel_main()
    assert not isinstance(failure.value, MachineExit)
    assert isinstance(failure.value, (error, KernelPanic, PageFault))
    assert "PASS" not in machine.console
