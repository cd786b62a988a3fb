"""An ARMv7-A processor from the unicorn wheel, entered in supervisor mode."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, cast

from unicorn import UC_ARCH_ARM, UC_HOOK_INSN_INVALID, UC_HOOK_INTR, UC_MODE_ARM, UC_PROT_EXEC
from unicorn import arm_const as arm
from unicorn.unicorn_py3.unicorn import Uc, uclib

from kernmem.hardware.armv7.syndrome import page_fault
from kernmem.language import KernmemError, PageFault
from kernmem.machine.errors import MachineError
from kernmem.machine.unicorn_processor import Load, Processor, Store

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

UNDEFINED, SUPERVISOR_CALL, PREFETCH_ABORT, DATA_ABORT = 1, 2, 3, 4
"""Numbers of the exceptions, as the hook gets them (QEMU's target/arm/cpu.h)."""

ENTRIES = {
    UNDEFINED: (UNDEFINED_MODE, 0x04, 4),
    SUPERVISOR_CALL: (SUPERVISOR, 0x08, 0),  # the program counter is past it already
    PREFETCH_ABORT: (ABORT, 0x0C, 4),
    DATA_ABORT: (ABORT, 0x10, 8),
}
"""How an exception is entered (DDI 0406, B1.8.3): mode, vector, LR less the program counter."""

SEMIHOSTING = 0xEF12_3456
"""``svc 0x123456``: a call to the debugger."""

SYS_EXIT_EXTENDED = 0x20
"""Semihosting (Arm IHI 0088): a reason and a status follow."""

ARGUMENTS = tuple(arm.UC_ARM_REG_R0 + number for number in range(4))


class ArmCpu(Processor):
    """A Cortex-A15."""

    instruction_bytes = 4

    def __init__(self, arguments: tuple[int, ...] = ()) -> None:
        # Any: the wheel is typed in part only.
        self.uc: Any = cast(Any, Uc)(UC_ARCH_ARM, UC_MODE_ARM)
        self.uc.ctl_set_cpu_model(arm.UC_CPU_ARM_CORTEX_A15)
        self._arguments = (*arguments, *(0,) * (4 - len(arguments)))
        self._reset = self.uc.context_save()

    def start(self, entry: int) -> int:
        """In supervisor mode; what the firmware passes in r0 to r3."""
        self.uc.context_restore(self._reset)
        self.uc.reg_write(arm.UC_ARM_REG_CPSR, MASKED | SUPERVISOR)
        for register, word in zip(ARGUMENTS, self._arguments, strict=True):
            self.uc.reg_write(register, word)
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

    def instruction(self, address: int) -> int:
        """The instruction at ``address``; 0 if it cannot be fetched."""
        word = ctypes.c_uint32()
        if uclib.uc_vmem_read(self.uc._uch, address, UC_PROT_EXEC, ctypes.byref(word), 4):
            return 0
        return word.value

    # Calls (AAPCS32) -----------------------------------------------------------------------

    def prepare_call(self, words: tuple[int, ...], stack: int, done: int, store: Store) -> None:
        """Arguments in r0 to r3, then on the stack; the return address in lr."""
        for register, word in zip(ARGUMENTS, words, strict=False):
            self.uc.reg_write(register, word)
        beyond = words[len(ARGUMENTS) :]
        if beyond:
            stack -= -(-4 * len(beyond) // 8) * 8
            store(stack, struct.pack(f"<{len(beyond)}I", *beyond))
        self.uc.reg_write(arm.UC_ARM_REG_SP, stack)
        self.uc.reg_write(arm.UC_ARM_REG_LR, done)

    def result(self) -> int:
        """In r0, and r1 if it is longer."""
        low, high = (int(self.uc.reg_read(register)) for register in ARGUMENTS[:2])
        return high << 32 | low

    def printf_arguments(self, load: Load) -> Iterator[int]:
        """In r0 to r3, then on the stack."""
        for register in ARGUMENTS:
            yield int(self.uc.reg_read(register))
        stack = int(self.uc.reg_read(arm.UC_ARM_REG_SP))
        for slot in range(stack, stack + 0x1000, 4):
            yield int.from_bytes(load(slot, 4), "little")

    # Exceptions ----------------------------------------------------------------------------

    def exception(self) -> tuple[int, int]:
        """In a hook: the fault status and the address of the abort that is being raised."""
        context = self.uc.context_save()
        place = context.context.value + exception_offset()
        status, address = struct.unpack("<IQ", ctypes.string_at(place, 12))
        return status, address

    def exit_status(self, number: int, load: Load) -> int | None:
        """The status of the semihosting call: r0 the operation, r1 its block (reason, status)."""
        if number != SUPERVISOR_CALL or self.instruction(self.pc - 4) != SEMIHOSTING:
            return None
        operation = self.uc.reg_read(arm.UC_ARM_REG_R0)
        if operation != SYS_EXIT_EXTENDED:
            raise MachineError(f"semihosting operation {operation:#x} is not provided")
        status: int = struct.unpack("<II", load(self.uc.reg_read(arm.UC_ARM_REG_R1), 8))[1]
        return status

    def exception_error(self, number: int) -> KernmemError:
        """A page fault, or what it is."""
        if number in (PREFETCH_ABORT, DATA_ABORT):
            return self.page_fault(number)
        return MachineError(f"exception {number} at {self.pc:#x}")

    def page_fault(self, number: int) -> PageFault:
        """In a hook: the abort that is being raised, as a Python exception."""
        status, address = self.exception()
        return page_fault(status, address, fetch=number == PREFETCH_ABORT)

    def enter_exception(self, number: int) -> None:
        """In a hook: do what the processor does on an exception (DDI 0406, B1.8.3)."""
        if number not in ENTRIES:
            raise MachineError(f"exception {number} at {self.pc:#x} is not provided")
        mode, vector, distance = ENTRIES[number]
        start, state = self.pc, int(self.uc.reg_read(arm.UC_ARM_REG_CPSR))
        if number in (PREFETCH_ABORT, DATA_ABORT):
            status, address = self.exception()
            fetch = number == PREFETCH_ABORT
            self.write_system(IFSR if fetch else DFSR, status)
            self.write_system(IFAR if fetch else DFAR, address)
        self.uc.reg_write(arm.UC_ARM_REG_CPSR, MASKED | mode)
        self.uc.reg_write(arm.UC_ARM_REG_SPSR, state)
        self.uc.reg_write(arm.UC_ARM_REG_LR, start + distance)
        self.uc.reg_write(arm.UC_ARM_REG_PC, self.read_system(VBAR) + vector)


@lru_cache(maxsize=1)
def exception_offset() -> int:
    """Where a saved context holds the status (u32) and the address (u64) of an abort.

    No register shows them and the place differs between versions.  So one known fault is made
    on a scratch processor, and its status and address are looked for.
    """
    code, table, address = 0x1_0000, 0x1_4000, 0x5A5A_1230
    cpu = ArmCpu()
    cpu.uc.mem_map(code, 0x8000)
    cpu.uc.mem_write(code, struct.pack("<I", 0xE590_1000))  # ldr r1, [r0]
    cpu.uc.mem_write(table, struct.pack("<I", 0xC02))  # the first MiB is itself, domain 0
    cpu.start(code)
    cpu.write_system(TTBR0, table)
    cpu.write_system(DACR, 1)
    cpu.write_system(SCTLR, 0x00C5_0079)
    cpu.uc.reg_write(arm.UC_ARM_REG_R0, address)
    known = struct.pack("<IQ", 0x005, address)  # translation fault, level 1
    found: list[int] = []

    def search(uc: Any, number: int, _: Any) -> None:
        context = uc.context_save()
        data = ctypes.string_at(context.context.value, context.size)
        place = -1
        while (place := data.find(known, place + 1)) >= 0:
            found.append(place)
        uc.emu_stop()

    cpu.uc.hook_add(UC_HOOK_INTR, search)
    cpu.uc.emu_start(code, 0, count=2)
    if len(found) != 1:
        raise RuntimeError(
            f"this version of unicorn does not show its faults ({len(found)} places found): "
            "install unicorn 2.1.4"
        )
    return found[0]
