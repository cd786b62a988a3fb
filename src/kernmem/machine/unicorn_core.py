"""One image on one core in Unicorn: run to its end, or called function by function.

It starts the image as the firmware would.  :meth:`UnicornCore.run` lets it run to its end;
:meth:`UnicornCore.boot` stops it before ``kernel_main``, after which :meth:`UnicornCore.call`
calls one function after another.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from unicorn import (
    UC_CTL_IO_WRITE,
    UC_CTL_TLB_FLUSH,
    UC_HOOK_BLOCK,
    UC_HOOK_CODE,
    UC_HOOK_INTR,
)
from unicorn.unicorn_py3.unicorn import UcError, uclib

from kernmem.hardware.simulation import MachineExit
from kernmem.language import KernelPanic, KernmemError
from kernmem.machine.console import Console
from kernmem.machine.errors import MachineError, MachineTimeout
from kernmem.machine.image import BuiltImage
from kernmem.machine.native import load, shared_object
from kernmem.machine.symbols import raw_image
from kernmem.machine.text import format_text
from kernmem.machine.unicorn_board import UnicornBoard
from kernmem.machine.unicorn_processor import make_processor
from kernmem.machine.watchdog import watched
from kernmem.machine.words import Arguments

GRACE = 1.0  # seconds: whoever executes instructions looks at the clock without help

PAINT = 0xA5
"""What the stack is filled with, to see later how much of it was used."""


class Counter(ctypes.Structure):
    """``struct counter`` of ``unicorn_count.c``."""

    _fields_ = [
        ("instructions", ctypes.c_uint64),
        ("blocks", ctypes.c_uint64),
        ("address", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("deadline", ctypes.c_int64),
        ("expired", ctypes.c_uint64),
        ("stop", ctypes.c_void_p),
    ]


@dataclass
class Calls:
    """The instructions that the calls of one function took."""

    count: int = 0
    instructions: int = 0
    worst: int = 0

    @property
    def mean(self) -> float:
        """Instructions a call."""
        return self.instructions / self.count if self.count else 0.0


@dataclass(frozen=True)
class Snapshot:
    """A stopped machine: its registers and its RAM."""

    context: Any
    ram: tuple[dict[int, bytes], ...]


class UnicornCore:
    """One kernel image on one simulated core.

    Attributes:
        built: the image.
        console: what the kernel has written.
        calls: instructions by function called.
        seconds: how long a run or a call may take.
    """

    def __init__(
        self,
        built: BuiltImage,
        *,
        sink: Callable[[str], None] | None = None,
        seconds: float = 60.0,
    ) -> None:
        self.built = built
        self.console = Console(sink)
        self.seconds = seconds
        self.calls: dict[str, Calls] = {}
        self.cpu = make_processor(built.hardware)
        self._engine = self.cpu.uc
        self._board = UnicornBoard(self._engine, built.hardware, self.console)
        self._counter = Counter(stop=ctypes.cast(uclib.uc_emu_stop, ctypes.c_void_p).value)
        self._calling = False
        self._status: int | None = None
        self._error: KernmemError | None = None
        self._install_hooks()
        self._load_image()

    # Running ---------------------------------------------------------------------------------

    def run(self) -> int:
        """Run the image from its first instruction; returns its exit status."""
        self._go(self._start_at_reset(), self._symbol("park"), "the kernel")
        self.console.flush()
        if self._status is None:
            raise MachineError(f"the kernel stopped at {self.cpu.pc:#x} without an exit status")
        return self._status

    def boot(self) -> None:
        """Run the boot code, up to the call of ``kernel_main``; then functions may be called."""
        ready = self._symbol("kernmem_ready")
        self._go(self._start_at_reset(), ready, "the boot code")
        if self.cpu.pc != ready:
            raise MachineError(f"the boot code stopped at {self.cpu.pc:#x}, not at {ready:#x}")
        self._paint_stack()
        self._calling = True

    def call(self, name: str, *words: int) -> int:
        """Call a kernel function; arguments and result are machine words.

        Raises KernelPanic, PageFault, MachineExit, MachineTimeout.  After any of them the kernel
        is as it was left; the next call starts on an empty stack.
        """
        if not self._calling:
            raise MachineError("call boot() first: the kernel has no stack yet")
        done = self._symbol("kernmem_done")
        self.cpu.prepare_call(words, self._symbol("__stack_top"), done, self.store)
        before = self._counter.instructions
        try:
            self._go(self._symbol(name), done, name)
        finally:
            self._count(name, self._counter.instructions - before)
        if self._status is not None:
            status, self._status = self._status, None
            raise MachineExit(status)
        if self.cpu.pc != done:
            raise MachineError(f"{name} stopped at {self.cpu.pc:#x} and did not return")
        return self.cpu.result()

    def _count(self, name: str, instructions: int) -> None:
        calls = self.calls.setdefault(name, Calls())
        calls.count += 1
        calls.instructions += instructions
        calls.worst = max(calls.worst, instructions)

    def _go(self, start: int, stop: int, what: str) -> None:
        self._counter.deadline = time.monotonic_ns() + int(self.seconds * 1e9)
        self._counter.expired = 0
        try:
            with watched(self.seconds + GRACE, self._expire):
                self._engine.emu_start(start, stop)
        except MachineExit as end:  # from a device
            self._status = end.status
        except UcError as error:
            raise MachineError(
                f"{what} met what no exception describes at {self.cpu.pc:#x}: {error}"
            ) from error
        if self._error is not None:
            failed, self._error = self._error, None
            raise failed
        if self._counter.expired:
            raise MachineTimeout(what, self.seconds)

    def _expire(self) -> None:
        """Stop a core that executes nothing, and so does not count: it faults at its own vector."""
        self._counter.expired = 1
        self._engine.emu_stop()

    # Memory ----------------------------------------------------------------------------------

    def load(self, address: int, length: int) -> bytes:
        """Bytes at a virtual address, through the kernel's current tables."""
        return b"".join(
            self.load_physical(self.cpu.translate(at, "read"), size)
            for at, size in _pieces(address, length)
        )

    def store(self, address: int, data: bytes) -> None:
        """Store at a virtual address, through the kernel's current tables."""
        for at, size in _pieces(address, len(data)):
            physical = self.cpu.translate(at, "write")
            self.store_physical(physical, data[at - address : at - address + size])

    def load_physical(self, address: int, length: int) -> bytes:
        """Bytes of RAM."""
        return self._board.ram_at(address).read(address, length)

    def store_physical(self, address: int, data: bytes) -> None:
        """Store into RAM."""
        self._board.ram_at(address).write(address, data)

    def static(self, name: str) -> bytes:
        """The bytes of a variable of the kernel."""
        symbol = self.built.symbols[name]
        return self.load_physical(symbol.address, symbol.size)

    def snapshot(self) -> Snapshot:
        """The whole machine, to come back to."""
        ram = tuple(each.snapshot() for each in self._board.ram)
        return Snapshot(self._engine.context_save(), ram)

    def restore(self, snapshot: Snapshot) -> None:
        """Make the machine what it was, console and counts aside."""
        for ram, content in zip(self._board.ram, snapshot.ram, strict=True):
            ram.restore(content)
        self._engine.context_restore(snapshot.context)
        self._engine.ctl(UC_CTL_TLB_FLUSH, UC_CTL_IO_WRITE)

    def close(self) -> None:
        """Give the memory back."""
        self._calling = False
        self._board.close()

    def __enter__(self) -> UnicornCore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Figures ---------------------------------------------------------------------------------

    @property
    def instructions(self) -> int:
        """All instructions executed so far."""
        return int(self._counter.instructions)

    def deepest_stack(self) -> int:
        """Bytes of stack that the calls since :meth:`boot` have used at most."""
        length = self.built.hardware.boot.stack_length
        painted = self.load_physical(self._symbol("__stack_top") - length, length)
        return len(painted.lstrip(bytes([PAINT])))

    def _paint_stack(self) -> None:
        length = self.built.hardware.boot.stack_length
        self.store_physical(self._symbol("__stack_top") - length, bytes([PAINT]) * length)

    # The inside ------------------------------------------------------------------------------

    def _symbol(self, name: str) -> int:
        return self.built.symbols[name].address

    def _start_at_reset(self) -> int:
        self._calling = False
        self._status = None
        return self.cpu.start(self._symbol("_start"))

    def _load_image(self) -> None:
        self.store_physical(*raw_image(self.built.elf))

    def _install_hooks(self) -> None:
        fixed = self.cpu.instruction_bytes > 0
        handle = ctypes.c_size_t()
        uclib.uc_hook_add(
            self._engine._uch,
            ctypes.byref(handle),
            ctypes.c_int(UC_HOOK_BLOCK if fixed else UC_HOOK_CODE),
            ctypes.cast(_counter("count_block" if fixed else "count_instruction"), ctypes.c_void_p),
            ctypes.byref(self._counter),
            ctypes.c_uint64(1),  # begin after end: everywhere
            ctypes.c_uint64(0),
        )
        self._engine.hook_add(UC_HOOK_INTR, self._on_exception)
        self.cpu.install(self._on_exception, self.console.write, self._leave)
        panic = self.built.symbols.get("kernmem_panic")
        if panic is not None:  # a kernel may be without one
            self._engine.hook_add(UC_HOOK_CODE, self._on_panic, None, panic.address, panic.address)

    def _on_exception(self, engine: Any, number: int, _: Any) -> None:
        if self.cpu.instruction_bytes:
            # The block was counted whole when it began; what follows this instruction is not
            # executed.
            counter = self._counter
            left = counter.address + counter.size - self.cpu.pc
            counter.instructions -= left // self.cpu.instruction_bytes - 1
        try:
            status = self.cpu.exit_status(number, self.load)
        except KernmemError as error:
            self._error = error
            engine.emu_stop()
            return
        if status is not None:
            self._leave(status)
        elif self._calling and not self._expects_fault():
            self._error = self.cpu.exception_error(number)
            engine.emu_stop()
        else:
            self.cpu.enter_exception(number)

    def _leave(self, status: int) -> None:
        """The kernel has ended."""
        self._status = status
        self._engine.emu_stop()

    def _expects_fault(self) -> bool:
        return any(self.load_physical(self._symbol("fault_expected"), 8))

    def _on_panic(self, engine: Any, _address: int, _size: int, _: Any) -> None:
        if not self._calling:
            return  # the kernel prints it itself
        words = self.cpu.printf_arguments(self.load)
        arguments = Arguments(words, self.built.hardware.target)
        form = self._text(arguments.pointer())
        text = format_text(form, arguments.number, lambda: self._text(arguments.pointer()))
        self._error = KernelPanic(text)
        engine.emu_stop()

    def _text(self, address: int) -> str:
        data = bytearray()
        while byte := self.load(address + len(data), 1)[0]:
            data.append(byte)
        return data.decode("utf-8", "replace")


def _pieces(address: int, length: int) -> list[tuple[int, int]]:
    """A range of virtual addresses, cut where a page may end."""
    cuts = [address, *range(address - address % 0x1000 + 0x1000, address + length, 0x1000)]
    ends = [*cuts[1:], address + length]
    return [(start, end - start) for start, end in zip(cuts, ends, strict=True) if end > start]


@lru_cache(maxsize=2)
def _counter(name: str) -> Any:
    source = Path(__file__).with_name("unicorn_count.c")
    return getattr(load(shared_object({source.name: source.read_text()})), name)
