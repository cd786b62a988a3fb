"""The instructions of a processor that C has no words for, as each architecture lists them.

Most take nothing, or a word, or give one.  Those take a line each::

    class Instructions(ProcessorInstructions):
        write_tcr = write("msr tcr_el1, %0", "The shape of the tables.")

with the assembly, whose operand is %0, and what it does.  Others are methods with an intrinsic.
The model's MMU executes an instruction by its name: the assembly without the operand, or ``name``.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar, cast

from kernmem.hardware.simulation import SimulatedMmu
from kernmem.language import Component, intrinsic, usize

F = TypeVar("F", bound=Callable[..., Any])


class ProcessorInstructions(Component):
    """One method an instruction; the model's MMU executes it by the manual's name."""

    c_module = "virtual"

    def __init_subclass__(cls) -> None:
        for name, value in vars(cls).items():
            if isinstance(value, FunctionType):
                value.__name__, value.__qualname__ = name, f"{cls.__qualname__}.{name}"

    def _execute(self, instruction: str, operand: int = 0) -> int:
        mmu: SimulatedMmu = cast("_Simulated", self.image.memory).mmu
        return mmu.execute(instruction, operand)


def instruction(
    assembly: str, what: str, *, name: str | None = None, host: str = ""
) -> Callable[[Any], None]:
    """An instruction whose operand, if it has one, is 0; ``host`` is what the host does instead."""
    model_name = name or _name(assembly)

    def execute(self: ProcessorInstructions) -> None:
        self._execute(model_name)

    operand = ':: "r"(0) : "memory"' if "%0" in assembly else '::: "memory"'
    return _listed(execute, what, f'__asm__ volatile("{assembly}" {operand});', host)


def write(
    assembly: str, what: str, *, name: str | None = None, host: str = "(void)value;"
) -> Callable[[Any, usize], None]:
    """An instruction with one operand, which ``host`` calls ``value``."""
    model_name = name or _name(assembly)

    def execute_with(self: ProcessorInstructions, value: usize) -> None:
        self._execute(model_name, int(value))

    text = f'__asm__ volatile("{assembly}" :: "r"(value) : "memory");'
    return _listed(execute_with, what, text, host)


def read(
    assembly: str, what: str, *, name: str | None = None, host: str = "return 0;"
) -> Callable[[Any], usize]:
    """An instruction that gives a word."""
    model_name = name or _name(assembly)

    def result(self: ProcessorInstructions) -> usize:
        return usize(self._execute(model_name))

    text = f'size_t value;\n__asm__ volatile("{assembly}" : "=r"(value));\nreturn value;'
    return _listed(result, what, text, host)


def _name(assembly: str) -> str:
    if "%0" not in assembly:
        return assembly
    return " ".join(assembly.replace("%0", " ").replace(",", " ").split())


def _listed(method: F, what: str, text: str, host: str) -> F:
    method.__doc__ = what
    return intrinsic(c=text, host=host)(method)


class _Simulated:
    """The memory of the model machine, which has an MMU."""

    mmu: SimulatedMmu
