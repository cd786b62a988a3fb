"""What notices a missing invalidation or barrier: the model, Unicorn, QEMU?

Leaves each instruction of an architecture's MMU driver out in turn, boots the self-test kernel
without it on each machine, and prints the tables of docs/mutants.md.  What the self-test on the
model does not need, a test on the model does: its id is in the last column.

    python bench/mutants.py [HARDWARE...]
"""

from __future__ import annotations

import ast
import dis
import importlib
import importlib.util
import inspect
import multiprocessing
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, TypeAlias

import pytest

from kernmem.hardware import HardwareDescription, find
from kernmem.language import (
    Image,
    KernelPanic,
    ModelViolation,
    PageFault,
    set_pointer_bytes,
)
from kernmem.machine.build import build_kernel, put_together
from kernmem.machine.errors import MachineError, MachineTimeout
from kernmem.machine.qemu import QemuMachine
from kernmem.machine.unicorn_core import UnicornCore
from kernmem.memory.architecture import Hardware, Mmu
from kernmem.memory.profile import tuned
from kernmem.selftest import run_model, selftest_kernel

DEFAULT = ("virt", "pc", "riscv-virt", "armv7-virt")
SECONDS = 15
"""For each run of the self-test, and GRACE more until it is ended from outside."""

GRACE = 15
FORK = multiprocessing.get_context("fork")

PROCESSES = 2
READS = ("read_", "compiler_barrier")
"""What is no instruction, or gives a value."""

TESTS = Path(__file__).parent.parent / "tests"


class Mutant(NamedTuple):
    """A driver without one statement."""

    method: str
    missing: str
    driver: type[Mmu]


def mutants(driver: type[Mmu], holder: Path) -> Iterator[Mutant]:
    """The class with each ``self.cpu.<instruction>(…)`` statement left out, in order."""
    tree, body = written_out(driver)
    for method in body:
        if isinstance(method, ast.FunctionDef):
            for block, place in instructions(method):
                statement, block[place] = block[place], ast.Pass()
                made = getattr(load(tree, holder), driver.__name__)
                block[place] = statement
                missing = ast.unparse(statement).removeprefix("self.cpu.")
                yield Mutant(method.name, missing, made)


def written_out(driver: type[Mmu]) -> tuple[ast.Module, list[ast.stmt]]:
    """The module of a driver, and in it the body of its class, with all that it inherits."""
    bench = of_tests("hardware.bench")
    tree = ast.parse(inspect.getsource(sys.modules[driver.__module__]))
    (place,) = (
        number
        for number, each in enumerate(tree.body)
        if isinstance(each, ast.ClassDef) and each.name == driver.__name__
    )
    (whole,) = bench.written_out(driver).body
    tree.body[place] = whole
    for base in bench.bases(driver):
        others = ast.parse(inspect.getsource(sys.modules[base.__module__])).body
        tree.body[place:place] = [each for each in others if isinstance(each, ast.ImportFrom)][1:]
    return tree, whole.body


def of_tests(name: str) -> ModuleType:
    """A module of the tests, where drivers are weakened as well."""
    if str(TESTS) not in sys.path:
        sys.path.insert(0, str(TESTS))
    return importlib.import_module(name)


def instructions(method: ast.FunctionDef) -> list[tuple[list[ast.stmt], int]]:
    """Where its instructions are, in the order of the text: a block, a place in it."""
    found = [
        (block, place)
        for block in blocks(method)
        for place, statement in enumerate(block)
        if is_instruction(statement)
    ]
    return sorted(found, key=lambda each: each[0][each[1]].lineno)


def blocks(tree: ast.AST) -> Iterator[list[ast.stmt]]:
    """Every list of statements in a tree."""
    for node in ast.walk(tree):
        for field in ("body", "orelse"):
            if isinstance(block := getattr(node, field, None), list):
                yield block


def is_instruction(statement: ast.stmt) -> bool:
    """Whether it is ``self.cpu.<instruction>(…)`` and nothing else."""
    match statement:
        case ast.Expr(ast.Call(ast.Attribute(ast.Attribute(attr="cpu"), attr=name))):
            return not name.startswith(READS)
    return False


def load(tree: ast.Module, holder: Path) -> ModuleType:
    """A changed module, in a file of its own: the compiler reads the source of what it compiles."""
    name = f"mutant_{len(list(holder.glob('*.py')))}"
    path = holder / f"{name}.py"
    path.write_text(ast.unparse(tree))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def driver_of(hardware: HardwareDescription) -> type[Mmu]:
    """The class of its MMU driver."""
    set_pointer_bytes(hardware.target.pointer_bytes)
    return type(hardware.build(Image(hardware.target, None, hardware.statics_base)).mmu)


