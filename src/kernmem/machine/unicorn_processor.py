"""A processor from the unicorn wheel, as the machine around it sees every one of them.

Unicorn is QEMU's processor without its boards.  It translates addresses by the guest's own
tables, but never enters an exception: it calls a hook, which must do what the processor would
have done.  What that is differs between instruction sets, and so do calling conventions: each
has a :class:`Processor` of its own, and :func:`make_processor` knows them all.
"""

from __future__ import annotations

import ctypes
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

from unicorn import UC_HOOK_INTR, UC_PROT_EXEC, UC_PROT_READ, UC_PROT_WRITE
from unicorn.unicorn_py3.unicorn import uclib

from kernmem.hardware import HardwareDescription
from kernmem.language import KernmemError, PageFault

Load = Callable[[int, int], bytes]
"""Loads a number of bytes at a virtual address."""
Store = Callable[[int, bytes], None]
"""Stores bytes at a virtual address."""

uclib.uc_vmem_read.restype = ctypes.c_int
uclib.uc_vmem_read.argtypes = [
    ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t
]  # fmt: skip
uclib.uc_vmem_translate.restype = ctypes.c_int
uclib.uc_vmem_translate.argtypes = [
    ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int, ctypes.POINTER(ctypes.c_uint64)
]  # fmt: skip


class Convention(NamedTuple):
    """How functions are called; registers by Unicorn's numbers.

    Attributes:
        arguments: the registers of the first words; all others go on the stack.
        result: those of a result, the lowest word first.
        stack: the stack pointer.
        link: where the return address goes; None: on the stack.
        word_bytes: the length of a register.
    """

    arguments: tuple[int, ...]
    result: tuple[int, ...]
    stack: int
    link: int | None
    word_bytes: int = 8


STACK_ALIGNMENT = 16
"""Of the stack pointer at a call; no convention asks for more."""


class Processor(ABC):
    """One core.

    Attributes:
        uc: the engine, for memory and hooks.
        convention: how C is called.
        instruction_bytes: the length of every instruction; 0 if they differ.
    """

    uc: Any  # the wheel is typed in part only
    convention: ClassVar[Convention]
    instruction_bytes: ClassVar[int]

    @abstractmethod
    def start(self, entry: int) -> int:
        """Be as firmware leaves the processor; the address of the first instruction."""

    @property
    @abstractmethod
    def pc(self) -> int:
        """The address of the current instruction."""

    @abstractmethod
    def mmu_registers(self) -> dict[str, int]:
        """The registers that rule the translation, by the manual's name."""

    def install(
        self,
        exception: Callable[[Any, int, Any], None],
        put: Callable[[str], None],
        leave: Callable[[int], None],
    ) -> None:
        """Add what hooks this processor needs besides that for exceptions.

        ``exception`` is that hook, ``put`` writes to the console, ``leave`` ends the kernel.
        """
        return

    # Memory as the running code sees it ----------------------------------------------------

    def translate(self, address: int, access: str) -> int:
        """The physical address behind a virtual one; PageFault if ``access`` is refused."""
        protection = {"read": UC_PROT_READ, "write": UC_PROT_WRITE, "execute": UC_PROT_EXEC}
        physical = ctypes.c_uint64()
        if uclib.uc_vmem_translate(
            self.uc._uch, address, protection[access], ctypes.byref(physical)
        ):
            raise PageFault(address, access, "refused by the MMU")
        return physical.value

    # Calls ---------------------------------------------------------------------------------

    def set_arguments(self, words: tuple[int, ...]) -> None:
        """Set the registers of arguments; those beyond ``words`` are 0."""
        registers = self.convention.arguments
        for register, word in zip(registers, (*words, *(0,) * len(registers)), strict=False):
            self.uc.reg_write(register, word)

    def prepare_call(self, words: tuple[int, ...], stack: int, done: int, store: Store) -> None:
        """Be about to enter a function with these arguments, which returns to ``done``."""
        convention = self.convention
        self.set_arguments(words)
        beyond = words[len(convention.arguments) :]
        data = b"".join(word.to_bytes(convention.word_bytes, "little") for word in beyond)
        stack -= len(data) + -len(data) % STACK_ALIGNMENT
        if convention.link is None:
            stack -= convention.word_bytes
            data = done.to_bytes(convention.word_bytes, "little") + data
        else:
            self.uc.reg_write(convention.link, done)
        if data:
            store(stack, data)
        self.uc.reg_write(convention.stack, stack)

    def result(self) -> int:
        """What the function returned."""
        bits = 8 * self.convention.word_bytes
        words = (int(self.uc.reg_read(register)) for register in self.convention.result)
        return sum(word << bits * index for index, word in enumerate(words))

    def printf_arguments(self, load: Load) -> Iterator[int]:
        """On entry to a variadic function: the words of its arguments, the format first."""
        convention = self.convention
        for register in convention.arguments:
            yield int(self.uc.reg_read(register))
        slot = int(self.uc.reg_read(convention.stack))
        if convention.link is None:
            slot += convention.word_bytes  # past the return address
        while True:
            yield int.from_bytes(load(slot, convention.word_bytes), "little")
            slot += convention.word_bytes

    # Exceptions ----------------------------------------------------------------------------

    @abstractmethod
    def exit_status(self, number: int, load: Load) -> int | None:
        """In a hook: the status with which the kernel leaves the machine, if that is meant."""

    @abstractmethod
    def exception_error(self, number: int) -> KernmemError:
        """In a hook: the exception that is being raised, as a Python exception."""

    @abstractmethod
    def enter_exception(self, number: int) -> None:
        """In a hook: do what the processor does on an exception."""


