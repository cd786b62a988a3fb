"""The model machine, put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kernmem.hardware.description import HardwareDescription
from kernmem.language import Component, Image, KernelPanic, Static, set_pointer_bytes
from kernmem.machine.model.memory import ModelMemory, Snapshot
from kernmem.machine.port import Function, Machine
from kernmem.memory.architecture import Hardware


class Model(Machine):
    """A machine that interprets the kernel.

    ``make_kernel`` puts the kernel together; its statics and components belong to this machine.
    """

    name = "model"
    memory: ModelMemory

    def __init__(
        self,
        hardware: HardwareDescription,
        make_kernel: Callable[[Image, Hardware], Component],
    ) -> None:
        set_pointer_bytes(hardware.target.pointer_bytes)
        memory = ModelMemory(hardware)
        image = Image(hardware.target, memory, hardware.statics_base)
        image.stack_pointer = hardware.program.end
        image.console = memory.write_console
        super().__init__(hardware, image, make_kernel(image, hardware.build(image)), memory)
        if image.statics_end > hardware.program.end:
            raise ValueError(
                f"the statics end at {image.statics_end:#x}, past the program window of "
                f"{hardware.name}, which ends at {hardware.program.end:#x}"
            )

    @property
    def console(self) -> str:
        """What the kernel has written so far."""
        return self.memory.console

    def invoke(self, function: Function, arguments: tuple[Any, ...]) -> Any:
        """Interpret the function.  If it raises, memory stays as it was at that moment."""
        try:
            return function.method(*arguments)
        except AssertionError as failure:  # what the compiled kernel panics with
            raise KernelPanic(str(failure)) from failure
        finally:
            self.image.stack_pointer = self.hardware.program.end

    def static_address(self, static: Static) -> int:
        """Where the image put it."""
        return static.address

    def read_virtual(self, address: int, length: int) -> bytes:
        """Bytes at a virtual address; PageFault if the MMU refuses."""
        return self.memory.read(int(address), length)

    def write_virtual(self, address: int, data: bytes) -> None:
        """Store bytes at a virtual address; PageFault if the MMU refuses."""
        self.memory.write(int(address), data)

    def read_physical(self, address: int, length: int) -> bytes:
        """Bytes at a physical address."""
        return self.memory.peek(int(address), length)

    def write_physical(self, address: int, data: bytes) -> None:
        """Change the RAM from outside; the MMU's bookkeeping does not hear of it."""
        self.memory.poke(int(address), data)

    def registers(self) -> dict[str, int]:
        """The registers of the MMU, as far as they were written."""
        return self.memory.mmu.registers()

    def snapshot(self) -> Snapshot:
        """RAM, MMU and console: there is no other state."""
        return self.memory.snapshot()

    def restore(self, state: Snapshot) -> None:
        """Go back to a snapshot."""
        self.memory.restore(state)
        self.image.stack_pointer = self.hardware.program.end
