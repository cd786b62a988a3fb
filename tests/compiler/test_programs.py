"""Random programs do the same interpreted and compiled, overflows included."""

from __future__ import annotations

import sys
import types
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from .both import BASE, Both
from .programs import WIDTHS, generate

PER_MODULE = 60
MODULES = 40
CALLS = 6
_numbers = count()

seeds = st.lists(
    st.tuples(st.integers(0, 2**48), st.integers(1, 12)),
    min_size=PER_MODULE,
    max_size=PER_MODULE,
    unique=True,
)


def load(text: str, directory: Path) -> Any:
    """Import a module from its text."""
    name = f"generated_{next(_numbers)}"
    path = directory / f"{name}.py"
    path.write_text(text)
    module = types.ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    exec(compile(text, str(path), "exec"), module.__dict__)
    return module


def arguments(random: Random, kinds: list[str]) -> list[int]:
    """Small numbers, large numbers, and any."""
    found = []
    for kind in kinds:
        bits = WIDTHS.get(kind, 1)
        any_number = random.getrandbits(bits)
        top = (1 << bits) - 1
        found.append(random.choice([any_number, any_number, min(any_number % 10, top), top, 0]))
    return found


def compare(programs: list[tuple[int, int]], directory: Path) -> tuple[int, int]:
    """Run each program both ways; how many calls were made, and how many panicked."""
    text, functions = generate(programs)
    both = Both(load(text, directory).Generated, flags=["-w"])
    calls = panics = 0
    for (seed, size), (name, kinds) in zip(programs, functions.items(), strict=True):
        random = Random(seed)
        for _ in range(CALLS):
            memory = bytearray(random.randbytes(0x400))
            for struct in (both.component.loose, both.component.tight):
                flag = next(one for one in struct.layout.fields if one.name == "flag")
                memory[int(struct) - BASE + flag.offset] = random.randint(0, 1)
            try:
                outcome = both.run(name, *arguments(random, kinds), memory=bytes(memory))
            except AssertionError as error:
                raise AssertionError(f"generate([({seed}, {size})]): {error}") from error
            calls += 1
            panics += outcome.panic is not None
    return calls, panics


@pytest.mark.slow
@settings(
    max_examples=MODULES,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(programs=seeds)
def test_programs(tmp_path_factory: pytest.TempPathFactory, programs: list[Any]) -> None:
    calls, panics = compare(programs, tmp_path_factory.mktemp("programs"))
    assert 0 < panics < calls


@pytest.mark.parametrize("program", [(15458470, 1), (164771415382198, 4)])
def test_programs_that_once_differed(tmp_path: Path, program: tuple[int, int]) -> None:
    """Both operands of a wrapping operation panic: the left one must be first."""
    compare([program], tmp_path)
