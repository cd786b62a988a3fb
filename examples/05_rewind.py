"""Snapshot a machine, let it come to harm, and rewind it.

Run it with:  kernmem run examples/05_rewind.py
"""

import kernmem

machine = kernmem.boot("rpi3", profile="aligned")
heap = machine.kernel_heap_info

buffers = [machine.kmalloc(100 * number) for number in range(1, 9)]
machine.store(buffers[0], 0x900D)

# A snapshot is the whole state: RAM, MMU, console.  It can be gone back to as often as wanted.
before = machine.snapshot()
print(f"before: {heap.live_buffers} buffers, {heap.gaps} gap, {machine.load(buffers[0]):#x}")

for number, buffer in enumerate(buffers):
    if number % 2 == 0:
        machine.kfree(buffer)
print(f"then:   {heap.live_buffers} buffers, {heap.gaps} gaps")

machine.restore(before)
print(f"again:  {heap.live_buffers} buffers, {heap.gaps} gap, {machine.load(buffers[0]):#x}")

# A program that writes past the end of its buffer destroys the header of the next one.  Which
# of its writes did it?  Rewind, and try them one by one.
for address in range(int(buffers[0]), int(buffers[1]), 8):
    machine.restore(before)
    machine.store(address, 0xBAD)
    if not machine.validate_kernel_heap():
        break
header = int(buffers[1]) - 16
print(f"the write to {address:#x} does, where the header at {header:#x} begins")
print("the checker said:", machine.console.splitlines()[-1])
