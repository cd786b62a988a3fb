"""Kernel heap: no call takes more than so many instructions, however the heap is used."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench" / "heap_instructions.py"
WORST = {
    "spec": {"kmalloc": 1_500, "kfree": 2_000},
    # Before a large buffer is placed at the top, up to 16 kept ones become gaps.
    "tuned": {"kmalloc": 12_000, "kfree": 2_000},
}
"""Instructions on AArch64, with 1,000 gaps."""


@pytest.fixture(scope="module")
def bench() -> Any:
    """What prints the table."""
    found = spec_from_file_location(BENCH.stem, BENCH)
    assert found is not None
    assert found.loader is not None
    module = module_from_spec(found)
    sys.modules[BENCH.stem] = module
    found.loader.exec_module(module)
    return module


@pytest.mark.parametrize("profile", WORST)
def test_the_worst_call_with_1000_gaps(bench: Any, profile: str) -> None:
    """Of usual traces and of hostile ones."""
    gaps = 0
    for trace, costs, left in bench.measure(bench.PROFILES[profile], 1_000):
        gaps = max(gaps, left)
        for call, most in WORST[profile].items():
            assert costs[call].count > 1_000
            assert costs[call].worst < most, f"{trace}: {call}"
    assert gaps > 500
