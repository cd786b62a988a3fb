"""Traces of running programs: every call of malloc and its kin, through LD_PRELOAD.

For dynamically linked programs with glibc.  Each program that the command executes gives a trace
of its own.  Alignments that were asked for are not recorded.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kernmem.language import KernmemError
from kernmem.machine.native import shared_object
from kernmem.workload.addresses import AddressLog
from kernmem.workload.trace import Trace

SOURCE = Path(__file__).with_name("recorder.c")
EVENT = np.dtype([("what", "=u8"), ("address", "=u8"), ("before", "=u8"), ("bytes", "=u8")])
END, BEGIN, ALLOCATED, FREED, REALLOCATED = range(5)


class NothingRecorded(KernmemError):
    """A command made no call that could be recorded."""


@dataclass(frozen=True)
class Recording:
    """What a command did.

    Attributes:
        status: its exit status; negative: the signal that ended it.
        traces: of each program that it executed, the longest first; the name is the program's.
    """

    status: int
    traces: list[Trace]


def record(command: Sequence[str]) -> Recording:
    """Run a command to its end, and record it; NothingRecorded, OSError if it cannot be run."""
    library = shared_object({SOURCE.name: SOURCE.read_text()})
    with tempfile.TemporaryDirectory(prefix="kernmem-record-") as directory:
        preload = " ".join(filter(None, (str(library), os.environ.get("LD_PRELOAD"))))
        environment = {**os.environ, "LD_PRELOAD": preload, "KERNMEM_RECORD": directory}
        status = subprocess.call(list(command), env=environment)
        words = shlex.join(command)
        traces = [_read(path, words) for path in sorted(Path(directory).iterdir())]
    traces = sorted((trace for trace in traces if len(trace)), key=len, reverse=True)
    if not traces:
        raise NothingRecorded(
            f"{words}: no call of malloc was recorded: "
            "the program must be linked dynamically, with glibc"
        )
    return Recording(status, traces)


def _read(path: Path, command: str) -> Trace:
    """The trace in a file of the recorder."""
    events = np.fromfile(path, EVENT)
    if not len(events) or events["what"][0] != BEGIN:  # the process had no time to begin
        return AddressLog().trace(path.name, command)
    name = events[:1].tobytes()[8:24].split(b"\0")[0].decode(errors="replace")
    ends = np.flatnonzero(events["what"] == END)
    log = AddressLog()
    for what, address, before, size in events[1 : ends[0] if len(ends) else None].tolist():
        if what == ALLOCATED:
            log.allocate(address, size)
        elif what == FREED:
            log.free(address)
        else:
            log.reallocate(before, address, size)
    return log.trace(name, f"malloc of {name}, recorded by kernmem record -- {command}")
