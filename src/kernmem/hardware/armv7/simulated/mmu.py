"""Registers, invalidations, address spaces and branch prediction of the simulated core."""

from __future__ import annotations

from typing import NoReturn

from kernmem.hardware.armv7.simulated.regime import ShortRegime
from kernmem.hardware.armv7.simulated.walk import ALIGNMENT_STATUS, Fault, Leaf, refusal, walk
from kernmem.hardware.simulation import Access, SimulatedRam, Translation
from kernmem.hardware.vmsa.core import UNALIGNED, Outcome, SimulatedCore
from kernmem.hardware.vmsa.stale import Invalidation, Maintenance, Step
from kernmem.hardware.vmsa.tables import LiveTables
from kernmem.language import ModelViolation, PageFault
from kernmem.memory.architecture import Region

SCTLR_RESET = 0x00C5_0078  # of a Cortex-A15: MMU, caches and branch prediction off
BRANCH_PREDICTION, INSTRUCTION_CACHE, ACCESS_FLAG = 1 << 11, 1 << 12, 1 << 29
NOT_SIMULATED = 1 << 28 | 1 << 25 | 1 << 20 | 1 << 19  # TRE, EE, UWXN, WXN
REGISTERS = ("ttbr0", "ttbcr", "dacr", "contextidr", "sctlr")

ROOT = 0xFFFF_C000
TTBR_RESERVED = 0x3F80  # part of the address where TTBCR.N is more than 0
TTBR_SHAREABLE = 1 << 1

# TEX, C and B of devices, and those that are reserved (DDI 0406, B3.8.2)
DEVICES = (0b000_00, 0b000_01, 0b010_00)
RESERVED_TYPES = (0b001_01, 0b001_10, 0b010_01, 0b010_10, 0b010_11, *range(0b011_00, 0b100_00))


