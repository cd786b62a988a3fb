"""The Unicorn machine: a compiled kernel on a real instruction set with a real MMU.

Nothing needs to be installed but the wheel.  The machine builds an image of the kernel, boots
it up to ``kernel_main``, and calls what it is asked to.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kernmem.hardware import HardwareDescription
from kernmem.language import Static
from kernmem.machine.build import MakeKernel, build_kernel, put_together
from kernmem.machine.image import BuiltImage
from kernmem.machine.memory import PortMemory
from kernmem.machine.port import Function, Machine
from kernmem.machine.unicorn_core import Calls, Snapshot, UnicornCore
from kernmem.machine.words import from_word, to_words


class UnicornMachine(Machine):
    """A machine that runs the kernel compiled, on a simulated core.

    Attributes:
        built: the image, its symbols and sizes.
        core: the processor and board.
    """

    name = "unicorn"
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
        memory = PortMemory()
        image, kernel, root = put_together(hardware, make_kernel, memory)
        super().__init__(hardware, image, kernel, memory)
        self._directory = tempfile.TemporaryDirectory(prefix="kernmem-")
        self.built: BuiltImage = build_kernel(
            hardware, root, Path(self._directory.name), checked=checked
        )
        self.core = UnicornCore(self.built, sink=sink, seconds=seconds)
        memory.read, memory.write = self.read_virtual, self.write_virtual
        self.core.boot()

    @property
    def console(self) -> str:
        """What the kernel has written so far."""
        return self.core.console.text

    def invoke(self, function: Function, arguments: tuple[Any, ...]) -> Any:
        """Run the compiled function on an empty stack."""
        words = to_words(arguments, function.parameters.values(), self.hardware.target)
        word = self.core.call(function.name, *words)
        return from_word(word, function.result, self.hardware.target)

    def static_address(self, static: Static) -> int:
        """Where the linker put it."""
        return self.built.symbols[static.name].address

    def read_virtual(self, address: int, length: int) -> bytes:
        """Bytes at a virtual address; PageFault if the MMU refuses."""
        return self.core.load(int(address), length)

    def write_virtual(self, address: int, data: bytes) -> None:
        """Store bytes at a virtual address; PageFault if the MMU refuses."""
        self.core.store(int(address), data)

    def read_physical(self, address: int, length: int) -> bytes:
        """Bytes of RAM."""
        return self.core.load_physical(int(address), length)

    def write_physical(self, address: int, data: bytes) -> None:
        """Store bytes into RAM."""
        self.core.store_physical(int(address), data)

    def registers(self) -> dict[str, int]:
        """The registers of the MMU."""
        return self.core.cpu.mmu_registers()

    def snapshot(self) -> Snapshot:
        """Registers and RAM."""
        return self.core.snapshot()

    def restore(self, state: Snapshot) -> None:
        """Go back to a snapshot; the console keeps what it has."""
        self.core.restore(state)

    @property
    def calls(self) -> dict[str, Calls]:
        """Instructions taken by function: count, total, worst."""
        return self.core.calls

    def close(self) -> None:
        """Give back memory and files."""
        self.core.close()
        self._directory.cleanup()
