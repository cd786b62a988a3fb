"""C that runs on this computer: compiled on first use, cached."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from kernmem.machine.errors import MachineError
from kernmem.machine.toolchain import (
    Compiler,
    cache_directory,
    digest,
    link,
    run,
    toolchain_version,
)

NATIVE_FLAGS = (
    "-std=gnu11",
    "-O2",
    "-g",
    "-fPIC",
    "-fno-sanitize=all",
    "-fno-stack-protector",
)


def shared_object(sources: Mapping[str, str], flags: tuple[str, ...] = ()) -> Path:
    """Compile C files (name -> text) to a shared object; what did not change is not made again.

    It is linked without the C library: the process that loads it has one already.
    """
    if not sys.platform.startswith("linux"):
        raise MachineError(f"C is run in this process on Linux only, not on {sys.platform}")
    compiler = Compiler((*NATIVE_FLAGS, *flags))
    texts = (f"{name}\0{text}" for name, text in sorted(sources.items()))
    key = digest(toolchain_version(), *compiler.flags, *texts)
    path = cache_directory() / "shared" / f"{key}.so"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        objects = compiler.compile(sources)
        with TemporaryDirectory(dir=path.parent) as folder:  # another process may do the same
            made = Path(folder) / path.name
            link(("-shared", "--build-id=none"), objects.values(), made)
            made.replace(path)
    return path


def executable(sources: Mapping[str, str], flags: tuple[str, ...] = ()) -> Path:
    """Compile C files (name -> text) to a program that uses this system's C library; cached."""
    compiler = Compiler((*NATIVE_FLAGS, *flags))
    texts = (f"{name}\0{text}" for name, text in sorted(sources.items()))
    key = digest(toolchain_version(), *compiler.flags, *texts)
    path = cache_directory() / "programs" / key
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        objects = map(str, compiler.compile(sources).values())
        with TemporaryDirectory(dir=path.parent) as folder:
            made = str(Path(folder) / path.name)
            run(("cc", *compiler.flags, *objects, "-o", made), f"{sorted(sources)} do not link")
            Path(made).replace(path)
    return path


def load(path: Path) -> ctypes.CDLL:
    """Load a shared object into this process."""
    return ctypes.CDLL(str(path))
