"""Instructions a call of kmalloc and kfree, exactly, with 10, 1,000 and 100,000 gaps.

The kernel runs on Unicorn, on the laboratory board.  Buffers of random lengths are taken, and
every second one given back, so that each leaves a gap; then calls are made at random at that
number of gaps, and counted.  The worst must grow like the logarithm of the gaps.

    python bench/instructions.py [--profile spec|tuned] [--placement best|first|largest]
"""

from __future__ import annotations

import random

import click
from rich.console import Console
from rich.table import Table

import kernmem
from kernmem.machine.unicorn import UnicornMachine

CALLS = 2_000


def measure(gaps: int, profile: str, placement: str) -> tuple[int, dict[str, tuple[float, int]]]:
    """The gaps there really are, and (mean, worst) instructions by function."""
    machine = kernmem.boot("lab", "unicorn", profile=profile, placement=placement)
    assert isinstance(machine, UnicornMachine)
    chance = random.Random(gaps)

    def length() -> int:
        return chance.randrange(64, 700)

    buffers = [machine.kmalloc(length()) for _ in range(2 * gaps)]
    for buffer in buffers[::2]:
        machine.kfree(buffer)
    live = buffers[1::2]
    machine.calls.clear()
    for _ in range(CALLS):
        machine.kfree(live.pop(chance.randrange(len(live))))
        live.append(machine.kmalloc(length()))
    there = int(machine.kernel_heap_info.gaps)
    figures = {
        name: (machine.calls[name].mean, machine.calls[name].worst) for name in ("kmalloc", "kfree")
    }
    machine.close()
    return there, figures


@click.command()
@click.option("--profile", default="tuned", type=click.Choice(["spec", "tuned"]))
@click.option("--placement", default="best", type=click.Choice(["best", "first", "largest"]))
def main(profile: str, placement: str) -> None:
    """Print instructions a call, mean and worst, by number of gaps."""
    table = Table(title=f"AArch64 instructions a call, {profile}, {placement} fit")
    for heading in ("gaps", "kmalloc mean", "worst", "kfree mean", "worst"):
        table.add_column(heading, justify="right")
    for gaps in (40, 2_400, 104_000):  # about 10, 1,000 and 100,000 once calls were made
        there, figures = measure(gaps, profile, placement)
        cells = [f"{number:,.0f}" for name in ("kmalloc", "kfree") for number in figures[name]]
        table.add_row(f"{there:,}", *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
