"""Where a function's source stands: its tree, its lines, and refusals that point into it."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Callable
from functools import lru_cache
from pathlib import PurePath
from types import FunctionType
from typing import Any

from kernmem.compiler.errors import CompileError


class Source:
    """The source of one function.

    Attributes:
        node: the function's tree.
        file: the path of its file, for debuggers.
        path: the same as a module path, ``kernmem/memory/physical.py``, for messages in C.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        assert isinstance(function, FunctionType)
        self.function = function
        self.file = function.__code__.co_filename
        self.path = module_path(function.__module__, self.file)
        self.node = self._find(function.__code__.co_firstlineno)

    def _find(self, first_line: int) -> ast.FunctionDef:
        name = self.function.__code__.co_name  # as it is written there
        for node in functions_of(self.file, tuple(linecache.getlines(self.file))):
            if node.name == name and _first_line(node) == first_line:
                return node
        raise CompileError(
            self.file,
            first_line,
            1,
            f"the source of a kernel function must be readable, not missing for {name}; "
            "write it in a file",
            "",
        )

    def text(self, node: ast.AST) -> str:
        """The source of ``node``, on one line and not too long."""
        text = ast.unparse(node)
        return text if len(text) <= 60 else text[:57] + "..."

    def segment(self, node: ast.expr) -> str:
        """The source of ``node`` as it is written; it stands on one line."""
        line = linecache.getline(self.file, node.lineno).encode()
        return line[node.col_offset : node.end_col_offset].decode()

    def where(self, node: ast.AST) -> str:
        """``kernmem/memory/physical.py:41``"""
        return f"{self.path}:{node.lineno}"  # type: ignore[attr-defined]

    def refuse(self, node: ast.AST, rule: str, found: str, instead: str) -> CompileError:
        """The refusal of what stands at ``node``."""
        return self.fail(node, f"{rule}, not {found}; write {instead} instead")

    def fail(self, node: ast.AST, problem: str) -> CompileError:
        """The refusal of what stands at ``node``, in other words than "not …; write … instead"."""
        line: int = node.lineno  # type: ignore[attr-defined]
        text = linecache.getline(self.file, line).rstrip("\n")
        offset: int = node.col_offset  # type: ignore[attr-defined]
        column = len(text.encode()[:offset].decode(errors="replace")) + 1
        return CompileError(self.file, line, column, problem, text)


@lru_cache(maxsize=64)
def functions_of(file: str, lines: tuple[str, ...]) -> tuple[ast.FunctionDef, ...]:
    """Every function of a file."""
    tree = ast.parse("".join(lines), file)
    return tuple(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def module_path(module: str, file: str) -> str:
    """A path that is the same on every computer: the module's, from its package down."""
    parts = PurePath(file).parts
    depth = module.count(".") + (2 if parts[-1] == "__init__.py" else 1)
    return "/".join(parts[-depth:])


def _first_line(node: ast.FunctionDef) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