def with_driver(hardware: HardwareDescription, driver: type[Mmu]) -> HardwareDescription:
    """The hardware with another class of MMU driver."""

    def build(image: Image) -> Hardware:
        parts = hardware.build(image)
        parts.mmu.__class__ = driver
        return parts

    return replace(hardware, build=build)


# The machines ---------------------------------------------------------------------------------


Run: TypeAlias = Callable[[Callable[[str], None]], int]
"""Boots the self-test, given where its console goes; its exit status."""


def verdict(run: Run) -> str:
    """How the self-test ends; bold if that is not as it should be.

    In a process of its own: a processor that faults at its own vector ends in no other way.
    """
    receive, send = FORK.Pipe(duplex=False)
    process = FORK.Process(target=lambda: send.send(ending(run)))
    process.start()
    send.close()
    try:
        end = str(receive.recv()) if receive.poll(SECONDS + GRACE) else "hangs"
    except EOFError:
        end = "crashes"
    finally:
        process.kill()
        process.join()
    return end if end == "passes" else f"**{end}**"


def ending(run: Run) -> str:
    """A word for how the self-test ends."""
    lines: list[str] = []
    try:
        if run(lines.append) == 0:
            return "passes"
    except ModelViolation as error:
        return error.rule
    except MachineTimeout:
        return "hangs"
    except (KernelPanic, PageFault, MachineError) as error:
        return type(error).__name__
    return "exception" if any("exception:" in line for line in lines) else "FAIL"


def on_machines(hardware: HardwareDescription) -> tuple[str, str, str]:
    """What model, Unicorn and QEMU make of the self-test."""
    model = verdict(lambda sink: run_model(hardware, tuned(), sink))
    _, _, root = put_together(hardware, selftest_kernel(tuned()))
    with tempfile.TemporaryDirectory() as place:
        built = build_kernel(hardware, root, Path(place))

        def unicorn(sink: Callable[[str], None]) -> int:
            with UnicornCore(built, sink=sink, seconds=SECONDS) as core:
                return core.run()

        def qemu(sink: Callable[[str], None]) -> int:
            return QemuMachine(built, sink=sink, seconds=SECONDS).run()

        return model, verdict(unicorn), verdict(qemu)


# The tests ------------------------------------------------------------------------------------


def failing_test(driver: type[Mmu], mutant: Mutant) -> str:
    """The id of the test about this very mutant, if the model notices the mutant there."""
    architecture = driver.__module__.split(".")[-2]
    module = of_tests(f"hardware.{architecture}.test_mutations")
    test = module.test_every_instruction_is_needed
    (cases,) = (mark.args[1] for mark in test.pytestmark if mark.name == "parametrize")
    for case in cases:
        if behaviour(module.mutant(*case.values), mutant.method) == behaviour(
            mutant.driver, mutant.method
        ):
            try:
                test(*case.values)
            except pytest.fail.Exception:
                continue
            return f"`{case.id}`"
    return "**none**"


def behaviour(driver: type[Mmu], method: str) -> list[tuple[str, object]]:
    """The bytecode of a method, without what only says where it is written."""
    code = inspect.unwrap(getattr(driver, method)).__code__
    return [
        (each.opname, None if "JUMP" in each.opname else each.argval)
        for each in dis.get_instructions(code)
        if each.opname not in ("NOP", "RESUME", "EXTENDED_ARG")
    ]


# The table ------------------------------------------------------------------------------------


def row(name: str, number: int) -> str:
    """The line about a hardware's mutant; of the whole driver if ``number`` is -1."""
    hardware = find(name)
    driver = driver_of(hardware)
    if number < 0:
        ends = on_machines(hardware)
        if set(ends) != {"passes"}:
            raise RuntimeError(
                f"{name}: the whole driver must pass on every machine, not {', '.join(ends)}: "
                "is its QEMU installed?"
            )
        return f"| *nothing* | {' | '.join(ends)} | |"
    with tempfile.TemporaryDirectory() as place:
        mutant = list(mutants(driver, Path(place)))[number]
        ends = on_machines(with_driver(hardware, mutant.driver))
        test = failing_test(driver, mutant) if ends[0] == "passes" else ""
        cells = (f"`{mutant.method}`: `{mutant.missing}`", *ends, test)
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main() -> None:
    """Print the tables, one for each hardware."""
    with ProcessPoolExecutor(PROCESSES) as pool:
        for name in sys.argv[1:] or DEFAULT:
            with tempfile.TemporaryDirectory() as place:
                count = len(list(mutants(driver_of(find(name)), Path(place))))
            print(f"\n## {name}\n")
            print("| left out | model | Unicorn | QEMU | the test that needs it |")
            print("|---|---|---|---|---|")
            for line in pool.map(row, [name] * (count + 1), range(-1, count)):
                print(line, flush=True)


if __name__ == "__main__":
    main()
