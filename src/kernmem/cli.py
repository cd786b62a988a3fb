"""The command ``kernmem``: boot, build, replay.

Exit codes: 0 all is well; 1 the kernel failed (a failed test, a panic, a fault, no end); 2 it
could not be tried (bad usage, a bad file, a missing tool).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from kernmem.hardware import HARDWARE, HardwareDescription
from kernmem.language import KernelPanic, KernmemError, ModelViolation, PageFault
from kernmem.system import MACHINES, PLACEMENTS, PROFILES, boot, choose, heap_profile

F = TypeVar("F", bound=Callable[..., Any])

KERNEL_FAILED = 1
NOT_TRIED = 2
WIDE = 120  # columns of a table that no terminal limits


def _console(*, stderr: bool = False) -> Console:
    """Rich output, with colour on a terminal only, and without any style with NO_COLOR."""
    plain = bool(os.environ.get("NO_COLOR"))
    console = Console(stderr=stderr, highlight=False, color_system=None if plain else "auto")
    if not console.is_terminal:
        console.width = WIDE
    return console


@contextmanager
def _exit_codes() -> Iterator[None]:
    """Turn what can go wrong into a line on stderr and an exit code."""
    from kernmem.machine.errors import MachineTimeout
    from kernmem.workload.result import CorruptBuffer

    failures = (KernelPanic, PageFault, ModelViolation, MachineTimeout, CorruptBuffer)
    try:
        yield
    except KernmemError as error:
        kind = {KernelPanic: "panic: ", ModelViolation: "model violation: "}.get(type(error), "")
        if isinstance(error, PageFault):
            kind = "page fault: "
        click.echo(f"kernmem: {kind}{error}", err=True)
        sys.exit(KERNEL_FAILED if isinstance(error, failures) else NOT_TRIED)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        click.echo(f"kernmem: {place}{error.strerror or error}", err=True)
        sys.exit(NOT_TRIED)


def _heap_options(command: F) -> F:
    """The options that choose the heap's profile."""
    for option in (
        click.option(
            "--no-void/--void",
            default=True,
            help="With --profile spec: keep freed spaces long enough for a gap's record.",
        ),
        click.option(
            "--placement",
            type=click.Choice(PLACEMENTS),
            default="best",
            show_default=True,
            help="Which gap a buffer is placed in.",
        ),
        click.option(
            "--profile",
            type=click.Choice(PROFILES),
            default="tuned",
            show_default=True,
            help="Heap for use, or to the byte of the specification.",
        ),
    ):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="kernmem", message="%(prog)s %(version)s")
def main() -> None:
    """A kernel's memory manager, written in Python: boot it, build its C, measure its heap.

    \b
    Examples:
      kernmem boot                      the self-test on an emulated Raspberry Pi 3
      kernmem boot lab --machine model  the same, interpreted
      kernmem build rpi3 -o out         C, headers, static library, kernel8.img
      kernmem replay trace.npz --json   an allocation trace on the model

    Exit codes: 0 all is well, 1 the kernel failed, 2 it could not be tried.
    """


# kernmem boot -----------------------------------------------------------------------------------


@main.command("boot")
@click.argument("hardware", type=click.Choice(list(HARDWARE)), default="rpi3")
@click.option(
    "--machine",
    type=click.Choice(["unicorn", "qemu", "model"]),
    default="unicorn",
    show_default=True,
    help="What to boot on: an emulated CPU, a whole board, or the interpreter.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the kernel may take (not on the model).",
)
@_heap_options
def boot_command(
    hardware: str, machine: str, timeout: float, profile: str, placement: str, no_void: bool
) -> None:
    """Build the self-test kernel for HARDWARE (default rpi3) and boot it.

    The kernel's console goes to stdout, all else to stderr.  Exits with the kernel's status:
    0 if and only if the self-test passed.

    \b
    Examples:
      kernmem boot
      kernmem boot rpi3 --machine qemu
      kernmem boot lab --machine model --profile spec --void
    """
    from kernmem.selftest import run_image, run_model

    with _exit_codes():
        heap = heap_profile(profile, placement, no_void)
        start = time.perf_counter()
        if machine == "model":
            status = run_model(HARDWARE[hardware], heap, _write)
        else:
            status = run_image(HARDWARE[hardware], machine, heap, _write, timeout)
        seconds = time.perf_counter() - start
    outcome = "passed" if status == 0 else f"failed with status {status}"
    click.echo(f"kernmem: the self-test {outcome} after {seconds:.1f} s", err=True)
    sys.exit(0 if status == 0 else KERNEL_FAILED)


def _write(text: str) -> None:
    click.echo(text, nl=False)
    sys.stdout.flush()


# kernmem build ----------------------------------------------------------------------------------


