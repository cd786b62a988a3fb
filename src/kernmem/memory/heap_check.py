"""The checker of the kernel heap, apart from it, so that a kernel can leave it out."""

from __future__ import annotations

from kernmem.language import Component, Image, api
from kernmem.memory.granule_buffers import GranuleBuffers
from kernmem.memory.granule_check import GranuleCheck
from kernmem.memory.guard_check import GuardCheck
from kernmem.memory.kernel_heap import KernelHeap
from kernmem.memory.superbuffer_check import SuperbufferCheck


class HeapCheck(Component):
    """``validate_kernel_heap``, over whichever layout the heap has."""

    c_module = "kernelheapcheck"

    def __init__(self, image: Image, heap: KernelHeap) -> None:
        super().__init__(image)
        layout = heap.layout
        self.layout: GranuleCheck | SuperbufferCheck
        if isinstance(layout, GranuleBuffers):
            self.layout = GranuleCheck(image, layout)
        else:
            self.layout = SuperbufferCheck(image, layout)
        self.guards = None if heap.guards is None else GuardCheck(image, heap.guards)

    @api
    def validate_kernel_heap(self) -> bool:
        """Whether the heap is sound: every invariant that it has, in O(n log n).

        What is wrong is printed, with its address.  With guards, so is what was overwritten.
        """
        if not self.layout.is_sound():
            return False
        if self.guards is not None:
            return self.guards.is_sound()
        return True
