"""The file that a comparison leaves, so that a later one can be held against it."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from kernmem.language import KernmemError
from kernmem.workload.compare import Measurement

FORMAT = 1
"""Of the file; another number means other fields."""


class ResultsError(KernmemError):
    """A file is not one of results."""


@dataclass(frozen=True)
class Change:
    """An allocator on a trace, in two runs: the later figure over the earlier one.

    A figure that one of the runs has not, or that was 0, has no ratio: None.
    """

    trace: str
    allocator: str
    time: float | None
    space: float | None
    instructions: float | None
    physical_pages: float | None


def document(measurements: Iterable[Measurement]) -> dict[str, Any]:
    """What the file holds, and ``--json`` prints."""
    return {
        "format": FORMAT,
        "computer": f"{platform.system()} {platform.machine()}, {_processor()}",
        "measurements": [asdict(each) for each in measurements],
    }


def write_results(path: Path, measurements: Iterable[Measurement]) -> None:
    """Write a file of results."""
    path.write_text(json.dumps(document(measurements), indent=1) + "\n")


def read_results(path: Path) -> list[Measurement]:
    """Read a file of results; ResultsError if it is none."""
    try:
        held = json.loads(path.read_text())
        if held["format"] != FORMAT:
            raise ResultsError(
                f"{path}: its format must be {FORMAT}, not {held['format']!r}: measure anew"
            )
        return [_measurement(path, each) for each in held["measurements"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ResultsError(f"{path}: not a file of results of kernmem compare") from error


def _measurement(path: Path, held: dict[str, Any]) -> Measurement:
    known = {field.name for field in fields(Measurement)}
    if unknown := set(held) - known:
        raise ResultsError(f"{path}: a measurement has no {sorted(unknown)[0]!r}")
    return Measurement(**held)


def changes(earlier: Iterable[Measurement], later: Sequence[Measurement]) -> list[Change]:
    """What is in both runs, and got to its end in both."""
    before = {(each.trace, each.allocator): each for each in earlier}
    pairs = ((before.get((each.trace, each.allocator)), each) for each in later)
    return [
        Change(
            new.trace,
            new.allocator,
            time=_ratio(old.ns, new.ns),
            space=_ratio(old.space_bytes, new.space_bytes),
            instructions=_ratio(old.instructions, new.instructions),
            physical_pages=_ratio(old.physical_pages, new.physical_pages),
        )
        for old, new in pairs
        if old is not None and old.error is None and new.error is None
    ]


def _ratio(old: float | None, new: float | None) -> float | None:
    return round(new / old, 4) if old and new is not None else None


def _processor() -> str:
    """The processor's name, as Linux has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "")
