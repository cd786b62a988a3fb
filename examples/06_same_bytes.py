"""The same calls on three machines: interpreted, compiled on this CPU, compiled on another.

Run it with:  kernmem run examples/06_same_bytes.py
"""

import random

import kernmem
from kernmem.machine.compare import first_difference

# The lab is a board that all machines can play, the host too: its RAM lies where a process has
# nothing, so even the pointers in the kernel's structures are the same.
machines = [kernmem.boot("lab", name) for name in ("model", "host", "unicorn")]
for machine in machines:
    print(machine)


def work(machine, calls: int = 2000) -> list[int]:
    """Random calls of the heap, the same for every machine; the buffers that it gave."""
    chance = random.Random(2024)
    live, given = [], []
    for _ in range(calls):
        if live and chance.random() < 0.4:
            machine.kfree(live.pop(chance.randrange(len(live))))
        else:
            live.append(machine.kmalloc(chance.randrange(1, 5000)))
            given.append(int(live[-1]))
    return given


model, *compiled = machines
buffers = work(model)
print(f"{len(buffers)} buffers, the last at {buffers[-1]:#x}")
for machine in compiled:
    assert work(machine) == buffers
    # Every registry, page table, gap and header, byte by byte, in all of the RAM.
    difference = first_difference(model, machine)
    print(f"model and {machine.name}:", difference or "not a byte differs")

# One bit is enough to be found.
compiled[1].store(buffers[-1], 1 ^ compiled[1].load(buffers[-1]))
print("after one store:", first_difference(model, compiled[1]))

for machine in compiled:
    machine.close()