@main.command("build")
@click.argument("hardware", type=click.Choice(list(HARDWARE)))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where to write; made if need be.",
)
@_heap_options
@click.option("--amalgamate", is_flag=True, help="One kernmem.c and kernmem.h.")
@click.option("--checked", is_flag=True, help="Panic where arithmetic leaves its type.")
@click.option("--lines", is_flag=True, help="Let debuggers and warnings name the Python lines.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
def build_command(
    hardware: str,
    output: Path,
    profile: str,
    placement: str,
    no_void: bool,
    amalgamate: bool,
    checked: bool,
    lines: bool,
    as_json: bool,
) -> None:
    """Compile the memory manager for HARDWARE to C, and build a library and a bootable image.

    \b
    In DIR there will be:
      c/             the memory manager in C11, and its headers
      libkernmem.a   the same, compiled
      kernel8.img    the self-test kernel on top of it (named as the board's firmware asks)
      kernel.elf     the same, with symbols

    \b
    Examples:
      kernmem build rpi3 -o out
      kernmem build rpi3 -o out --profile spec --placement first --amalgamate
    """
    from kernmem.delivery import deliver

    with _exit_codes():
        heap = heap_profile(profile, placement, no_void)
        start = time.perf_counter()
        with _console(stderr=True).status(f"building for {hardware} ..."):
            delivery = deliver(
                HARDWARE[hardware],
                output,
                heap,
                amalgamate=amalgamate,
                checked=checked,
                lines=lines,
            )
        seconds = time.perf_counter() - start
    if as_json:
        facts = {"hardware": hardware, "directory": str(output), "seconds": round(seconds, 3)}
        click.echo(json.dumps({**facts, **asdict(delivery)}, indent=2))
        return
    table = Table("file", "what", box=None)
    for title in ("lines", "bytes", "code bytes"):
        table.add_column(title, justify="right")
    for item in delivery.files:
        numbers = (item.lines, item.bytes, item.code_bytes)
        table.add_row(item.name, item.what, *("" if n is None else f"{n:,}" for n in numbers))
    console = _console()
    console.print(table)
    console.print(f"{len(delivery.files)} files in {output} in {seconds:.1f} s")
    if delivery.deepest_stack is not None:
        console.print(f"deepest stack of the memory manager: {delivery.deepest_stack:,} bytes")


# kernmem run ------------------------------------------------------------------------------------


@main.command("run", context_settings={"ignore_unknown_options": True})
@click.argument("script", type=click.Path(exists=True, dir_okay=False))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run_command(script: str, arguments: tuple[str, ...]) -> None:
    """Run SCRIPT with the Python that kernmem is installed in.

    Exits with the script's status; that of an uncaught exception is 1.

    \b
    Example:
      kernmem run examples/01_first_steps.py
    """
    status = subprocess.call([sys.executable, script, *arguments])
    sys.exit(status if status >= 0 else 128 - status)


# kernmem hardware -------------------------------------------------------------------------------


@main.command("hardware")
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects.")
def hardware_command(as_json: bool) -> None:
    """List the hardware that there is, and the machines that can play it."""
    rows = [_describe(each) for each in HARDWARE.values()]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    table = Table("name", "what it is", "RAM", "machines", box=None)
    for row in rows:
        ram = f"{row['ram_bytes'] >> 20} MiB"
        table.add_row(row["name"], row["title"], ram, ", ".join(row["machines"]))
    _console().print(table)


def _describe(hardware: HardwareDescription) -> dict[str, Any]:
    machines = [*MACHINES]
    if hardware.name != "lab":
        machines.remove("host")
    if hardware.boot.qemu is not None:
        machines.append("qemu")
    return {
        "name": hardware.name,
        "title": hardware.title,
        "isa": hardware.target.isa,
        "pointer_bytes": hardware.target.pointer_bytes,
        "ram_bytes": sum(region.end - region.start for region in hardware.ram),
        "machines": machines,
    }


# kernmem replay ---------------------------------------------------------------------------------


@main.command("replay")
@click.argument("trace", type=click.Path(path_type=Path))
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
@_heap_options
@click.option("--addresses", is_flag=True, help="Print `id offset` for each allocation.")
@click.option("--check", is_flag=True, help="Mark each buffer's ends, and verify them at its free.")
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="Only the first N records.")
@click.option("--json", "as_json", is_flag=True, help="Print what was measured as JSON.")
def replay_command(
    trace: Path,
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

    TRACE is an .npz file of columns op, id and size.  Offsets are from the heap's base, in
    bytes; of an allocation that failed, the offset is `-`.

    \b
    Examples:
      kernmem replay boot.npz
      kernmem replay boot.npz --machine host --placement first --json
      kernmem replay boot.npz --profile spec --addresses --limit 1000 > addresses.txt
    """
    from kernmem.workload.replay import replay
    from kernmem.workload.result import Allocation
    from kernmem.workload.trace import read_trace

    placed: list[Allocation] = []
    with _exit_codes():
        choose(hardware, machine)
        events = read_trace(trace)
        booted = boot(hardware, machine, profile=profile, placement=placement, no_void=no_void)
        total = len(events) if limit is None else min(limit, len(events))
        title = f"{events.name} on the {machine} machine"
        with booted, _progress(title, total) as progress:
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
    _console(stderr=addresses).print(table)


@contextmanager
def _progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, if that is a terminal; gives what moves it."""
    console = _console(stderr=True)
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    with bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.update(task, completed=done)
