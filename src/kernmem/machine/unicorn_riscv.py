"""A 64-bit RISC-V processor from the unicorn wheel, entered as OpenSBI or reset does it.

When the hook for exceptions is called, the program counter is 4 past the instruction, however
long that is; and registers of the machine's privilege can be seen only while that is current.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, cast

from unicorn import UC_ARCH_RISCV, UC_MODE_RISCV64
from unicorn import riscv_const as riscv
from unicorn.unicorn_py3.unicorn import Uc

from kernmem.language import KernmemError, PageFault
from kernmem.machine.errors import MachineError
from kernmem.machine.unicorn_processor import (
    Convention,
    Load,
    Processor,
    context_at_fault,
    only_place,
)

SUPERVISOR, MACHINE = 1, 3
CALL = 8  # the cause of an environment call from user mode; plus the privilege, from others
PAGE_FAULTS = {12: "execute", 13: "read", 15: "write"}
ACCESS_FAULTS = {1: "execute", 5: "read", 7: "write"}
WITH_ADDRESS = {*PAGE_FAULTS, *ACCESS_FAULTS, 0, 4, 6}
"""The causes that leave an address in stval."""

ARGUMENTS = tuple(riscv.UC_RISCV_REG_X10 + number for number in range(8))


class RiscvCpu(Processor):
    """One hart, entered in supervisor or machine mode."""

    convention = Convention(  # the RISC-V ELF psABI
        ARGUMENTS, ARGUMENTS[:1], riscv.UC_RISCV_REG_SP, riscv.UC_RISCV_REG_RA
    )
    instruction_bytes = 0

    def __init__(self, level: int, arguments: tuple[int, ...] = ()) -> None:
        self.uc: Any = cast(Any, Uc)(UC_ARCH_RISCV, UC_MODE_RISCV64)
        self._level = level
        self._arguments = arguments
        self._reset = self.uc.context_save()

    def start(self, entry: int) -> int:
        """Enter the image's first instruction in the mode of the firmware."""
        self.uc.context_restore(self._reset)
        self.set_arguments(self._arguments)
        self.uc.reg_write(riscv.UC_RISCV_REG_PRIV, self._level)
        return entry

    @property
    def pc(self) -> int:
        """The address of the current instruction; in the hook, 4 more."""
        return int(self.uc.reg_read(riscv.UC_RISCV_REG_PC))

    @contextmanager
    def as_machine(self) -> Iterator[int]:
        """While all registers can be seen; gives the privilege that is current otherwise."""
        privilege = int(self.uc.reg_read(riscv.UC_RISCV_REG_PRIV))
        self.uc.reg_write(riscv.UC_RISCV_REG_PRIV, MACHINE)
        try:
            yield privilege
        finally:
            self.uc.reg_write(riscv.UC_RISCV_REG_PRIV, privilege)

    def mmu_registers(self) -> dict[str, int]:
        """The registers that rule the translation, by the manual's name."""
        with self.as_machine():
            return {
                "satp": int(self.uc.reg_read(riscv.UC_RISCV_REG_SATP)),
                "sstatus": int(self.uc.reg_read(riscv.UC_RISCV_REG_SSTATUS)),
            }

    # Exceptions ----------------------------------------------------------------------------

    def exit_status(self, number: int, load: Load) -> int | None:
        """No exception ends the kernel: the test finisher does, which is a device."""
        return None

    def fault_address(self) -> int:
        """In a hook: the address that the exception is about."""
        context = self.uc.context_save()
        place = context.context.value + fault_address_offset()
        return ctypes.c_uint64.from_address(place).value

    def exception_error(self, number: int) -> KernmemError:
        """A page fault, or what it is."""
        for kind, causes in (("page fault", PAGE_FAULTS), ("access fault", ACCESS_FAULTS)):
            if number in causes:
                return PageFault(self.fault_address(), causes[number], kind, number)
        return MachineError(f"exception at {self.pc - 4:#x} with cause {number}")

    def enter_exception(self, number: int) -> None:
        """What the hart does on a trap (Priv, "Trap Entry"): to supervisor mode, unless from above.

        OpenSBI delegates page faults, and hands on what it does not delegate or serve itself.
        """
        address = self.fault_address() if number in WITH_ADDRESS else 0
        write, read = self.uc.reg_write, self.uc.reg_read
        start = self.pc - 4
        with self.as_machine() as privilege:
            cause = CALL + privilege if number == CALL else number
            status = read(riscv.UC_RISCV_REG_MSTATUS)
            if privilege == MACHINE:
                enabled = status >> 3 & 1  # MIE goes to MPIE, the privilege to MPP
                status = status & ~(0b11 << 11 | 1 << 7 | 1 << 3) | MACHINE << 11 | enabled << 7
                saved = (riscv.UC_RISCV_REG_MCAUSE, riscv.UC_RISCV_REG_MEPC,
                         riscv.UC_RISCV_REG_MTVAL, riscv.UC_RISCV_REG_MTVEC)  # fmt: skip
            else:
                enabled = status >> 1 & 1  # SIE goes to SPIE, the privilege to SPP
                status = status & ~(1 << 8 | 1 << 5 | 1 << 1) | privilege << 8 | enabled << 5
                saved = (riscv.UC_RISCV_REG_SCAUSE, riscv.UC_RISCV_REG_SEPC,
                         riscv.UC_RISCV_REG_STVAL, riscv.UC_RISCV_REG_STVEC)  # fmt: skip
            for register, value in zip(saved[:3], (cause, start, address), strict=True):
                write(register, value)
            write(riscv.UC_RISCV_REG_MSTATUS, status)
            vector = read(saved[3]) & ~0b11
        write(riscv.UC_RISCV_REG_PRIV, max(privilege, SUPERVISOR))
        write(riscv.UC_RISCV_REG_PC, vector)


@lru_cache(maxsize=1)
def fault_address_offset() -> int:
    """Where a saved context holds the address that an exception is about: by a known fault."""
    code, table, address = 0x8000_0000, 0x8000_1000, 0x1_2345_6708
    uc: Any = cast(Any, Uc)(UC_ARCH_RISCV, UC_MODE_RISCV64)
    uc.mem_map(code, 0x2000)
    uc.mem_write(code, struct.pack("<I", 0x0085_3583))  # ld a1, 8(a0)
    uc.mem_write(table + 8 * 2, struct.pack("<Q", 0x8000_0000 >> 2 | 0xCF))  # the third gigabyte
    uc.reg_write(riscv.UC_RISCV_REG_SATP, 8 << 60 | table >> 12)
    uc.reg_write(riscv.UC_RISCV_REG_PRIV, SUPERVISOR)
    uc.reg_write(riscv.UC_RISCV_REG_A0, address - 8)
    return only_place((context_at_fault(uc, code),), (address.to_bytes(8, "little"),))
