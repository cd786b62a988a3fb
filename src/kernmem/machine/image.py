"""Kernel images: generated C, the processor's boot code and a linker script, made into one file."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from kernmem.hardware import HardwareDescription
from kernmem.hardware.boot import FREESTANDING
from kernmem.machine.symbols import (
    StackUse,
    Symbol,
    code_sizes,
    raw_image,
    read_symbols,
    section_sizes,
    stack_use,
)
from kernmem.machine.toolchain import Compiler, archive, link, replace_file

C_FLAGS = (
    "-std=c11",
    "-Os",
    "-g",
    "-ffreestanding",
    "-fno-stack-protector",
    "-fno-sanitize=all",  # zig's default would call into a runtime that is not there
    "-fno-asynchronous-unwind-tables",
    "-fomit-frame-pointer",  # nothing follows it, and it takes a register of x86-64
    "-fno-jump-tables",  # so that every call is in the code, and the stack has a bound
    "-ffunction-sections",  # what nothing calls is left out of the image
    "-fdata-sections",
    "-fstack-size-section",
)
"""How C for an image is compiled, besides the target.  -Os: smaller and, here, faster than -O2."""


@dataclass(frozen=True)
class BuiltImage:
    """A kernel image on disk.

    Attributes:
        hardware: what it is for.
        directory: where everything lies; the C and its headers are in ``directory / "c"``.
        elf: the image with symbols and debug information.
        image: what the firmware loads (``kernel8.img``).
        library: the generated C alone, as a static library.
        objects: source name -> object, generated C only.
    """

    hardware: HardwareDescription
    directory: Path
    elf: Path
    image: Path
    library: Path
    objects: Mapping[str, Path] = field(repr=False)

    @cached_property
    def symbols(self) -> Mapping[str, Symbol]:
        """Functions and variables by name."""
        return read_symbols(self.elf)

    @cached_property
    def section_sizes(self) -> Mapping[str, int]:
        """Bytes of each section, e.g. ``.text``, ``.bss``."""
        return section_sizes(self.elf)

    @cached_property
    def code_sizes(self) -> Mapping[str, int]:
        """Bytes of machine code by generated C file."""
        return code_sizes(self.objects, self.symbols)

    @cached_property
    def stack_use(self) -> Mapping[str, StackUse]:
        """How deep the stack can get below each function."""
        return stack_use(self.elf)


def link_image(
    hardware: HardwareDescription,
    files: Mapping[str, str],
    directory: Path,
    keep: Iterable[str] = (),
    late: Collection[str] = (),
) -> BuiltImage:
    """Compile generated C files (name -> text) and link them into an image in ``directory``.

    The files declare the hooks in ``kernmem_base.h`` and define ``kernmem_put`` and
    ``kernmem_exit``; if they define ``kernel_main``, the image calls it after boot.  ``keep``
    names functions that stay in the image although nothing in it calls them; ``late``, files
    whose code runs only once the MMU is on.
    """
    boot = hardware.boot
    c_directory = directory / "c"
    c_directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (c_directory / name).write_text(text)

    late_compiler = Compiler((*boot.code.flags, *C_FLAGS))
    compiler = Compiler((*late_compiler.flags, *boot.code.early_flags))
    runtime = {
        path.name: path.read_text()
        for folder in (FREESTANDING, boot.code.sources)
        for path in sorted(folder.iterdir())
        if path.suffix in (".c", ".h", ".S")
    }
    headers = {name: text for name, text in files.items() if name.endswith(".h")}
    early = {name: text for name, text in files.items() if name not in late}
    compiled = {
        **compiler.compile(early),
        **late_compiler.compile(headers | {name: files[name] for name in files if name in late}),
    }
    around = compiler.compile(runtime)

    elf = directory / "kernel.elf"
    link(
        (
            f"--defsym=program_start={hardware.program.start:#x}",
            f"--defsym=program_end={hardware.program.end:#x}",
            f"--defsym=stack_length={boot.stack_length:#x}",
            "--gc-sections",
            *boot.code.link_flags,
            *(f"--undefined={name}" for name in keep),
            f"--script={FREESTANDING / 'kernel.ld'}",
        ),
        [*around.values(), *compiled.values()],
        elf,
    )
    start, image = raw_image(elf)
    assert start == hardware.program.start, f"the image starts at {start:#x}"
    replace_file(directory / boot.image_name, elf.read_bytes() if boot.loads_elf else image)
    library = directory / "libkernmem.a"
    archive(compiled, library)
    return BuiltImage(hardware, directory, elf, directory / boot.image_name, library, compiled)
