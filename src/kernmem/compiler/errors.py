"""The one error of the compiler: a rule, what broke it, and what to write instead."""

from __future__ import annotations

from kernmem.language import KernmemError


class CompileError(KernmemError):
    """Kernel code that the compiler refuses.

    Attributes:
        file, line, column: where, counted from 1.
        problem: the rule, what was found, and what to write instead.
        text: the line of source.
    """

    def __init__(self, file: str, line: int, column: int, problem: str, text: str) -> None:
        where = f"{file}:{line}:{column}: error: {problem}"
        super().__init__(f"{where}\n{text}\n{' ' * (column - 1)}^" if text else where)
        self.file = file
        self.line = line
        self.column = column
        self.problem = problem
        self.text = text

    def __reduce__(self) -> tuple[type[CompileError], tuple[str, int, int, str, str]]:
        """So that it comes through from another process."""
        return type(self), (self.file, self.line, self.column, self.problem, self.text)
