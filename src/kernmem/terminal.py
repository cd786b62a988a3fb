"""What the commands share: the console, exit codes, progress, the heap's options.

Exit codes: 0 all is well; 1 the kernel failed (a failed test, a panic, a fault, no end); 2 it
could not be tried (bad usage, a bad file, a missing tool).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from kernmem.language import KernelPanic, KernmemError, ModelViolation, PageFault
from kernmem.system import CHECKS, PLACEMENTS, PROFILES

F = TypeVar("F", bound=Callable[..., Any])

KERNEL_FAILED = 1
NOT_TRIED = 2
WIDE = 120  # columns of a table that no terminal limits


def console(*, stderr: bool = False) -> Console:
    """Rich output, with colour on a terminal only, and without any style with NO_COLOR."""
    plain = bool(os.environ.get("NO_COLOR"))
    made = Console(stderr=stderr, highlight=False, color_system=None if plain else "auto")
    if not made.is_terminal:
        made.width = WIDE
    return made


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn what can go wrong into a line on stderr and an exit code."""
    from kernmem.machine.errors import MachineTimeout
    from kernmem.workload.result import CorruptBuffer, OverlappingBuffer

    wrong_buffers = (CorruptBuffer, OverlappingBuffer)
    failures = (KernelPanic, PageFault, ModelViolation, MachineTimeout, *wrong_buffers)
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


def heap_options(command: F) -> F:
    """The options that choose the heap's profile."""
    for option in (
        click.option(
            "--checks",
            type=click.Choice(CHECKS),
            default="basic",
            show_default=True,
            help="What finds mistakes of callers: nothing, kfree, or guards too.",
        ),
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
            help="Which gap a buffer is placed in; with the tuned profiles, the best.",
        ),
        click.option(
            "--profile",
            type=click.Choice(PROFILES),
            default="tuned",
            show_default=True,
            help="Heap for use, leaner or faster, or to the byte of the specification, or aligned.",
        ),
    ):
        command = option(command)
    return command


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Callable[..., None]]:
    """A bar on stderr, if that is a terminal; gives what moves it, ``move(done, new_title)``."""
    screen = console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal)
    with bar:
        task = bar.add_task(title, total=total)
        yield lambda done, new="": bar.update(task, completed=done, description=new or title)
