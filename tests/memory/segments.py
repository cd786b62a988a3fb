"""Machines with the segment and no heap on it, and what a segment with a shadow must be."""

from __future__ import annotations

from functools import partial
from typing import Any

from flat import Layout, flat
from machines import MAKERS, free_list, leaves_of

from kernmem.hardware import find
from kernmem.language import Component, Image, VirtualAddress, api, u32
from kernmem.machine.port import Machine
from kernmem.memory.architecture import Hardware, Mapping
from kernmem.memory.kernel_segment import SHADOW_MARGIN, KernelSegment
from kernmem.memory.linear_space import LinearSpace
from kernmem.memory.pagetable import PagetableStatus
from kernmem.memory.physical import PhysicalMemory
from kernmem.memory.virtual import VirtualMemory

OK = PagetableStatus.OK
SHADOW = 64
FLAT_PAGES = 220


class SegmentKernel(Component):
    """The memory manager without a heap, and with the segment's calls for the heap."""

    c_module = "segmentkernel"

    def __init__(self, image: Image, hardware: Hardware, shadow: int) -> None:
        super().__init__(image)
        memory_map, entries = hardware.memory_map, hardware.format
        self.physical = PhysicalMemory(image, memory_map, entries.page_length)
        self.virtual = VirtualMemory(image, entries, hardware.mmu, self.physical)
        self.linear_space = LinearSpace(image, self.virtual, memory_map)
        self.segment = KernelSegment(
            image, self.physical, self.virtual, self.linear_space, memory_map, shadow
        )

    @api
    def extend_to(self, end: VirtualAddress) -> bool:
        """What the heap calls to grow."""
        return self.segment.extend_kernel_segment_to(end)

    @api
    def shrink_to(self, end: VirtualAddress) -> None:
        """What the heap calls to shrink."""
        self.segment.shrink_kernel_segment_to(end)


def make(
    name: str, shadow: int = SHADOW, *, hardware: str = "lab", layout: Layout | None = None
) -> Machine:
    """A machine of this kind in the kernel's space, its segment empty."""
    kernel = partial(SegmentKernel, shadow=shadow)
    machine: Machine
    if name == "flat":
        machine = flat(FLAT_PAGES, layout=layout, kernel=kernel)
    else:
        machine = MAKERS[name](find(hardware), kernel)
    machine.init_physical_memory_manager()
    assert machine.init_linear_space() == OK
    assert machine.init_kernel_segment() == OK
    machine.enable_linear_space()
    machine.enable_kernel_segment()
    return machine


def page_of(machine: Machine) -> int:
    """The length of a page."""
    return int(machine.physical_mem_info.page_length)


def shadow_of(machine: Machine) -> int:
    """Bytes of the segment that have a byte of shadow."""
    kernel: Any = machine.kernel
    return int(kernel.segment.shadow)


def segment(machine: Machine) -> tuple[int, int, int]:
    """Start, end and limit."""
    info = machine.kernel_segment_info
    return int(info.segment_start), int(info.segment_end), int(info.segment_limit)


def pages_of(machine: Machine) -> tuple[range, range]:
    """The pages of the segment and those of its shadow, as the registry has them."""
    info, page = machine.kernel_segment_info, page_of(machine)
    return (
        range(int(info.segment_start), int(info.segment_end), page),
        range(int(info.shadow_start), int(info.shadow_end), page),
    )


def shadow_pages(machine: Machine, pages: int) -> int:
    """How many pages the shadow of a segment of so many has."""
    shadow, page = shadow_of(machine), page_of(machine)
    return -(-(pages * page // shadow + SHADOW_MARGIN) // page) if shadow else 0


def tables(machine: Machine, pages: list[int]) -> int:
    """How many tables below the root lead to these pages."""
    entries: Any = machine.kernel.virtual.entries  # type: ignore[attr-defined]
    above = [int(entries.shift(u32(level))) for level in range(1, entries.levels)]
    return len({(shift, page >> shift) for page in pages for shift in above})


def check(machine: Machine) -> None:
    """Mapped is what the registry says, each page to a frame of its own, and the shadow is long."""
    own, shadow = pages_of(machine)
    assert len(shadow) == shadow_pages(machine, len(own))
    entries: Any = machine.kernel.virtual.entries  # type: ignore[attr-defined]
    leaves = leaves_of(machine, machine.kernel_segment_info.pagetable)
    found = {at: leaf for at, leaf in leaves.items() if at >= own.start}
    expected = dict.fromkeys(own, Mapping.KERNEL)
    expected |= dict.fromkeys(shadow, Mapping.KERNEL | Mapping.NO_EXECUTE)
    assert {at: entries.mapping(entry, u32(0)) for at, (_, entry, _) in found.items()} == expected
    assert {int(level) for _, _, level in found.values()} <= {0}
    frames = {frame for frame, _, _ in found.values()}
    assert len(frames) == len(found)
    assert not frames & set(free_list(machine))
