"""Loads and stores that may fault, in AArch64: the syndrome is ESR_EL1, the address FAR_EL1.

On the host the text calls the C runtime of the host machine, which gives the same syndromes:

    void kernmem_host_probe_read(uint64_t address);
    void kernmem_host_probe_write(uint64_t address, uint64_t value);
"""

from __future__ import annotations

from kernmem.hardware.probing import VectorProbe, load, store

DATA_ABORT = 0b100101 << 26  # taken from the same exception level (DDI 0487, D23.2.37)


class Aarch64Probe(VectorProbe):
    """Bits 31:26 of a syndrome are the class; 5:2 the fault status, whose level is 1:0."""

    syndrome_mask = 0b111111 << 26 | 0b1111 << 2
    not_mapped = DATA_ABORT | 0b0001 << 2  # translation fault
    forbidden = DATA_ABORT | 0b0011 << 2  # permission fault

    try_load = load("ldr %0, [%1]", host="kernmem_host_probe_read((uint64_t)address);")
    try_store = store("str %0, [%1]", host="kernmem_host_probe_write((uint64_t)address, value);")
