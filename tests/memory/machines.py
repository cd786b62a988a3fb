"""The machines that behaviour tests run on, by name, and what tests ask of any machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from flat import flat

from kernmem.hardware import find
from kernmem.language import u32, u64
from kernmem.machine.host import HostMachine
from kernmem.machine.model import Model
from kernmem.machine.port import Machine
from kernmem.machine.unicorn import UnicornMachine
from kernmem.memory.manager import MemoryManager
from kernmem.memory.profile import Profile, spec

NAMES = ("flat", "model", "host", "unicorn")


_machines: dict[tuple[str, Profile], tuple[Machine, Any]] = {}
_booted: dict[tuple[str, Profile], Any] = {}


def machine_named(name: str, profile: Profile | None = None) -> Machine:
    """A machine of this kind on which nothing ran yet."""
    key = (name, profile or spec())
    if key not in _machines:
        machine = _make(*key)
        _machines[key] = (machine, machine.snapshot())
    machine, fresh = _machines[key]
    machine.restore(fresh)
    return machine


def booted(name: str, profile: Profile | None = None) -> Machine:
    """A machine whose memory manager is up: MMU on, in the kernel's space, heap empty."""
    key = (name, profile or spec())
    if key in _booted:
        machine, _ = _machines[key]
        machine.restore(_booted[key])
    else:
        machine = machine_named(*key)
        machine.init_memory()
        _booted[key] = machine.snapshot()
    return machine


def _make(name: str, profile: Profile) -> Machine:
    if name == "flat":
        return flat(256, profile)
    return MAKERS[name](find("lab"), lambda image, parts: MemoryManager(image, parts, profile))


def close_machines() -> None:
    """Let go of the host machine, of which there can be one at a time, and of the others."""
    for machine, _ in _machines.values():
        if isinstance(machine, HostMachine | UnicornMachine):
            machine.close()
    _machines.clear()
    _booted.clear()


MAKERS: dict[str, Callable[..., Machine]] = {
    "model": Model,
    "host": HostMachine,
    "unicorn": UnicornMachine,
}


def regions(machine: Machine) -> list[tuple[int, int, int]]:
    """(start, end, fresh) of each region of the physical heap, read from physical memory."""
    size = machine.hardware.target.pointer_bytes
    found: list[tuple[int, int, int]] = []
    record = int(machine.page_regions.lowest or 0)
    while record:
        words = machine.read_physical(record, 4 * size)
        record, start, end, fresh = (
            int.from_bytes(words[at : at + size], "little") for at in range(0, 4 * size, size)
        )
        assert start <= fresh <= end
        assert not found or found[-1][1] <= start
        found.append((start, end, fresh))
    return found


def heap_pages(machine: Machine) -> list[int]:
    """Every page of the physical heap."""
    length = int(machine.physical_mem_info.page_length)
    return [page for start, end, _ in regions(machine) for page in range(start, end, length)]


def free_list(machine: Machine) -> list[int]:
    """The free pages in the order in which they are handed out, read from physical memory.

    A fresh page stands for those of its region above it too, which have no marker yet.
    """
    info = machine.physical_mem_info
    size = machine.hardware.target.pointer_bytes
    fresh = {fresh: end for _, end, fresh in regions(machine)}
    pages: list[int] = []
    page = int(info.free_pages_list or 0)
    previous = 0
    while page:
        assert len(pages) < info.page_quantity, f"the free list has a cycle at {page:#x}"
        words = machine.read_physical(page, 2 * size)
        assert int.from_bytes(words[size:], "little") == previous, f"previous of {page:#x}"
        pages += range(page, fresh.get(page, page + 1), int(info.page_length))
        previous, page = page, int.from_bytes(words[:size], "little")
    assert len(pages) == info.free_pages_count
    return pages


def pages_in_use(machine: Machine) -> dict[int, bytes]:
    """What the pages of the physical heap hold that are not free."""
    info = machine.physical_mem_info
    free = set(free_list(machine))
    length = int(info.page_length)
    used = (page for page in heap_pages(machine) if page not in free)
    return {page: machine.read_physical(page, length) for page in used}


IDENTIFIER = ("address_spaces", "mmu_info")  # changes with every switch of tables
STATISTICS = ("failed_calls", "peak_live_bytes", "misses", "hand", "recent", "failed_address")


def registries(machine: Machine) -> dict[str, Any]:
    """Every static variable, field by field; without the current ASID, statistics and hints."""
    found: dict[str, Any] = {}
    for static in machine.image.statics.values():
        value = machine.static(static.name)
        if static.name in IDENTIFIER or not hasattr(value, "layout"):
            continue
        for field in value.layout.fields:
            if field.name not in STATISTICS:
                found[f"{static.name}.{field.name}"] = getattr(value, field.name)
    return found


def state(machine: Machine) -> tuple[Any, ...]:
    """All that a call which fails must leave as it was: tables, pages, counters, free list."""
    return registries(machine), free_list(machine), pages_in_use(machine)


def leaves_of(machine: Machine, table: int) -> dict[int, tuple[int, Any, Any]]:
    """Every leaf by virtual address: physical address, entry, level."""
    entries: Any = machine.kernel.virtual.entries  # type: ignore[attr-defined]
    found: dict[int, tuple[int, Any, Any]] = {}

    def walk(address: int, level: u32, start: int) -> None:
        words = machine.read_physical(address, int(entries.page_length))
        for index in range(1 << entries.index_bits):
            entry = u64(int.from_bytes(words[8 * index : 8 * index + 8], "little"))
            if entries.is_valid(entry):
                virtual = start + (index << int(entries.shift(level)))
                if entries.is_leaf(entry, level):
                    found[virtual] = (int(entries.frame(entry, level)), entry, level)
                else:
                    walk(int(entries.next_table(entry)), level - 1, virtual)

    walk(int(table), u32(entries.levels - 1), 0)
    return found


def take_all_pages(machine: Machine, leave: int = 0) -> list[int]:
    """Allocate pages until ``leave`` are left; physical memory must be addressable."""
    count = machine.physical_mem_info.free_pages_count - leave
    return [machine.alloc_physical_page() for _ in range(count)]


def elements(machine: Machine) -> Iterator[tuple[int, int, str]]:
    """The elements of the heap in order: start, end, and ``"S"``, ``"G"`` or ``"V"``."""
    info = machine.kernel_heap_info
    size = machine.hardware.target.pointer_bytes
    gaps = dict(gaps_in_tree(machine))
    place = int(info.heap_start)
    while place < info.heap_end:
        if place in gaps:
            yield place, gaps[place], "G"
            place = gaps[place]
        elif machine.load(place, 1) < 60:
            length = machine.load(place, 1)
            yield place, place + length, "V"
            place += length
        else:
            end = machine.load(place + size, size)
            yield place, end, "S"
            place = end


def gaps_in_tree(machine: Machine) -> list[tuple[int, int]]:
    """(start, end) of each gap, by walking the addr tree in order."""
    found: list[tuple[int, int]] = []

    def walk(gap: Any) -> None:
        if gap is not None:
            walk(gap.addr_left)
            found.append((int(gap), int(gap.end)))
            walk(gap.addr_right)

    walk(machine.kernel_heap_addr_tree.root)
    return found
