"""What the two Arm processors from the unicorn wheel have in common: exceptions, semihosting."""

from __future__ import annotations

import ctypes
import struct
from abc import abstractmethod
from functools import lru_cache
from typing import ClassVar, NamedTuple

from unicorn import UC_PROT_EXEC
from unicorn.unicorn_py3.unicorn import uclib

from kernmem.machine.errors import MachineError
from kernmem.machine.unicorn_processor import Load, Processor

UNDEFINED, SUPERVISOR_CALL, PREFETCH_ABORT, DATA_ABORT = 1, 2, 3, 4
"""Numbers of the exceptions, as the hook gets them (QEMU's target/arm/cpu.h)."""

SYS_EXIT_EXTENDED = 0x20
"""Semihosting (Arm IHI 0088): a reason and a status follow."""


class DebuggerCall(NamedTuple):
    """The instruction that calls the debugger, and how it shows.

    Attributes:
        instruction: the word that it is.
        number: of the exception that Unicorn takes it for.
        distance: how far the program counter is past it in the hook.
    """

    instruction: int
    number: int
    distance: int


class PendingException(NamedTuple):
    """What an exception that is being raised is about.

    Attributes:
        syndrome: as ESR_EL1 will hold it.
        status: as DFSR or IFSR will.
        address: as FAR_EL1, DFAR or IFAR will.
    """

    syndrome: int
    status: int
    address: int


class ArmProcessor(Processor):
    """A core whose exceptions show in a saved context only."""

    instruction_bytes = 4
    debugger_call: ClassVar[DebuggerCall]

    @classmethod
    @abstractmethod
    def find_exception(cls) -> int:
        """Where a saved context holds a :class:`PendingException`: u32, u32, u64."""

    def exception(self) -> PendingException:
        """In a hook: the exception that is being raised."""
        context = self.uc.context_save()
        place = context.context.value + _exception_offset(type(self))
        return PendingException(*struct.unpack("<IIQ", ctypes.string_at(place, 16)))

    def instruction(self, address: int) -> int:
        """The instruction at ``address``; 0 if it cannot be fetched."""
        word = ctypes.c_uint32()
        if uclib.uc_vmem_read(self.uc._uch, address, UC_PROT_EXEC, ctypes.byref(word), 4):
            return 0
        return word.value

    def exit_status(self, number: int, load: Load) -> int | None:
        """The status of a semihosting call: an operation, and its block of reason and status."""
        call = self.debugger_call
        if number != call.number or self.instruction(self.pc - call.distance) != call.instruction:
            return None
        operation, block = (int(self.uc.reg_read(each)) for each in self.convention.arguments[:2])
        if operation != SYS_EXIT_EXTENDED:
            raise MachineError(f"semihosting operation {operation:#x} is not provided")
        word_bytes = self.convention.word_bytes
        return int.from_bytes(load(block + word_bytes, word_bytes), "little")


@lru_cache(maxsize=2)
def _exception_offset(kind: type[ArmProcessor]) -> int:
    return kind.find_exception()
