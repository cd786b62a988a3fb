"""The commands about allocation traces: make them, replay them."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click
from rich.table import Table

from kernmem.hardware import HARDWARE
from kernmem.system import MACHINES, boot, choose
from kernmem.terminal import console, exit_codes, heap_options, progress_bar

# kernmem replay ---------------------------------------------------------------------------------


@click.command("replay")
@click.argument("trace")
@click.option(
    "--machine",
    type=click.Choice(MACHINES),
    default="model",
    show_default=True,
    help="What the heap runs on: interpreted, compiled in this process, on an emulated CPU.",
)
@click.option(
    "--hardware",
    type=click.Choice(list(HARDWARE)),
    help="The board.  [default: rpi3; on the host lab]",
)
@heap_options
@click.option("--addresses", is_flag=True, help="Print `id offset` for each allocation.")
@click.option(
    "--check", is_flag=True, help="Verify that buffers do not overlap and keep what is in them."
)
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="Only the first N records.")
@click.option("--json", "as_json", is_flag=True, help="Print what was measured as JSON.")
def replay_command(
    trace: str,
    machine: str,
    hardware: str | None,
    profile: str,
    placement: str,
    no_void: bool,
    checks: str,
    addresses: bool,
    check: bool,
    limit: int | None,
    as_json: bool,
) -> None:
    """Replay an allocation TRACE through kmalloc and kfree, and measure the heap.

    TRACE is an .npz file of columns op, id and size, or the name of a synthetic trace, see
    kernmem generate.  Offsets are from the heap's base, in
    bytes; of an allocation that failed, the offset is `-`.

    \b
    Examples:
      kernmem replay boot.npz
      kernmem replay boot.npz --machine host --profile spec --placement first --json
      kernmem replay boot.npz --profile spec --addresses --limit 1000 > addresses.txt
    """
    from kernmem.workload.replay import replay
    from kernmem.workload.result import Allocation
    from kernmem.workload.synthetic import open_trace

    placed: list[Allocation] = []
    with exit_codes():
        choose(hardware, machine)
        events = open_trace(trace)
        booted = boot(
            hardware,
            machine,
            profile=profile,
            placement=placement,
            no_void=no_void,
            checks=checks,
        )
        total = len(events) if limit is None else min(limit, len(events))
        title = f"{events.name} on the {machine} machine"
        with booted, progress_bar(title, total) as progress:
            result = replay(
                booted,
                events,
                limit=limit,
                check=check,
                progress=progress,
                on_allocation=placed.append if addresses else None,
            )
    facts = {name: value for name, value in asdict(result).items() if value is not None}
    if as_json:
        if addresses:
            facts["addresses"] = [[each.id, each.offset] for each in placed]
        click.echo(json.dumps(facts, indent=None if addresses else 2))
        return
    for each in placed:
        click.echo(f"{each.id} {'-' if each.offset is None else each.offset}")
    table = Table(box=None, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in facts.items():
        table.add_row(name.replace("_", " "), f"{value:,}")
    console(stderr=addresses).print(table)


# kernmem generate -------------------------------------------------------------------------------


@click.command("generate")
@click.argument("name", required=False)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The .npz file to write.  [default: NAME.npz]",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of all that is by chance.")
@click.option(
    "--events",
    type=click.IntRange(min=1),
    default=20_000,
    show_default=True,
    metavar="N",
    help="How long, about.",
)
def generate_command(name: str | None, output: Path | None, seed: int, events: int) -> None:
    """Write the synthetic trace NAME, or list those that there are.

    The same name, seed and length give the same trace everywhere.  Commands that take a TRACE
    take NAME or NAME:SEED too.

    \b
    Examples:
      kernmem generate
      kernmem generate zephyr --seed 7 --events 100000 -o zephyr7.npz
      kernmem replay zephyr:7 --machine host
    """
    from kernmem.workload.synthetic import SYNTHETIC, generate
    from kernmem.workload.trace import write_trace

    if name is None:
        table = Table("name", "what it is", box=None)
        for each, kind in SYNTHETIC.items():
            table.add_row(each, kind.summary)
        console().print(table)
        return
    with exit_codes():
        trace = generate(name, seed, events)
        path = output or Path(f"{name}.npz")
        write_trace(trace, path)
    console(stderr=True).print(f"{len(trace):,} events in {path}")


# kernmem record ---------------------------------------------------------------------------------


@click.command("record", context_settings={"ignore_unknown_options": True})
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The .npz file to write.  [default: PROGRAM.npz]",
)
@click.option("--program", metavar="NAME", help="Of which program, if several ran.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def record_command(output: Path | None, program: str | None, command: tuple[str, ...]) -> None:
    """Run COMMAND, and write a trace of its calls of malloc and free.

    Of all programs that COMMAND executes, each linked dynamically with glibc, the one with the
    longest trace is written; the others are listed.  Exits with 2 if nothing was recorded, else
    with the status of COMMAND.

    \b
    Examples:
      kernmem record -- ls -l /usr/bin
      kernmem record -o cc1.npz --program cc1 -- gcc -O2 -c file.c
    """
    from kernmem.workload.record import NothingRecorded, record
    from kernmem.workload.trace import write_trace

    screen = console(stderr=True)
    with exit_codes():
        recording = record(command)
        named = [each for each in recording.traces if program in (None, each.name)]
        if not named:
            names = ", ".join(dict.fromkeys(each.name for each in recording.traces))
            raise NothingRecorded(f"no program {program!r} was recorded, but {names}")
        path = output or Path(f"{named[0].name}.npz")
        write_trace(named[0], path)
    for each in recording.traces:
        place = f" in {path}" if each is named[0] else ""
        peak = f"{each.peak_live_bytes():,}"
        screen.print(f"{each.name}: {len(each):,} events, {peak} bytes at the peak{place}")
    sys.exit(recording.status if recording.status >= 0 else 128 - recording.status)


# kernmem import ---------------------------------------------------------------------------------


@click.command("import")
@click.argument("log", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["mtrace", "kmalloc", "slab", "pages"]),
    help="What LOG is, and which events are taken.  [default: as its first lines say]",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The .npz file to write.  [default: LOG with the suffix .npz]",
)
def import_command(log: Path, form: str | None, output: Path | None) -> None:
    """Make a trace of LOG, which glibc's mtrace() or the kmem tracepoints of Linux wrote as text.

    Frees of what was allocated before the log began are left out.

    \b
    Examples:
      kernmem import mtrace.log
      kernmem import trace.txt --format slab -o boot-slab.npz
    """
    from kernmem.workload.importers import guess_format, import_trace
    from kernmem.workload.trace import write_trace

    with exit_codes():
        trace = import_trace(log, form or guess_format(log))
        path = output or log.with_suffix(".npz")
        write_trace(trace, path)
    screen = console(stderr=True)
    screen.print(f"{len(trace):,} events in {path}; {trace.meta}")


COMMANDS = (replay_command, generate_command, record_command, import_command)
