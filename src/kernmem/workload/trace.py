"""Allocation traces: what a program asked of its heap, event by event.

A trace is an ``.npz`` file of columns of equal length, a record an event, in time order:

========  =========  =======================================================================
column    required   meaning
========  =========  =======================================================================
``op``    yes        0 allocate, 1 free, 2 reallocate (the id stays, the size changes)
``id``    yes        the object; an id is used for one object only
``size``  yes        bytes asked for; of no meaning in a free
``time``  no         nanoseconds since the first event, never decreasing
========  =========  =======================================================================

``align``, ``cpu``, ``zero`` and ``kind`` may be there, of the same length; ``meta`` is a text
that says where the trace comes from.  Each free and reallocation names a live object; objects
that are live at the end stay so.  :class:`TraceBuilder` makes a trace of events as they come.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kernmem.language import KernmemError

Column = npt.NDArray[np.integer[Any]]
REQUIRED = ("op", "id", "size")
OPTIONAL = ("align", "cpu", "time", "zero", "kind")


class Op(IntEnum):
    """What an event does."""

    ALLOCATE = 0
    FREE = 1
    REALLOCATE = 2


class TraceError(KernmemError):
    """A file is not a trace.

    Attributes:
        path: the file.
        record: the first record that is wrong, counted from 0 (lines of a text: from 1); None
            if it is the whole file.
    """

    def __init__(
        self, path: Path, problem: str, record: int | None = None, *, unit: str = "record"
    ) -> None:
        place = f"{path}" if record is None else f"{path}: {unit} {record}"
        super().__init__(f"{place}: {problem}")
        self.path = path
        self.record = record


@dataclass(frozen=True)
class Trace:
    """A valid trace.

    Attributes:
        name: what people call it: the name of its file.
        op, id, size: the columns that a replay needs.
        meta: where it comes from.
    """

    name: str
    op: Column
    id: Column
    size: Column
    meta: str

    def __len__(self) -> int:
        return len(self.op)

    def live_bytes(self) -> npt.NDArray[np.int64]:
        """The bytes that are live after each record, of those asked for."""
        order = np.argsort(self.id, kind="stable")  # each object's events in time order
        sizes = np.where(self.op == Op.FREE, 0, self.size).astype(np.int64)[order]
        change = np.diff(sizes, prepend=0)
        first = self.op[order] == Op.ALLOCATE
        change[first] = sizes[first]
        changes = np.empty_like(change)
        changes[order] = change
        return np.cumsum(changes)

    def peak_live_bytes(self) -> int:
        """The most bytes that are live at once."""
        return int(self.live_bytes().max(initial=0))


class TraceBuilder:
    """A trace, event by event; objects are numbered in the order of their allocation."""

    def __init__(self) -> None:
        self._op: list[int] = []
        self._id: list[int] = []
        self._size: list[int] = []
        self._objects = 0

    def __len__(self) -> int:
        return len(self._op)

    def allocate(self, size: int) -> int:
        """Allocate an object of ``size`` bytes, and return its id."""
        self._objects += 1
        self._add(Op.ALLOCATE, self._objects - 1, size)
        return self._objects - 1

    def free(self, object_id: int) -> None:
        """Free a live object."""
        self._add(Op.FREE, object_id, 0)

    def reallocate(self, object_id: int, size: int) -> None:
        """Change the size of a live object."""
        self._add(Op.REALLOCATE, object_id, size)

    def _add(self, op: Op, object_id: int, size: int) -> None:
        self._op.append(op)
        self._id.append(object_id)
        self._size.append(size)

    def build(self, name: str, meta: str) -> Trace:
        """The trace of all events so far; TraceError names the first that cannot be."""
        columns: dict[str, npt.NDArray[Any]] = {
            "op": np.array(self._op, np.uint8),
            "id": np.array(self._id, np.uint32),
            "size": np.array(self._size, np.uint64),
            "meta": np.array(meta),
        }
        return replace(_checked(Path(name), columns), name=name)


def read_trace(path: str | Path) -> Trace:
    """Read a trace and check all of it; TraceError names the file and the record."""
    path = Path(path)
    return _checked(path, _read_columns(path))


def write_trace(trace: Trace, path: Path) -> None:
    """Write a trace to a file, compressed; OSError if that cannot be."""
    with path.open("wb") as file:
        np.savez_compressed(file, op=trace.op, id=trace.id, size=trace.size, meta=trace.meta)


def _checked(path: Path, columns: Mapping[str, npt.NDArray[Any]]) -> Trace:
    """The trace that the columns are; TraceError names the first record that is wrong."""
    _check_columns(path, columns)
    op, ids = columns["op"], columns["id"]
    _check_ops(path, op)
    _check_lives(path, op, ids)
    if "time" in columns:
        _check_time(path, columns["time"])
    meta = "\n".join(str(line) for line in np.atleast_1d(columns.get("meta", np.array([]))))
    return Trace(path.stem, op, ids, columns["size"], meta)


def _read_columns(path: Path) -> Mapping[str, npt.NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise TraceError(path, "there is no such file") from None
    except OSError as error:
        raise TraceError(path, error.strerror or "not an .npz file") from error
    except (ValueError, EOFError, AttributeError, TypeError) as error:
        # numpy takes what is no archive for a pickle or for a single array.
        raise TraceError(path, "not an .npz file of plain columns") from error
    except (zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise TraceError(path, f"a damaged .npz file ({error})") from error


def _check_columns(path: Path, columns: Mapping[str, npt.NDArray[Any]]) -> None:
    for name in REQUIRED:
        if name not in columns:
            found = ", ".join(sorted(columns)) or "nothing"
            raise TraceError(path, f"a trace must have a column {name!r}; it has {found}")
    for name in (*REQUIRED, *OPTIONAL):
        column = columns.get(name)
        if column is None:
            continue
        if column.ndim != 1 or column.dtype.kind not in "iu":
            raise TraceError(
                path,
                f"column {name!r} must be a row of integers, not {column.ndim}-dimensional "
                f"{column.dtype}",
            )
        if len(column) != len(columns["op"]):
            raise TraceError(
                path,
                f"column {name!r} must have {len(columns['op'])} records, as 'op' has, "
                f"not {len(column)}",
            )
        negative = np.flatnonzero(column < 0)
        if negative.size:
            record = int(negative[0])
            raise TraceError(path, f"{name} must not be negative: {column[record]}", record)


def _check_ops(path: Path, op: Column) -> None:
    unknown = np.flatnonzero(op > max(Op))
    if unknown.size:
        record = int(unknown[0])
        raise TraceError(
            path,
            f"op must be 0 (allocate), 1 (free) or 2 (reallocate), not {op[record]}",
            record,
        )


def _check_lives(path: Path, op: Column, ids: Column) -> None:
    """Each object is allocated once, first of all, and nothing happens to it once it is freed."""
    order = np.argsort(ids, kind="stable")  # by object, each object's events in time order
    ops, objects = op[order], ids[order]
    is_first = np.ones(len(op), dtype=bool)
    is_first[1:] = objects[1:] != objects[:-1]
    after_free = np.zeros(len(op), dtype=bool)
    after_free[1:] = (ops[:-1] == Op.FREE) & ~is_first[1:]
    wrong = order[(is_first != (ops == Op.ALLOCATE)) | after_free]
    if not wrong.size:
        return
    record = int(wrong.min())
    verb = ("allocated", "freed", "reallocated")[int(op[record])]
    earlier = np.flatnonzero(ids[:record] == ids[record])
    if not earlier.size:
        problem = f"id {ids[record]} is {verb}, but was never allocated"
    elif op[record] == Op.ALLOCATE:
        problem = f"id {ids[record]} is allocated a second time, after record {earlier[0]}"
    else:
        problem = f"id {ids[record]} is {verb}, but record {earlier[-1]} freed it"
    raise TraceError(path, problem, record)


def _check_time(path: Path, time: Column) -> None:
    back = np.flatnonzero(time[1:] < time[:-1])
    if back.size:
        record = int(back[0]) + 1
        raise TraceError(path, f"time goes back from {time[record - 1]} to {time[record]}", record)
