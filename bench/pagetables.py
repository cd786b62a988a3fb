"""Nanoseconds a page: kernmem's page tables beside a plain C radix walk, on this computer.

4 KiB pages of AArch64, a million of them, mapped and unmapped one call a page in order and in
random order, and by one call for all; tables that become empty are given back.  Then linear maps
with blocks, and single physical pages.  The least of several rounds, in which all take turns.

    python bench/pagetables.py
"""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from rich.console import Console
from rich.table import Table

from kernmem.hardware import find
from kernmem.hardware.aarch64.entry import Granule
from kernmem.hardware.aarch64.mmu import Aarch64Mmu, tcr
from kernmem.hardware.description import HardwareDescription
from kernmem.language import Image
from kernmem.machine.host import HostMachine
from kernmem.machine.native import shared_object
from kernmem.machine.symbols import Symbol
from kernmem.memory.architecture import Hardware
from kernmem.memory.manager import MemoryManager
from kernmem.memory.profile import tuned

SOURCE = Path(__file__).with_name("pagetables.c")
PAGES = 1_000_000
BASE = 0x7000_0000_0000
ROUNDS = 5
LOOPS = ("pages", "range", "linear", "pairs")
PLAIN = ("reset", "map", "unmap", "root")


class Bench(ctypes.Structure):
    """``struct bench`` of ``pagetables.c``."""

    _fields_: ClassVar = [
        *(
            (name, ctypes.c_void_p)
            for name in ("map", "unmap", "map_range", "unmap_range", "map_linear", "alloc", "free")
        ),
        ("table", ctypes.c_uint64),
        ("base", ctypes.c_uint64),
        ("order", ctypes.c_void_p),
        *((name, ctypes.c_uint64) for name in ("pages", "end", "map_ns", "unmap_ns", "failures")),
    ]


def laboratory() -> HardwareDescription:
    """The lab with 4 KiB pages, and an address space of 48 bits."""
    lab = find("lab")

    def build(image: Image) -> Hardware:
        parts = lab.build(image)
        assert isinstance(parts.mmu, Aarch64Mmu)
        entries = Granule(image, page_bits=12, address_bits=48, physical_bits=48)
        mmu = Aarch64Mmu.__new__(Aarch64Mmu)  # with the variables that are reserved already
        vars(mmu).update(vars(parts.mmu))
        mmu.tcr, mmu.page_length = tcr(entries), entries.page_length
        mmu.by_page = mmu.one_by_one * entries.page_length
        return replace(parts, format=entries, mmu=mmu)

    return replace(lab, build=build)


class Measured:
    """One machine, with the loops loaded beside its kernel."""

    def __init__(self) -> None:
        self.machine = HostMachine(
            laboratory(), lambda image, parts: MemoryManager(image, parts, tuned())
        )
        self.machine.init_physical_memory_manager()
        library = ctypes.CDLL(str(shared_object({SOURCE.name: SOURCE.read_text()})))
        for name in (*LOOPS, *(f"plain_{name}" for name in PLAIN)):
            symbol = f"kernmem_bench_{name}"
            address = ctypes.cast(getattr(library, symbol), ctypes.c_void_p).value or 0
            self.machine.library.symbols[symbol] = Symbol(symbol, address, 0, "function")
        self._library = library  # keeps it loaded

    def address(self, name: str) -> int:
        """Where a function lies in this process."""
        return self.machine.library.symbols[name].address

    def kernmem(self) -> Bench:
        """What the loops call to measure kernmem, on a table of its own."""
        return Bench(
            map=self.address("pagetable_map"),
            unmap=self.address("pagetable_unmap"),
            map_range=self.address("pagetable_map_range"),
            unmap_range=self.address("pagetable_unmap_range"),
            map_linear=self.address("pagetable_map_linear"),
            alloc=self.address("alloc_physical_page"),
            free=self.address("free_physical_page"),
            table=int(self.machine.create_pagetable()),
            base=BASE,
        )

    def plain(self) -> Bench:
        """What the loops call to measure the plain walk."""
        self.machine.library.call("kernmem_bench_plain_reset")
        return Bench(
            map=self.address("kernmem_bench_plain_map"),
            unmap=self.address("kernmem_bench_plain_unmap"),
            table=self.machine.library.call("kernmem_bench_plain_root"),
            base=BASE,
        )

    def run(self, loop: str, bench: Bench) -> tuple[int, int]:
        """Nanoseconds of the two halves of a loop."""
        self.machine.library.call(f"kernmem_bench_{loop}", ctypes.addressof(bench))
        if bench.failures:
            raise SystemExit(f"{loop}: {bench.failures} calls failed, and none should")
        return bench.map_ns, bench.unmap_ns

    def pages_taken(self, bench: Bench, end: int) -> int:
        """The tables that a linear map takes, besides the root."""
        info = self.machine.static("physical_mem_info")
        before = int(info.free_pages_count)
        self.machine.pagetable_map_linear(bench.table, 0, end)
        taken = before - int(info.free_pages_count)
        self.machine.pagetable_unmap_range(bench.table, 0, end)
        return taken


def main() -> None:
    """Take turns, keep the least, print a table."""
    measured = Measured()
    order = list(range(PAGES))
    in_order = (ctypes.c_uint32 * PAGES)(*order)
    random.Random(1).shuffle(order)
    at_random = (ctypes.c_uint32 * PAGES)(*order)
    least: dict[str, tuple[float, float]] = {}

    def note(row: str, loop: str, bench: Bench, unit: float) -> None:
        first, second = (ns / unit for ns in measured.run(loop, bench))
        old = least.get(row, (first, second))
        least[row] = (min(old[0], first), min(old[1], second))

    kernmem = measured.kernmem()
    makers: dict[str, Callable[[], Bench]] = {"kernmem": lambda: kernmem, "plain C": measured.plain}
    for _ in range(ROUNDS):
        for name, make in makers.items():
            for kind, pages in (("in order", in_order), ("at random", at_random)):
                bench = make()
                bench.order, bench.pages = ctypes.addressof(pages), PAGES
                note(f"{name}, a call a page {kind}", "pages", bench, PAGES)
        kernmem.pages = PAGES
        note("kernmem, one call for all", "range", kernmem, PAGES)
        for label, end in (("1 GiB", 1 << 30), ("1 TiB", 1 << 40)):
            kernmem.end = end
            note(f"kernmem, {label} linear, in all", "linear", kernmem, 1)
        note("kernmem, alloc and free of a physical page", "pairs", kernmem, PAGES)

    table = Table(title=f"Nanoseconds a page ({PAGES:,} pages of 4 KiB; least of {ROUNDS})")
    table.add_column("")
    table.add_column("map", justify="right")
    table.add_column("unmap", justify="right")
    for row, (first, second) in least.items():
        table.add_row(row, f"{first:,.1f}", f"{second:,.1f}" if second else "")
    console = Console()
    console.print(table)
    for kind in ("in order", "at random"):
        ours, plain = (least[f"{name}, a call a page {kind}"] for name in makers)
        ratios = ", ".join(f"{a / b:.2f}" for a, b in zip(ours, plain, strict=True))
        console.print(f"kernmem to plain C {kind}: map, unmap {ratios}")
    for label, end in (("1 GiB", 1 << 30), ("1 TiB", 1 << 40)):
        taken = measured.pages_taken(kernmem, end)
        console.print(f"{label} linear: {(taken + 1) * 4} KiB of tables, the root included")


if __name__ == "__main__":
    main()
