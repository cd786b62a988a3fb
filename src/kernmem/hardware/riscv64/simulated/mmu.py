"""Registers, fences and address spaces of the simulated hart."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from kernmem.hardware.reuse import check_frames
from kernmem.hardware.riscv64.simulated.stale import Kept, Stale, StoreOrder
from kernmem.hardware.riscv64.simulated.tables import LiveTables
from kernmem.hardware.riscv64.simulated.walk import (
    Fault,
    FaultKind,
    Leaf,
    Scheme,
    V,
    leaf_place,
    refusal,
    walk,
)
from kernmem.hardware.simulation import (
    CHUNK_BITS,
    Access,
    SimulatedMmu,
    SimulatedRam,
    Translation,
)
from kernmem.language import ModelViolation, PageFault
from kernmem.memory.architecture import Region

LEVELS = {8: 3, 9: 4, 10: 5}  # satp.MODE
SUM, MXR = 1 << 18, 1 << 19  # sstatus
SATP_PPN, ASID_SHIFT, ASID_BITS = (1 << 44) - 1, 44, 16


class SimulatedRiscv64(SimulatedMmu):
    """One hart in supervisor mode.

    Of a space that was left something may be cached, under its ASID, until a fence for that.  With
    ``asid_bits`` (ASIDLEN) 0, all spaces have the same.  What of it is global may be cached until a
    fence for all spaces.

    Attributes:
        log: called with a line for each instruction and each store to a live table.
    """

    def __init__(
        self,
        ram: SimulatedRam,
        program: Region,
        *,
        levels: int = 5,
        physical_bits: int = 56,
        asid_bits: int = ASID_BITS,
    ) -> None:
        self.log: Callable[[str], None] | None = None
        self.enabled = False
        self._ram = ram
        self._program = program
        self._levels = levels  # the most that the hart has
        self._physical_bits = physical_bits
        self._asid_mask = (1 << asid_bits) - 1
        self._satp = 0  # as the boot code leaves it: Bare
        self._sstatus = 0
        self._fenced = False  # since reset, which leaves the caches unknown
        self._order = StoreOrder(ram)
        self._tables: LiveTables | None = None
        self._left: list[LiveTables] = []  # spaces left, of which something may be cached
        self._roots: dict[int, tuple[int, Scheme]] = {}  # what was last entered under an ASID
        self._kept: set[Kept] = set()

    # Instructions -------------------------------------------------------------------------

    def execute(self, instruction: str, operand: int = 0) -> int:
        """Execute a fence or an access to a register.

        ``sfence.vma`` names for each operand the register ``zero``, or the number in another one.
        """
        if self.log is not None:
            self.log(f"{instruction} {operand:#x}" if operand else instruction)
        verb, _, what = instruction.partition(" ")
        if verb == "sfence.vma":
            address, asid = (None if each == "zero" else int(each, 16) for each in what.split(", "))
            self._fence(address, None if asid is None else asid & self._asid_mask)
        elif instruction == "csrw satp":
            self._write_satp(operand)
        elif instruction == "csrr satp":
            return self._satp
        elif instruction == "csrs sstatus":
            self._write_sstatus(self._sstatus | operand)
        elif instruction == "csrc sstatus":
            self._write_sstatus(self._sstatus & ~operand)
        else:
            raise ValueError(f"the simulated RISC-V hart does not know {instruction!r}")
        return 0

    def _fence(self, address: int | None, asid: int | None) -> None:
        """Forget what the fence is about, and make the stores before it visible to walks."""
        if address is None:
            self._order.fence(asid)
            self._fenced |= asid is None
            self._left = [each for each in self._left if asid not in (None, each.asid)]
            self._ram.forget_writes()
        if asid is None:
            self._kept = {
                each for each in self._kept if address is not None and not each.serves(address)
            }
        for tables in self._spaces():
            tables.fence(address, every_space=asid is None, this_space=tables.asid == asid)
        if address is not None:
            for known, (root, scheme) in self._roots.items():
                if asid in (None, known):
                    self._order.fence_leaf(leaf_place(scheme, root, address, self._ram), asid)

    def _spaces(self) -> Iterator[LiveTables]:
        """The space in use, and those that were left."""
        if self._tables is not None:
            yield self._tables
        yield from self._left

    # Registers ----------------------------------------------------------------------------

    def registers(self) -> dict[str, int]:
        """The registers that rule the translation."""
        return {"satp": self._satp, "sstatus": self._sstatus}

    def _write_sstatus(self, value: int) -> None:
        self._sstatus = value & (SUM | MXR)
        self._ram.forget()  # SUM and MXR count at once, without a fence

    def _write_satp(self, value: int) -> None:
        mode = value >> 60
        if mode != 0 and LEVELS.get(mode, 99) > self._levels:
            return  # a mode that the hart does not have: the whole write is void
        if mode == 0 and value != 0:
            raise ModelViolation("SATP", f"satp is {value:#x}: in mode Bare all else must be 0")
        asid = value >> ASID_SHIFT & self._asid_mask
        self._satp = mode << 60 | asid << ASID_SHIFT | value & SATP_PPN
        self._ram.forget()
        if mode == 0:
            self._leave()
            self._tables = None
            self.enabled = False
            return
        if not self._fenced:
            raise ModelViolation(
                "RESET_TLB",
                "translation is turned on, but what reset left in the caches is unknown; missing: "
                "SFENCE.VMA x0, x0",
            )
        self._enter((value & SATP_PPN) << 12, asid, Scheme(LEVELS[mode], self._physical_bits))

    def _leave(self) -> None:
        if self._tables is not None:
            self._kept.update(self._tables.global_leaves())
            self._tables.left = True
            self._left.append(self._tables)

    def _enter(self, root: int, asid: int, scheme: Scheme) -> None:
        """Translate by another root from the next instruction on."""
        current = self._tables
        if current is not None and (current.root, current.asid, current.scheme) == (
            root,
            asid,
            scheme,
        ):
            return
        again = [each for each in self._left if (each.root, each.asid) == (root, asid)]
        before = again[0] if again else None
        tables = LiveTables(self._ram, scheme, root, asid, self._order, before)
        self._check_program(tables)
        if before is not None:
            self._left.remove(before)
        self._leave()
        self._roots[asid] = root, scheme
        self._tables = tables
        self.enabled = True

    def _check_program(self, tables: LiveTables) -> None:
        """The program must be where it is, for the next instruction to be fetched and to work."""
        for address, access in (
            (self._program.start, Access.EXECUTE),
            (self._program.end - 0x1000, Access.WRITE),
        ):
            found = walk(tables.scheme, tables.root, address, tables.values)[0]
            end = self._judge(found.end, access, user=False)
            if isinstance(end, Fault) or end.physical != address:
                what = end.reason if isinstance(end, Fault) else f"it is at {end.physical:#x}"
                raise ModelViolation(
                    "SELF_UNMAP",
                    f"the running program, at {address:#x}, is not there in the new address space: "
                    f"{access.name.lower()}: {what}",
                )

    # Stores -------------------------------------------------------------------------------

    def before_store(self, physical: int, new: bytes) -> bool:
        """Hear of a store; True if later ones to the same chunk need not be heard of."""
        number = physical >> CHUNK_BITS
        self._order.store(number)
        if self._tables is not None:
            near = self._tables.stale.leading_to(physical, len(new))
            check_frames(near, physical, new, self._tables.now)
        watched = False
        for tables in self._spaces():
            table = tables.by_chunk.get(number)
            if table is not None:
                watched = True
                tables.store(table, physical, new)
                if tables is self._tables:
                    self._check_self(tables.stale.at(physical)[-1:])
        if watched:
            if self.log is not None:
                self.log(f"store {int.from_bytes(new, 'little'):#x} at {physical:#x}, a live table")
            self._ram.forget()
        return not watched

    def _check_self(self, changed: Sequence[Stale]) -> None:
        """The code that runs, its stack and its variables must stay mapped."""
        for each in changed:
            end = each.start + each.length
            if not each.new & V and each.start < self._program.end and self._program.start < end:
                raise ModelViolation(
                    "SELF_UNMAP",
                    f"storing {each.new:#x} over {each.old:#x} in the entry at {each.place:#x} "
                    f"(level {each.level}, for {each.start:#x} to {end:#x}) unmaps the running "
                    f"program, {self._program.start:#x} to {self._program.end:#x}: change it from "
                    "another address space",
                )

    # Translation --------------------------------------------------------------------------

    def translate(
        self, address: int, access: Access, size: int = 1, *, user: bool = False
    ) -> Translation:
        """Translate an access; PageFault if the MMU refuses, ModelViolation if it might."""
        if self._tables is None:
            if address >> self._physical_bits:
                fault = Fault(FaultKind.ACCESS, "the address is outside physical memory")
                self._fault(address, access, fault)
            return Translation(address, True, True)
        tables = self._tables
        outcomes = walk(tables.scheme, tables.root, address, tables.values)
        first = self._judge(outcomes[0].end, access, user)
        use = f"{access.name.lower()} of {address:#x}"
        for outcome in outcomes[1:]:
            if outcome.old is not None and _differ(first, self._judge(outcome.end, access, user)):
                raise outcome.old.violation(use)
        used = [each for each in self._left if each.asid == tables.asid]
        for left in used:
            self._check_left(left, address, access, user, first)
        for kept in self._kept:
            if kept.serves(address):
                self._check_kept(kept, address, access, user, first)
        if isinstance(first, Fault):
            self._fault(address, access, first)
        return Translation(first.physical, True, len(outcomes) == 1 and not used)

    def _judge(self, end: Fault | Leaf, access: Access, user: bool) -> Fault | Leaf:
        """What an access meets at the end of a walk: memory, or a fault."""
        if isinstance(end, Fault):
            return end
        reason = refusal(
            end,
            access,
            user=user,
            sum_=bool(self._sstatus & SUM),
            mxr=bool(self._sstatus & MXR),
        )
        return end if reason is None else Fault(FaultKind.PAGE, reason, end.level)

    def _check_left(
        self, left: LiveTables, address: int, access: Access, user: bool, now: Fault | Leaf
    ) -> None:
        """Whether what is cached of a space that was left would make a difference."""
        for outcome in walk(left.scheme, left.root, address, left.values):
            if _differ(now, self._judge(outcome.end, access, user)):
                raise ModelViolation(
                    "ASID_ALIAS",
                    f"{access.name.lower()} of {address:#x} may use the tables behind "
                    f"{left.root:#x}, which were left, as what is cached of them has ASID "
                    f"{left.asid:#x}; missing: SFENCE.VMA x0, rs2 after the write to satp",
                )

    def _check_kept(
        self, kept: Kept, address: int, access: Access, user: bool, now: Fault | Leaf
    ) -> None:
        """Whether a global translation of a space that was left would make a difference."""
        if _differ(now, self._judge(kept.end(address), access, user)):
            raise ModelViolation(
                "GLOBAL_LEAK",
                f"{access.name.lower()} of {address:#x}: a space that was left had a global "
                f"translation of {kept.start:#x} to {kept.start + kept.length:#x}, at "
                f"{kept.leaf.physical:#x}, which may be in use, and the current tables say "
                "otherwise; missing: SFENCE.VMA va, x0, or the same in both",
            )

    def _fault(self, address: int, access: Access, fault: Fault) -> NoReturn:
        reason = fault.reason if fault.level is None else f"{fault.reason} (level {fault.level})"
        raise PageFault(address, access.name.lower(), reason, fault.kind.cause(access))

    # The whole state ----------------------------------------------------------------------

    def snapshot(self) -> Any:
        """All state, copied."""
        return copy.deepcopy(self._state(), {id(self._ram): self._ram})

    def restore(self, state: Any) -> None:
        """Go back to a snapshot."""
        vars(self).update(copy.deepcopy(state, {id(self._ram): self._ram}))

    def _state(self) -> dict[str, Any]:
        fixed = ("log", "_ram", "_program", "_levels", "_physical_bits", "_asid_mask")
        return {name: value for name, value in vars(self).items() if name not in fixed}


def _differ(first: Fault | Leaf, other: Fault | Leaf) -> bool:
    """Whether two ends mean something different to an access.

    Of two faults of one kind, the cause is the same, and that is all that software can see.
    """
    if isinstance(first, Fault) or isinstance(other, Fault):
        return not (
            isinstance(first, Fault) and isinstance(other, Fault) and first.kind is other.kind
        )
    return first.physical != other.physical
