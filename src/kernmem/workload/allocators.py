"""The allocators that a trace can be replayed through, side by side.

There are three kinds: kernmem's heap in one of its profiles, compiled to stand on its own;
the malloc of a C library, the system's or one that LD_PRELOAD puts in its place; and any shared
object that exports what ``allocator.h`` says.
"""

from __future__ import annotations

import ctypes.util
from dataclasses import dataclass
from pathlib import Path

from kernmem.compiler import compile_component, emit_c
from kernmem.kernels.arena_heap import ArenaHeap
from kernmem.language import Image, KernmemError, Target, set_pointer_bytes
from kernmem.machine.native import shared_object
from kernmem.memory.profile import Checks, Profile

HERE = Path(__file__).parent
STATICS = 0x20_0000_0000  # where the image has its statics; C puts them elsewhere
MALLOCS = {
    "mimalloc": ["mimalloc"],
    "jemalloc": ["jemalloc"],
    "tcmalloc": ["tcmalloc_minimal", "tcmalloc"],
}
"""Names of libraries, in the order in which they are looked for."""

PORTABLE = ("-mcpu=baseline",)
"""What packages are compiled for too; and so instructions are the same on every computer."""


HEAP = ("-fno-vectorize", "-fno-slp-vectorize", "-fomit-frame-pointer", "-fvisibility=hidden")
"""How our heap is compiled: as in a kernel, which has no vector registers to use.

With them, two counters that lie side by side are packed into one, which takes longer than adding
to each.  Debian's packages of other allocators have no frame pointers either.
"""


CHECKS = {Checks.NONE: "-unchecked", Checks.BASIC: "", Checks.FULL: "-guarded"}


class NoSuchAllocator(KernmemError, ValueError):
    """There is no allocator of that name here."""


@dataclass(frozen=True)
class Allocator:
    """An allocator, and how a process comes to have it.

    Attributes:
        name: what tables call it.
        library: the shared object with the functions of ``allocator.h``; None: it is malloc.
        preload: the library that brings malloc; None: the C library.
        profile: of kernmem's heap; None if it is another's.
    """

    name: str
    library: Path | None = None
    preload: str | None = None
    profile: Profile | None = None

    @property
    def has_arena(self) -> bool:
        """Whether all its memory is given to it at once, by whoever uses it."""
        return self.library is not None


def kernel_name(profile: Profile) -> str:
    """What kernmem's heap is called: after its profile, and what is a choice and not the usual."""
    placement = "" if profile.headerless else f"-{profile.placement.value}"
    void = "-void" if profile.voids else ""
    return f"{profile.name}{placement}{void}{CHECKS[profile.checks]}"


def kernel_allocator(profile: Profile) -> Allocator:
    """kernmem's heap in a profile."""
    target = Target("host", 8)
    set_pointer_bytes(target.pointer_bytes)
    root = ArenaHeap(Image(target, None, STATICS), profile)
    own = {name: (HERE / name).read_text() for name in ("arena_heap.c", "allocator.h")}
    generated = emit_c(compile_component(root), amalgamate=True)
    # The one C file is included by the other, so that calls between them cost nothing.
    sources = {name: text for name, text in generated.items() if name.endswith(".h")}
    body = next(text for name, text in generated.items() if name.endswith(".c"))
    sources["kernmem_body.h"] = body
    library = shared_object({**sources, **own}, (*PORTABLE, *HEAP))
    return Allocator(kernel_name(profile), library=library, profile=profile)


def plugin(path: Path, name: str | None = None) -> Allocator:
    """A user's own allocator."""
    if not path.is_file():
        raise NoSuchAllocator(f"{path}: there is no such file")
    return Allocator(name or path.stem, library=path.resolve())


def installed() -> list[Allocator]:
    """Every malloc that this system has."""
    found = [Allocator("malloc")]
    for name, libraries in MALLOCS.items():
        preload = next(filter(None, map(ctypes.util.find_library, libraries)), None)
        if preload is not None:
            found.append(Allocator(name, preload=preload))
    return found
