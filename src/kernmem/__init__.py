"""kernmem: a kernel's memory manager, written in Python.

>>> import kernmem
>>> machine = kernmem.boot("rpi3")
>>> buffer = machine.kmalloc(100)

Kernel code imports :mod:`kernmem.language`, and nothing from here.
"""

from kernmem.language import (
    IntegerOverflow,
    KernelPanic,
    KernmemError,
    ModelViolation,
    PageFault,
    PhysicalAddress,
    VirtualAddress,
    address_of,
)
from kernmem.memory.architecture import Mapping
from kernmem.memory.pagetable import PagetableStatus
from kernmem.system import boot

__all__ = [
    "boot",
    # what calls take and give
    "Mapping",
    "PagetableStatus",
    "PhysicalAddress",
    "VirtualAddress",
    "address_of",
    # what can go wrong
    "IntegerOverflow",
    "KernelPanic",
    "KernmemError",
    "ModelViolation",
    "PageFault",
]
