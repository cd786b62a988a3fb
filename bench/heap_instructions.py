"""Instructions of kmalloc and kfree on AArch64, counted by Unicorn, against the number of gaps.

    python bench/heap_instructions.py [--gaps 10 1000 100000] [--profile tuned spec]

The heap lies in an arena, so no pages come and go.  It is first cut into so many gaps: twice as
many buffers are taken, and every other one is given back.  Then the instructions of each call are
counted, exactly:

* **mixed**: buffers of mixed sizes are taken and given back at once, and some that are live are
  given back at random, and others taken.
* **hostile**: what is worst for one of the heap's parts.  Lengths that no gap has, deep in the
  order of lengths; many of a short length, given back in any order, so that runs of slots are
  opened and closed; as many different lengths as there is room for, given back one after the
  other, which the heap then keeps until it needs them; large ones that grow in turn.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator

from kernmem.hardware import find
from kernmem.kernels.arena_heap import ArenaHeap
from kernmem.machine.unicorn import UnicornMachine
from kernmem.machine.unicorn_core import Calls
from kernmem.memory.profile import Profile, spec, tuned

HARDWARE = find("rpi3")
ARENA = HARDWARE.program.end
ARENA_LENGTH = HARDWARE.ram[0].end - ARENA
PROFILES = {"tuned": tuned(), "spec": spec()}
CALLS = 4_000
SHORT = (16, 24, 48, 64, 128, 1000)
LARGE = 64 << 10


class Measured:
    """A heap that was cut into gaps, on a machine that counts."""

    def __init__(self, machine: UnicornMachine, gaps: int) -> None:
        self.machine = machine
        self.chance = random.Random(gaps)
        machine.call("init_arena_heap", ARENA, ARENA_LENGTH)
        # Too long for slots, so that each leaves a gap.
        buffers = [self.take(self.chance.randrange(1024, 1900)) for _ in range(2 * gaps)]
        for buffer in buffers[::2]:
            self.free(buffer)
        self.live = buffers[1::2]

    def take(self, length: int) -> int:
        """A buffer, which there is room for."""
        buffer = self.machine.call("kmalloc", length)
        assert buffer is not None, f"the arena has no room for {length} bytes"
        return int(buffer)

    def free(self, buffer: int) -> None:
        """Give it back."""
        self.machine.call("kfree", buffer)

    def free_all(self, buffers: list[int]) -> None:
        """Give them back in any order."""
        self.chance.shuffle(buffers)
        for buffer in buffers:
            self.free(buffer)

    def mixed(self) -> None:
        """Buffers of mixed sizes."""
        chance = self.chance
        for _ in range(CALLS):
            self.free(self.take(chance.randrange(100, 900)))
        for _ in range(min(len(self.live) // 5, CALLS)):
            self.free(self.live.pop(chance.randrange(len(self.live))))
            self.live.append(self.take(chance.randrange(100, 900)))

    def hostile(self) -> None:
        """What is worst for each of the parts, some rounds of it."""
        for _ in range(4):
            for length in SHORT:
                self.free_all([self.take(length) for _ in range(300)])
            self.free_all([self.take(8 * granules) for granules in range(2, 400)])
            self.free_all([self.take(self.chance.randrange(900, 9000)) for _ in range(400)])
            array = self.take(LARGE)
            for pages in range(17, 60):
                grown = self.take(pages << 12)
                self.free(array)
                array = grown
            self.free(array)


def measure(profile: Profile, gaps: int) -> Iterator[tuple[str, dict[str, Calls], int]]:
    """The costs of each trace, by the call's name; and how many gaps there are in the end."""
    with UnicornMachine(HARDWARE, lambda image, _: ArenaHeap(image, profile)) as machine:
        measured = Measured(machine, gaps)
        traces: dict[str, Callable[[], None]] = {
            "mixed": measured.mixed,
            "hostile": measured.hostile,
        }
        for name, trace in traces.items():
            machine.calls.clear()
            trace()
            yield name, dict(machine.calls), int(machine.static("kernel_heap_info").gaps)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--gaps", type=int, nargs="+", default=[10, 1_000, 100_000])
    parser.add_argument("--profile", nargs="+", choices=PROFILES, default=list(PROFILES))
    options = parser.parse_args()
    print(f"{'':24}{'kmalloc':>14}{'kfree':>16}")
    print(f"{'profile':8}{'gaps':>8} {'trace':8}{'mean':>8}{'worst':>8}{'mean':>8}{'worst':>8}")
    for profile in options.profile:
        for gaps in options.gaps:
            for trace, costs, left in measure(PROFILES[profile], gaps):
                row = f"{profile:8}{left:8} {trace:8}"
                for call in ("kmalloc", "kfree"):
                    row += f"{costs[call].mean:8.0f}{costs[call].worst:8}"
                print(row, flush=True)


if __name__ == "__main__":
    main()
