"""What walks may use besides what memory holds: old values, and global leaves of other spaces."""

from __future__ import annotations

from dataclasses import dataclass

from kernmem.hardware.riscv64.simulated.walk import G, Leaf, V, is_pointer
from kernmem.hardware.simulation import CHUNK, CHUNK_BITS, SimulatedRam
from kernmem.language import ModelViolation


@dataclass(frozen=True, eq=False)
class Stale:
    """An old value of an entry, which walks may use although memory holds another.

    Attributes:
        place: the physical address of the entry.
        start, length: the addresses that it translates.
        is_global: whether the old or the new value is a global one.
        frames: the translations that may be cached of it: first address, length, physical address.
    """

    place: int
    level: int
    start: int
    length: int
    old: int
    new: int
    is_global: bool
    frames: tuple[tuple[int, int, int], ...] = ()

    @property
    def of_leaf(self) -> bool:
        """Whether a fence for one address is about it: no table is led to, before or after."""
        return not is_pointer(self.old) and not is_pointer(self.new)

    def survives(self, address: int | None, *, every_space: bool, this_space: bool) -> bool:
        """Whether a fence leaves it: one for an address, for all spaces or only for one."""
        if not every_space and (self.is_global or not this_space):
            return True
        if address is None:
            return False
        return not self.of_leaf or not self.start <= address < self.start + self.length

    def violation(self, use: str) -> ModelViolation:
        """The error for a use that depends on it."""
        fence = "SFENCE.VMA va, x0" if self.of_leaf else "SFENCE.VMA x0, x0"
        rule = "STALE_TRANSLATION" if self.of_leaf else "WALK_CACHE_STALE"
        if not self.old & V:
            rule = "INVALID_CACHED"
        return ModelViolation(
            rule,
            f"{use}: the entry at {self.place:#x} (level {self.level}, for {self.start:#x} to "
            f"{self.start + self.length:#x}) was changed from {self.old:#x} to {self.new:#x}, and "
            f"the old value may still be in use; missing: {fence} after the store",
        )

    def freed(self, use: str) -> ModelViolation:
        """The error for a use of a table that it led to, and that walks may still read."""
        facts = self.violation("a walk").facts
        return ModelViolation(
            "TABLE_FREED_LIVE", f"{use}, a table that was unlinked but is in use: {facts}"
        )


@dataclass(frozen=True)
class Kept:
    """A global translation of a space that was left: it counts in every space.

    Attributes:
        start, length: the addresses that it translates.
        leaf: where the walk for the first of them ended.
    """

    start: int
    length: int
    leaf: Leaf

    def serves(self, address: int) -> bool:
        """Whether it translates ``address``."""
        return self.start <= address < self.start + self.length

    def end(self, address: int) -> Leaf:
        """Where the walk for ``address`` ended."""
        return self.leaf._replace(physical=self.leaf.physical + address - self.start)


class StoreOrder:
    """What walks are sure to see: the stores before a fence that is about the walk.

    A fence for all addresses is about every entry, one for an address about the leaf of that only.
    So for each ASID it is kept what walks see of the chunks stored to since the last of the former.
    """

    def __init__(self, ram: SimulatedRam) -> None:
        self._ram = ram
        # By ASID.  None: global entries, and spaces that had no fence of their own.
        self._seen: dict[int | None, dict[int, bytes]] = {None: {}}

    def fence(self, asid: int | None) -> None:
        """A fence for all addresses, of one space or of all."""
        if asid is None:
            self._seen.clear()
        self._seen[asid] = {}

    def fence_leaf(self, place: int, asid: int | None) -> None:
        """A fence for an address whose leaf is at ``place``, in one space or in all."""
        if asid is not None:
            self._seen.setdefault(asid, dict(self._seen[None]))
        chunk, offset = divmod(place, CHUNK)
        new = self._ram.peek(place, 8)
        for known, chunks in self._seen.items():
            seen = chunks.get(chunk)
            if seen is not None and (
                asid is None or (asid == known and not (seen[offset] | new[0]) & G)
            ):
                chunks[chunk] = seen[:offset] + new + seen[offset + 8 :]

    def store(self, chunk: int) -> None:
        """A store to a chunk of RAM, before it is done."""
        for chunks in self._seen.values():
            if chunk not in chunks:
                chunks[chunk] = self._ram.peek(chunk << CHUNK_BITS, CHUNK)

    def is_visible(self, chunk: int, asid: int, *, is_global: bool) -> bool:
        """Whether walks for an ASID see it; a fence for one space is not about global entries."""
        seen = self._seen[None if is_global or asid not in self._seen else asid].get(chunk)
        return seen is None or seen == self._ram.peek(chunk << CHUNK_BITS, CHUNK)
