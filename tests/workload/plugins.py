"""Small allocators in C, good and bad, as users would bring them."""

from __future__ import annotations

from pathlib import Path

from kernmem.machine.native import shared_object
from kernmem.workload.allocators import HERE, Allocator, plugin

BUMP = """
#include "allocator.h"
#include <stdint.h>

static char *next, *end;

int allocator_init(void *arena, size_t bytes)
{
    next = arena;
    end = next + bytes;
    return bytes < 64;
}

void *allocator_allocate(size_t bytes)
{
    char *buffer = next;

    bytes = (bytes + 15) / 16 * 16;
    if (bytes > (size_t)(end - next))
        return 0;
    next += bytes - OVERLAP;
    return buffer;
}

void allocator_free(void *pointer, size_t bytes)
{
    FREE;
}
"""


def bump(*, overlap: int = 0, free: str = "(void)pointer, (void)bytes") -> Allocator:
    """An allocator that only counts up, in units of 16 bytes.

    ``overlap`` is how much of each buffer the next one has too; ``free`` what a free does.
    """
    text = BUMP.replace("OVERLAP", str(overlap)).replace("FREE", free)
    return compiled("bump", text)


def compiled(name: str, text: str) -> Allocator:
    """A plug-in of C text."""
    header = (HERE / "allocator.h").read_text()
    return plugin(Path(shared_object({f"{name}.c": text, "allocator.h": header})), name)
