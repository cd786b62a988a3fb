"""The floors of the project: imports point down, and files stay small."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import kernmem

ROOT = Path(kernmem.__file__).parent

# Each part with the parts that it stands on.
STANDS_ON: dict[str, set[str]] = {
    "language": set(),
    "compiler": {"language"},  # it knows kernel Python, and no kernel
    "memory": {"language"},  # kernel code, and what a hardware gives it
    "kernels": {"language", "memory"},
    "hardware": {"language", "memory"},
    "machine": {"language", "compiler", "memory", "hardware"},
    "inspect": {"language", "memory", "machine"},
    "workload": {"language", "compiler", "memory", "kernels", "hardware", "machine"},
}
# Files of the package itself, from the ground up: each may import all parts and those before it.
TOP = ("system", "selftest", "delivery", "terminal", "cli_traces", "cli_compare", "cli")

LONGEST = 400
LONGER = {  # with the reason
    "compiler/calls.py": 420,  # one function for each thing that can be called
    "compiler/c_expressions.py": 430,  # one for each kind of expression
    "compiler/statements.py": 440,  # one for each kind of statement
    "compiler/tree.py": 450,  # the typed tree, one class a node
    "hardware/device_tree.py": 430,  # one pass over the tree, a method for each property
    "memory/virtual.py": 420,  # the walk is written once
}

FILES = sorted(ROOT.rglob("*.py"))


def part_of(name: str) -> str:
    """``kernmem.memory.gap`` is of the part ``memory``; ``kernmem`` itself of the part ``""``."""
    return [*name.split("."), ""][1]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every import of kernmem, wherever in the file it stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.split(".")[0] == "kernmem")


def allowed(part: str) -> set[str]:
    """The parts that a part may import, itself among them."""
    if part in STANDS_ON:
        return STANDS_ON[part] | {part}
    if part in TOP:
        return {*STANDS_ON, *TOP[: TOP.index(part) + 1]}
    return {*STANDS_ON, *TOP}


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_imports_point_down(path: Path) -> None:
    relative = path.relative_to(ROOT)
    part = part_of(f"kernmem.{relative.parts[0].removesuffix('.py')}")
    if part in ("__init__", "__main__"):
        return
    wrong = [
        f"{relative}:{line}: {part} imports {name}"
        for line, name in imports(path)
        if part_of(name) not in allowed(part)
    ]
    assert not wrong, "\n".join(wrong)


def test_every_part_is_listed() -> None:
    """A new folder or file of the package needs its floor here."""
    found = {
        each.name.removesuffix(".py")
        for each in ROOT.iterdir()
        if each.suffix == ".py" or (each.is_dir() and any(each.rglob("*.py")))
    }
    assert found - {"__init__", "__main__"} <= {*STANDS_ON, *TOP}


def test_the_floors_have_no_cycle() -> None:
    """The parts are listed from the ground up."""
    parts = list(STANDS_ON)
    for part, below in STANDS_ON.items():
        assert below <= set(parts[: parts.index(part)]), f"{part} stands on a part above it"


def test_kernel_code_imports_only_the_language() -> None:
    """Memory and kernels: no module of Python but those of build time."""
    build_time = {"__future__", "dataclasses", "enum", "typing", "kernmem"}
    for path in FILES:
        if path.relative_to(ROOT).parts[0] in ("memory", "kernels"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom):
                    assert (node.module or "").split(".")[0] in build_time, f"{path}:{node.lineno}"
                else:
                    assert not isinstance(node, ast.Import), f"{path}:{node.lineno}"


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_files_stay_small(path: Path) -> None:
    """At most 400 lines, or a line above that says why."""
    relative = path.relative_to(ROOT).as_posix()
    lines = len(path.read_text(encoding="utf-8").splitlines())
    limit = LONGER.get(relative, LONGEST)
    assert lines <= limit, f"{relative} has {lines} lines: cut it, or list it with its reason"
