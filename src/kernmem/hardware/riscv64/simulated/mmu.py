"""Registers, fences and address spaces of the simulated hart."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NoReturn

from kernmem.hardware.riscv64.simulated.tables import LiveTables, Stale
from kernmem.hardware.riscv64.simulated.walk import (
    Fault,
    FaultKind,
    Leaf,
    Outcome,
    Scheme,
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
SATP_PPN = (1 << 44) - 1


class SimulatedRiscv64(SimulatedMmu):
    """One hart in supervisor mode, without ASIDs (ASIDLEN = 0): the least that a core may have.

    The ASID in satp reads as 0, and what a fence says in rs2 is only whether it is x0.

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
    ) -> None:
        self.log: Callable[[str], None] | None = None
        self.enabled = False
        self._ram = ram
        self._program = program
        self._levels = levels  # the most that the hart has
        self._physical_bits = physical_bits
        self._satp = 0  # as the boot code leaves it: Bare
        self._sstatus = 0
        self._fenced = False  # since reset, which leaves the caches unknown
        self._unordered: set[int] = set()  # chunks stored to since the last fence for all
        self._tables: LiveTables | None = None
        self._left: list[LiveTables] = []  # spaces left, of which something may be cached

    # Instructions -------------------------------------------------------------------------

    def execute(self, instruction: str, operand: int = 0) -> int:
        """Execute a fence or an access to a register.

        The operand of ``sfence.vma`` is the address in rs1, if the instruction names ``va``.
        """
        if self.log is not None:
            self.log(f"{instruction} {operand:#x}" if operand else instruction)
        verb, _, what = instruction.partition(" ")
        if verb == "sfence.vma":
            rs1, rs2 = what.split(", ")
            self._fence(None if rs1 == "zero" else operand, every_space=rs2 == "zero")
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

    def _fence(self, address: int | None, *, every_space: bool) -> None:
        """Forget what the fence is about, and make the stores before it visible to walks.

        A fence for one space is not about global entries, so after it stores to tables, which
        may be global ones, still count as not ordered.
        """
        if address is None and every_space:
            self._fenced = True
            self._unordered.clear()
            self._ram.forget_writes()
            self._left.clear()
        elif address is None:
            self._left = [each for each in self._left if each.has_global]
            for left in self._left:
                left.only_global = True
        if self._tables is not None:
            self._tables.fence(address, every_space=every_space)

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
        self._satp = mode << 60 | value & SATP_PPN
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
        self._enter((value & SATP_PPN) << 12, Scheme(LEVELS[mode], self._physical_bits))

    def _leave(self) -> None:
        if self._tables is not None:
            self._left = [each for each in self._left if each.root != self._tables.root]
            self._left.append(self._tables)

    def _enter(self, root: int, scheme: Scheme) -> None:
        """Translate by another root from the next instruction on."""
        current = self._tables
        if current is not None and (current.root, current.scheme) == (root, scheme):
            return
        tables = LiveTables(self._ram, scheme, root, self._unordered)
        self._check_program(tables)
        self._leave()
        self._tables = tables
        again = [each for each in self._left if each.root == root]
        if again:  # old values that were cached when it was current before are cached still
            tables.stale.update(again[0].stale)
            self._left.remove(again[0])
        self.enabled = True

    def _check_program(self, tables: LiveTables) -> None:
        """The program must be where it is, for the next instruction to be fetched and to work."""
        for address, access in (
            (self._program.start, Access.EXECUTE),
            (self._program.end - 0x1000, Access.WRITE),
        ):
            found = walk(tables.scheme, tables.root, address, tables.values)[0]
            end = self._judge(found, access, user=False)
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
        self._unordered.add(number)
        watched = False
        for tables in (self._tables, *self._left):
            table = None if tables is None else tables.by_chunk.get(number)
            if tables is not None and table is not None:
                watched = True
                tables.store(table, physical, new)
        if watched:
            if self.log is not None:
                self.log(f"store {int.from_bytes(new, 'little'):#x} at {physical:#x}, a live table")
            self._ram.forget()
        return not watched

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
        first = self._judge(outcomes[0], access, user)
        use = f"{access.name.lower()} of {address:#x}"
        for outcome in outcomes[1:]:
            if outcome.old is not None and _differ(first, self._judge(outcome, access, user)):
                raise outcome.old.violation(use)
        for left in self._left:
            self._check_left(left, address, access, user, first)
        if isinstance(first, Fault):
            self._fault(address, access, first)
        return Translation(first.physical, True, len(outcomes) == 1 and not self._left)

    def _judge(self, outcome: Outcome[Stale], access: Access, user: bool) -> Fault | Leaf:
        """What an access meets at the end of a walk: memory, or a fault."""
        end = outcome.end
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
            if left.only_global and not (isinstance(outcome.end, Leaf) and outcome.end.is_global):
                continue
            if not _differ(now, self._judge(outcome, access, user)):
                continue
            raise ModelViolation(
                "ASID_ALIAS",
                f"{access.name.lower()} of {address:#x} may use the tables behind {left.root:#x}, "
                "which were left, as all spaces have the same ASID; missing: SFENCE.VMA x0, rs2 "
                "after the write to satp; x0 for rs2 if global entries differ",
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
        fixed = ("log", "_ram", "_program", "_levels", "_physical_bits")
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
