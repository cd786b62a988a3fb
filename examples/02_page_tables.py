"""Build an address space by hand, go there, read through it, and fall out of it.

Run it with:  kernmem run examples/02_page_tables.py
"""

import kernmem
from kernmem import Mapping, PagetableStatus

machine = kernmem.boot("rpi3")
PAGE = int(machine.physical_mem_info.page_length)
print(f"a page has {PAGE} bytes")

# Pages and page tables are used at their physical addresses.  In the kernel's own space these
# are not mapped, so a kernel enters the linear space first, where virtual = physical.
machine.enter_linear_space()
page = machine.alloc_physical_page()
other = machine.alloc_physical_page()
machine.store(int(page), 0x1111)
machine.store(int(other), 0x2222)

# An address space is a page table.  It needs the kernel's code too, or the next instruction
# after the switch would not be there.
table = machine.create_pagetable()
machine.map_kernel(table)
HERE, THERE = 0x2000_0000, 0x2000_0000 + PAGE
print("map here: ", machine.pagetable_map(table, HERE, page).name)
print("map there:", machine.pagetable_map(table, THERE, other, Mapping.USER_READ_ONLY).name)

# What cannot be done is a status, and changes nothing.
status = machine.pagetable_map(table, HERE, other)
print("map here again:", status.name)
assert status == PagetableStatus.ALREADY_MAPPED
print("map a crooked address:", machine.pagetable_map(table, HERE + 8, page).name)

# A translation can be looked up ...
found = machine.pagetable_get_translation(table, HERE + 0x123)
print(f"{HERE + 0x123:#x} is at physical {int(found):#x}")

# ... or used: switch to the space, and read through the MMU.
machine.switch_pagetable(table)
print(f"here: {machine.load(HERE):#x}, there: {machine.load(THERE):#x}")

for what, action in (
    ("write a read-only page", lambda: machine.store(THERE, 0)),
    ("read what is not mapped", lambda: machine.load(THERE + PAGE)),
):
    try:
        action()
    except kernmem.PageFault as fault:
        print(f"{what}: {fault}")

# Back to the linear space, where the tables can be given back; then to the kernel's space.
machine.switch_pagetable(machine.linear_space_info.pagetable)
machine.delete_pagetable(table)
machine.free_physical_page(other)
machine.free_physical_page(page)
machine.leave_linear_space()
free = machine.physical_mem_info.free_pages_count
print(f"{free} of {machine.physical_mem_info.page_quantity} pages are free")
