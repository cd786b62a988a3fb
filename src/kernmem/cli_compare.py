"""The commands that hold heaps against each other, and against their budget."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from kernmem.memory.profile import Checks, Placement, Profile, aligned, spec
from kernmem.system import TUNED
from kernmem.terminal import KERNEL_FAILED, console, exit_codes, progress_bar

if TYPE_CHECKING:
    from kernmem.workload.allocators import Allocator
    from kernmem.workload.compare import Measurement

# kernmem compare --------------------------------------------------------------------------------


@click.command("compare")
@click.argument("traces", nargs=-1, required=True, metavar="TRACE...")
@click.option(
    "--allocators",
    metavar="NAMES",
    help="Which, with commas in between; tuned-unchecked and tuned-guarded are the profile "
    "tuned with other checks, and so on.  [default: all with basic checks]",
)
@click.option(
    "--plugin",
    "plugins",
    multiple=True,
    metavar="[NAME=]FILE",
    help="A shared object with the functions of allocator.h; may be given again.",
)
@click.option(
    "--repetitions",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="How often the time is measured.",
)
@click.option("--check/--no-check", default=True, help="Verify every buffer, once.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Keep the results, as JSON.",
)
@click.option(
    "--against",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Tell what changed since the results in FILE.",
)
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw time against space (.svg, .png, .pdf).",
)
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def compare_command(
    traces: tuple[str, ...],
    allocators: str | None,
    plugins: tuple[str, ...],
    repetitions: int,
    check: bool,
    output: Path | None,
    against: Path | None,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Replay each TRACE through kernmem's heaps and every other allocator, side by side.

    Each allocator runs in a process of its own, and repetitions are interleaved.  `space` is the
    smallest arena in which the trace completes, over the peak of live bytes; of a malloc, which
    has no arena, the pages that it made resident (marked r).  Times are in nanoseconds.  Exits
    with 1 if an allocator failed.

    TRACE is a file, a synthetic trace (see kernmem generate), or `robson`: an attack on each
    allocator by the addresses that it gives, so that each has a trace of its own.

    \b
    Examples:
      kernmem compare boot.npz zephyr
      kernmem compare boot.npz --allocators tuned,mimalloc --plugin ./tlsf.so
      kernmem compare boot.npz -o before.json
      kernmem compare boot.npz --against before.json --picture boot.svg
    """
    from kernmem.workload.attack import ATTACKS
    from kernmem.workload.compare import compare, steps
    from kernmem.workload.results import document, read_results, write_results
    from kernmem.workload.synthetic import open_trace

    with exit_codes():
        if picture is not None:
            from kernmem.workload.picture import draw, require_matplotlib

            require_matplotlib()
        earlier = None if against is None else read_results(against)
        opened = [ATTACKS.get(each) or open_trace(each) for each in traces]
        chosen = _choose(allocators, plugins)
        total = steps(len(opened), len(chosen), repetitions)
        done = 0
        with progress_bar("comparing", total) as progress:

            def told(text: str) -> None:
                nonlocal done
                progress(done, text)
                done += 1

            found = compare(opened, chosen, repetitions=repetitions, check=check, told=told)
        if output is not None:
            write_results(output, found)
        if picture is not None:
            draw(found, picture)
    if as_json:
        click.echo(json.dumps(document(found), indent=2))
    else:
        _print_measurements(found)
        if earlier is not None:
            _print_changes(earlier, found)
    failed = [each for each in found if each.error is not None]
    for each in failed:
        click.echo(f"kernmem: {each.error}", err=True)
    sys.exit(KERNEL_FAILED if failed else 0)


def _choose(names: str | None, plugins: Iterable[str]) -> list[Allocator]:
    """The allocators of these names and files; NoSuchAllocator names what is not there."""
    from kernmem.workload.allocators import (
        NoSuchAllocator,
        installed,
        kernel_allocator,
        plugin,
    )

    ours = _our_heaps()
    others = {each.name: each for each in installed()}
    usual = [name for name, profile in ours.items() if profile.checks is Checks.BASIC]
    wanted = [*usual, *others] if names is None else [name for name in names.split(",") if name]
    for name in wanted:
        if name not in ours and name not in others:
            known = ", ".join([*ours, *others])
            raise NoSuchAllocator(f"an allocator must be one of {known}, not {name!r}")
    chosen = [
        kernel_allocator(ours[name]) if name in ours else others[name]
        for name in dict.fromkeys(wanted)
    ]
    for each in plugins:
        name, _, path = each.rpartition("=")
        chosen.append(plugin(Path(path), name or None))
    return chosen


