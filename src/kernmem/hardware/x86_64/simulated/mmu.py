"""Registers, invalidations, stores to live tables, and accesses of the simulated processor."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

import numpy

from kernmem.hardware.simulation import (
    CHUNK_BITS,
    Access,
    SimulatedMmu,
    SimulatedRam,
    Translation,
)
from kernmem.hardware.x86_64.simulated.stale import Change, Stale, harmless
from kernmem.hardware.x86_64.simulated.walk import (
    ACCESSED,
    DIRTY,
    PAGE_SIZE,
    PRESENT,
    Fault,
    Leaf,
    P,
    Regime,
    Rights,
    Start,
    error_code,
    permitted,
    shift,
    walk,
)
from kernmem.language import ModelViolation, PageFault
from kernmem.memory.architecture import Region

PAGE_FAULT, GENERAL_PROTECTION = 14 << 32, 13 << 32  # vector << 32 | error code
ADDRESS = (1 << 52) - (1 << 12)

# CR0 (SDM 2.5): PG, WP, NE, ET, PE.  CR4: LA57, SMEP, SMAP, PGE, PAE.  EFER: NXE, LMA, LME.
WRITE_PROTECT, CR0_ON = 1 << 16, 1 << 31 | 0b110001
PAE, PGE, LA57, SMEP, SMAP = 1 << 5, 1 << 7, 1 << 12, 1 << 20, 1 << 21
NXE, EFER_ON = 1 << 11, 1 << 10 | 1 << 8
UNCACHEABLE = (2, 3, 6, 7)  # UC- and UC in IA32_PAT since reset (12.12.4)
BOOT_END = 1 << 32  # the boot code's table ends here


class Table(NamedTuple):
    """A table that walks from the root may come through."""

    base: int
    level: int
    start: int
    rights: Rights


class SimulatedX86(SimulatedMmu):
    """One processor in 64-bit mode, without PCIDs and protection keys.

    It begins as ``boot.S`` leaves it: paging is on, but by a table that is all linear, so that
    to the kernel the MMU is off (``enabled``) until the first MOV to CR3.
    """

    def __init__(
        self,
        ram: SimulatedRam,
        program: Region,
        *,
        levels: int = 4,
        physical_bits: int = 40,
        gigabyte_blocks: bool = False,
    ) -> None:
        self.enabled = False
        self._ram = ram
        self._program = program
        self._fixed = Regime(levels, physical_bits, gigabyte_blocks=gigabyte_blocks)
        self._registers = {
            "cr0": CR0_ON,
            "cr4": PAE | (LA57 if levels == 5 else 0),
            "efer": EFER_ON,
        }
        self._stale: list[Stale] = []
        self._live: dict[int, list[Table]] | None = {}  # by chunk; None: to be found again
        self._regime = self._current_regime()

    # Instructions -------------------------------------------------------------------------

    def execute(self, instruction: str, operand: int = 0) -> int:
        """Execute an invalidation, or an access to a register."""
        match instruction.replace(",", "").split():
            case ["invlpg"]:
                self._stale = [each for each in self._stale if each.survives_invlpg(operand)]
            case ["mov", "cr3"]:
                self._switch(operand)
            case ["mov", ("cr0" | "cr4") as register]:
                self._write(register, operand)
            case ["wrmsr", "0xc0000080"]:
                self._write("efer", operand)
            case ["mov", "r", ("cr0" | "cr3" | "cr4") as register]:
                return self._registers[register]
            case ["rdmsr", "0xc0000080"]:
                return self._registers["efer"]
            case _:
                raise ValueError(f"the simulated x86-64 processor does not know {instruction!r}")
        return 0

    def registers(self) -> dict[str, int]:
        """The control registers, and IA32_EFER."""
        return dict(self._registers)

    def _write(self, register: str, value: int) -> None:
        free = {"cr0": WRITE_PROTECT, "cr4": PGE | SMEP | SMAP, "efer": NXE}[register]
        changed = value ^ self._registers[register]
        if changed & ~free:
            raise ValueError(f"changing bits {changed & ~free:#x} of {register} is not simulated")
        self._registers[register] = value
        if register == "cr4" and changed & PGE:
            self._stale.clear()  # all of the TLB, global translations too (4.10.4.1)
        self._regime = self._current_regime()
        self._live = None
        self._ram.forget()

    def _current_regime(self) -> Regime:
        cr0, cr4, efer = (self._registers[name] for name in ("cr0", "cr4", "efer"))
        return self._fixed._replace(
            no_execute=bool(efer & NXE),
            write_protect=bool(cr0 & WRITE_PROTECT),
            smep=bool(cr4 & SMEP),
            smap=bool(cr4 & SMAP),
            global_pages=bool(cr4 & PGE),
        )

    def _switch(self, value: int) -> None:
        """MOV to CR3: all but global translations are dropped (4.10.4.1)."""
        if value >> self._regime.physical_bits or value & 0xFFF & ~0b11000:
            raise ModelViolation(
                "ROOT_ALIGN", f"CR3 becomes {value:#x}: the root must be a page that exists"
            )
        kept = []
        if self.enabled and self._regime.global_pages:
            kept = [each for each in self._stale if each.is_global]
            for tables in self._live_tables().values():
                for table in tables:
                    kept += self._globals(table)
        self._stale = kept
        self._registers["cr3"] = value
        self._live = None
        self.enabled = True
        self._ram.forget()
        self._check_program()

    def _check_program(self) -> None:
        """After a change of tables the program must still be where it was."""
        for address, access in (
            (self._program.start, Access.EXECUTE),
            (self._program.end - 0x1000, Access.WRITE),
        ):
            try:
                physical = self.translate(address, access).physical
            except PageFault as fault:
                raise ModelViolation(
                    "SELF_UNMAP", f"the running program is not in the new table: {fault}"
                ) from None
            if physical != address:
                raise ModelViolation(
                    "SELF_UNMAP",
                    f"the running program, at {address:#x}, is at {physical:#x} in the new table: "
                    "map it linearly in every one",
                )

    # Live tables --------------------------------------------------------------------------

    @property
    def _root(self) -> Table:
        return Table(self._registers["cr3"] & ADDRESS, self._regime.levels - 1, 0, Rights())

    def _load(self, place: int) -> int:
        return int.from_bytes(self._ram.peek(place, 8), "little")

    def _live_tables(self) -> dict[int, list[Table]]:
        """The tables that walks from the root may come through, by the chunk that they fill."""
        if self._live is None:
            self._live = {}
            for table in self._reachable(self._root):
                self._live.setdefault(table.base >> CHUNK_BITS, []).append(table)
        return self._live

    def _reachable(self, table: Table) -> Iterator[Table]:
        yield table
        if table.level == 0:
            return
        for start, entry in self._entries(table):
            if not entry & PAGE_SIZE and not self._regime.reserved(entry, table.level):
                rights = table.rights.through(entry)
                yield from self._reachable(Table(entry & ADDRESS, table.level - 1, start, rights))

    def _entries(self, table: Table) -> Iterator[tuple[int, int]]:
        """The present entries of a table: (first address, value)."""
        entries = numpy.frombuffer(self._ram.peek(table.base, 0x1000), "<u8")
        for index in numpy.flatnonzero(entries & PRESENT).tolist():
            yield self._address(table.start, index, table.level), int(entries[index])

    def _address(self, start: int, index: int, level: int) -> int:
        """The first address of an entry, in canonical form."""
        address = start + (index << shift(level))
        top = 12 + 9 * self._regime.levels
        if address >> top - 1 & 1:
            address |= (1 << 64) - (1 << top)
        return address

    def _leaves(self, table: Table) -> Iterator[Leaf]:
        """The translations of a table that may be cached."""
        for start, entry in self._entries(table):
            cached = self._regime.cacheable(entry, table.level)
            if cached and (table.level == 0 or entry & PAGE_SIZE):
                found = walk(self._regime, Start(*table[:2], table.rights), start, self._load)
                assert isinstance(found, Leaf)
                yield found

    def _globals(self, table: Table) -> list[Stale]:
        return [
            Stale(leaf.start, leaf.length, None, leaf)
            for leaf in self._leaves(table)
            if leaf.is_global
        ]

    # Stores -------------------------------------------------------------------------------

    def before_store(self, physical: int, new: bytes) -> bool:
        """Hear of a store; True if later ones to the same chunk need not be heard of."""
        if not self.enabled:
            return True
        number = physical >> CHUNK_BITS
        tables = self._live_tables().get(number)
        freed = next((each for each in self._stale if number in each.tables), None)
        if tables is None and freed is None:
            return True
        old = self._ram.peek(physical, len(new))
        if old == new:
            return False
        what = f"storing {len(new)} bytes at {physical:#x}"
        if tables is None:
            assert freed is not None
            raise freed.freed(what)
        if physical % 8 or len(new) % 8:
            raise ModelViolation(
                "TORN_ENTRY",
                f"{what} changes part of an entry of the live table {physical & ~0xFFF:#x}: store "
                "all 8 bytes at once",
            )
        self._ram.forget()
        for offset in range(0, len(new), 8):
            before = int.from_bytes(old[offset : offset + 8], "little")
            after = int.from_bytes(new[offset : offset + 8], "little")
            if before != after:
                for table in tables:
                    self._change(table, physical + offset, before, after)
        return False

    def _change(self, table: Table, place: int, old: int, new: int) -> None:
        level = table.level
        start = self._address(table.start, (place - table.base) // 8, level)
        change = Change(place, level, start, old, new)
        if not new & PRESENT:
            self._check_self(change)
        was_table = level > 0 and bool(old & PRESENT) and not old & PAGE_SIZE
        if was_table or (level > 0 and new & PRESENT and not new & PAGE_SIZE):
            self._live = None
        if not self._regime.cacheable(old, level) or harmless(old, new, table=was_table):
            return
        rights = table.rights.through(old)
        if not was_table:
            found = walk(self._regime, Start(*table[:2], table.rights), start, self._load)
            assert isinstance(found, Leaf)
            self._stale.append(Stale(start, change.length, change, found))
            return
        below = list(self._reachable(Table(old & ADDRESS, level - 1, start, rights)))
        self._stale.append(
            Stale(
                start,
                change.length,
                change,
                table=Start(old & ADDRESS, level - 1, rights),
                tables=frozenset(each.base >> CHUNK_BITS for each in below),
            )
        )
        for each in below:
            self._stale += [
                Stale(leaf.start, leaf.length, change, leaf) for leaf in self._leaves(each)
            ]

    def _check_self(self, change: Change) -> None:
        """The code that runs, its stack and its variables must stay mapped."""
        if change.start < self._program.end and self._program.start < change.start + change.length:
            raise ModelViolation(
                "SELF_UNMAP",
                f"the running program is at {self._program.start:#x} to {self._program.end:#x}: "
                f"{change}",
            )

    # Accesses -----------------------------------------------------------------------------

    def translate(
        self, address: int, access: Access, size: int = 1, *, user: bool = False
    ) -> Translation:
        """Translate an access; PageFault if the MMU refuses, ModelViolation if it might."""
        if not self._regime.is_canonical(address):
            reason = "general protection: the address is not canonical"
            raise PageFault(address, access.name.lower(), reason, GENERAL_PROTECTION)
        if not self.enabled:
            if address >= BOOT_END:
                self._fault(address, access, Fault(0, 0, "not in the boot code's table"), user)
            return Translation(address, True, True)
        start = Start(*self._root[:2])
        places: list[int] = []

        def load(place: int) -> int:
            places.append(place)
            return self._load(place)

        now = self._judge(walk(self._regime, start, address, load), access, user)
        stale = [each for each in self._stale if each.serves(address)]
        for each in stale:
            then = self._judge(each.end(self._regime, address, self._load), access, user)
            self._compare(each, now, then, address, access, user)
        if isinstance(now, Fault):
            self._note(places[:-1], Access.READ)  # the entries that led there were used
            self._fault(address, access, now, user)
        self._note(places, access)
        return Translation(now.physical, now.memory_type not in UNCACHEABLE, not stale)

    def _judge(self, end: Fault | Leaf, access: Access, user: bool) -> Fault | Leaf:
        """What an access meets at the end of a walk: memory, or a fault."""
        if isinstance(end, Leaf) and not permitted(self._regime, end.rights, access, user=user):
            return Fault(P, end.level, f"permission, level {end.level}")
        return end

    def _compare(
        self,
        stale: Stale,
        now: Fault | Leaf,
        then: Fault | Leaf,
        address: int,
        access: Access,
        user: bool,
    ) -> None:
        """Raise if an access by a cached value differs from one by what memory says."""
        use = f"{access.name.lower()} of {address:#x}"
        if isinstance(then, Fault):
            if isinstance(now, Leaf):
                # Allowed where rights were added (4.10.4.3): one fault, which drops the old value.
                self._fault(address, access, then, user)
        elif isinstance(now, Fault) or now[:2] != then[:2]:
            raise stale.violation(use)
        elif access is Access.WRITE and then.dirty and not now.dirty:
            raise stale.violation(use, dirty=True)

    def _note(self, places: list[int], access: Access) -> None:
        """Set A in every entry that was used, and D in the leaf if it was written to (4.8)."""
        for place in places:
            entry = self._load(place)
            noted = entry | ACCESSED
            if access is Access.WRITE and place == places[-1]:
                noted |= DIRTY
            if noted != entry:
                self._ram.poke(place, noted.to_bytes(8, "little"))

    def _fault(self, address: int, access: Access, fault: Fault, user: bool) -> NoReturn:
        self._stale = [each for each in self._stale if each.survives_fault(address)]
        code = error_code(self._regime, fault.code, access, user=user)
        raise PageFault(
            address, access.name.lower(), f"page fault: {fault.reason}", PAGE_FAULT | code
        )

    # The whole state ----------------------------------------------------------------------

    def snapshot(self) -> Any:
        """A deep copy of the state, without the RAM."""
        state = {name: value for name, value in vars(self).items() if name != "_ram"}
        return copy.deepcopy(state)

    def restore(self, state: Any) -> None:
        """Go back to a snapshot, which stays good for another time."""
        vars(self).update(copy.deepcopy(state))
