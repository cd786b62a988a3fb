"""Write a part of a kernel in kernel Python: run it, break it, read its C.

Run it with:  kernmem run examples/07_your_own_component.py
"""

import kernmem
from kernmem.compiler import compile_component, emit_c
from kernmem.language import (
    Array,
    Component,
    Image,
    Struct,
    Target,
    api,
    array,
    panic,
    struct,
    u32,
)
from kernmem.system import choose, make_machine


# A struct is laid out as in C, and lies in the kernel's memory.
@struct("ring_info_t")
class RingInfo(Struct):
    """The last numbers that were put in; the oldest is at ``first``."""

    first: u32
    count: u32
    numbers: Array[u32] = array(u32, 4)


class RingBuffer(Component):
    """A queue of at most ``size`` numbers."""

    c_module = "ring"

    def __init__(self, image: Image) -> None:
        super().__init__(image)
        # Ordinary Python, run once when the kernel is put together.  What it leaves in self
        # are constants to the kernel code below.
        self.size = 4
        self.info = self.static(RingInfo, "ring_info")

    @api
    def ring_put(self, number: u32) -> bool:
        """Put a number in; False when the ring is full."""
        info = self.info
        if info.count == self.size:
            return False
        info.numbers[(info.first + info.count) % self.size] = number
        info.count += 1
        return True

    @api
    def ring_take(self) -> u32:
        """Take the oldest number out.  Panics if there is none."""
        info = self.info
        if info.count == 0:
            panic("ring_take: the ring is empty")
        number = info.numbers[info.first]
        info.first = (info.first + 1) % self.size
        info.count -= 1
        return number


def ring_kernel(image: Image, hardware: object) -> Component:
    """A kernel that is nothing but a ring buffer."""
    return RingBuffer(image)


# Interpreted on the model, and compiled on the host: the same calls, the same results.
for name in ("model", "host"):
    machine = make_machine(choose("lab", name), name, ring_kernel)
    print([machine.ring_put(number) for number in (10, 20, 30, 40, 50)], "on the", name)
    print([int(machine.ring_take()) for _ in range(4)], machine.ring_info)
    try:
        machine.ring_take()
    except kernmem.KernelPanic as panicked:
        print("panic:", panicked)

machine.close()

# The C is meant to be read.  Nothing in it is about a hardware, so an image without one will do.
program = compile_component(RingBuffer(Image(Target("aarch64", 8))))
files = emit_c(program)
print("\nfiles:", ", ".join(files))
print(files["ring.c"])
