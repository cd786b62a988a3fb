"""Kernel code that type checkers must reject: each marked line, and no other."""

from __future__ import annotations

from kernmem.language import (
    Array,
    Component,
    Image,
    PhysicalAddress,
    Struct,
    VirtualAddress,
    array,
    kernel,
    struct,
    u8,
    u32,
    u64,
    usize,
)


@struct("node_t")
class Node(Struct):
    next: Node | None
    size: usize
    words: Array[u32] = array(u32, 4)


class Kernel(Component):
    def __init__(self, image: Image) -> None:
        super().__init__(image)
        self.first = self.static(Node, "first")

    @kernel
    def free(self, page: PhysicalAddress) -> None:
        pass

    @kernel
    def take(self, length: usize) -> VirtualAddress | None:
        return None

    @kernel
    def addresses(self, at: VirtualAddress, frame: PhysicalAddress) -> None:
        self.free(at)  # reject: a virtual address for a physical one
        self.free(at + 1)  # reject: still a virtual address
        at - frame  # reject: a difference of two kinds
        at + frame  # reject: a sum of addresses
        at * 2  # reject: an address is not a number

    @kernel
    def nothing(self, node: Node) -> usize:
        other: Node = node.next  # reject: an unchecked None
        assert other
        return node.next.size  # reject: a field of an unchecked None

    @kernel
    def maybe(self) -> VirtualAddress:
        return self.take(usize(1))  # reject: an unchecked None

    @kernel
    def widths(self, small: u8, wide: u64) -> u64:
        self.take(5)  # reject: a plain int for a usize
        self.take(wide)  # reject: a u64 for a usize
        small + wide  # reject: two widths
        self.first.words[0] = wide  # reject: a u64 in an array of u32
        return small  # reject: a u8 for a u64
