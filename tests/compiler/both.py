"""Run kernel code both ways, interpreted and compiled, over the same memory at the same addresses.

``Both(Kernel)`` puts a component together twice.  ``both.run("api", 1, 2)`` calls an API on each
and returns what happened, after checking that it was the same: the result or the panic, the
console, and every byte of memory.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernmem.compiler import Program, Reference, compile_component, emit_c
from kernmem.compiler.c_types import type_name
from kernmem.compiler.types import Boolean, Enumeration, Nothing, Number
from kernmem.language import Component, Image, KernelPanic, Target, VirtualAddress

BASE = 0x20_0000_0000  # not the lab's: the host machine may run in this process too
SIZE = 0x1_0000
STATICS = BASE + SIZE // 2
STACK = BASE + SIZE
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wsign-conversion", "-Wshadow"]
FREESTANDING = ["-std=c11", "-ffreestanding"]

RUNTIME = r"""
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

static jmp_buf kernmem_recovery;
char kernmem_text[65536];
static size_t kernmem_written;

void kernmem_print(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    kernmem_written += (size_t)vsnprintf(kernmem_text + kernmem_written,
        sizeof kernmem_text - kernmem_written, format, values);
    va_end(values);
}

_Noreturn void kernmem_panic(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    vsnprintf(kernmem_text, sizeof kernmem_text, format, values);
    va_end(values);
    longjmp(kernmem_recovery, 1);
}
"""


class ByteMemory:
    """Memory for the interpreter: bytes from BASE."""

    def __init__(self) -> None:
        self.bytes = bytearray(SIZE)

    def loader(self, size: int) -> Callable[[int], int]:
        def load(address: int) -> int:
            at = int(address) - BASE
            assert 0 <= at <= SIZE - size, f"load outside the memory: {int(address):#x}"
            return int.from_bytes(self.bytes[at : at + size], "little")

        return load

    def storer(self, size: int) -> Callable[[int, int], None]:
        def store(address: int, value: int) -> None:
            at = int(address) - BASE
            assert 0 <= at <= SIZE - size, f"store outside the memory: {int(address):#x}"
            self.bytes[at : at + size] = int(value).to_bytes(size, "little")

        return store

    def zero(self, address: int, length: int) -> None:
        assert address % 8 == length % 8 == 0
        self.bytes[address - BASE : address - BASE + length] = bytes(length)


@dataclass(frozen=True)
class Outcome:
    """What a call did; ``panic`` is its message, or ``result`` is what it returned."""

    result: int | None
    panic: str | None
    console: str
    memory: bytes


def mapped() -> Any:
    """The memory of the compiled kernel: a mapping at BASE."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    read_write, private_anonymous_no_replace = 3, 0x2 | 0x20 | 0x10_0000
    found = libc.mmap(BASE, SIZE, read_write, private_anonymous_no_replace, -1, 0)
    assert found == BASE, "the test's memory must lie at the interpreter's addresses"
    return (ctypes.c_char * SIZE).from_address(BASE)


_memory: list[Any] = []


def machine_memory() -> Any:
    """The one mapping of this process."""
    if not _memory:
        _memory.append(mapped())
    return _memory[0]


def thunk(program: Program, name: str) -> str:
    """A C function that calls an API with words and catches its panic."""
    function = program[name]
    arguments = []
    for index, parameter in enumerate(function.parameters):
        cast = "(uintptr_t)" if isinstance(parameter.type, Reference) else ""
        arguments.append(f"({type_name(parameter.type)}){cast}words[{index}]")
    call = f"{name}({', '.join(arguments)})"
    if not isinstance(function.result, Nothing):
        cast = "(uintptr_t)" if isinstance(function.result, Reference) else ""
        call = f"*result = (uint64_t){cast}{call}"
    return f"""
int run_{name}(const uint64_t *words, uint64_t *result)
{{
    (void)words; (void)result;
    kernmem_written = 0;
    kernmem_text[0] = 0;
    if (setjmp(kernmem_recovery) != 0)
        return 1;
    {call};
    return 0;
}}
"""


