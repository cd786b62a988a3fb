"""Is the model strict enough?  Against a core that does the worst, at random.

The adversary keeps a real TLB, which it fills whenever it likes with whatever its walker may see
at that moment, and clears as late and as little as the manual allows.  Random instructions are
given to both.  Whenever the model answers an access, instead of refusing it, every answer of the
adversary must be the same.  And the model must not refuse everything.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest

from hardware.aarch64.bench import (
    BLOCK,
    FRAMES,
    NORMAL_PAGE,
    OTHER_ROOT,
    PAGE,
    PAGES,
    READ_ONLY,
    ROOT,
    SPARE,
    TABLE,
    Bench,
)
from kernmem.hardware.lab import LAB
from kernmem.hardware.simulation import Access
from kernmem.language import ModelViolation, PageFault

TABLES = (TABLE, SPARE, 0x10_0600_0000)
INDEXES = (PAGES // BLOCK, PAGES // BLOCK + 1)  # of the roots
ADDRESSES = tuple(index * BLOCK + page * PAGE for index in INDEXES for page in range(3))
FAULT = -1


@dataclass(frozen=True)
class Cached:
    """A TLB entry: of a page or block, or of the walk down to a table."""

    asid: int
    start: int
    length: int
    entry: int  # the descriptor

    def covers(self, address: int) -> bool:
        return self.start <= address < self.start + self.length


@dataclass
class Adversary:
    """A core with a memory of its own."""

    random: random.Random
    memory: dict[int, int]
    asid: int = 0
    root: int = ROOT
    old: list[list[int]] = field(default_factory=list)  # [place, old value, DSBs since]
    leaves: set[Cached] = field(default_factory=set)
    walks: set[Cached] = field(default_factory=set)
    # TLBIs that were not executed: [name, operand, completed]
    queue: list[list[object]] = field(default_factory=list)

    def see(self, place: int, early: bool) -> int:
        """What the walker reads: the latest value, or one whose successor may be invisible.

        After the DSB a walk sees the store; but until an ISB the core may use what it got from
        an early walk, before the DSB.
        """
        choices = [self.memory.get(place, 0)]
        choices += [value for where, value, seen in self.old if where == place and seen <= early]
        return self.random.choice(choices)

    def store(self, place: int, value: int) -> None:
        self.old.append([place, self.memory.get(place, 0), 0])
        self.memory[place] = value

    def access(self, address: int) -> int:
        """The descriptor that an access to ``address`` uses; or FAULT."""
        early = self.random.random() < 0.5
        hits = [each for each in self.leaves if each.asid == self.asid and each.covers(address)]
        if hits and self.random.random() < 0.8:
            return self.random.choice(hits).entry
        start = address // BLOCK * BLOCK
        walks = [each for each in self.walks if each.asid == self.asid and each.start == start]
        if walks and self.random.random() < 0.8:
            upper = self.random.choice(walks).entry
        else:
            upper = self.see(self.root + 8 * (address // BLOCK), early)
            if not upper & 1:
                return FAULT
            if not early:
                kind = self.walks if upper & 2 else self.leaves
                kind.add(Cached(self.asid, start, BLOCK, upper))
        if not upper & 2:
            return upper
        base = upper & 0xFFFF_FFFF_0000
        entry = self.see(base + 8 * (address // PAGE % (BLOCK // PAGE)), early)
        if not entry & 1:
            return FAULT
        if not early:
            self.leaves.add(Cached(self.asid, address // PAGE * PAGE, PAGE, entry))
        return entry

    def be_busy(self) -> None:
        """Speculate, and execute a TLBI that was issued; or do not."""
        for _ in range(self.random.randrange(4)):
            self.access(self.random.choice(ADDRESSES))
        if self.queue and self.random.random() < 0.3:
            self.execute(self.queue.pop(self.random.randrange(len(self.queue))))

    def execute(self, waiting: list[object]) -> None:
        """Drop what a TLBI must drop, and no more."""
        name, operand = str(waiting[0]), int(str(waiting[1]))
        asid, address = operand >> 48, operand << 12 & (1 << 48) - 1

        def hit(each: Cached) -> bool:
            if name.startswith("vmalle1"):
                return True
            if name.startswith("aside1"):
                return each.asid == asid
            if not each.covers(address):
                return False
            return name.startswith("vaa") or each.asid == asid

        self.leaves = {each for each in self.leaves if not hit(each)}
        if "ale1" not in name:  # not VALE1, VAALE1
            self.walks = {each for each in self.walks if not hit(each)}

    def barrier(self, name: str) -> None:
        if name == "isb":
            self.old = [each for each in self.old if not each[2]]
            for each in [each for each in self.queue if each[2]]:
                self.queue.remove(each)
                self.execute(each)
            return
        for entry in self.old:
            entry[2] = 1
        for each in self.queue:
            broadcast = str(each[0]).endswith("is")
            if name == "dsb ish" or (name == "dsb nsh" and not broadcast):
                each[2] = True


class Duel:
    """Both machines, given the same."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.bench = Bench()
        memory = {
            root + 8 * (LAB.program.start // BLOCK): self.bench.block(LAB.program.start)
            for root in (ROOT, OTHER_ROOT)
        }
        memory[ROOT + 8 * INDEXES[0]] = self.bench.link(TABLE)
        self.adversary = Adversary(random.Random(seed + 1), memory)
        self.met: Counter[str] = Counter()

    def run(self, steps: int) -> None:
        actions = (
            *("leaf", "leaf", "upper", "barrier", "barrier", "invalidate"),
            *("properly", "properly", "nearly", "nearly", "nearly", "switch"),
        )
        for _ in range(steps):
            try:
                getattr(self, self.random.choice(actions))()
            except ModelViolation as violation:
                self.met[violation.rule] += 1
            self.adversary.be_busy()
            self.look(self.random.choice(ADDRESSES))

    def store(self, table: int, index: int, entry: int) -> None:
        self.bench.store(table, index, entry)  # may refuse: then nothing is stored
        self.adversary.store(table + 8 * index, entry)

    def do(self, *instructions: str) -> None:
        """Barriers, and TLBIs with their operand in hex."""
        for instruction in instructions:
            name, _, operand = instruction.partition(",")
            self.bench.simulated.execute(name, int(operand or "0", 16))
            if name.startswith("tlbi"):
                self.adversary.queue.append([name[5:], int(operand or "0", 16), False])
            else:
                self.adversary.barrier(name)
            self.adversary.be_busy()

    def entry(self) -> int:
        frame = FRAMES + self.random.randrange(3) * PAGE
        return self.random.choice((0, 0, frame | NORMAL_PAGE, frame | NORMAL_PAGE | READ_ONLY))

    def leaf(self) -> None:
        self.store(self.random.choice(TABLES), self.random.randrange(3), self.entry())

    def upper(self) -> None:
        root = self.random.choice((ROOT, OTHER_ROOT))
        entry = self.random.choice(
            (0, 0, self.bench.block(LAB.program.start), *map(self.bench.link, TABLES))
        )
        self.store(root, self.random.choice(INDEXES), entry)

    def barrier(self) -> None:
        self.do(self.random.choice(("dsb ishst", "dsb ish", "dsb nsh", "isb")))

    def invalidate(self) -> None:
        name = self.random.choice(
            ("vmalle1", "aside1", "vae1", "vale1is", "vaale1is", "vaae1is", "vaae1", "vmalle1is")
        )
        asid = self.random.choice((self.adversary.asid, self.random.randrange(4)))
        operand = asid << 48
        if name.startswith("va"):
            operand |= self.random.choice(ADDRESSES) >> 12
        self.do(f"tlbi {name},{operand:x}")

    def properly(self) -> None:
        """Do what makes everything good again: for one address, or for all of them."""
        if self.random.random() < 0.5:
            self.do("dsb ishst", "isb")
            return
        address = self.random.choice(ADDRESSES)
        self.do("dsb ishst", f"tlbi vaae1is,{address >> 12:x}", "dsb ish", "isb")
        if self.random.random() < 0.3:
            self.do("dsb ish", "tlbi vmalle1", "dsb nsh", "isb")

    def nearly(self) -> None:
        """Make a page, use it, unmap it with a step that may be wrong, and use it again."""
        table, page = self.random.choice(TABLES), self.random.randrange(3)
        self.store(table, page, FRAMES | NORMAL_PAGE)
        self.do("dsb ishst", "isb")
        for index in INDEXES:
            self.look(index * BLOCK + page * PAGE)
        self.store(table, page, 0)
        index = self.random.choice(INDEXES)
        address = index * BLOCK + page * PAGE
        if self.random.random() < 0.3:
            self.store(self.adversary.root, index, 0)
        asid = self.adversary.asid
        steps = [
            "dsb ishst",
            f"tlbi {self.random.choice(('vae1is', 'vale1is', 'vae1'))},"
            f"{asid << 48 | address >> 12:x}",
            "dsb ish",
            "isb",
        ]
        wrong = self.random.randrange(len(steps) + 2)
        if wrong == 1:
            steps[1] = f"tlbi vae1is,{(asid ^ 1) << 48 | address >> 12:x}"
        elif wrong == 2:
            steps[2] = self.random.choice(("dsb ishst", "dsb nsh"))
        elif wrong < len(steps):
            del steps[wrong]
        self.do(*steps)
        for _ in range(3):
            self.look(address)

    def switch(self) -> None:
        root, asid = self.random.choice((ROOT, OTHER_ROOT)), self.random.randrange(4)
        self.bench.do(f"msr ttbr0_el1,{asid << 48 | root:x}", "isb")
        self.adversary.root, self.adversary.asid = root, asid
        self.adversary.barrier("isb")

    def look(self, address: int) -> None:
        """Read and write there: if the model answers, the adversary never says otherwise."""
        for write in (False, True):
            try:
                answer = self.answer(address, write)
            except ModelViolation as violation:
                self.met[violation.rule] += 1
                continue
            self.met["answered" if answer != FAULT else "fault"] += 1
            for _ in range(4):
                assert self.meet(address, write) == answer, f"{address:#x}, write: {write}"

    def answer(self, address: int, write: bool) -> int:
        """The physical address, by the model."""
        try:
            access = Access.WRITE if write else Access.READ
            return self.bench.simulated.translate(address, access, 8).physical
        except PageFault:
            return FAULT

    def meet(self, address: int, write: bool) -> int:
        """The physical address, by the adversary."""
        entry = self.adversary.access(address)
        if entry == FAULT or (write and entry & READ_ONLY):
            return FAULT
        output = entry & 0xFFFF_FFFF_0000
        return output + address % (PAGE if entry & 2 else BLOCK)


@pytest.mark.parametrize("seed", range(20))
def test_what_the_model_answers_is_certain(seed: int) -> None:
    """300 random instructions, right and wrong, and 1,200 comparisons after those."""
    duel = Duel(seed)
    duel.run(300)
    assert duel.met["answered"] > 20
    assert duel.met["fault"] > 20
