"""Loads and stores that may fault, in ARMv7: the syndrome is DFSR, the address DFAR."""

from __future__ import annotations

from kernmem.hardware.probing import VectorProbe, load, store


class Armv7Probe(VectorProbe):
    """The status is bits 10 and 3:0; of these faults bit 1 is the level (DDI 0406, B3.13.3)."""

    syndrome_mask = 1 << 10 | 0b1101
    not_mapped = 0b0101  # translation fault
    forbidden = 0b1101  # permission fault

    try_load = load("ldrd %0, %H0, [%1]")
    try_store = store("strd %0, %H0, [%1]")
