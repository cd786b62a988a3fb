"""The command ``kernmem``: boot, build, and all about traces.

Exit codes: 0 all is well; 1 the kernel failed (a failed test, a panic, a fault, no end); 2 it
could not be tried (bad usage, a bad file, a missing tool).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from kernmem import cli_compare, cli_traces
from kernmem.hardware import HARDWARE, HardwareDescription
from kernmem.system import MACHINES, heap_profile
from kernmem.terminal import KERNEL_FAILED, console, exit_codes, heap_options


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
@heap_options
def boot_command(
    hardware: str,
    machine: str,
    timeout: float,
    profile: str,
    placement: str,
    no_void: bool,
    checks: str,
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

    with exit_codes():
        heap = heap_profile(profile, placement, no_void, checks)
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
@heap_options
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
    checks: str,
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

    with exit_codes():
        heap = heap_profile(profile, placement, no_void, checks)
        start = time.perf_counter()
        with console(stderr=True).status(f"building for {hardware} ..."):
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
    screen = console()
    screen.print(table)
    screen.print(f"{len(delivery.files)} files in {output} in {seconds:.1f} s")
    screen.print(f"deepest stack of the memory manager: {delivery.deepest_stack:,} bytes")


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
    console().print(table)


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


for command in (*cli_traces.COMMANDS, *cli_compare.COMMANDS):
    main.add_command(command)
