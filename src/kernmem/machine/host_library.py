"""The host machine's lower half: a shared object with a kernel and its runtime in this process.

What the Python side of ``host_runtime.c`` does: take the addresses, call, give them back.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import ClassVar

from kernmem.hardware.aarch64.syndrome import page_fault
from kernmem.hardware.boot import FREESTANDING
from kernmem.hardware.simulation import MachineExit
from kernmem.language import KernelPanic, PageFault
from kernmem.machine.errors import MachineError, MachineTimeout
from kernmem.machine.native import load, shared_object
from kernmem.machine.ram import Ram
from kernmem.machine.symbols import Symbol, read_symbols
from kernmem.memory.architecture import Region

HERE = Path(__file__).parent
RETURNED, PANICKED, FAULTED, EXITED, TIMED_OUT, SIGNALLED, NO_DEVICE = range(7)
TEXT_CHUNK = 1 << 16


class Window(ctypes.Structure):
    """``struct host_window``."""

    _fields_: ClassVar = [("start", ctypes.c_uint64), ("end", ctypes.c_uint64)]


class Configuration(ctypes.Structure):
    """``struct host_configuration``."""

    _fields_: ClassVar = [
        ("ram", Window),
        ("segment", Window),
        ("page_bits", ctypes.c_uint64),
        ("index_bits", ctypes.c_uint64),
        ("levels", ctypes.c_uint64),
        ("console_register", ctypes.c_uint64),
        ("descriptor", ctypes.c_int64),
    ]


class Result(ctypes.Structure):
    """``struct host_result``."""

    _fields_: ClassVar = [
        ("end", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
        ("address", ctypes.c_uint64),
        ("syndrome", ctypes.c_uint64),
        ("writes", ctypes.c_uint64),
        ("message", ctypes.c_char * 1024),
    ]


def build_library(files: dict[str, str], flags: tuple[str, ...] = ()) -> Path:
    """Compile generated C with the runtime to a shared object; cached by content."""
    runtime = {
        path.name: path.read_text()
        for path in (
            HERE / "host_runtime.c",
            HERE / "host_runtime.h",
            FREESTANDING / "format.c",
            FREESTANDING / "format.h",
        )
    }
    # The intrinsics' text calls the runtime, so every generated file must know it.
    return shared_object(
        {**files, **runtime}, ("-D_GNU_SOURCE", "-include", "host_runtime.h", *flags)
    )


class HostLibrary:
    """A kernel in this process.  There can be one at a time: it has fixed addresses.

    Attributes:
        symbols: functions and variables by name; addresses as in this process.
        ram: what is at the physical addresses.
        seconds: how long a call may take.
    """

    _open: ClassVar[HostLibrary | None] = None

    def __init__(self, path: Path, configuration: Configuration, seconds: float) -> None:
        if HostLibrary._open is not None:
            raise MachineError(
                "a host machine is open already, and its addresses are fixed: close() it first, "
                "or use `with`; or run this one in another process"
            )
        window = configuration.ram
        self.seconds = seconds
        self.ram = Ram(window.start, window.end - window.start)
        self._library = load(path)
        # The file's addresses are relative: one known function tells by how much.
        symbols = read_symbols(path)
        known = ctypes.cast(self._library.kernmem_host_open, ctypes.c_void_p).value or 0
        base = known - symbols["kernmem_host_open"].address
        self.symbols = {
            name: Symbol(name, symbol.address + base, symbol.size, symbol.kind)
            for name, symbol in symbols.items()
        }
        self._result = Result()
        self._call = self._library.kernmem_host_call
        self._call.restype = None
        self._call.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p]
        self._arguments = (ctypes.c_uint64 * 8)()
        self._library.kernmem_host_take_text.restype = ctypes.c_uint64
        self._library.kernmem_host_ttbr0.restype = ctypes.c_uint64
        configuration.descriptor = self.ram.descriptor
        self._check(self._library.kernmem_host_open(ctypes.byref(configuration)), configuration)
        HostLibrary._open = self

    def _check(self, taken: int, configuration: Configuration) -> None:
        if taken == 0:
            return
        self.ram.close()
        window = configuration.segment if taken == 2 else configuration.ram
        raise MachineError(
            f"this process has something at {window.start:#x} to {window.end:#x}, or may not "
            "reserve as much: start a fresh Python, and see ulimit -v"
        )

    @property
    def is_open(self) -> bool:
        """Whether the addresses are this library's."""
        return HostLibrary._open is self

    def close(self) -> None:
        """Give the addresses back."""
        if self.is_open:
            HostLibrary._open = None
            self._library.kernmem_host_close()
            self.ram.close()

    def call(self, name: str, *words: int) -> int:
        """Call a function; arguments and result are machine words.

        Raises KernelPanic, PageFault, MachineExit, MachineTimeout.
        """
        if not self.is_open:
            raise MachineError("the host machine is closed")
        if len(words) > 8:
            raise MachineError(f"{name}: only 8 arguments can be passed")
        self._arguments[: len(words)] = list(words)
        result = self._result
        self._call(
            self.symbols[name].address,
            ctypes.addressof(self._arguments),
            int(self.seconds * 1e9),
            ctypes.addressof(result),
        )
        if result.end != RETURNED:
            self._raise(name, result)
        return int(result.value)

    def _raise(self, name: str, result: Result) -> None:
        if result.end == PANICKED:
            raise KernelPanic(result.message.decode("utf-8", "replace"))
        if result.end == EXITED:
            raise MachineExit(result.value)
        if result.end == TIMED_OUT:
            raise MachineTimeout(name, self.seconds)
        if result.end == FAULTED and result.syndrome:
            raise page_fault(result.syndrome, result.address)
        if result.end == FAULTED:
            access = "write" if result.writes else "read"
            raise PageFault(result.address, access, "mapped, but nothing on the host is there")
        if result.end == NO_DEVICE:
            raise MachineError(f"{name}: no device has a register at {result.address:#x}")
        raise MachineError(f"{name} was ended by signal {result.value}")

    def take_text(self) -> str:
        """What the kernel has written since the last time."""
        buffer = ctypes.create_string_buffer(TEXT_CHUNK)
        text = bytearray()
        while length := self._library.kernmem_host_take_text(buffer, ctypes.c_uint64(TEXT_CHUNK)):
            text += buffer.raw[:length]
        return text.decode("utf-8", "replace")

    def copy(self, to: int, source: int, length: int) -> None:
        """Copy bytes at addresses of this process; PageFault if the kernel's tables refuse."""
        self.call("kernmem_host_copy", to, source, length)

    @property
    def ttbr0(self) -> int:
        """The root of the current tables, and the address space's number."""
        return int(self._library.kernmem_host_ttbr0())

    def set_ttbr0(self, value: int) -> None:
        """Translate by another root from now on."""
        self.call("kernmem_host_write_ttbr0", value)


def window(region: Region) -> Window:
    """A region as the runtime takes it."""
    return Window(region.start, region.end)
