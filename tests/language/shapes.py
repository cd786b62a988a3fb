"""Structs of every shape, for the tests of their layout."""

from __future__ import annotations

from enum import IntEnum

from kernmem.language import (
    Array,
    PhysicalAddress,
    Struct,
    VirtualAddress,
    array,
    enumeration,
    struct,
    u8,
    u16,
    u32,
    u64,
    usize,
)


@enumeration("shade_t")
class Shade(IntEnum):
    """A field of 4 bytes."""

    LIGHT = 0
    DARK = 1


@struct("mixed_t")
class Mixed(Struct):
    """Padding everywhere."""

    a: u8
    b: u64
    c: u16
    d: usize
    e: bool
    next: Mixed | None
    f: u8
    shade: Shade
    place: VirtualAddress | None
    g: u8
    words: Array[u16] = array(u16, 3)
    h: u8
    wides: Array[u64] = array(u64, 2)
    i: u8


@struct("tight_t", packed=True)
class Tight(Struct):
    """No padding."""

    a: u8
    b: u64
    c: u16
    d: usize
    e: bool
    next: Mixed | None
    shade: Shade
    frame: PhysicalAddress
    words: Array[u32] = array(u32, 3)


@struct("wide_t")
class Wide(Struct):
    """Its 8 bytes are aligned to 8 on every target."""

    a: u32
    b: u64
    c: u32


@struct("aligned_t", alignment=64)
class Aligned(Struct):
    """More than its fields need."""

    a: u32
    b: u8
