"""Registers, barriers, invalidations and address spaces of the simulated core."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NoReturn

from kernmem.hardware.aarch64.simulated.regime import Regime
from kernmem.hardware.aarch64.simulated.walk import (
    ALIGNMENT_STATUS,
    Fault,
    FaultKind,
    Leaf,
    permitted,
    walk,
)
from kernmem.hardware.simulation import (
    CHUNK_BITS,
    Access,
    SimulatedMmu,
    SimulatedRam,
    Translation,
)
from kernmem.hardware.vmsa.spaces import LeftSpaces
from kernmem.hardware.vmsa.stale import Invalidation, Maintenance, Step
from kernmem.hardware.vmsa.tables import LiveTables
from kernmem.language import ModelViolation, PageFault
from kernmem.memory.architecture import Region

PHYSICAL_BITS = 40  # ID_AA64MMFR0_EL1.PARange of a Cortex-A53
SCTLR_RESET = 0x30D0_0800  # RES1 bits; MMU and caches off
MMU_ON, ALIGNMENT_CHECK, INSTRUCTION_CACHE, WXN = 1 << 0, 1 << 1, 1 << 12, 1 << 19

# ESR_EL1.EC: an abort from the same exception level, or from EL0 (D23.2.37)
CLASSES = {
    (False, False): 0x25,  # data
    (False, True): 0x24,
    (True, False): 0x21,  # instruction
    (True, True): 0x20,
}


class SimulatedAarch64(SimulatedMmu):
    """One core at EL1, stage 1, TTBR0 only, 8-bit ASIDs.

    Attributes:
        log: called with a line for each instruction and each store to a live table.
    """

    def __init__(
        self, ram: SimulatedRam, program: Region, physical_bits: int = PHYSICAL_BITS
    ) -> None:
        self.log: Callable[[str], None] | None = None
        self.enabled = False
        self._ram = ram
        self._program = program
        self._physical_bits = physical_bits
        self._registers: dict[str, int] = {"sctlr_el1": SCTLR_RESET}
        self._unsynchronized: set[str] = set()  # registers written since the last ISB
        self._unordered: set[int] = set()  # chunks stored to since the last DSB
        self._reset_tlb: Maintenance | None = Maintenance()  # unknown at reset (I_GWZWM)
        self._reset_fetches: Maintenance | None = Maintenance()
        self._global_leaf: int | None = None  # an address that was translated by one
        self._left = LeftSpaces()
        self._tables: LiveTables[Regime] | None = None

    # Instructions -------------------------------------------------------------------------

    def execute(self, instruction: str, operand: int = 0) -> int:
        """Execute a barrier, an invalidation, or an access to a system register."""
        if self.log is not None:
            self.log(f"{instruction} {operand:#x}" if operand else instruction)
        verb, _, what = instruction.partition(" ")
        if verb == "dsb":
            self._dsb(what)
        elif verb == "isb":
            self._isb()
        elif verb == "tlbi":
            self._invalidate(decode(what, operand))
        elif instruction == "ic iallu":
            if self._reset_fetches is not None:
                self._reset_fetches.begin()
        elif verb == "mrs":
            return self._read(what)
        elif verb == "msr":
            self._write(what, operand)
        else:
            raise ValueError(f"the simulated AArch64 core does not know {instruction!r}")
        return 0

    def _doubts(self) -> list[Maintenance]:
        """What must be invalidated beside old values in tables."""
        unknown = (self._reset_tlb, self._reset_fetches)
        return [each for each in unknown if each is not None] + self._left.all()

    def _dsb(self, kind: str) -> None:
        domain = kind.removesuffix("st")
        if domain not in ("ish", "nsh", "osh", "sy", ""):
            raise ValueError(f"the simulated AArch64 core does not know 'dsb {kind}'")
        if self._unordered:
            self._unordered.clear()
            self._ram.forget_writes()
        if self._tables is not None:
            self._tables.order()
        if not kind.endswith("st"):
            if self._tables is not None:
                self._tables.complete(domain)
            for doubt in self._doubts():
                doubt.complete(domain)

    def _isb(self) -> None:
        if self._tables is not None:
            self._tables.synchronize()
        if self._reset_tlb is not None and self._reset_tlb.synchronizable:
            self._reset_tlb = None
        if self._reset_fetches is not None and self._reset_fetches.synchronizable:
            self._reset_fetches = None
        self._left.synchronize()
        entered = self.enabled and not self._unsynchronized.isdisjoint(("ttbr0_el1", "sctlr_el1"))
        self._unsynchronized.clear()
        if entered:
            self._check_program()

    def _invalidate(self, operation: Invalidation) -> None:
        if operation.address is None and operation.asid is None and self._reset_tlb is not None:
            self._reset_tlb.begin(broadcast=operation.broadcast)
        self._left.invalidate(operation)
        if self._tables is not None:
            self._tables.invalidate(operation)

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

    def _write(self, register: str, value: int) -> None:
        if register not in ("sctlr_el1", "tcr_el1", "mair_el1", "ttbr0_el1"):
            raise ValueError(f"the simulated AArch64 core does not know {register!r}")
        if self.enabled and register in ("tcr_el1", "mair_el1"):
            raise ModelViolation(
                "SYSREG_NOT_FLUSHED",
                f"{register} may be cached in the TLB (R_VNRFW): it is not changed while the MMU "
                "is on",
            )
        if register == "ttbr0_el1" and self.enabled:
            self._switch(value)
        if register == "sctlr_el1":
            self._write_sctlr(value)
        self._registers[register] = value
        self._unsynchronized.add(register)

    def _write_sctlr(self, value: int) -> None:
        was_on, on = self.enabled, bool(value & MMU_ON)
        if value & INSTRUCTION_CACHE and self._reset_fetches is not None:
            raise ModelViolation(
                "RESET_ICACHE",
                "SCTLR_EL1.I is set, but what the instruction cache holds since reset is unknown; "
                "missing: IC IALLU, DSB NSH and ISB",
            )
        if was_on == on:
            return
        if on:
            self._enable()
        else:
            self._tables = None
        self.enabled = on
        self._ram.forget()

    def _enable(self) -> None:
        if self._reset_tlb is not None:
            missing = {Step.ORDERED: "TLBI VMALLE1, DSB NSH and ISB"}.get(
                self._reset_tlb.step, "DSB NSH and ISB after the TLBI VMALLE1"
            )
            raise ModelViolation(
                "RESET_TLB",
                "the MMU is turned on, but what the TLB holds since reset is unknown; "
                f"missing: {missing}",
            )
        for register in ("mair_el1", "tcr_el1", "ttbr0_el1"):
            self._read(register)
            if register in self._unsynchronized:
                raise ModelViolation(
                    "NO_CONTEXT_SYNC",
                    f"the MMU is turned on before the write to {register} is sure to have had its "
                    "effect; missing: ISB",
                )
        ttbr = self._registers["ttbr0_el1"]
        self._tables = self._space(ttbr)
        self._left.enter(self._tables.root, self._tables.asid)

    def _space(self, ttbr: int) -> LiveTables[Regime]:
        """The address space that a value of TTBR0_EL1 means."""
        asid = ttbr >> 48
        if asid > 0xFF:
            raise ModelViolation("ASID_WIDTH", f"ASID {asid} does not fit the 8 bits in use")
        regime = Regime.of(self._registers["tcr_el1"], self._physical_bits)
        root = ttbr & ((1 << 48) - 1)
        return LiveTables(self._ram, self._program, regime, root, asid, self._unordered)

    def _switch(self, ttbr: int) -> None:
        """Change root and ASID, with the MMU on."""
        before = self._tables
        if before is None or ttbr == self._registers["ttbr0_el1"]:
            return
        after = self._space(ttbr)
        if after.asid == before.asid:
            raise ModelViolation(
                "ASID_ALIAS",
                f"the root changes from {before.root:#x} to {after.root:#x} under the same ASID "
                f"{after.asid}: translations of both would mix; use another ASID",
            )
        if self._global_leaf is not None:
            raise ModelViolation(
                "GLOBAL_LEAK",
                f"the translation of {self._global_leaf:#x} is global and would survive the change "
                "of address space: set nG, or use one ASID for all (which is not simulated)",
            )
        self._left.leave(before)
        self._left.enter(after.root, after.asid)
        self._tables = after
        self._ram.forget()

    # Stores -------------------------------------------------------------------------------

    def before_store(self, physical: int, new: bytes) -> bool:
        """Hear of a store; True if later ones to the same chunk need not be heard of."""
        number = physical >> CHUNK_BITS
        self._unordered.add(number)
        if self._tables is None:
            return True
        self._left.changed(number, physical)
        table = self._tables.by_chunk.get(number)
        if table is None:
            return True
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
        if self._unsynchronized and not self._unsynchronized.isdisjoint(("sctlr_el1", "ttbr0_el1")):
            self._check_synchronized(address, access)
        if self._tables is None:
            return self._flat(address, access, size, user)
        regime = self._tables.regime
        outcomes = walk(regime, self._tables.root, address, self._tables.values)
        first = self._judge(outcomes[0].end, access, user)
        for outcome in outcomes[1:]:
            if outcome.stale is not None and _differ(first, self._judge(outcome.end, access, user)):
                raise outcome.stale.violation(f"{access.name.lower()} of {address:#x}")
        if isinstance(first, Fault):
            self._fault(address, access, first.status, first.reason, user)
        if not first.not_global:
            self._global_leaf = address
        normal = self._is_normal(first)
        checked = not normal or self._registers["sctlr_el1"] & ALIGNMENT_CHECK
        if checked and size > 1 and address % size:
            self._fault(address, access, ALIGNMENT_STATUS, _UNALIGNED, user)
        clean = normal and not checked and len(outcomes) == 1
        return Translation(first.physical, normal, clean)

    def _judge(self, end: Fault | Leaf, access: Access, user: bool) -> Fault | Leaf:
        """What an access meets at the end of a walk: memory, or a fault."""
        if isinstance(end, Fault):
            return end
        wxn = bool(self._registers["sctlr_el1"] & WXN)
        if not permitted(end, access, user=user, wxn=wxn):
            return Fault(FaultKind.PERMISSION, end.level)
        return end

    def _is_normal(self, leaf: Leaf) -> bool:
        memory_type = self._registers["mair_el1"] >> 8 * leaf.attribute & 0xFF
        return memory_type & 0xF0 != 0

    def _flat(self, address: int, access: Access, size: int, user: bool) -> Translation:
        """With the MMU off every address is itself, and data is Device-nGnRnE (D8.2.10)."""
        if address >> self._physical_bits:
            fault = Fault(FaultKind.ADDRESS_SIZE, 0)
            self._fault(address, access, fault.status, fault.reason, user)
        if size > 1 and address % size and access is not Access.EXECUTE:
            self._fault(address, access, ALIGNMENT_STATUS, _UNALIGNED, user)
        return Translation(address, False, False)

    def _fault(
        self, address: int, access: Access, status: int, reason: str, user: bool
    ) -> NoReturn:
        fetch = access is Access.EXECUTE
        syndrome = CLASSES[fetch, user] << 26 | 1 << 25 | status
        if access is Access.WRITE:
            syndrome |= 1 << 6  # WnR
        raise PageFault(address, access.name.lower(), reason, syndrome)

    def _check_synchronized(self, address: int, access: Access) -> None:
        written = ", ".join(sorted(self._unsynchronized))
        raise ModelViolation(
            "NO_CONTEXT_SYNC",
            f"{access.name.lower()} of {address:#x} may be translated with the old or the new "
            f"value of {written}; missing: ISB",
        )

    def _check_program(self) -> None:
        """After a change of address space the program must still be where it was."""
        page = 1 << 12
        for address, access in (
            (self._program.start, Access.EXECUTE),
            (self._program.end - page, Access.WRITE),
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


_UNALIGNED = "alignment fault: device memory, or all memory with the MMU off, must be aligned"


def _differ(left: Fault | Leaf, right: Fault | Leaf) -> bool:
    """Whether an access would notice; permissions that it does not need make no difference."""
    if isinstance(left, Leaf) and isinstance(right, Leaf):
        return left[:4] != right[:4]
    return left != right


def decode(operation: str, operand: int) -> Invalidation:
    """What a TLBI means (D8.17.5.4; the operand: C5.5)."""
    name = operation.removesuffix("is")
    broadcast = name != operation
    written = f"TLBI {operation.upper()}"
    asid = operand >> 48
    if name == "vmalle1":
        return Invalidation(written, broadcast=broadcast)
    if name == "aside1":
        return Invalidation(written, asid=asid, broadcast=broadcast)
    if name not in ("vae1", "vale1", "vaae1", "vaale1"):
        raise ValueError(f"the simulated AArch64 core does not know 'tlbi {operation}'")
    hint = operand >> 44 & 0xF
    return Invalidation(
        written,
        address=(operand & (1 << 44) - 1) << 12,
        asid=None if name.startswith("vaa") else asid,
        last_level=name in ("vale1", "vaale1"),
        level_hint=hint & 0b11 if hint >> 2 else None,
        broadcast=broadcast,
    )