class SimulatedArmv7(SimulatedCore[ShortRegime]):
    """One core with the Multiprocessing Extensions, TTBR0 only, 8-bit ASIDs."""

    CONTEXT = REGISTERS
    CONTROL = "sctlr"

    def __init__(self, ram: SimulatedRam, program: Region) -> None:
        super().__init__(ram, program, SCTLR_RESET)
        self._reset["branches"] = Maintenance()
        self._branches: Maintenance | None = None  # predicted by translations that were changed
        self._predicted: dict[int, int] = {}  # by ASID, the root in whose space branches were
        self._forgetting = False  # those, from BPIALL to the DSB

    # Instructions -------------------------------------------------------------------------

    def execute(self, instruction: str, operand: int = 0) -> int:
        """Execute a barrier, an invalidation, or an access to a register of CP15."""
        if self.log is not None:
            self.log(f"{instruction} {operand:#x}" if operand else instruction)
        verb, _, what = instruction.partition(" ")
        if verb == "dsb":
            self._dsb(what)
        elif verb == "isb":
            self._isb()
        elif verb.startswith("tlbi"):
            self._invalidate(decode(verb, operand))
        elif verb in ("bpiall", "bpiallis"):
            self._forget_branches(broadcast=verb.endswith("is"))
        elif verb == "iciallu":
            self._begin("fetches")
        elif verb == "mrc":
            return self._read(what)
        elif verb == "mcr":
            self._write(what, operand)
        else:
            raise ValueError(f"the simulated ARMv7 core does not know {instruction!r}")
        return 0

    def _begin(self, name: str, *, broadcast: bool = False) -> None:
        if name in self._reset:
            self._reset[name].begin(broadcast=broadcast)

    # Branch prediction (DDI 0406, B2.2.8) -------------------------------------------------

    def _forget_branches(self, *, broadcast: bool) -> None:
        self._begin("branches", broadcast=broadcast)
        self._forgetting = True
        if self._branches is not None:
            self._branches.begin(broadcast=broadcast)

    def _dsb(self, kind: str) -> None:
        super()._dsb(kind)
        if self._forgetting and not kind.endswith("st"):
            self._forgetting = False
            self._predicted.clear()
        if self._branches is not None:
            self._branches.order()
            if not kind.endswith("st"):
                self._branches.complete(kind)

    def _isb(self) -> None:
        """What follows is fetched anew, and no branch to an old translation may be predicted."""
        if self._tables is not None and self._branches is not None:
            if self._branches.step is not Step.COMPLETE:
                self._check_branches(self._tables)
            elif not self._tables.stale:
                self._branches = None
        super()._isb()

    def _check_branches(self, tables: LiveTables[ShortRegime]) -> None:
        for stale in tables.stale:
            executable = stale.table is not None or not tables.regime.never(stale.old, stale.level)
            if stale.cached and stale.synchronizable and executable:
                raise ModelViolation(
                    "BRANCH_PREDICTOR",
                    f"the TLB has dropped the translation of {stale.start:#x} to "
                    f"{stale.start + stale.length:#x}, but branches to there may be predicted; "
                    "missing: BPIALL after the DSB that follows the store, and a DSB after it",
                )

    def before_store(self, physical: int, new: bytes) -> bool:
        """Hear of a store; True if later ones to the same chunk need not be heard of."""
        unwatched = super().before_store(physical, new)
        if not unwatched:
            self._branches = Maintenance(step=Step.STORED)
        return unwatched

    # Registers ----------------------------------------------------------------------------

    def _write(self, register: str, value: int) -> None:
        if register not in REGISTERS:
            raise ValueError(f"the simulated ARMv7 core does not know {register!r}")
        if register == "ttbcr" and value:
            raise ModelViolation(
                "TTBCR", f"{value:#x} uses TTBR1 or long descriptors, which is not simulated: use 0"
            )
        if register == "ttbr0":
            _check_ttbr(value)
        if register == "contextidr" and value > 0xFF:
            raise ModelViolation("ASID_WIDTH", f"CONTEXTIDR {value:#x}: the ASID has 8 bits")
        if register == "sctlr":
            self._write_sctlr(value)
        self._registers[register] = value
        self._unsynchronized.add(register)
        self._ram.forget()

    def _write_sctlr(self, value: int) -> None:
        for bit, doubt, missing in (
            (INSTRUCTION_CACHE, "fetches", "ICIALLU"),
            (BRANCH_PREDICTION, "branches", "BPIALL"),
        ):
            if value & bit and doubt in self._reset:
                raise ModelViolation(
                    "RESET_ICACHE",
                    f"SCTLR is set to {value:#x}, but what reset left of {doubt} is unknown; "
                    f"missing: {missing}, DSB NSH and ISB",
                )
        changed = value ^ self._registers["sctlr"]
        if value & NOT_SIMULATED or (self.enabled and changed & ACCESS_FLAG):
            raise ModelViolation("SCTLR", f"{value:#x} sets or changes what is not simulated")
        was_on, self.enabled = self.enabled, bool(value & self.MMU_ON)
        if self.enabled and not was_on:
            self._require_clean_tlb("TLBIALL")
            self._require_synchronized(("ttbcr", "dacr", "contextidr", "ttbr0"))
            self._tables = self._space(bool(value & ACCESS_FLAG))
            self._left.enter(self._tables.root, self._tables.asid)
        elif was_on and not self.enabled:
            self._tables = None

    # Address spaces -----------------------------------------------------------------------

    def _space(self, access_flag: bool) -> LiveTables[ShortRegime]:
        """The address space that TTBR0 and CONTEXTIDR mean."""
        root, asid = self._registers["ttbr0"] & ROOT, self._registers["contextidr"]
        regime = ShortRegime(access_flag)
        return LiveTables(self._ram, self._program, regime, root, asid, self._unordered)

    def _enter(self, written: set[str]) -> None:
        """An ISB after writes to TTBR0 and CONTEXTIDR: the context is another."""
        before = self._tables
        if before is None:
            return
        root, asid = self._registers["ttbr0"] & ROOT, self._registers["contextidr"]
        if (root, asid) == (before.root, before.asid):
            return
        if root != before.root and asid != before.asid:
            raise ModelViolation(
                "ASID_ALIAS",
                f"root and ASID change together, from {before.root:#x} and {before.asid} to "
                f"{root:#x} and {asid}: walks of one root may be cached under the ASID of the "
                "other; missing: ISB between the writes to TTBR0 and CONTEXTIDR",
            )
        self._keep_global(before)
        after = self._space(before.regime.access_flag)
        if asid != before.asid or _includes(before, after):
            if self._left.cached(before.asid) is None:  # else all of this one was of that, too
                self._left.leave(before)
            if asid == before.asid:
                self._predicted[asid] = before.root
            else:
                self._enter_asid(after)
        elif _includes(after, before):
            self._left.enter(root, asid)
            if self._predicted.get(asid, root) != root:
                raise ModelViolation(
                    "BRANCH_PREDICTOR",
                    f"the root {root:#x} is entered under ASID {asid}, under which branches in the "
                    f"space of {self._predicted[asid]:#x} were predicted; missing: BPIALL and DSB",
                )
        else:
            raise ModelViolation(
                "ASID_ALIAS",
                f"the root changes from {before.root:#x} to {root:#x} under the same ASID {asid}, "
                "and neither has only what the other has in the same form: translations of both "
                "would mix; go by a root that has",
            )
        self._tables = after
        self._ram.forget()

    def _enter_asid(self, after: LiveTables[ShortRegime]) -> None:
        """The same root under another ASID; what is cached there may be more of the same form."""
        cached = self._left.cached(after.asid)
        if cached is None or not _includes(cached, after):
            self._left.enter(after.root, after.asid)

    # Translation --------------------------------------------------------------------------

    def translate(
        self, address: int, access: Access, size: int = 1, *, user: bool = False
    ) -> Translation:
        """Translate an access; PageFault if the MMU refuses, ModelViolation if it might."""
        tables = self._tables
        if (
            tables is not None
            and self._left.cached(tables.asid) is not None
            and not self._program.start <= address < self._program.end
        ):
            raise ModelViolation(
                "ASID_ALIAS",
                f"{access.name.lower()} of {address:#x}: translations of another root are cached "
                f"under the ASID {tables.asid} that is in use; missing: a new CONTEXTIDR and ISB",
            )
        return super().translate(address, access, size, user=user)

    def _walk(self, tables: LiveTables[ShortRegime], address: int) -> list[Outcome]:
        """Every outcome of translating ``address``."""
        return walk(tables.regime, tables.root, address, tables.values)

    def _judge(self, end: Fault | Leaf, access: Access, user: bool) -> Fault | Leaf:
        """What an access meets at the end of a walk: memory, or a fault."""
        if isinstance(end, Fault) or self._tables is None:
            return end
        dacr = self._registers["dacr"]
        kind = refusal(self._tables.regime, end, dacr, access, user=user)
        return end if kind is None else Fault(kind, end.level, end.domain)

    def _differ(self, first: Fault | Leaf, other: Fault | Leaf) -> bool:
        """Whether an access would notice."""
        if isinstance(first, Leaf) and isinstance(other, Leaf):
            return first[:4] != other[:4]
        return first != other

    def _require_memory(self, end: Fault | Leaf, address: int, access: Access, user: bool) -> Leaf:
        """Memory, or PageFault."""
        if isinstance(end, Fault):
            self._fault(address, access, end.status, end.reason)
        return end

    def _is_normal(self, leaf: Leaf) -> bool:
        """What TEX, C and B say, as TEX remap is off."""
        if leaf.attribute in RESERVED_TYPES:
            raise ModelViolation(
                "RESERVED_BITS",
                f"TEX, C, B are {leaf.attribute:#07b} for {leaf.physical:#x}: reserved",
            )
        return leaf.attribute not in DEVICES

    def _refuse_unaligned(self, address: int, access: Access, user: bool) -> NoReturn:
        """An alignment fault."""
        self._fault(address, access, ALIGNMENT_STATUS, UNALIGNED)

    def _fault(self, address: int, access: Access, status: int, reason: str) -> NoReturn:
        """A data abort with DFSR, or a prefetch abort with IFSR, which has no domain."""
        if access is Access.EXECUTE:
            status &= ~0xF0
        elif access is Access.WRITE:
            status |= 1 << 11  # WnR
        raise PageFault(address, access.name.lower(), reason, status)


