"""Registers, invalidations and address spaces of the simulated core."""

from __future__ import annotations

from typing import NoReturn

from kernmem.hardware.aarch64.simulated.regime import Regime, granules, physical_width
from kernmem.hardware.aarch64.simulated.walk import (
    ALIGNMENT_STATUS,
    Fault,
    FaultKind,
    Leaf,
    permitted,
    walk,
)
from kernmem.hardware.simulation import Access, SimulatedRam, Translation
from kernmem.hardware.vmsa.core import UNALIGNED, Outcome, SimulatedCore
from kernmem.hardware.vmsa.stale import Invalidation
from kernmem.hardware.vmsa.tables import LiveTables
from kernmem.language import ModelViolation, PageFault
from kernmem.memory.architecture import Region

# ID_AA64MMFR0_EL1: 40 bits of physical address, 16 bits of ASID, granules
CORTEX_A53 = 0x0000_1122  # 4 and 64 KiB
EVERY_GRANULE = 0x0010_1122
SCTLR_RESET = 0x30D0_0800  # RES1 bits; MMU and caches off
INSTRUCTION_CACHE, WXN = 1 << 12, 1 << 19

# ESR_EL1.EC: an abort from the same exception level, or from EL0 (D23.2.37)
CLASSES = {
    (False, False): 0x25,  # data
    (False, True): 0x24,
    (True, False): 0x21,  # instruction
    (True, True): 0x20,
}


class SimulatedAarch64(SimulatedCore[Regime]):
    """One core at EL1, stage 1, TTBR0 only, 8-bit ASIDs; ``features``: its ID_AA64MMFR0_EL1."""

    CONTEXT = ("ttbr0_el1", "sctlr_el1")
    CONTROL = "sctlr_el1"

    def __init__(self, ram: SimulatedRam, program: Region, features: int = CORTEX_A53) -> None:
        super().__init__(ram, program, SCTLR_RESET)
        self._features = features
        self._physical_bits = physical_width(features)

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
            if "fetches" in self._reset:
                self._reset["fetches"].begin()
        elif verb == "mrs":
            return self._read(what)
        elif verb == "msr":
            self._write(what, operand)
        else:
            raise ValueError(f"the simulated AArch64 core does not know {instruction!r}")
        return 0

    # Registers ----------------------------------------------------------------------------

    def _read(self, register: str) -> int:
        if register == "id_aa64mmfr0_el1":
            return self._features
        return super()._read(register)

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
        was_on, on = self.enabled, bool(value & self.MMU_ON)
        if value & INSTRUCTION_CACHE and "fetches" in self._reset:
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
        self._require_clean_tlb("TLBI VMALLE1")
        self._require_synchronized(("mair_el1", "tcr_el1", "ttbr0_el1"))
        ttbr = self._registers["ttbr0_el1"]
        self._tables = self._space(ttbr)
        self._left.enter(self._tables.root, self._tables.asid)

    def _space(self, ttbr: int) -> LiveTables[Regime]:
        """The address space that a value of TTBR0_EL1 means."""
        asid = ttbr >> 48
        if asid > 0xFF:
            raise ModelViolation("ASID_WIDTH", f"ASID {asid} does not fit the 8 bits in use")
        regime = Regime.of(self._registers["tcr_el1"], self._physical_bits)
        if regime.page_bits not in granules(self._features):
            raise ModelViolation(
                "TCR",
                f"TG0 chooses pages of {1 << regime.page_bits} bytes, which this core has not: "
                f"ID_AA64MMFR0_EL1 is {self._features:#x}",
            )
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
        self._keep_global(before)
        self._left.leave(before)
        self._left.enter(after.root, after.asid)
        self._tables = after
        self._ram.forget()

    # Translation --------------------------------------------------------------------------

    def _walk(self, tables: LiveTables[Regime], address: int) -> list[Outcome]:
        """Every outcome of translating ``address``."""
        return walk(tables.regime, tables.root, address, tables.values)

    def _judge(self, end: Fault | Leaf, access: Access, user: bool) -> Fault | Leaf:
        """What an access meets at the end of a walk: memory, or a fault."""
        if isinstance(end, Fault):
            return end
        wxn = bool(self._registers["sctlr_el1"] & WXN)
        if not permitted(end, access, user=user, wxn=wxn):
            return Fault(FaultKind.PERMISSION, end.level)
        return end

    def _is_normal(self, leaf: Leaf) -> bool:
        """What MAIR_EL1 says of its attribute."""
        memory_type = self._registers["mair_el1"] >> 8 * leaf.attribute & 0xFF
        return memory_type & 0xF0 != 0

    def _differ(self, first: Fault | Leaf, other: Fault | Leaf) -> bool:
        """Whether an access would notice."""
        if isinstance(first, Leaf) and isinstance(other, Leaf):
            return first[:4] != other[:4]
        return first != other

    def _require_memory(self, end: Fault | Leaf, address: int, access: Access, user: bool) -> Leaf:
        """Memory, or PageFault."""
        if isinstance(end, Fault):
            self._fault(address, access, end.status, end.reason, user)
        return end

    def _refuse_unaligned(self, address: int, access: Access, user: bool) -> NoReturn:
        """An alignment fault."""
        self._fault(address, access, ALIGNMENT_STATUS, UNALIGNED, user)

    def _flat(self, address: int, access: Access, size: int, user: bool) -> Translation:
        """With the MMU off every address is itself, and data is Device-nGnRnE (D8.2.10)."""
        if address >> self._physical_bits:
            fault = Fault(FaultKind.ADDRESS_SIZE, 0)
            self._fault(address, access, fault.status, fault.reason, user)
        return super()._flat(address, access, size, user)

    def _fault(
        self, address: int, access: Access, status: int, reason: str, user: bool
    ) -> NoReturn:
        fetch = access is Access.EXECUTE
        syndrome = CLASSES[fetch, user] << 26 | 1 << 25 | status
        if access is Access.WRITE:
            syndrome |= 1 << 6  # WnR
        raise PageFault(address, access.name.lower(), reason, syndrome)


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
