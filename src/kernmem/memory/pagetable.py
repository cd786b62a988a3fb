"""What the calls on page tables answer, and what they leave in the registry."""

from __future__ import annotations

from enum import IntEnum

from kernmem.language import PhysicalAddress, Struct, VirtualAddress, enumeration, struct


@enumeration("pagetable_status_t")
class PagetableStatus(IntEnum):
    """What became of a change to a page table.  All but OK leave it as it was."""

    OK = 0
    OUT_OF_MEMORY = 1
    MISALIGNED = 2  # an address or a length is no multiple of the page length
    ALREADY_MAPPED = 3  # failed_address is the first that is
    NOT_MAPPED = 4  # failed_address is the first that is not
    NOT_TRANSLATABLE = 5  # not canonical, or wider than the walk or the entries
    EMPTY_RANGE = 6  # a length of 0
    WRAPPING_RANGE = 7  # beyond the end of all addresses
    BAD_MAPPING = 8  # flags that contradict each other, or that the hardware does not have


@enumeration("pagetable_change_t")
class Change(IntEnum):
    """What becomes of a range."""

    MAP = 0
    UNMAP = 1
    PROTECT = 2


@struct("virtual_mem_info_t")
class VirtualMemInfo(Struct):
    """What the MMU translates by, and where a range could not be changed."""

    current_pagetable: PhysicalAddress | None  # None: the MMU is off
    linear_pagetable: PhysicalAddress | None  # the table of the linear space, once there is one
    awaited_pagetable: PhysicalAddress | None  # what leave_linear_space will go back to
    failed_address: VirtualAddress  # of the last ALREADY_MAPPED or NOT_MAPPED
