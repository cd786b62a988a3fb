"""Fragmentation: the same program on three heaps, which place its buffers differently.

Run it with:  kernmem run examples/03_placement.py
"""

import random

import kernmem

COLUMNS = 76


def work(machine, calls: int = 4000) -> None:
    """Allocate and free at random: many small buffers, some long ones."""
    chance = random.Random(1)
    live = []
    for _ in range(calls):
        if live and chance.random() < 0.46:
            machine.kfree(live.pop(chance.randrange(len(live))))
        else:
            live.append(machine.kmalloc(chance.choice([24, 40, 64, 200, 600, 3000, 9000])))


def gaps(gap) -> list[tuple[int, int]]:
    """Start and end of every gap, in order.

    The gaps stand in a tree by address.  The tree's nodes are the gaps themselves: its links
    lie in the free bytes.
    """
    if gap is None:
        return []
    return [*gaps(gap.addr_left), (int(gap), int(gap.end)), *gaps(gap.addr_right)]


def picture(machine) -> str:
    """The heap from end to end: # is full, . is free, + is some of both."""
    heap = machine.kernel_heap_info
    start, end = int(heap.heap_start), int(heap.heap_end)
    width = (end - start) / COLUMNS
    free = [0.0] * COLUMNS
    for gap_start, gap_end in gaps(machine.kernel_heap_addr_tree.root):
        for column in range(COLUMNS):
            left = max(gap_start, start + column * width)
            right = min(gap_end, start + (column + 1) * width)
            free[column] += max(0.0, right - left) / width
    return "".join("#" if part < 0.05 else "." if part > 0.95 else "+" for part in free)


for placement, meaning in (
    ("best", "the shortest gap that is long enough"),
    ("first", "the lowest gap that is long enough"),
    ("largest", "the longest gap of all"),
):
    machine = kernmem.boot("lab", profile="aligned", placement=placement)
    work(machine)
    heap = machine.kernel_heap_info
    print(f"{placement}: {meaning}")
    print(picture(machine))
    print(
        f"{heap.heap_end - heap.heap_start} bytes of heap for {heap.live_bytes} live, "
        f"{heap.gaps} gaps, the largest {machine.kernel_heap_largest_gap()} bytes\n"
    )
    assert machine.validate_kernel_heap()
