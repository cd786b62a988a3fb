"""Three ways for a kernel to go wrong, each an exception that has the facts.

Run it with:  kernmem run examples/04_what_goes_wrong.py
"""

import kernmem

machine = kernmem.boot("rpi3")

# 1. A panic: kernel code found that a contract was broken, and says by what.
buffer = machine.kmalloc(100)
machine.kfree(buffer)
try:
    machine.kfree(buffer)
except kernmem.KernelPanic as panic:
    print("panic:", panic.message)

buffer = machine.kmalloc(1000)
try:
    machine.kfree(int(buffer) + 64)
except kernmem.KernelPanic as panic:
    print("panic:", panic.message)

try:
    machine.alloc_physical_page()
except kernmem.KernelPanic as panic:
    print("panic:", panic.message)

# 2. A page fault: the MMU refused an access.
try:
    machine.load(0x7000_0000)
except kernmem.PageFault as fault:
    print(f"fault: {fault.access} of {fault.address:#x}: {fault.reason}")

# 3. A model violation: the kernel did what the architecture leaves undefined.  A real CPU might
# forgive it for years; the model does not.  Here we take one instruction out of the driver of the
# MMU, the one that invalidates the TLB when a page is unmapped, and touch the page afterwards.
PAGE = int(machine.physical_mem_info.page_length)
HERE = 0x8000_0000
machine.enter_linear_space()
space = machine.linear_space_info.pagetable
page = machine.alloc_physical_page()
machine.pagetable_map(space, HERE, page)
machine.pagetable_map(space, HERE + PAGE, page)
machine.load(HERE)
machine.kernel.virtual.mmu.cpu.tlbi_vaale1is = lambda address: None
machine.pagetable_unmap(space, HERE)
try:
    machine.load(HERE)
except kernmem.ModelViolation as violation:
    print("violation:", violation.rule)
    print("   ", violation.facts)
