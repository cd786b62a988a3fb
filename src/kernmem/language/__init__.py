"""Kernel Python: all that kernel code may import."""

from kernmem.language.component import Component, Image, Static, api, intrinsic, kernel, rare
from kernmem.language.errors import (
    IntegerOverflow,
    KernelPanic,
    KernmemError,
    ModelViolation,
    PageFault,
)
from kernmem.language.integers import (
    Address,
    Integer,
    PhysicalAddress,
    VirtualAddress,
    set_pointer_bytes,
    u8,
    u16,
    u32,
    u64,
    usize,
)
from kernmem.language.operations import (
    address_of,
    from_linear,
    highest_bit,
    linear,
    lowest_bit,
    panic,
    span,
    truncate,
    wrap_add,
    wrap_multiply,
    wrap_subtract,
)
from kernmem.language.structs import (
    Array,
    Bindings,
    Field,
    Layout,
    Memory,
    Struct,
    array,
    enumeration,
    layout,
    struct,
)
from kernmem.language.target import Target

__all__ = [
    # structure
    "Component",
    "Image",
    "Static",
    "Target",
    "api",
    "intrinsic",
    "kernel",
    "rare",
    # integers and addresses
    "Address",
    "Integer",
    "PhysicalAddress",
    "VirtualAddress",
    "set_pointer_bytes",
    "u8",
    "u16",
    "u32",
    "u64",
    "usize",
    # structs
    "Array",
    "Bindings",
    "Field",
    "Layout",
    "Memory",
    "Struct",
    "array",
    "enumeration",
    "layout",
    "struct",
    # operations
    "address_of",
    "from_linear",
    "highest_bit",
    "linear",
    "lowest_bit",
    "panic",
    "span",
    "truncate",
    "wrap_add",
    "wrap_multiply",
    "wrap_subtract",
    # errors
    "IntegerOverflow",
    "KernelPanic",
    "KernmemError",
    "ModelViolation",
    "PageFault",
]
