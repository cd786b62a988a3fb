"""The host machine: a compiled kernel in this process, at the speed of this processor.

Its RAM is where the hardware has it, and the process's own mappings play the TLB; see
``host_runtime.c``.  What the kernel maps linearly is accessible even in a space that does not
map it: the model is the machine that is strict about that.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kernmem.compiler import compile_component, emit_c
from kernmem.hardware import HardwareDescription
from kernmem.hardware.devices import pl011
from kernmem.language import Image, Static, Target, layout, set_pointer_bytes
from kernmem.language.structs import Struct, size_of
from kernmem.machine.build import MakeKernel
from kernmem.machine.console import Console
from kernmem.machine.errors import MachineError
from kernmem.machine.host_library import Configuration, HostLibrary, build_library, window
from kernmem.machine.memory import PortMemory
from kernmem.machine.port import Function, Machine
from kernmem.machine.words import from_word, to_words
from kernmem.memory.architecture import Hardware, Region

LOWEST = 1 << 32
"""Below this address a process has its own things."""


@dataclass(frozen=True)
class Snapshot:
    """A host machine between two calls."""

    ram: dict[int, bytes]
    statics: tuple[bytes, ...]
    ttbr0: int


class HostMachine(Machine):
    """A machine that runs the kernel compiled, in this process.

    There can be one at a time: it has fixed addresses.  :meth:`close` gives them back.
    """

    name = "host"
    memory: PortMemory

    def __init__(
        self,
        hardware: HardwareDescription,
        make_kernel: MakeKernel,
        *,
        checked: bool = False,
        sink: Callable[[str], None] | None = None,
        seconds: float = 60.0,
    ) -> None:
        if len(hardware.ram) != 1 or hardware.ram[0].start < LOWEST:
            raise MachineError(
                f"{hardware.name} has RAM below {LOWEST:#x}, where a process has its own things: "
                "on the host, use the hardware 'lab'"
            )
        target = Target("host", hardware.target.pointer_bytes)
        set_pointer_bytes(target.pointer_bytes)
        memory = PortMemory()
        image = Image(target, memory, hardware.statics_base)
        components = hardware.build(image)
        kernel = make_kernel(image, components)
        super().__init__(hardware, image, kernel, memory)
        files = emit_c(compile_component(kernel), checked=checked)
        path = build_library(files)
        configuration = _configuration(hardware.ram[0], components)
        self.library = HostLibrary(path, configuration, seconds)
        self._console = Console(sink)
        memory.read, memory.write = self.read_virtual, self.write_virtual
        for static in image.statics.values():  # the library may have been in use before
            self.write_virtual(self.static_address(static), bytes(self._length(static)))

    @property
    def console(self) -> str:
        """What the kernel has written so far."""
        return self._console.text

    def invoke(self, function: Function, arguments: tuple[Any, ...]) -> Any:
        """Run the compiled function."""
        try:
            words = to_words(arguments, function.parameters.values(), self.hardware.target)
            word = self.library.call(function.name, *words)
        finally:
            if self.library.is_open and (text := self.library.take_text()):
                for line in text.splitlines(keepends=True):
                    self._console.write(line)
        return from_word(word, function.result, self.hardware.target)

    def static_address(self, static: Static) -> int:
        """Where the loader put it."""
        return self.library.symbols[static.name].address

    def _length(self, static: Static) -> int:
        if issubclass(static.kind, Struct):
            return layout(static.kind, self.hardware.target).size
        return size_of(static.kind, self.hardware.target) * (static.length or 1)

    def read_virtual(self, address: int, length: int) -> bytes:
        """Bytes at a virtual address; PageFault if neither the tables nor the RAM have it."""
        buffer = ctypes.create_string_buffer(length)
        self.library.copy(ctypes.addressof(buffer), int(address), length)
        return buffer.raw

    def write_virtual(self, address: int, data: bytes) -> None:
        """Store bytes at a virtual address; PageFault if neither the tables nor the RAM have it."""
        buffer = ctypes.create_string_buffer(data, len(data))
        self.library.copy(int(address), ctypes.addressof(buffer), len(data))

    def read_physical(self, address: int, length: int) -> bytes:
        """Bytes of RAM."""
        return self.library.ram.read(int(address), length)

    def write_physical(self, address: int, data: bytes) -> None:
        """Store bytes into RAM."""
        self.library.ram.write(int(address), data)

    def registers(self) -> dict[str, int]:
        """The one register that the host has: where the tables are."""
        return {"ttbr0_el1": self.library.ttbr0}

    def snapshot(self) -> Snapshot:
        """RAM, statics and the root of the tables."""
        statics = tuple(
            self.read_virtual(self.static_address(static), self._length(static))
            for static in self.image.statics.values()
        )
        return Snapshot(self.library.ram.snapshot(), statics, self.library.ttbr0)

    def restore(self, state: Snapshot) -> None:
        """Go back to a snapshot; the console keeps what it has."""
        self.library.ram.restore(state.ram)
        for static, data in zip(self.image.statics.values(), state.statics, strict=True):
            self.write_virtual(self.static_address(static), data)
        self.library.set_ttbr0(state.ttbr0)  # and forget every translation

    def close(self) -> None:
        """Give the addresses back to this process."""
        self.library.close()


def _configuration(ram: Region, hardware: Hardware) -> Configuration:
    """What the runtime must know of the hardware."""
    entries, places, console = hardware.format, hardware.memory_map, hardware.console
    return Configuration(
        ram=window(ram),
        segment=window(Region(places.segment_start, places.segment_end)),
        page_bits=entries.page_length.bit_length() - 1,
        index_bits=entries.index_bits,
        levels=entries.levels,
        console_register=console.uart + pl011.DATA if isinstance(console, pl011.Pl011) else 0,
    )
