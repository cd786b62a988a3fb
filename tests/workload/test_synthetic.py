"""Synthetic traces: the same everywhere, valid, and each what its name says."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from kernmem.memory.profile import Placement, aligned
from kernmem.workload.allocators import kernel_allocator
from kernmem.workload.bench import Bench
from kernmem.workload.synthetic import SYNTHETIC, NoSuchTrace, generate, open_trace
from kernmem.workload.trace import Trace, TraceError, read_trace, write_trace

from .traces import ALLOCATE, ARM64, FREE


def fingerprint(trace: Trace) -> str:
    columns = (trace.op.astype(np.uint8), trace.id.astype("<u4"), trace.size.astype("<u8"))
    return hashlib.sha256(b"".join(each.tobytes() for each in columns)).hexdigest()[:16]


@pytest.mark.parametrize("name", SYNTHETIC)
def test_a_seed_gives_one_trace(name: str) -> None:
    first = generate(name, seed=3, events=5_000)
    assert fingerprint(first) == fingerprint(generate(name, seed=3, events=5_000))
    assert fingerprint(first) != fingerprint(generate(name, seed=4, events=5_000))


def test_the_traces_are_the_same_on_every_computer() -> None:
    found = {name: fingerprint(generate(name, seed=1, events=5_000)) for name in SYNTHETIC}
    assert found == {
        "best-fit-killer": "14f3b3128edba4d3",
        "churn": "46edb7524efe2cdb",
        "merge-storm": "028ce77fadff734c",
        "producer-consumer": "03598c4f6a51e8fa",
        "zephyr": "5e9bc83f60207e1c",
    }


@pytest.mark.parametrize("name", SYNTHETIC)
def test_it_is_about_as_long_as_asked_and_survives_a_file(name: str, tmp_path: Path) -> None:
    trace = generate(name, events=4_000)
    assert 4_000 <= len(trace) < 6_000
    write_trace(trace, tmp_path / f"{name}.npz")
    read = read_trace(tmp_path / f"{name}.npz")
    assert fingerprint(read) == fingerprint(trace)
    assert (read.name, read.meta) == (name, trace.meta)


def test_a_trace_by_name_and_seed_or_by_file() -> None:
    assert fingerprint(open_trace("churn")) == fingerprint(generate("churn", seed=1))
    assert fingerprint(open_trace("churn:9")) == fingerprint(generate("churn", seed=9))
    assert open_trace(str(ARM64)).name == ARM64.stem


def test_wrong_names() -> None:
    with pytest.raises(NoSuchTrace, match=r"must be one of .*, zephyr, not 'x'"):
        generate("x")
    with pytest.raises(NoSuchTrace, match="the seed of 'zephyr:x' must be an integer, not 'x'"):
        open_trace("zephyr:x")
    with pytest.raises(TraceError, match="zephir: there is no such file"):
        open_trace("zephir")


def test_churn_has_one_size() -> None:
    trace = generate("churn", events=4_000)
    assert set(trace.size[trace.op == ALLOCATE].tolist()) == {96}
    assert trace.peak_live_bytes() == 96 * 1_000


def test_a_queue_dies_in_the_order_of_its_birth() -> None:
    trace = generate("producer-consumer")
    freed = trace.id[trace.op == FREE].tolist()
    assert freed == list(range(len(freed)))


def test_half_of_zephyrs_sizes_are_of_the_largest_class() -> None:
    trace = generate("zephyr", events=20_000)
    sizes = trace.size[trace.op == ALLOCATE]
    # A size of the largest class is even odds, and half of those have the top bit.
    assert 0.22 < np.mean(sizes > 1 << 15) < 0.28
    assert 0.6 * 2**20 < trace.peak_live_bytes() < 1.2 * 2**20


def test_the_best_fit_killer_hurts_best_fit_alone() -> None:
    ratios = {}
    for placement in (Placement.BEST, Placement.FIRST):
        with Bench(generate("best-fit-killer", events=1_000)) as bench:
            arena = bench.fit(kernel_allocator(aligned(placement))).arena_bytes
            ratios[placement] = arena / bench.peak_live_bytes
    # What first fit needs beside the buffers are their headers.
    assert ratios[Placement.FIRST] < 1.01
    assert ratios[Placement.BEST] > 1.03
