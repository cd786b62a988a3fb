"""From a kernel in Python to an image: put together, compiled, linked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from kernmem.compiler import compile_component, emit_c
from kernmem.hardware import HardwareDescription, find
from kernmem.language import Component, Image, Memory, api, set_pointer_bytes, u8, u32
from kernmem.machine.image import BuiltImage, link_image
from kernmem.memory.architecture import Hardware

LATE = ("kernelheap.c", "kernelheapcheck.c")
"""C files of the memory manager that run only once the MMU is on: the heap lies in the segment.

Its packed records are loaded a word at a time there, not byte by byte, which makes the code of
the ``spec`` profile a third as long.  One amalgamated file runs early too, and does without."""

MakeKernel: TypeAlias = Callable[[Image, Hardware], Component]
"""Puts a kernel together, e.g. ``lambda image, hardware: SelfTest(image, hardware, profile)``."""


class BootedKernel(Component):
    """A kernel with what its image needs of the board: a way to write, and a way out."""

    c_module = "board"

    def __init__(self, image: Image, kernel: Component, hardware: Hardware) -> None:
        super().__init__(image)
        self.kernel = kernel
        self.console = hardware.console
        self.power = hardware.power

    @api
    def kernmem_put(self, character: u8) -> None:
        """Write one character to the console."""
        self.console.put(character)

    @api
    def kernmem_exit(self, status: u32) -> None:
        """Leave the machine with an exit status; 0 is success."""
        self.power.exit(status)


def put_together(
    hardware: HardwareDescription, make_kernel: MakeKernel, memory: Memory | None = None
) -> tuple[Image, Component, BootedKernel]:
    """The image, the kernel, and the kernel as it boots on ``hardware``."""
    set_pointer_bytes(hardware.target.pointer_bytes)
    image = Image(hardware.target, memory, hardware.statics_base)
    components = hardware.build(image)
    kernel = make_kernel(image, components)
    return image, kernel, BootedKernel(image, kernel, components)


def build_kernel(
    hardware: HardwareDescription,
    root: BootedKernel,
    directory: Path,
    *,
    amalgamate: bool = False,
    checked: bool = False,
    lines: bool = False,
) -> BuiltImage:
    """Compile a kernel that was put together, and link its image in ``directory``.

    ``amalgamate`` makes one C file of it; ``checked`` panics where arithmetic leaves its type;
    ``lines`` lets debuggers show the Python.
    """
    program = compile_component(root)
    files = emit_c(program, checked=checked, lines=lines, amalgamate=amalgamate)
    names = [function.c_name for function in program.apis]
    return link_image(hardware, files, directory, keep=names, late=LATE)


def build_image(
    hardware_name: str,
    directory: Path,
    make_kernel: MakeKernel,
    *,
    amalgamate: bool = False,
    checked: bool = False,
    lines: bool = False,
) -> BuiltImage:
    """Build an image of a kernel for the hardware called ``hardware_name``."""
    hardware = find(hardware_name)
    _, _, root = put_together(hardware, make_kernel)
    return build_kernel(
        hardware, root, directory, amalgamate=amalgamate, checked=checked, lines=lines
    )
