"""What the simulated cores of Arm's processors do alike: barriers, stores and translations."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic, NamedTuple, NoReturn, Protocol, TypeVar

from kernmem.hardware.reuse import check_frames
from kernmem.hardware.simulation import (
    CHUNK_BITS,
    Access,
    SimulatedMmu,
    SimulatedRam,
    Translation,
)
from kernmem.hardware.vmsa.kept import Kept, KeptLeaves
from kernmem.hardware.vmsa.regime import TranslationRegime
from kernmem.hardware.vmsa.spaces import LeftSpaces
from kernmem.hardware.vmsa.stale import Invalidation, Maintenance, Stale, Step
from kernmem.hardware.vmsa.tables import LiveTables
from kernmem.language import ModelViolation, PageFault
from kernmem.memory.architecture import Region

DOMAINS = ("ish", "nsh", "osh", "sy", "")
UNALIGNED = "alignment fault: device memory, or all memory with the MMU off, must be aligned"


class Refusal(Protocol):
    """What an access meets instead of memory.

    Attributes:
        status: the manual's code for it.
    """

    @property
    def status(self) -> int: ...
    @property
    def reason(self) -> str: ...


class Memory(Protocol):
    """What an access meets at the end of a walk that it may follow."""

    @property
    def physical(self) -> int: ...
    @property
    def not_global(self) -> bool: ...


class Outcome(NamedTuple):
    """One possible end of a walk, and the old value that it needed, if any."""

    end: Any  # of the kinds that the core's own walk makes
    stale: Stale | None

    @property
    def is_global(self) -> bool:
        """Whether it is memory, for every address space."""
        return not getattr(self.end, "not_global", True)


R = TypeVar("R", bound=TranslationRegime)


class SimulatedCore(SimulatedMmu, Generic[R]):
    """One core in the kernel's mode, and its TLB.

    Subclasses give the registers, the walk, and what it means for an access.

    Attributes:
        log: called with a line for each instruction and each store to a live table.
    """

    CONTEXT: ClassVar[tuple[str, ...]]
    """The registers that rule translations; an ISB must follow a write to one."""
    CONTROL: ClassVar[str]
    """The one that turns the MMU and the caches on."""
    MMU_ON, ALIGNMENT_CHECK = 1 << 0, 1 << 1

    def __init__(self, ram: SimulatedRam, program: Region, control: int) -> None:
        self.log: Callable[[str], None] | None = None
        self.enabled = False
        self._ram = ram
        self._program = program
        self._registers: dict[str, int] = {self.CONTROL: control}
        self._unsynchronized: set[str] = set()  # registers written since the last ISB
        self._unordered: set[int] = set()  # chunks stored to since the last DSB
        # What reset left unknown (D8.16.2, I_GWZWM), until it is invalidated.
        self._reset: dict[str, Maintenance] = {"TLB": Maintenance(), "fetches": Maintenance()}
        self._kept = KeptLeaves()
        self._left = LeftSpaces()
        self._tables: LiveTables[R] | None = None

    # Barriers -----------------------------------------------------------------------------

    def _dsb(self, kind: str) -> None:
        domain = kind.removesuffix("st")
        if domain not in DOMAINS:
            raise ValueError(f"the simulated core does not know 'dsb {kind}'")
        if self._unordered:
            self._unordered.clear()
            self._ram.forget_writes()
        if self._tables is not None:
            self._tables.order()
        for kept in self._kept:
            kept.order()
        if not kind.endswith("st"):
            if self._tables is not None:
                self._tables.complete(domain)
            for doubt in (*self._reset.values(), *self._left.all(), *self._kept):
                doubt.complete(domain)

    def _isb(self) -> None:
        if self._tables is not None:
            self._tables.synchronize()
        for name in [name for name, doubt in self._reset.items() if doubt.synchronizable]:
            del self._reset[name]
        self._left.synchronize()
        self._kept.synchronize()
        written, self._unsynchronized = self._unsynchronized, set()
        if self.enabled and not written.isdisjoint(self.CONTEXT):
            self._enter(written)
            self._check_program()

    def _enter(self, written: set[str]) -> None:
        """What else an ISB after writes to these registers means."""

    def _invalidate(self, operation: Invalidation) -> None:
        """A TLBI: of what reset left, if it is about everything, and of all spaces."""
        if operation.address is None and operation.asid is None and "TLB" in self._reset:
            self._reset["TLB"].begin(broadcast=operation.broadcast)
        self._left.invalidate(operation)
        for kept in self._kept:
            kept.invalidate(operation)
        if self._tables is not None:
            self._tables.invalidate(operation)

    def _require_clean_tlb(self, invalidation: str) -> None:
        """Before the MMU goes on: nothing unknown may be cached."""
        doubt = self._reset.get("TLB")
        if doubt is not None:
            missing = {Step.ORDERED: f"{invalidation}, DSB NSH and ISB"}.get(
                doubt.step, f"DSB NSH and ISB after the {invalidation}"
            )
            raise ModelViolation(
                "RESET_TLB",
                "the MMU is turned on, but what the TLB holds since reset is unknown; "
                f"missing: {missing}",
            )

    # Registers ----------------------------------------------------------------------------

    def registers(self) -> dict[str, int]:
        """The system registers that have a known value."""
        return dict(self._registers)

    def _read(self, register: str) -> int:
        if register not in self._registers:
            raise ModelViolation(
                "RESET_REGISTER", f"{register} is read, but unknown since reset: write it first"
            )
        return self._registers[register]

    def _require_synchronized(self, registers: Sequence[str]) -> None:
        """Before the MMU goes on: what rules it is known, and in effect."""
        for register in registers:
            self._read(register)
            if register in self._unsynchronized:
                raise ModelViolation(
                    "NO_CONTEXT_SYNC",
                    f"the MMU is turned on before the write to {register} is sure to have had its "
                    "effect; missing: ISB",
                )

    def _keep_global(self, tables: LiveTables[R]) -> None:
        """Before the address space changes: what of it every other one may use."""
        for address in tables.global_addresses():
            for outcome in self._walk(tables, address):
                if outcome.is_global:
                    self._kept.keep(Kept.of(outcome.end, address, outcome.stale))

    # Stores -------------------------------------------------------------------------------

    def before_store(self, physical: int, new: bytes) -> bool:
        """Hear of a store; True if later ones to the same chunk need not be heard of."""
        number = physical >> CHUNK_BITS
        self._unordered.add(number)
        if self._tables is None:
            return True
        heard = self._left.store(physical, new)
        check_frames(self._tables.stale.leading_to(physical, len(new)), physical, new, self._now)
        table = self._tables.by_chunk.get(number)
        if table is None:
            return not heard
        if self.log is not None:
            self.log(f"store {int.from_bytes(new, 'little'):#x} at {physical:#x}, a live table")
        self._tables.store(table, physical, new)
        self._ram.forget()
        return False

    # Translation --------------------------------------------------------------------------

    def translate(
        self, address: int, access: Access, size: int = 1, *, user: bool = False
    ) -> Translation:
        """Translate an access; PageFault if the MMU refuses, ModelViolation if it might."""
        if self._unsynchronized and not self._unsynchronized.isdisjoint(self.CONTEXT):
            self._check_synchronized(address, access)
        if self._tables is None:
            return self._flat(address, access, size, user)
        outcomes = self._walk(self._tables, address)
        first = self._judge(outcomes[0].end, access, user)
        for outcome in outcomes[1:]:
            if outcome.stale is not None and self._differ(
                first, self._judge(outcome.end, access, user)
            ):
                raise outcome.stale.violation(f"{access.name.lower()} of {address:#x}")
        for kept in self._kept.serving(address):
            other = self._judge(kept.end(address), access, user)
            if self._differ(first, other) or first.level != other.level:
                raise kept.violation(f"{access.name.lower()} of {address:#x}")
        memory = self._require_memory(first, address, access, user)
        normal = self._is_normal(memory)
        checked = not normal or bool(self._registers[self.CONTROL] & self.ALIGNMENT_CHECK)
        if checked and size > 1 and address % size:
            self._refuse_unaligned(address, access, user)
        return Translation(memory.physical, normal, normal and not checked and len(outcomes) == 1)

    def _now(self, address: int) -> int | None:
        """Where an address leads by what memory says now."""
        assert self._tables is not None
        end = self._walk(self._tables, address)[0].end
        return getattr(end, "physical", None)

    def _flat(self, address: int, access: Access, size: int, user: bool) -> Translation:
        """With the MMU off every address is itself, and data is device memory."""
        if size > 1 and address % size and access is not Access.EXECUTE:
            self._refuse_unaligned(address, access, user)
        return Translation(address, False, False)

    @abstractmethod
    def _walk(self, tables: LiveTables[R], address: int) -> list[Outcome]:
        """Every outcome of translating ``address``; what memory says now comes first."""

    @abstractmethod
    def _judge(self, end: Any, access: Access, user: bool) -> Any:
        """What an access meets at the end of a walk: memory, or a fault."""

    @abstractmethod
    def _differ(self, first: Any, other: Any) -> bool:
        """Whether an access would notice; permissions that it does not need do not count."""

    @abstractmethod
    def _require_memory(self, end: Any, address: int, access: Access, user: bool) -> Memory:
        """Memory, or PageFault."""

    @abstractmethod
    def _is_normal(self, memory: Any) -> bool:
        """Whether it is normal memory, not a device."""

    @abstractmethod
    def _refuse_unaligned(self, address: int, access: Access, user: bool) -> NoReturn:
        """The PageFault for an access that must be aligned, and is not."""

    def _check_synchronized(self, address: int, access: Access) -> None:
        written = ", ".join(sorted(self._unsynchronized))
        raise ModelViolation(
            "NO_CONTEXT_SYNC",
            f"{access.name.lower()} of {address:#x} may be translated with the old or the new "
            f"value of {written}; missing: ISB",
        )

    def _check_program(self) -> None:
        """After a change of address space the program must still be where it was."""
        for address, access in (
            (self._program.start, Access.EXECUTE),
            (self._program.end - (1 << 12), Access.WRITE),
        ):
            try:
                physical = self.translate(address, access).physical
            except PageFault as fault:
                raise ModelViolation(
                    "SELF_UNMAP", f"the running program is not in the new address space: {fault}"
                ) from None
            if physical != address:
                raise ModelViolation(
                    "SELF_UNMAP",
                    f"the running program, at {address:#x}, is at {physical:#x} in the new address "
                    "space: map it linearly in every one",
                )

    # The whole state ----------------------------------------------------------------------

    def snapshot(self) -> Any:
        """A deep copy of the state, without the RAM."""
        state = {name: value for name, value in vars(self).items() if name not in ("_ram", "log")}
        return copy.deepcopy(state, {id(self._ram): self._ram})

    def restore(self, state: Any) -> None:
        """Go back to a snapshot, which stays good for another time."""
        vars(self).update(copy.deepcopy(state, {id(self._ram): self._ram}))
