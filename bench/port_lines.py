"""What a port costs: the lines of code of each architecture, and of each board.

A line counts if there is code on it: blank lines, comments and docstrings do not.

    python bench/port_lines.py      # the tables of docs/adding-a-hardware.md
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable
from pathlib import Path

HARDWARE = Path(__file__).parent.parent / "src" / "kernmem" / "hardware"
MACHINE = HARDWARE.parent / "machine"

ARCHITECTURES = ("aarch64", "armv7", "x86_64", "riscv64")
UNICORN = {
    "aarch64": "unicorn_aarch64.py",
    "armv7": "unicorn_armv7.py",
    "x86_64": "unicorn_x86.py",
    "riscv64": "unicorn_riscv.py",
}
SIMULATION = {"simulated", "syndrome.py"}
"""What only the simulators need: the model's MMU, and Python's words for a fault."""

BOARDS = ("rpi3", "lab", "virt", "armv7_virt", "pc", "riscv_virt")
DEVICES = HARDWARE / "devices"
VMSA = ("barriers.py", "driver.py")
"""What drivers of Arm cores share; the rest of that folder is simulation."""

SPACE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
SPACE |= {tokenize.ENDMARKER}
COMMENT = {
    ".c": re.compile(r'("(?:\\.|[^"\\])*")|/\*.*?\*/', re.DOTALL),
    ".S": re.compile(r'("(?:\\.|[^"\\])*")|//.*|#\s.*'),
}
"""A string, which is kept, or a comment: ``# text`` is one in RISC-V's assembly, not ``#if``."""


def lines(path: Path) -> int:
    """The lines of code of a file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return python_lines(text)
    code = COMMENT[path.suffix].sub(lambda found: found[1] or re.sub(r".+", "", found[0]), text)
    return sum(1 for line in code.splitlines() if line.strip())


def python_lines(text: str) -> int:
    """Lines with a token that is neither space nor of a docstring."""
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in SPACE:
            code.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Expr(ast.Constant(str()), end_lineno=int(last)):
                code.difference_update(range(node.lineno, last + 1))
    return len(code)


def total(paths: Iterable[Path]) -> int:
    """The lines of code of several files."""
    return sum(map(lines, paths))


def files(folder: Path) -> list[Path]:
    """The files with code of a folder, and of the folders in it."""
    return sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".c", ".S"))


def main() -> None:
    """Print the tables."""
    print("| file | " + " | ".join(f"`{name}`" for name in ARCHITECTURES) + " |")
    print("|---|" + "--:|" * len(ARCHITECTURES))
    ported: dict[str, dict[str, int]] = {}
    simulated: dict[str, int] = {}
    for name in ARCHITECTURES:
        ported[name] = {}
        simulated[name] = 0
        for path in files(HARDWARE / name):
            top = path.relative_to(HARDWARE / name).parts[0]
            if top in SIMULATION:
                simulated[name] += lines(path)
            elif lines(path):
                ported[name][top] = lines(path)
    for file in sorted({file for name in ARCHITECTURES for file in ported[name]}):
        row("`" + file + "`", (ported[name].get(file, 0) for name in ARCHITECTURES))
    row("**the port**", (sum(ported[name].values()) for name in ARCHITECTURES))
    row("files", (len(ported[name]) for name in ARCHITECTURES))
    row("for the model", (simulated[name] for name in ARCHITECTURES))
    row("for Unicorn", (lines(MACHINE / UNICORN[name]) for name in ARCHITECTURES))
    print("\n| board | lines |\n|---|--:|")
    for name in BOARDS:
        print(f"| `{name}.py` | {lines(HARDWARE / f'{name}.py')} |")
    print("\n| shared | lines |\n|---|--:|")
    print(f"| by architectures, `hardware/` | {total(shared())} |")
    print(
        f"| by Arm's two, `hardware/vmsa/` | {total(HARDWARE / 'vmsa' / each for each in VMSA)} |"
    )


def shared() -> list[Path]:
    """What is written once for all architectures."""
    names = ("leaf_bits.py", "instructions.py", "mmu_driver.py", "probing.py", "boot.py")
    return [HARDWARE / each for each in (*names, "freestanding.c", "format.c")]


def row(title: str, numbers: Iterable[int]) -> None:
    """A line of the first table."""
    print(f"| {title} | " + " | ".join(f"{number or ''}" for number in numbers) + " |")


if __name__ == "__main__":
    main()
