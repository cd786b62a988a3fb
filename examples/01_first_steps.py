"""Boot a Raspberry Pi 3 in this process, allocate, and look at what the kernel knows.

Run it with:  kernmem run examples/01_first_steps.py
"""

import kernmem

# The model interprets the kernel, over simulated RAM and an MMU.  After boot the MMU is on, the
# kernel runs in its own address space, and the heap is empty.
machine = kernmem.boot("rpi3")
print(machine)

# The functions of the C API are methods.  A buffer is an address; None would be NULL.
first = machine.kmalloc(100)
second = machine.kmalloc(5000)
print("first buffer ", first)
print("second buffer", second)

# What lies at a virtual address can be read and written, as the kernel would.
machine.store(first, 0xC0FFEE)
print(f"in the first buffer: {machine.load(first):#x}")

# The registries of the five modules are attributes: structs in the kernel's own memory.
heap = machine.kernel_heap_info
print(f"live: {heap.live_buffers} buffers, {heap.live_bytes} bytes with their headers")
print(f"free: {heap.gaps} gap of {heap.gap_bytes} bytes")

machine.kfree(first)
print(f"after kfree(first): {heap.gaps} gaps")  # a reference always shows what is there now
machine.kfree(second)
print(f"after kfree(second): {heap.gaps} gap, and {heap.live_bytes} bytes live")

# A struct prints its fields, addresses in hex.
print(machine.kernel_segment_info)
print(machine.physical_mem_info)