def make_processor(hardware: HardwareDescription) -> Processor:
    """The processor of a hardware.  They are imported here: each has a wheel's worth of names."""
    if hardware.target.isa == "x86_64":
        from kernmem.machine.unicorn_x86 import X86Cpu

        return X86Cpu()
    if hardware.target.isa == "riscv64":
        from kernmem.machine.unicorn_riscv import RiscvCpu

        return RiscvCpu(hardware.boot.entry_level, hardware.boot.arguments)
    if hardware.target.isa == "armv7":
        from kernmem.machine.unicorn_armv7 import Armv7Cpu

        return Armv7Cpu(hardware.boot.arguments)
    from kernmem.machine.unicorn_aarch64 import Aarch64Cpu

    return Aarch64Cpu(hardware.boot.entry_level, hardware.boot.arguments)


# What no register shows ------------------------------------------------------------------------


def saved_context(uc: Any) -> bytes:
    """All of a processor's state, in the wheel's own form."""
    context = uc.context_save()
    return ctypes.string_at(context.context.value, context.size)


def context_at_fault(uc: Any, start: int) -> bytes:
    """The saved context of a scratch processor at the fault that its first instruction makes."""
    at: list[bytes] = []

    def stop(engine: Any, _number: int, _: Any) -> None:
        at.append(saved_context(engine))
        engine.emu_stop()

    uc.hook_add(UC_HOOK_INTR, stop)
    uc.emu_start(start, 0, count=2)
    return at[0]


def only_place(contexts: Sequence[bytes], values: Sequence[bytes]) -> int:
    """The one offset at which each of the contexts holds its value.

    What a fault is about can be seen only in a saved context, at a place that differs between
    versions of the wheel.  So known faults are made, and what is known of them is looked for.
    """
    found = [
        place
        for place in range(0, len(contexts[0]), 4)
        if all(
            context.startswith(value, place)
            for context, value in zip(contexts, values, strict=True)
        )
    ]
    if len(found) != 1:
        raise RuntimeError(
            f"this version of unicorn does not show its faults ({len(found)} places found): "
            "install unicorn 2.1.4"
        )
    return found[0]