def _our_heaps() -> dict[str, Profile]:
    """kernmem's heaps by name."""
    from kernmem.workload.allocators import kernel_name

    with_headers = [make(placement) for make in (spec, aligned) for placement in Placement]
    layouts = [*with_headers, *(make() for make in TUNED.values())]
    levels = (Checks.BASIC, Checks.NONE, Checks.FULL)
    profiles = [replace(layout, checks=checks) for checks in levels for layout in layouts]
    return {kernel_name(profile): profile for profile in profiles}


def _print_measurements(found: list[Measurement]) -> None:
    """A table for each trace; `×` is the time over that of the first allocator."""
    for trace, group in groupby(found, lambda each: each.trace):
        rows = list(group)
        table = Table("allocator", box=None, title=trace, title_justify="left")
        for title in ("ns", "quartiles", "×", "p99.9", "worst", "instr.", "space", "bytes"):
            table.add_column(title, justify="right")
        table.add_column("free in one", justify="right")
        table.add_column("64K pages", justify="right")
        base = next((each.ns for each in rows if each.ns), None)
        for each in rows:
            if each.error is not None:
                table.add_row(each.allocator, "failed")
                continue
            table.add_row(
                each.allocator,
                f"{each.ns:.1f}",
                f"{each.ns_low:.1f}–{each.ns_high:.1f}",
                f"{each.ns / base:.2f}" if base else "",
                f"{each.ns_p999:.0f}",
                f"{each.ns_worst:.0f}",
                _shown(each.instructions, ".0f"),
                f"{each.space_ratio:.3f}{'' if each.has_arena else ' r'}",
                f"{each.space_bytes:,}",
                _shown(each.largest_free, ".0%"),
                _shown(each.physical_pages, ",d"),
            )
        console().print(table)


def _print_changes(earlier: list[Measurement], found: list[Measurement]) -> None:
    """What the later run has of the earlier one's figures, as ratios."""
    from kernmem.workload.results import changes

    table = Table("trace", "allocator", box=None, title="over the earlier", title_justify="left")
    for title in ("time", "space", "instr.", "pages"):
        table.add_column(title, justify="right")
    for each in changes(earlier, found):
        ratios = (each.time, each.space, each.instructions, each.physical_pages)
        table.add_row(each.trace, each.allocator, *(_shown(ratio, ".3f") for ratio in ratios))
    console().print(table)


def _shown(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


# kernmem budget ---------------------------------------------------------------------------------


@click.command("budget")
@click.argument("budget", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--update", is_flag=True, help="Allow what was found, in the file.")
def budget_command(budget: Path, update: bool) -> None:
    """Measure what BUDGET has figures of, and fail if one is more than 1 % worse.

    All figures are exact: the smallest arena, pages, instructions (on AArch64).  Exits with 1
    after naming each figure that is too high.

    \b
    Example:
      kernmem budget bench/heap_budget.json
    """
    from kernmem.workload.budget import verdicts, write_budget

    with exit_codes(), progress_bar("measuring", 1) as progress:
        found = verdicts(budget, _our_heaps(), lambda done, total: progress(done / total))
        if update:
            write_budget(budget, found)
    table = Table("trace", "heap", box=None)
    for title in ("arena / live", "64K pages", "instr."):
        table.add_column(title, justify="right")
    for each in found:
        figures = each.found
        table.add_row(
            each.item.trace,
            each.item.heap,
            f"{figures.arena_ratio:.4f}",
            f"{figures.physical_pages:,}",
            f"{figures.instructions:.1f}",
        )
    console().print(table)
    excesses = [] if update else [text for each in found for text in each.excesses()]
    for text in excesses:
        click.echo(f"kernmem: {text}", err=True)
    sys.exit(KERNEL_FAILED if excesses else 0)


COMMANDS = (compare_command, budget_command)
