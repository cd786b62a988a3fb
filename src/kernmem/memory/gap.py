"""What the kernel heap keeps in the segment itself: gaps, superbuffers and voids.

The segment is a row of elements without space between them.  A gap is found in the trees; of the
others the first byte tells the kind: a superbuffer's is the low byte of its magic number, a
void's is its length, which is less.
"""

from __future__ import annotations

from kernmem.language import Struct, VirtualAddress, struct, u8, u16, usize

GAP_MAGIC = 0x6A
SUPERBUFFER_MAGIC = 0x4655_4252_4550_55B5  # low half first byte B5, above every void length


@struct("kernel_heap_gap_t", packed=True)
class Gap(Struct):
    """A free space of the segment; it lies in the space it describes.

    60 bytes with 8-byte pointers, 32 with 4-byte pointers.
    """

    length_parent: Gap | None  # the length tree: shorter to the left,
    length_left: Gap | None  # equal lengths by address
    length_right: Gap | None
    addr_parent: Gap | None  # the addr tree: lower addresses to the left
    addr_left: Gap | None
    addr_right: Gap | None
    end: VirtualAddress  # the first byte after the gap
    reach: u16  # class of the longest gap of the addr subtree (first fit only)
    balances: u8  # lean in the length tree (low half) and the addr tree (high half)
    magic: u8  # GAP_MAGIC


@struct("kernel_superbuffer_t")
class Superbuffer(Struct):
    """The header of an allocated space; the buffer follows.  16 bytes, or 8."""

    magic: usize  # SUPERBUFFER_MAGIC
    end: VirtualAddress  # the first byte after the superbuffer


@struct("kernel_heap_void_t", packed=True)
class Void(Struct):
    """A free space too short for a gap.  It has room for its length, and nothing is lost."""

    length: u8


@struct("void", opaque=True)
class Buffer(Struct):
    """What the callers of kmalloc use; the heap does not look inside."""
