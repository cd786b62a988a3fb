"""Calls of kmalloc and kfree a second: interpreted on the model, through its MMU, and compiled.

Random lengths and random frees, the same on every machine; the best of five rounds each.  The
machines take turns, so that a busy computer slows all of them.

    python bench/interpreted.py
"""

from __future__ import annotations

import random
import time

from rich.console import Console
from rich.table import Table

import kernmem
from kernmem.machine.port import Machine

ROUNDS = 5
CALLS = 4_000


def calls_a_second(machine: Machine, seed: int) -> float:
    """One round; the heap is empty again afterwards."""
    chance = random.Random(seed)
    plan = [
        (chance.random(), chance.randrange(1 << 16), chance.randrange(1, 6_000))
        for _ in range(CALLS)
    ]
    live: list[object] = []
    kmalloc, kfree = machine.kmalloc, machine.kfree
    start = time.perf_counter()
    for toss, which, length in plan:
        if live and toss < 0.48:
            kfree(live.pop(which % len(live)))
        else:
            live.append(kmalloc(length))
    seconds = time.perf_counter() - start
    for buffer in live:
        kfree(buffer)
    return CALLS / seconds


def main() -> None:
    """Print a table."""
    machines = [kernmem.boot("lab", kind) for kind in ("model", "host", "unicorn")]
    best = {machine.name: 0.0 for machine in machines}
    for number in range(ROUNDS):
        for machine in machines:
            best[machine.name] = max(best[machine.name], calls_a_second(machine, number))
    table = Table(title="kmalloc and kfree, called from Python")
    table.add_column("machine")
    table.add_column("calls a second", justify="right")
    table.add_column("to the model", justify="right")
    for name, rate in best.items():
        table.add_row(name, f"{rate:,.0f}", f"{rate / best['model']:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
