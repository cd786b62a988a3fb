"""An x86-64 processor from the unicorn wheel, entered as a PVH loader does.

Exceptions are entered by hand (SDM 3A 6.14): the gate, the stack that it chooses, the frame.  The
error code shows only in a saved context, and another field there must be reset: Unicorn, which
never finished the first exception, would take the next one for a double fault.

Ports are served here: COM1, always ready, and QEMU's isa-debug-exit.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, cast

from unicorn import (
    UC_ARCH_X86,
    UC_HOOK_INSN,
    UC_HOOK_INSN_INVALID,
    UC_MODE_64,
    UC_PROT_READ,
)
from unicorn import x86_const as x86
from unicorn.unicorn_py3.unicorn import Uc, uclib

from kernmem.hardware.devices.ns16550 import EMPTY, TRANSMIT
from kernmem.hardware.pc import COM1, EXIT_PORT, PROGRAM, START_INFO
from kernmem.language import KernmemError, PageFault
from kernmem.machine.errors import MachineError
from kernmem.machine.unicorn_processor import (
    Convention,
    Load,
    Processor,
    context_at_fault,
    only_place,
    saved_context,
)

UNDEFINED, GENERAL_PROTECTION, PAGE_FAULT = 6, 13, 14
ERROR_CODES = (8, 10, 11, 12, 13, 14, 17, 21, 29, 30)
"""The vectors that push an error code (SDM 3A 6.3.1, table 6-1)."""

STUB = PROGRAM.end - 0x1000
"""A page of what will be the kernel's stack, where the loader's last instructions are."""

ARGUMENTS = tuple(
    getattr(x86, f"UC_X86_REG_{name}") for name in ("RDI", "RSI", "RDX", "RCX", "R8", "R9")
)


class X86Cpu(Processor):
    """One processor in 64-bit mode."""

    convention = Convention(  # System V ABI
        ARGUMENTS, (x86.UC_X86_REG_RAX,), x86.UC_X86_REG_RSP, link=None
    )
    instruction_bytes = 0

    def __init__(self) -> None:
        self.uc: Any = cast(Any, Uc)(UC_ARCH_X86, UC_MODE_64)
        self.uc.ctl_set_cpu_model(x86.UC_CPU_X86_ICELAKE_SERVER)  # it has LA57
        self._reset = self.uc.context_save()

    def start(self, entry: int) -> int:
        """32-bit protected mode with flat segments and without paging; EBX is the start info.

        Unicorn begins in 64-bit mode with paging off, which no processor can be in; a far
        return leaves it.
        """
        self.uc.context_restore(self._reset)
        code, data = 0x00CF9A000000FFFF, 0x00CF92000000FFFF
        descriptors = STUB + 0x100
        self.uc.mem_write(descriptors, struct.pack("<3Q", 0, code, data))
        self.uc.mem_write(STUB + 0x80, struct.pack("<HQ", 23, descriptors))
        self.uc.mem_write(
            STUB,
            bytes.fromhex("0f01 1425")  # lgdt [STUB + 0x80]
            + struct.pack("<I", STUB + 0x80)
            + bytes.fromhex("b8 10000000 8ed8 8ec0 8ed0")  # mov eax, 16; mov ds, es and ss, eax
            + b"\xbc" + struct.pack("<I", STUB + 0x1000)  # mov esp
            + bytes.fromhex("6a08 68") + struct.pack("<I", entry)  # push 8; push entry
            + bytes.fromhex("48cb"),  # lretq
        )  # fmt: skip
        self.uc.reg_write(x86.UC_X86_REG_RBX, START_INFO)
        return STUB

    @property
    def pc(self) -> int:
        """RIP."""
        return int(self.uc.reg_read(x86.UC_X86_REG_RIP))

    def mmu_registers(self) -> dict[str, int]:
        """The control registers, and IA32_EFER."""
        read = self.uc.reg_read
        return {
            "cr0": int(read(x86.UC_X86_REG_CR0)),
            "cr3": int(read(x86.UC_X86_REG_CR3)),
            "cr4": int(read(x86.UC_X86_REG_CR4)),
            "efer": int(read(x86.UC_X86_REG_MSR, 0xC0000080)),
        }

    def install(
        self,
        exception: Callable[[Any, int, Any], None],
        put: Callable[[str], None],
        leave: Callable[[int], None],
    ) -> None:
        """The ports, and undefined instructions, which Unicorn does not report as exceptions."""

        def undefined(engine: Any, data: Any) -> bool:
            exception(engine, UNDEFINED, data)
            return True

        def write_port(_engine: Any, port: int, _size: int, value: int, _data: Any) -> None:
            if port == COM1 + TRANSMIT:
                put(chr(value & 0xFF))
            elif port == EXIT_PORT:
                leave(value)

        def read_port(_engine: Any, _port: int, _size: int, _data: Any) -> int:
            return EMPTY

        self.uc.hook_add(UC_HOOK_INSN_INVALID, undefined)
        self.uc.hook_add(UC_HOOK_INSN, write_port, None, 1, 0, x86.UC_X86_INS_OUT)
        self.uc.hook_add(UC_HOOK_INSN, read_port, None, 1, 0, x86.UC_X86_INS_IN)

    # Exceptions ----------------------------------------------------------------------------

    def exit_status(self, number: int, load: Load) -> int | None:
        """No exception ends the kernel: a port does."""
        return None

    def take_error_code(self) -> int:
        """In a hook: the error code; and the exception is no longer under way."""
        context = self.uc.context_save()
        offsets = exception_offsets()
        place = context.context.value
        code = ctypes.c_uint32.from_address(place + offsets.error_code).value
        ctypes.c_int32.from_address(place + offsets.old_exception).value = -1
        self.uc.context_restore(context)
        return code

    def exception_error(self, number: int) -> KernmemError:
        """A page fault, or what it is."""
        code = self.take_error_code()
        if number != PAGE_FAULT:
            return MachineError(f"exception {number} at {self.pc:#x} with error code {code:#x}")
        access = "execute" if code & 16 else "write" if code & 2 else "read"
        reason = "permission" if code & 1 else "not present"
        address = int(self.uc.reg_read(x86.UC_X86_REG_CR2))
        return PageFault(address, access, f"page fault: {reason}", number << 32 | code)

    def enter_exception(self, number: int) -> None:
        """Through the gate, on the stack that it names (SDM 3A 6.14.1 to 6.14.5)."""
        read, write = self.uc.reg_read, self.uc.reg_write
        code = self.take_error_code()
        flags = read(x86.UC_X86_REG_EFLAGS)
        gates = read(x86.UC_X86_REG_IDTR)[1]
        low, _, stack, _, middle, high = struct.unpack(
            "<HHBBHI", self._load(gates + 16 * number, 12)
        )
        sp = old = read(x86.UC_X86_REG_RSP)
        if stack:
            task_state = read(x86.UC_X86_REG_TR)[1]
            (sp,) = struct.unpack("<Q", self._load(task_state + 28 + 8 * stack, 8))
        frame = struct.pack(
            "<5Q", self.pc, read(x86.UC_X86_REG_CS), flags, old, read(x86.UC_X86_REG_SS)
        )
        if number in ERROR_CODES:
            frame = struct.pack("<Q", code) + frame
        sp = (sp & ~15) - len(frame)
        self._store(sp, frame)
        write(x86.UC_X86_REG_RSP, sp)
        write(x86.UC_X86_REG_EFLAGS, flags & ~0x14300)  # RF, NT, IF, TF
        write(x86.UC_X86_REG_RIP, high << 32 | middle << 16 | low)

    def _load(self, address: int, length: int) -> bytes:
        data = ctypes.create_string_buffer(length)
        if uclib.uc_vmem_read(self.uc._uch, address, UC_PROT_READ, data, length):
            raise MachineError(f"an exception at {self.pc:#x} needs {address:#x}: not mapped")
        return data.raw

    def _store(self, address: int, data: bytes) -> None:
        try:
            physical = self.translate(address, "write")
        except PageFault:
            raise MachineError(f"an exception at {self.pc:#x} has no stack: triple fault") from None
        self.uc.mem_write(physical, data)


class ExceptionOffsets(NamedTuple):
    """Where a saved context holds two 32-bit fields that no register shows."""

    error_code: int
    old_exception: int


@lru_cache(maxsize=1)
def exception_offsets() -> ExceptionOffsets:
    """Found by making two known faults on a scratch processor."""
    before, reading = _contexts(b"\x8b\x03")  # mov eax, [rbx]
    _, writing = _contexts(b"\x89\x03")  # mov [rbx], eax
    none, no_code, code = (struct.pack("<i", each) for each in (-1, 0, 2))
    return ExceptionOffsets(
        only_place((reading, writing), (no_code, code)),
        only_place((before, reading), (none, struct.pack("<i", PAGE_FAULT))),
    )


def _contexts(instruction: bytes) -> tuple[bytes, bytes]:
    """The processor before and at a page fault that ``instruction`` makes, with rbx not mapped."""
    uc: Any = cast(Any, Uc)(UC_ARCH_X86, UC_MODE_64)
    uc.mem_map(0x1000, 0x10000)
    for table in (0x2000, 0x3000, 0x4000):
        uc.mem_write(table, struct.pack("<Q", table + 0x1003))
    uc.mem_write(0x5008, struct.pack("<Q", 0x1003))  # the second page is itself
    uc.mem_write(0x1000, instruction)
    uc.reg_write(x86.UC_X86_REG_CR4, 1 << 5)  # PAE
    uc.reg_write(x86.UC_X86_REG_CR3, 0x2000)
    uc.reg_write(x86.UC_X86_REG_CR0, 1 << 31 | 1 << 16 | 1)
    uc.reg_write(x86.UC_X86_REG_RBX, 0x4000)
    return saved_context(uc), context_at_fault(uc, 0x1000)
