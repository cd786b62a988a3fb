"""An ARMv7-A processor from the unicorn wheel, entered in supervisor mode."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, cast

from unicorn import UC_ARCH_ARM, UC_HOOK_INSN_INVALID, UC_MODE_ARM
from unicorn import arm_const as arm
from unicorn.unicorn_py3.unicorn import Uc

from kernmem.hardware.armv7.syndrome import page_fault
from kernmem.language import KernmemError
from kernmem.machine.errors import MachineError
from kernmem.machine.unicorn_arm import (
    DATA_ABORT,
    PREFETCH_ABORT,
    SUPERVISOR_CALL,
    UNDEFINED,
    ArmProcessor,
    DebuggerCall,
)
from kernmem.machine.unicorn_processor import Convention, context_at_fault, only_place

# Registers of coprocessor 15: (opc1, CRn, CRm, opc2).
SCTLR = (0, 1, 0, 0)
TTBR0 = (0, 2, 0, 0)
TTBCR = (0, 2, 0, 2)
DACR = (0, 3, 0, 0)
DFSR, IFSR = (0, 5, 0, 0), (0, 5, 0, 1)
DFAR, IFAR = (0, 6, 0, 0), (0, 6, 0, 2)
VBAR = (0, 12, 0, 0)
CONTEXTIDR = (0, 13, 0, 1)

MASKED = 0x1C0  # CPSR: A, I and F, no interrupts
USER, SUPERVISOR, ABORT, UNDEFINED_MODE = 0x10, 0x13, 0x17, 0x1B

ENTRIES = {
    UNDEFINED: (UNDEFINED_MODE, 0x04, 4),
    SUPERVISOR_CALL: (SUPERVISOR, 0x08, 0),  # the program counter is past it already
    PREFETCH_ABORT: (ABORT, 0x0C, 4),
    DATA_ABORT: (ABORT, 0x10, 8),
}
"""How an exception is entered (DDI 0406, B1.8.3): mode, vector, LR less the program counter."""

ARGUMENTS = tuple(arm.UC_ARM_REG_R0 + number for number in range(4))


class Armv7Cpu(ArmProcessor):
    """A Cortex-A15."""

    convention = Convention(  # AAPCS32
        ARGUMENTS, ARGUMENTS[:2], arm.UC_ARM_REG_SP, arm.UC_ARM_REG_LR, word_bytes=4
    )
    debugger_call = DebuggerCall(0xEF12_3456, SUPERVISOR_CALL, distance=4)  # svc 0x123456

    def __init__(self, arguments: tuple[int, ...] = ()) -> None:
        # Any: the wheel is typed in part only.
        self.uc: Any = cast(Any, Uc)(UC_ARCH_ARM, UC_MODE_ARM)
        self.uc.ctl_set_cpu_model(arm.UC_CPU_ARM_CORTEX_A15)
        self._arguments = arguments
        self._reset = self.uc.context_save()

    def start(self, entry: int) -> int:
        """In supervisor mode; what the firmware passes in r0 to r3."""
        self.uc.context_restore(self._reset)
        self.uc.reg_write(arm.UC_ARM_REG_CPSR, MASKED | SUPERVISOR)
        self.set_arguments(self._arguments)
        return entry

    def install(
        self,
        exception: Callable[[Any, int, Any], None],
        put: Callable[[str], None],
        leave: Callable[[int], None],
    ) -> None:
        """Undefined instructions come by a hook of their own."""

        def undefined(engine: Any, _: Any) -> bool:
            exception(engine, UNDEFINED, None)
            return True

        self.uc.hook_add(UC_HOOK_INSN_INVALID, undefined)

    def read_system(self, register: tuple[int, ...]) -> int:
        """A register of coprocessor 15, of the two copies the one that is not secure."""
        opc1, crn, crm, opc2 = register
        name = (15, 0, 0, crn, crm, opc1, opc2)
        return int(self.uc.reg_read(arm.UC_ARM_REG_CP_REG, name))

    def write_system(self, register: tuple[int, ...], value: int) -> None:
        """Set a register of coprocessor 15."""
        opc1, crn, crm, opc2 = register
        self.uc.reg_write(arm.UC_ARM_REG_CP_REG, (15, 0, 0, crn, crm, opc1, opc2, value))

    @property
    def pc(self) -> int:
        """The address of the current instruction."""
        return int(self.uc.reg_read(arm.UC_ARM_REG_PC))

    def mmu_registers(self) -> dict[str, int]:
        """The registers that rule the translation, by the manual's name."""
        return {
            "sctlr": self.read_system(SCTLR),
            "ttbcr": self.read_system(TTBCR),
            "ttbr0": self.read_system(TTBR0),
            "dacr": self.read_system(DACR),
            "contextidr": self.read_system(CONTEXTIDR),
        }

    # Exceptions ----------------------------------------------------------------------------

    @classmethod
    def find_exception(cls) -> int:
        """By a known fault: translation fault, level 1."""
        code, table, address = 0x1_0000, 0x1_4000, 0x5A5A_1230
        cpu = cls()
        cpu.uc.mem_map(code, 0x8000)
        cpu.uc.mem_write(code, struct.pack("<I", 0xE590_1000))  # ldr r1, [r0]
        cpu.uc.mem_write(table, struct.pack("<I", 0xC02))  # the first MiB is itself, domain 0
        cpu.start(code)
        cpu.write_system(TTBR0, table)
        cpu.write_system(DACR, 1)
        cpu.write_system(SCTLR, 0x00C5_0079)
        cpu.set_arguments((address,))
        status_and_address = context_at_fault(cpu.uc, code)[4:]
        return only_place((status_and_address,), (struct.pack("<IQ", 0x005, address),))

    def exception_error(self, number: int) -> KernmemError:
        """A page fault, or what it is."""
        if number not in (PREFETCH_ABORT, DATA_ABORT):
            return MachineError(f"exception {number} at {self.pc:#x}")
        _, status, address = self.exception()
        return page_fault(status, address, fetch=number == PREFETCH_ABORT)

    def enter_exception(self, number: int) -> None:
        """In a hook: do what the processor does on an exception (DDI 0406, B1.8.3)."""
        if number not in ENTRIES:
            raise MachineError(f"exception {number} at {self.pc:#x} is not provided")
        mode, vector, distance = ENTRIES[number]
        start, state = self.pc, int(self.uc.reg_read(arm.UC_ARM_REG_CPSR))
        if number in (PREFETCH_ABORT, DATA_ABORT):
            _, status, address = self.exception()
            fetch = number == PREFETCH_ABORT
            self.write_system(IFSR if fetch else DFSR, status)
            self.write_system(IFAR if fetch else DFAR, address)
        self.uc.reg_write(arm.UC_ARM_REG_CPSR, MASKED | mode)
        self.uc.reg_write(arm.UC_ARM_REG_SPSR, state)
        self.uc.reg_write(arm.UC_ARM_REG_LR, start + distance)
        self.uc.reg_write(arm.UC_ARM_REG_PC, self.read_system(VBAR) + vector)
