"""The C of a small kernel, kept and reviewed: ``pytest --update-golden`` writes it anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernmem.compiler import compile_component, emit_c
from kernmem.language import Image, Target

from .golden.pages import Pages

GOLDEN = Path(__file__).parent / "golden"


def test_golden(pytestconfig: pytest.Config) -> None:
    program = compile_component(Pages(Image(Target("aarch64", 8))))
    files = emit_c(program)
    files.pop("kernmem_base.h")  # the same for all; its text is in c_base.py
    files["pages_checked.c"] = emit_c(program, checked=True)["pages.c"]
    if pytestconfig.getoption("--update-golden"):
        for name, text in files.items():
            (GOLDEN / name).write_text(text)
    kept = {path.name: path.read_text() for path in GOLDEN.glob("*.[ch]")}
    assert files == kept


def test_emitting_is_repeatable() -> None:
    one, other = (compile_component(Pages(Image(Target("aarch64", 8)))) for _ in range(2))
    assert emit_c(one) == emit_c(other)
