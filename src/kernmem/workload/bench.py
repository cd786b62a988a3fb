"""One allocator on one trace: each job is done by ``bench.c``, in a process of its own.

An allocation of 0 bytes is replayed as one of 1, which all allocators agree about.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from kernmem.language import KernmemError
from kernmem.machine.native import executable
from kernmem.workload.allocators import PORTABLE, Allocator
from kernmem.workload.result import CorruptBuffer, OverlappingBuffer
from kernmem.workload.trace import Op, Trace

HERE = Path(__file__).parent
SOURCES = ("bench.c", "native_replay.c", "replay.h", "allocator.h")
JOB_SECONDS = 600
PAGE = 4096
LIBC = ctypes.CDLL(None)
ADDR_NO_RANDOMIZE = 0x0040000  # <sys/personality.h>
LOOP = "kernmem_replay_plainly"  # the function of which the calls are counted


class BenchError(KernmemError):
    """An allocator did not get to the end of a trace."""


@dataclass(frozen=True)
class Fit:
    """What an arena must be like.

    Attributes:
        arena_bytes: the smallest in which the trace completes.
        largest_buffer: the longest that the allocator could give there at the end.
    """

    arena_bytes: int
    largest_buffer: int


@dataclass(frozen=True)
class Timing:
    """What one process measured.

    Attributes:
        nanoseconds: of the whole replay.
        each: of every call, the least of some passes, without those of the clock.
    """

    nanoseconds: int
    each: npt.NDArray[np.uint32]


class Bench:
    """A trace, laid out in a file for ``bench.c``.  Use it in a ``with``."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.peak_live_bytes = max(trace.peak_live_bytes(), 1)
        self.calls = len(trace) + int(np.sum(trace.op == Op.REALLOCATE))
        sources = {name: (HERE / name).read_text() for name in SOURCES}
        self._program = executable(sources, PORTABLE)
        self._directory = tempfile.TemporaryDirectory(prefix="kernmem-bench-")
        self._names, ids = np.unique(trace.id, return_inverse=True)
        self._place = Path(self._directory.name)
        (self._place / "trace").write_bytes(_trace_file(trace, ids, len(self._names)))

    def __enter__(self) -> Bench:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._directory.cleanup()

    def fit(self, allocator: Allocator) -> Fit:
        """The smallest arena; BenchError if none of 64 times the live bytes serves."""
        found = self._run(allocator, "fit", argument=self.peak_live_bytes)
        return Fit(found["arena_bytes"], found["largest_buffer"])

    def check(self, allocator: Allocator, arena_bytes: int = 0) -> npt.NDArray[np.int64]:
        """Replay with every buffer filled and verified; where each record's buffer was.

        Raises CorruptBuffer, OverlappingBuffer.
        """
        found = self._run(allocator, "check", arena_bytes)
        if "overlapping" in found:
            raise OverlappingBuffer(int(self._names[found["bad_id"]]), found["overlapping"])
        if "bad_address" in found:
            name = int(self._names[found["bad_id"]])
            raise CorruptBuffer(name, found["bad_address"], found["found"], found["written"])
        return np.fromfile(self._place / "output", np.int64)

    def time(self, allocator: Allocator, arena_bytes: int = 0) -> Timing:
        """The time of the calls."""
        found = self._run(allocator, "time", arena_bytes)
        each = np.fromfile(self._place / "output", np.uint32)[: self.calls]
        clock = np.uint32(found["clock"])
        return Timing(found["nanoseconds"], np.where(each > clock, each - clock, 0))

    def resident_bytes(self, allocator: Allocator) -> int:
        """The most pages that malloc makes the process have, if each page of a buffer is used."""
        found = self._run(allocator, "space", argument=self._record_of_peak())
        return found["resident_bytes"]

    def instructions(self, allocator: Allocator, arena_bytes: int = 0) -> float | None:
        """Instructions a call, exactly; None where there is no callgrind to count them."""
        valgrind = shutil.which("valgrind")
        if valgrind is None or not self.calls:
            return None
        output = self._place / "callgrind"
        counter = [
            *(valgrind, "--tool=callgrind", "--quiet", f"--callgrind-out-file={output}"),
            *("--compress-strings=no", "--compress-pos=no", f"--toggle-collect={LOOP}"),
        ]
        self._run(allocator, "plain", arena_bytes, counter=counter)
        return _called_cost(output.read_text()) / self.calls

    def _record_of_peak(self) -> int:
        return int(np.argmax(self.trace.live_bytes())) if len(self.trace) else 0

    def command(
        self, allocator: Allocator, job: str, arena_bytes: int = 0, argument: int = 0
    ) -> list[str]:
        """The words that start a job of ``bench.c``."""
        library = str(allocator.library) if allocator.library else "malloc"
        words: list[Any] = [self._program, self._place / "trace", library, job]
        return list(map(str, [*words, arena_bytes, argument, self._place / "output"]))

    def _run(
        self,
        allocator: Allocator,
        job: str,
        arena_bytes: int = 0,
        *,
        argument: int = 0,
        counter: list[str] | None = None,
    ) -> dict[str, int]:
        """Run a job, and return the numbers that it told."""
        job_words = self.command(allocator, job, arena_bytes, argument)
        what = f"{allocator.name} on {self.trace.name}"
        try:
            done = subprocess.run(
                [*(counter or []), *job_words],
                env=environment_of(allocator),
                preexec_fn=same_addresses,
                capture_output=True,
                text=True,
                timeout=JOB_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise BenchError(f"{what}: {job} did not end within {JOB_SECONDS} s") from None
        if done.returncode != 0:
            raise BenchError(f"{what}: {job}: {_why(done)}")
        lines = (line.split() for line in done.stdout.splitlines())
        return {name: int(value) for name, value in lines}


def environment_of(allocator: Allocator) -> dict[str, str]:
    """The environment of a process that is to have the allocator."""
    environment = dict(os.environ)
    environment.pop("LD_PRELOAD", None)
    if allocator.preload is not None:
        environment["LD_PRELOAD"] = allocator.preload
    return environment


def same_addresses() -> None:
    """Let this process have its memory where every other such process has it, if that may be."""
    LIBC.personality(ADDR_NO_RANDOMIZE)


def _why(done: subprocess.CompletedProcess[str]) -> str:
    said = done.stderr.strip()
    if done.returncode > 0:
        return said or f"it ended with status {done.returncode}"
    name = signal.Signals(-done.returncode).name
    return f"{name}: {said}" if said else f"the process was ended by {name}"


def _trace_file(trace: Trace, ids: npt.NDArray[Any], names: int) -> bytes:
    """What ``open_trace`` of ``bench.c`` reads."""
    columns = (
        np.array([len(trace), names], np.uint64),
        trace.op.astype(np.uint8),
        ids.astype(np.uint32),
        np.maximum(trace.size, 1).astype(np.uint64),
    )
    texts = (column.tobytes() for column in columns)
    return b"".join(text + bytes(-len(text) % 8) for text in texts)


def _called_cost(profile: str) -> int:
    """The instructions of all that LOOP called, of a profile in callgrind's format.

    A call is a line ``calls=COUNT PLACE``, and the next one ends in the cost of what was called.
    """
    cost = 0
    within = after_call = False
    for line in profile.splitlines():
        if line.startswith("fn="):
            within = line[3:].split(" ")[-1] == LOOP
        elif line.startswith("calls="):
            after_call = within
        elif after_call and re.match(r"[\d+*-]", line):
            cost += int(line.split()[-1])
            after_call = False
    return cost
