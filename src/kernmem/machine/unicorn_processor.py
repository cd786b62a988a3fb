"""A processor from the unicorn wheel, as the machine around it sees every one of them.

Unicorn is QEMU's processor without its boards.  It translates addresses by the guest's own
tables, but never enters an exception: it calls a hook, which must do what the processor would
have done.  What that is differs between instruction sets, and so do calling conventions: each
has a :class:`Processor` of its own, and :func:`make_processor` knows them all.
"""

from __future__ import annotations

import ctypes
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from unicorn import UC_PROT_EXEC, UC_PROT_READ, UC_PROT_WRITE
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


class Processor(ABC):
    """One core.

    Attributes:
        uc: the engine, for memory and hooks.
        instruction_bytes: the length of every instruction; 0 if they differ.
    """

    uc: Any  # the wheel is typed in part only
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

    @abstractmethod
    def prepare_call(self, words: tuple[int, ...], stack: int, done: int, store: Store) -> None:
        """Be about to enter a function with these arguments, which returns to ``done``."""

    @abstractmethod
    def result(self) -> int:
        """What the function returned."""

    @abstractmethod
    def printf_arguments(self, load: Load) -> Iterator[int]:
        """On entry to a variadic function: the words of its arguments, the format first."""

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
        from kernmem.machine.unicorn_arm import ArmCpu

        return ArmCpu(hardware.boot.arguments)
    from kernmem.machine.unicorn_cpu import Cpu

    return Cpu(hardware.boot.entry_level, hardware.boot.arguments)
