"""Instructions of kmalloc and kfree on AArch64, counted by Unicorn, against the number of gaps.

    python bench/heap_instructions.py [--gaps 10 1000 100000] [--profile tuned]

The heap is first cut into so many gaps: twice as many buffers of mixed sizes are taken, and
every other one is given back.  Then instructions are counted, exactly: of buffers that are taken
and given back at once, which leaves the gaps as they were, and of a few that change them: one
at random is given back, and another one taken.
"""

from __future__ import annotations

import argparse
import random
from typing import Any

from kernmem.hardware import find
from kernmem.machine.unicorn import UnicornMachine
from kernmem.memory.manager import MemoryManager
from kernmem.system import PLACEMENTS, PROFILES, heap_profile

CALLS = 4_000


def measure(gaps: int, profile: str, placement: str) -> dict[str, Any]:
    """Instructions a call, once the heap has ``gaps`` gaps."""
    chosen = heap_profile(profile, placement)
    chance = random.Random(gaps)
    with UnicornMachine(find("rpi3"), lambda i, h: MemoryManager(i, h, chosen)) as machine:
        machine.call("init_memory")
        buffers = [machine.call("kmalloc", chance.randrange(100, 900)) for _ in range(2 * gaps)]
        for buffer in buffers[::2]:
            machine.call("kfree", buffer)
        live = buffers[1::2]
        machine.calls.clear()
        for _ in range(CALLS):
            machine.call("kfree", machine.call("kmalloc", chance.randrange(100, 900)))
        for _ in range(min(gaps // 5, CALLS)):
            machine.call("kfree", live.pop(chance.randrange(len(live))))
            live.append(machine.call("kmalloc", chance.randrange(100, 900)))
        return {"gaps": int(machine.static("kernel_heap_info").gaps), **machine.calls}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gaps", type=int, nargs="+", default=[10, 1_000, 100_000])
    parser.add_argument("--profile", default="tuned", choices=PROFILES)
    parser.add_argument("--placement", default="best", choices=PLACEMENTS)
    options = parser.parse_args()
    print(f"{'gaps':>8}  {'kmalloc mean':>12} {'worst':>6}  {'kfree mean':>10} {'worst':>6}")
    for gaps in options.gaps:
        result = measure(gaps, options.profile, options.placement)
        kmalloc, kfree = result["kmalloc"], result["kfree"]
        print(
            f"{result['gaps']:>8}  {kmalloc.mean:>12.0f} {kmalloc.worst:>6}  "
            f"{kfree.mean:>10.0f} {kfree.worst:>6}"
        )


if __name__ == "__main__":
    main()
