"""The commands about allocation traces: make them, replay them."""

from __future__ import annotations

import json
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
      kernmem replay boot.npz --machine host --placement first --json
      kernmem replay boot.npz --profile spec --addresses --limit 1000 > addresses.txt
    """
    from kernmem.workload.replay import replay
    from kernmem.workload.result import Allocation
    from kernmem.workload.synthetic import open_trace

    placed: list[Allocation] = []
    with exit_codes():
        choose(hardware, machine)
        events = open_trace(trace)
        booted = boot(hardware, machine, profile=profile, placement=placement, no_void=no_void)
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


COMMANDS = (replay_command, generate_command)
