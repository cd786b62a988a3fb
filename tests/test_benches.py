"""The benches of ``bench/`` are not run here, but each can be: what it needs is still there."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

BENCHES = sorted((Path(__file__).parent.parent / "bench").glob("*.py"))


def test_there_are_some() -> None:
    assert len(BENCHES) >= 5


@pytest.mark.parametrize("path", BENCHES, ids=lambda path: path.stem)
def test_a_bench_loads_and_says_how_it_is_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = spec_from_file_location(path.stem, path)
    assert found is not None
    assert found.loader is not None
    bench = module_from_spec(found)
    monkeypatch.setitem(sys.modules, path.stem, bench)
    found.loader.exec_module(bench)
    assert callable(bench.main)
    assert f"python bench/{path.name}" in (bench.__doc__ or "")
