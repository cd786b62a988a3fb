"""Kernel code that type checkers accept."""

from __future__ import annotations

from kernmem.language import (
    Array,
    Component,
    Image,
    PhysicalAddress,
    Struct,
    VirtualAddress,
    api,
    array,
    kernel,
    linear,
    span,
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
        self.page_length = 0x1000
        self.first = self.static(Node, "first")

    @api
    def find(self, at: VirtualAddress, length: usize) -> VirtualAddress | None:
        node: Node | None = self.first
        while node is not None:
            if node.size >= length:
                return at + node.size % self.page_length
            node = node.next
        return None

    @kernel
    def convert(self, frame: PhysicalAddress, small: u8) -> u64:
        node = self.at(Node, linear(frame))
        total = u64(small) + 1
        for i in span(usize(0), usize(4)):
            total += u64(node.words[i])
        return total + u64(linear(frame) - VirtualAddress(0))
