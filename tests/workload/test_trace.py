"""Reading traces: what is right is read, and what is wrong is named with its record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernmem.workload.trace import TraceBuilder, TraceError, read_trace

from .traces import ALLOCATE, ARM64, FREE, REALLOCATE, X86, save


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "small.npz"


def test_a_recorded_trace() -> None:
    trace = read_trace(ARM64)
    assert trace.name == "arm64-boot-kmalloc"
    assert len(trace) == 28_533
    assert '"kernel": "Linux version 6.1' in trace.meta
    assert len(read_trace(str(X86))) == 37_918


def test_the_columns_of_a_small_trace(path: Path) -> None:
    save(path, (ALLOCATE, 7, 100), (REALLOCATE, 7, 200), (FREE, 7, 0), (ALLOCATE, 1, 5))
    trace = read_trace(path)
    assert trace.op.tolist() == [0, 2, 1, 0]
    assert trace.id.tolist() == [7, 7, 7, 1]
    assert trace.size.tolist() == [100, 200, 0, 5]
    assert trace.meta == ""


def test_an_empty_trace(path: Path) -> None:
    assert len(read_trace(save(path))) == 0


@pytest.mark.parametrize(
    ("events", "record", "problem"),
    [
        ([(FREE, 3, 0)], 0, "id 3 is freed, but was never allocated"),
        ([(ALLOCATE, 0, 1), (REALLOCATE, 3, 1)], 1, "id 3 is reallocated, but was never allocated"),
        (
            [(ALLOCATE, 5, 1), (ALLOCATE, 6, 1), (FREE, 5, 0), (FREE, 5, 0)],
            3,
            "id 5 is freed, but record 2 freed it",
        ),
        (
            [(ALLOCATE, 5, 1), (FREE, 5, 0), (REALLOCATE, 5, 9)],
            2,
            "id 5 is reallocated, but record 1 freed it",
        ),
        (
            [(ALLOCATE, 5, 1), (ALLOCATE, 5, 1)],
            1,
            "id 5 is allocated a second time, after record 0",
        ),
        (
            [(ALLOCATE, 5, 1), (FREE, 5, 0), (ALLOCATE, 5, 1)],
            2,
            "id 5 is allocated a second time, after record 0",
        ),
        (
            [(ALLOCATE, 0, 1), (9, 0, 1), (FREE, 7, 0)],
            1,
            "op must be 0 (allocate), 1 (free) or 2 (reallocate), not 9",
        ),
    ],
)
def test_a_wrong_record_is_named(
    path: Path, events: list[tuple[int, int, int]], record: int, problem: str
) -> None:
    with pytest.raises(TraceError) as caught:
        read_trace(save(path, *events))
    assert str(caught.value) == f"{path}: record {record}: {problem}"
    assert caught.value.record == record
    assert caught.value.path == path


def test_of_several_wrong_records_the_first_is_named(path: Path) -> None:
    save(path, (ALLOCATE, 9, 1), (FREE, 8, 0), (FREE, 2, 0), (FREE, 9, 0), (FREE, 9, 0))
    with pytest.raises(TraceError, match="record 1: id 8 is freed, but was never allocated"):
        read_trace(path)


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"op": None}, "a trace must have a column 'op'; it has id, size"),
        ({"size": None}, "a trace must have a column 'size'; it has id, op"),
        (
            {"size": np.array([1, 2, 3], np.uint32)},
            "column 'size' must have 2 records, as 'op' has, not 3",
        ),
        (
            {"time": np.array([1], np.uint64)},
            "column 'time' must have 2 records, as 'op' has, not 1",
        ),
        (
            {"size": np.array([1.0, 2.0])},
            "column 'size' must be a row of integers, not 1-dimensional float64",
        ),
        (
            {"id": np.array([[1], [2]])},
            "column 'id' must be a row of integers, not 2-dimensional int64",
        ),
        ({"size": np.array([4, -1])}, "record 1: size must not be negative: -1"),
        ({"time": np.array([9, 4])}, "record 1: time goes back from 9 to 4"),
    ],
)
def test_wrong_columns(path: Path, columns: dict[str, Any], problem: str) -> None:
    with pytest.raises(TraceError) as caught:
        read_trace(save(path, (ALLOCATE, 0, 1), (ALLOCATE, 1, 1), **columns))
    expected = f"{path}: {problem}"
    assert str(caught.value) == expected


def test_pickled_columns_are_not_loaded(path: Path) -> None:
    save(path, (ALLOCATE, 0, 1), size=np.array([print], dtype=object))
    with pytest.raises(TraceError, match=r"not an \.npz file of plain columns"):
        read_trace(path)


@pytest.mark.parametrize("content", [b"", b"hello\n", b"PK\3\4 no zip", b"\x93NUMPY junk"])
def test_other_files(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(TraceError, match=str(path)):
        read_trace(path)


def test_a_single_array_is_no_trace(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(TraceError, match=r"not an \.npz file of plain columns"):
        read_trace(path)


@pytest.mark.parametrize("kept", [100, 5_000, 136_000])
def test_a_truncated_file(path: Path, kept: int) -> None:
    path.write_bytes(ARM64.read_bytes()[:kept])
    with pytest.raises(TraceError, match=str(path)):
        read_trace(path)


def test_a_damaged_file(path: Path) -> None:
    content = bytearray(ARM64.read_bytes())
    content[3_000:3_100] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(TraceError, match=str(path)):
        read_trace(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="there is no such file"):
        read_trace(tmp_path / "none.npz")
    with pytest.raises(TraceError, match="Is a directory"):
        read_trace(tmp_path)


def test_a_trace_built_event_by_event() -> None:
    builder = TraceBuilder()
    first = builder.allocate(10)
    second = builder.allocate(20)
    builder.reallocate(first, 40)
    builder.free(second)
    builder.allocate(5)
    trace = builder.build("made", "by hand")
    assert trace.op.tolist() == [ALLOCATE, ALLOCATE, REALLOCATE, FREE, ALLOCATE]
    assert trace.id.tolist() == [0, 1, 0, 1, 2]
    assert trace.size.tolist() == [10, 20, 40, 0, 5]
    assert (trace.name, trace.meta, trace.peak_live_bytes()) == ("made", "by hand", 60)


def test_a_builder_refuses_what_a_file_may_not_hold() -> None:
    builder = TraceBuilder()
    builder.free(builder.allocate(10))
    builder.free(0)
    with pytest.raises(TraceError, match="wrong: record 2: id 0 is freed, but record 1 freed it"):
        builder.build("wrong", "")


def test_the_peak_is_what_the_recorder_noted() -> None:
    trace = read_trace(ARM64)
    assert trace.peak_live_bytes() == json.loads(trace.meta)["stats"]["peak_live_bytes"]