def _check_ttbr(value: int) -> None:
    """Refuse a TTBR0 whose walks would not see what the kernel stores, or of a split table."""
    if value & TTBR_RESERVED:
        raise ModelViolation(
            "ROOT_ALIGN", f"the root table in TTBR0 {value:#x} must be a multiple of 0x4000"
        )
    inner = (value & 1) << 1 | value >> 6 & 1  # IRGN: 01 and 11 are write-back
    outer = value >> 3 & 0b11
    if not inner & 1 or not outer & 1 or not value & TTBR_SHAREABLE:
        raise ModelViolation(
            "TTBR",
            f"TTBR0 {value:#x} has IRGN {inner:#b}, RGN {outer:#b}, S {value >> 1 & 1}: walks "
            "would not see the tables as the kernel's stores leave them in the caches",
        )


def _includes(larger: LiveTables[ShortRegime], smaller: LiveTables[ShortRegime]) -> bool:
    """Whether all that ``smaller`` translates, it translates by sections that ``larger`` has."""
    regime = smaller.regime
    content = [each.ram.peek(each.root, regime.table_length(1)) for each in (larger, smaller)]
    words = [memoryview(each).cast("I") for each in content]
    return all(
        entry & 0b10 and entry == known
        for known, entry in zip(*words, strict=True)
        if regime.claims(entry)
    )


def decode(operation: str, operand: int) -> Invalidation:
    """What an operation means (DDI 0406, B4.2.2)."""
    name = operation.removesuffix("is")
    broadcast = name != operation
    written = operation.upper()
    asid = operand & 0xFF
    if name == "tlbiall":
        return Invalidation(written, broadcast=broadcast)
    if name == "tlbiasid":
        return Invalidation(written, asid=asid, broadcast=broadcast)
    if name not in ("tlbimva", "tlbimvaa"):
        raise ValueError(f"the simulated ARMv7 core does not know {operation!r}")
    return Invalidation(
        written,
        address=operand & 0xFFFF_F000,
        asid=asid if name == "tlbimva" else None,
        broadcast=broadcast,
    )
