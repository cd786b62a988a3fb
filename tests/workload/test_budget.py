"""The budget: what is worse is named, and what the project allows itself is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kernmem.memory.profile import Placement, aligned, tuned
from kernmem.workload.allocators import kernel_name
from kernmem.workload.budget import (
    BudgetError,
    Figures,
    Item,
    Verdict,
    measure,
    read_budget,
    verdicts,
    write_budget,
)
from kernmem.workload.synthetic import generate

FOUND = Figures(arena_ratio=1.25, physical_pages=100, instructions=200.0)
ITEM = Item("zephyr", "tuned", FOUND)


def test_one_percent_is_tolerated_and_more_is_named() -> None:
    assert Verdict(ITEM, replace(FOUND, physical_pages=101)).excesses() == []
    assert Verdict(ITEM, replace(FOUND, physical_pages=50, arena_ratio=1.0)).excesses() == []
    worse = Figures(arena_ratio=1.3, physical_pages=102, instructions=201.0)
    assert Verdict(ITEM, worse).excesses() == [
        "arena_ratio of tuned on zephyr is 1.3, 4.0% over the 1.25 of its budget",
        "physical_pages of tuned on zephyr is 102, 2.0% over the 100 of its budget",
    ]


def test_figures_are_exact() -> None:
    trace = generate("zephyr", events=3_000)
    assert measure(tuned(), trace) == measure(tuned(), trace)


def test_a_worse_placement_breaks_the_budget(tmp_path: Path) -> None:
    path = tmp_path / "budget.json"
    write_budget(path, [Verdict(ITEM, measure(tuned(), generate("zephyr")))])
    largest = aligned(Placement.LARGEST)
    assert kernel_name(largest) == "aligned-largest"
    (verdict,) = verdicts(path, {"tuned": largest}, lambda done, total: None)
    assert verdict.excesses()[0].startswith("arena_ratio of tuned on zephyr is 1.")


def test_a_budget_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "budget.json"
    write_budget(path, [Verdict(ITEM, FOUND), Verdict(replace(ITEM, trace="churn"), FOUND)])
    assert read_budget(path) == [ITEM, replace(ITEM, trace="churn")]


@pytest.mark.parametrize(
    ("held", "problem"),
    [
        ("[]", "not a budget: TypeError"),
        ('{"budget": [{"trace": "zephyr"}]}', "not a budget: KeyError: 'arena_ratio'"),
        ("x", "not a budget: JSONDecodeError"),
    ],
)
def test_other_files_are_no_budget(tmp_path: Path, held: str, problem: str) -> None:
    path = tmp_path / "budget.json"
    path.write_text(held)
    with pytest.raises(BudgetError, match=problem):
        read_budget(path)


def test_an_unknown_heap_is_named(tmp_path: Path) -> None:
    path = tmp_path / "budget.json"
    write_budget(path, [Verdict(replace(ITEM, heap="best"), FOUND)])
    with pytest.raises(BudgetError, match="a heap must be one of tuned, not 'best'"):
        verdicts(path, {"tuned": tuned()}, lambda done, total: None)
