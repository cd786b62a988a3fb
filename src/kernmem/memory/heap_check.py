"""The checker of the kernel heap, apart from it, so that a kernel can leave it out."""

from __future__ import annotations

from kernmem.language import Component, Image, api
from kernmem.memory.granule_buffers import GranuleBuffers
from kernmem.memory.granule_check import GranuleCheck
from kernmem.memory.kernel_heap import KernelHeap
from kernmem.memory.superbuffer_check import SuperbufferCheck


class HeapCheck(Component):
    """``validate_kernel_heap``, over whichever layout the heap has."""

    c_module = "kernelheapcheck"

    def __init__(self, image: Image, heap: KernelHeap) -> None:
        super().__init__(image)
        buffers = heap.buffers
        self.layout: GranuleCheck | SuperbufferCheck
        if isinstance(buffers, GranuleBuffers):
            self.layout = GranuleCheck(image, buffers)
        else:
            self.layout = SuperbufferCheck(image, buffers)

    @api
    def validate_kernel_heap(self) -> bool:
        """Whether the heap is sound: every invariant that it has, in O(n log n).

        What is wrong is printed, with its address.
        """
        return self.layout.is_sound()