def build(program: Program, *, checked: bool, flags: list[str] = [], compiler: str = "gcc") -> Any:  # noqa: B006
    """Compile a program to a shared object and load it."""
    directory = Path(tempfile.mkdtemp(prefix="kernmem-test-"))
    files = emit_c(program, checked=checked, amalgamate=True)
    for name, text in files.items():
        (directory / name).write_text(text)
    thunks = "".join(thunk(program, function.c_name) for function in program.apis)
    (directory / "run.c").write_text('#include "kernmem.h"\n' + RUNTIME + thunks)
    command = [
        compiler,
        "-shared",
        "-fPIC",
        "-Wl,-Bsymbolic",
        "-std=c11",
        "-O1",
        *flags,
        "-o",
        "kernel.so",
    ]
    subprocess.run([*command, "kernmem.c", "run.c"], cwd=directory, check=True)
    return ctypes.CDLL(str(directory / "kernel.so"))


class Both:
    """A kernel, interpreted and compiled: checked, and without checks."""

    def __init__(self, make: Callable[[Image], Component], flags: list[str] | None = None) -> None:
        target = Target("host", 8)
        self.memory = ByteMemory()
        image = Image(target, self.memory, STATICS)
        image.stack_pointer = STACK
        self.console = ""
        image.console = self._print
        self.component = make(image)
        self.program = compile_component(make(Image(target, None, STATICS)))
        flags = [*WARNINGS] if flags is None else flags
        self.checked = build(self.program, checked=True, flags=flags)
        self.plain = build(self.program, checked=False, flags=flags)

    def _print(self, text: str) -> None:
        self.console += text

    def run(self, name: str, *arguments: int, memory: bytes = b"") -> Outcome:
        """Call an API both ways, on memory that begins with ``memory``, and compare."""
        start = memory.ljust(SIZE, b"\0")
        interpreted = self.interpret(name, arguments, start)
        checked = self.native(self.checked, name, arguments, start)
        assert checked == interpreted, f"checked C differs in {name}{arguments}"
        is_arithmetic = self.overflowed
        if not is_arithmetic:
            plain = self.native(self.plain, name, arguments, start)
            assert plain == interpreted, f"plain C differs in {name}{arguments}"
        return interpreted

    def interpret(self, name: str, arguments: tuple[int, ...], memory: bytes) -> Outcome:
        """Call an API in Python."""
        self.memory.bytes[:] = memory
        self.console = ""
        self.overflowed = False
        function = self.program[name]
        values = [
            self._value(parameter.type, argument)
            for parameter, argument in zip(function.parameters, arguments, strict=True)
        ]
        method: Any = getattr(self.component, name)
        try:
            result = method(*values)
        except (KernelPanic, AssertionError) as panic:
            self.overflowed = type(panic) is not KernelPanic and isinstance(panic, KernelPanic)
            self.overflowed |= str(panic).startswith("index ")
            self.component.image.stack_pointer = STACK
            return Outcome(None, str(panic), "", bytes(self.memory.bytes[: SIZE // 2]))
        number = 0 if result is None else int(result)
        return Outcome(number, None, self.console, bytes(self.memory.bytes[: SIZE // 2]))

    def _value(self, kind: Any, argument: int) -> Any:
        """A word as the value of a parameter."""
        match kind:
            case Number():
                return None if kind.is_address and argument == 0 else kind.kind(argument)
            case Boolean():
                return bool(argument)
            case Enumeration():
                return kind.cls(argument)
            case Reference():
                address = VirtualAddress(argument)
                return self.component.at(kind.struct, address) if argument else None
        raise TypeError(f"no values of {kind}")

    def native(self, library: Any, name: str, arguments: tuple[int, ...], memory: bytes) -> Outcome:
        """Call an API in C."""
        mapping = machine_memory()
        ctypes.memmove(mapping, memory, SIZE)
        words = (ctypes.c_uint64 * max(len(arguments), 1))(*arguments)
        result = ctypes.c_uint64(0)
        panicked = getattr(library, f"run_{name}")(words, ctypes.byref(result))
        text = (ctypes.c_char * 65536).in_dll(library, "kernmem_text").value.decode()
        after = ctypes.string_at(BASE, SIZE // 2)
        if panicked:
            return Outcome(None, re.sub(r"^\S+\.py:\d+: ", "", text), "", after)
        return Outcome(result.value, None, text, after)
