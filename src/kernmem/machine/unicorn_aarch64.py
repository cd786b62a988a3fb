"""An AArch64 processor from the unicorn wheel, made to behave like one on a board.

Two registers that firmware sets are 0 in Unicorn, and with them the MMU would walk the tables in
the 32-bit format.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, cast

from unicorn import UC_ARCH_ARM64, UC_HOOK_INSN, UC_MODE_ARM
from unicorn import arm64_const as arm64
from unicorn.unicorn_py3.unicorn import Uc

from kernmem.hardware.aarch64.syndrome import is_abort, page_fault
from kernmem.language import KernmemError
from kernmem.machine.errors import MachineError
from kernmem.machine.unicorn_arm import (
    DATA_ABORT,
    PREFETCH_ABORT,
    UNDEFINED,
    ArmProcessor,
    DebuggerCall,
)
from kernmem.machine.unicorn_processor import Convention, context_at_fault, only_place

# System registers that Unicorn has no name for: (CRn, CRm, op0, op1, op2).
SCTLR_EL1 = (1, 0, 3, 0, 0)
TCR_EL1 = (2, 0, 3, 0, 2)
SPSR_EL1 = (4, 0, 3, 0, 0)
HCR_EL2 = (1, 1, 3, 4, 0)
SCR_EL3 = (1, 1, 3, 6, 0)
ID_AA64MMFR0_EL1 = (0, 7, 3, 0, 0)
GRANULE_16K = 1 << 20  # TGran16

PSTATE = {1: 0x3C5, 2: 0x3C9, 3: 0x3CD}
"""Processor state by exception level: its own stack, interrupts masked."""

ARGUMENTS = tuple(arm64.UC_ARM64_REG_X0 + number for number in range(8))


class Aarch64Cpu(ArmProcessor):
    """A Cortex-A53, entered at an exception level."""

    convention = Convention(  # AAPCS64
        ARGUMENTS, ARGUMENTS[:1], arm64.UC_ARM64_REG_SP, arm64.UC_ARM64_REG_X30
    )
    debugger_call = DebuggerCall(0xD45E_0000, UNDEFINED, distance=0)  # hlt #0xf000

    def __init__(self, level: int, arguments: tuple[int, ...] = ()) -> None:
        # Any: the wheel is typed in part only.
        self.uc: Any = cast(Any, Uc)(UC_ARCH_ARM64, UC_MODE_ARM)
        self.uc.ctl_set_cpu_model(arm64.UC_CPU_ARM64_A53)
        self._level = level
        self._arguments = arguments
        self.reset(level)

    def start(self, entry: int) -> int:
        """Enter the image's first instruction at the level of the firmware."""
        self.reset(self._level)
        self.set_arguments(self._arguments)
        return entry

    def reset(self, level: int) -> None:
        """Enter ``level`` as firmware does.

        The order matters: only a write of a system register makes Unicorn look at PSTATE again.
        """
        self.uc.reg_write(arm64.UC_ARM64_REG_PSTATE, PSTATE[level])
        self.write_system(SCR_EL3, 0x401 if level < 3 else 0)  # RW: below is AArch64; NS
        self.write_system(HCR_EL2, 1 << 31 if level < 2 else 0)  # RW

    def install(
        self,
        exception: Callable[[Any, int, Any], None],
        put: Callable[[str], None],
        leave: Callable[[int], None],
    ) -> None:
        """Let the core say what it can do: it walks 16 KiB granules too."""
        everywhere = (1, 0)  # a range whose begin is after its end
        self.uc.hook_add(
            UC_HOOK_INSN, self._read_features, None, *everywhere, arm64.UC_ARM64_INS_MRS
        )

    def _read_features(self, uc: Any, target: int, register: Any, _: Any) -> bool:
        """Whether a hook has executed an MRS."""
        name = (register.crn, register.crm, register.op0, register.op1, register.op2)
        if name != ID_AA64MMFR0_EL1:
            return False
        uc.reg_write(target, self.read_system(name) | GRANULE_16K)
        return True

    def read_system(self, register: tuple[int, ...]) -> int:
        """A system register by its encoding."""
        return int(self.uc.reg_read(arm64.UC_ARM64_REG_CP_REG, register))

    def write_system(self, register: tuple[int, ...], value: int) -> None:
        """Set a system register by its encoding."""
        self.uc.reg_write(arm64.UC_ARM64_REG_CP_REG, (*register, value))

    @property
    def pc(self) -> int:
        """The address of the current instruction."""
        return int(self.uc.reg_read(arm64.UC_ARM64_REG_PC))

    def mmu_registers(self) -> dict[str, int]:
        """The registers that rule the translation, by the manual's name."""
        return {
            "sctlr_el1": self.read_system(SCTLR_EL1),
            "tcr_el1": self.read_system(TCR_EL1),
            "mair_el1": int(self.uc.reg_read(arm64.UC_ARM64_REG_MAIR_EL1)),
            "ttbr0_el1": int(self.uc.reg_read(arm64.UC_ARM64_REG_TTBR0_EL1)),
        }

    # Exceptions ----------------------------------------------------------------------------

    @classmethod
    def find_exception(cls) -> int:
        """By a known fault: data abort, translation fault, level 1."""
        code, table, address = 0x10000, 0x12000, 0x5_A5A0_1230
        cpu = cls(level=1)
        cpu.uc.mem_map(code, 0x3000)
        cpu.uc.mem_write(code, struct.pack("<I", 0xF9400001))  # ldr x1, [x0]
        cpu.uc.mem_write(table, struct.pack("<Q", 0x401))  # the first gigabyte is itself
        cpu.uc.reg_write(arm64.UC_ARM64_REG_TTBR0_EL1, table)
        cpu.write_system(TCR_EL1, 25 | 1 << 23)  # 39 bits of address, 4 KiB; TTBR1 off
        cpu.write_system(SCTLR_EL1, 0x30D00801)
        cpu.set_arguments((address,))
        context = context_at_fault(cpu.uc, code)
        known = struct.pack("<I", 0x96000005), struct.pack("<Q", address)
        return only_place((context, context[8:]), known)

    def exception_error(self, number: int) -> KernmemError:
        """A page fault, or what it is."""
        syndrome, _, address = self.exception()
        if is_abort(syndrome):
            return page_fault(syndrome, address)
        return MachineError(f"exception at {self.pc:#x} with syndrome {syndrome:#x}")

    def enter_exception(self, number: int) -> None:
        """In a hook: do what the processor does on an exception to EL1 (DDI 0487 D1.3.2)."""
        uc = self.uc
        syndrome, _, address = self.exception()
        state = int(uc.reg_read(arm64.UC_ARM64_REG_PSTATE))
        uc.reg_write(arm64.UC_ARM64_REG_ESR_EL1, syndrome)
        if number in (PREFETCH_ABORT, DATA_ABORT):
            uc.reg_write(arm64.UC_ARM64_REG_FAR_EL1, address)
        uc.reg_write(arm64.UC_ARM64_REG_ELR_EL1, self.pc)
        own_stack = state & 1
        if not own_stack:
            uc.reg_write(arm64.UC_ARM64_REG_SP_EL0, uc.reg_read(arm64.UC_ARM64_REG_SP))
            uc.reg_write(arm64.UC_ARM64_REG_SP, uc.reg_read(arm64.UC_ARM64_REG_SP_EL1))
        uc.reg_write(arm64.UC_ARM64_REG_PSTATE, PSTATE[1])
        self.write_system(SPSR_EL1, state)
        from_el0 = not state >> 2 & 3
        vector = 0x400 if from_el0 else 0x200 if own_stack else 0
        uc.reg_write(arm64.UC_ARM64_REG_PC, uc.reg_read(arm64.UC_ARM64_REG_VBAR_EL1) + vector)
