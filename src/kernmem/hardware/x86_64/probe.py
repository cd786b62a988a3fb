"""Loads and stores that may fault, in x86-64: the address is CR2.

The syndrome is vector << 32 | error code (SDM 4.7).  Both instructions are 3 bytes long, which the
handler skips.
"""

from __future__ import annotations

from kernmem.hardware.probing import VectorProbe, load, store

PAGE_FAULT = 14 << 32
PROTECTION = 1 << 0  # P
RESERVED = 1 << 3  # RSVD


class X86Probe(VectorProbe):
    """A fault by a reserved bit is neither of the two."""

    syndrome_mask = 0xFFFF_FFFF << 32 | RESERVED | PROTECTION
    not_mapped = PAGE_FAULT
    forbidden = PAGE_FAULT | PROTECTION

    try_load = load("movq (%1), %0", value="=a", address="D")  # 48 8b 07
    try_store = store("movq %0, (%1)", value="S", address="D")  # 48 89 37
