"""Comparisons: every figure has its place, failures are told, and runs can be compared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import kernmem
from kernmem.language import KernmemError
from kernmem.memory.profile import Placement, aligned, tuned
from kernmem.workload.allocators import Allocator, kernel_allocator
from kernmem.workload.compare import Measurement, compare, physical_pages, steps
from kernmem.workload.picture import draw
from kernmem.workload.replay import replay
from kernmem.workload.results import (
    Change,
    ResultsError,
    changes,
    document,
    read_results,
    write_results,
)
from kernmem.workload.synthetic import generate
from kernmem.workload.trace import TraceBuilder, read_trace

from .plugins import bump
from .traces import ARM64

MEASURED = Measurement(
    "boot",
    "tuned",
    calls=100,
    ns=20.0,
    ns_low=19.0,
    ns_high=23.0,
    space_bytes=3000,
    has_arena=True,
    space_ratio=1.5,
    instructions=200.0,
    physical_pages=10,
)


def test_figures_of_each_kind_of_allocator() -> None:
    told: list[str] = []
    allocators = [kernel_allocator(tuned()), Allocator("malloc"), bump()]
    traces = [generate("churn", events=1_500), generate("zephyr", events=400)]
    found = compare(traces, allocators, repetitions=2, told=told.append)
    assert [(each.trace, each.allocator) for each in found] == [
        (trace.name, allocator.name) for trace in traces for allocator in allocators
    ]
    assert len(told) == steps(2, 3, 2)
    for each in found:
        assert each.error is None
        assert each.calls in (len(traces[0]), len(traces[1]))
        assert 0 < each.ns_low <= each.ns <= each.ns_high
        assert each.ns_p999 <= each.ns_worst
        assert each.has_arena == (each.allocator != "malloc")
        assert (each.largest_free is None) == (each.allocator == "malloc")
        assert (each.physical_pages is None) == (each.allocator != "tuned")
        assert each.space_bytes > 0
    assert found[2].space_bytes == 96 * (traces[0].op == 0).sum()  # bump never uses any again
    assert found[2].largest_free == 0


def test_an_allocator_that_fails_does_not_stop_the_others() -> None:
    allocators = [bump(overlap=16), bump()]
    broken, sound = compare([generate("churn", events=1_200)], allocators, repetitions=1)
    assert broken.error is not None
    assert "overlaps a live one" in broken.error
    assert (broken.ns, broken.space_bytes) == (0, 0)
    assert sound.error is None


def test_pages_are_those_of_the_heap_its_shadow_and_the_tables() -> None:
    trace = read_trace(ARM64)
    with kernmem.boot("lab", "host") as machine:  # type: ignore[attr-defined]
        heap_bytes = replay(machine, trace).peak_heap_bytes
    heap_pages = -(-heap_bytes // 0x1_0000)
    tables = 8  # of the linear space, of the kernel's, its segment's first pages, their shadow's
    assert physical_pages(tuned(), trace) == heap_pages + 1 + tables


def test_a_trace_that_is_too_large_for_the_board_has_no_pages() -> None:
    builder = TraceBuilder()
    builder.allocate(0)
    assert physical_pages(tuned(), builder.build("small", "")) is not None
    builder.allocate(256 << 20)
    assert physical_pages(tuned(), builder.build("large", "")) is None


def test_a_worse_placement_takes_more_pages() -> None:
    trace = generate("zephyr")
    best, largest = (
        physical_pages(aligned(each), trace) for each in (Placement.BEST, Placement.LARGEST)
    )
    assert best is not None and largest is not None
    assert best < largest


def test_results_survive_a_file(tmp_path: Path) -> None:
    failed = Measurement("boot", "bad", error="bad on boot: it crashed")
    write_results(tmp_path / "results.json", [MEASURED, failed])
    assert read_results(tmp_path / "results.json") == [MEASURED, failed]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("no json", "not a file of results of kernmem compare"),
        ("[]", "not a file of results of kernmem compare"),
        ('{"format": 1}', "not a file of results of kernmem compare"),
        ('{"format": 1, "measurements": [{}]}', "not a file of results of kernmem compare"),
        ('{"format": 9}', "its format must be 1, not 9: measure anew"),
        ('{"format": 1, "measurements": [{"speed": 1}]}', "a measurement has no 'speed'"),
    ],
)
def test_other_files_are_no_results(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(ResultsError) as caught:
        read_results(path)
    assert str(caught.value) == f"{path}: {problem}"


def test_what_changed_between_two_runs() -> None:
    later = replace(MEASURED, ns=30.0, space_bytes=1500, instructions=None, physical_pages=11)
    unknown = replace(MEASURED, allocator="new")
    broken = replace(MEASURED, allocator="broken", error="it crashed")
    earlier = [MEASURED, replace(MEASURED, allocator="broken")]
    assert changes(earlier, [later, unknown, broken]) == [
        Change("boot", "tuned", time=1.5, space=0.5, instructions=None, physical_pages=1.1)
    ]


def test_an_empty_trace() -> None:
    found = compare([TraceBuilder().build("empty", "")], [bump()], repetitions=1)
    assert found[0].error is None
    assert (found[0].calls, found[0].ns_worst) == (0, 0)


def test_the_document_is_json() -> None:
    held = json.loads(json.dumps(document([MEASURED])))
    assert held["measurements"][0]["space_ratio"] == 1.5
    assert held["computer"].startswith("Linux ")


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_the_picture_has_a_panel_a_trace_and_a_point_an_allocator(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"picture.{suffix}"
    traces = ("one", "two", "three", "four")
    rows = [
        replace(MEASURED, trace=trace, allocator=name, ns=ns, ns_low=ns, ns_high=ns + 1)
        for trace in traces
        for name, ns in (("ours", 10.0), ("theirs", 20.0))
    ]
    draw([*rows, Measurement("four", "failed", error="it crashed")], path)
    assert path.stat().st_size > 5_000
    if suffix == "svg":
        text = path.read_text()
        for name in (*traces, "ours", "theirs"):
            assert f"<!-- {name} -->" in text
        assert "<!-- failed -->" not in text


def test_a_picture_of_no_known_format(tmp_path: Path) -> None:
    with pytest.raises(KernmemError, match=r"picture\.xyz: .*not supported"):
        draw([MEASURED], tmp_path / "picture.xyz")
