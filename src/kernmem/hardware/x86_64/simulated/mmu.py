"""Registers, invalidations, stores to live tables, and accesses of the simulated processor."""

from __future__ import annotations

import copy
from typing import Any, NoReturn

from kernmem.hardware.simulation import (
    Access,
    SimulatedMmu,
    SimulatedRam,
    Translation,
)
from kernmem.hardware.x86_64 import BOOT_LINEAR_GIB
from kernmem.hardware.x86_64.simulated.spaces import ADDRESS, Space
from kernmem.hardware.x86_64.simulated.stale import Stale, StaleValues
from kernmem.hardware.x86_64.simulated.walk import (
    ACCESSED,
    DIRTY,
    Fault,
    Leaf,
    P,
    Regime,
    Start,
    error_code,
    permitted,
    walk,
)
from kernmem.language import ModelViolation, PageFault
from kernmem.memory.architecture import Region

PAGE_FAULT, GENERAL_PROTECTION = 14 << 32, 13 << 32  # vector << 32 | error code

# CR0 (SDM 2.5): PG, WP, NE, ET, PE.  CR4: SMAP, SMEP, PCIDE, LA57, PGE, PAE.  EFER: NXE, LMA, LME.
WRITE_PROTECT, CR0_ON = 1 << 16, 1 << 31 | 0b110001
PAE, PGE, LA57, PCIDE, SMEP, SMAP = (1 << bit for bit in (5, 7, 12, 17, 20, 21))
NXE, EFER_ON = 1 << 11, 1 << 10 | 1 << 8
UNCACHEABLE = (2, 3, 6, 7)  # UC- and UC in IA32_PAT since reset (12.12.4)
PCID = 1 << 17  # CPUID.1:ECX
KEEP = 1 << 63  # in the operand of MOV to CR3: what is cached under the PCID stays
BOOT_END = BOOT_LINEAR_GIB << 30  # the boot code's table ends here


class SimulatedX86(SimulatedMmu):
    """One processor in 64-bit mode, without protection keys.

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
        pcids: bool = True,
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
        self._features = PCID if pcids else 0
        self._spaces: dict[int, Space] = {}  # of which something may be cached, by PCID
        self._space: Space | None = None  # the one in use; None: the boot code's
        self._regime = self._current_regime()

    # Instructions -------------------------------------------------------------------------

    def execute(self, instruction: str, operand: int = 0) -> int:
        """Execute an invalidation, or an access to a register."""
        match instruction.replace(",", "").split():
            case ["invlpg"]:
                self._invlpg(operand)
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
            case ["cpuid", "0x1"]:
                return self._features
            case _:
                raise ValueError(f"the simulated x86-64 processor does not know {instruction!r}")
        return 0

    def registers(self) -> dict[str, int]:
        """The control registers, and IA32_EFER."""
        return dict(self._registers)

    def _write(self, register: str, value: int) -> None:
        free = {"cr0": WRITE_PROTECT, "cr4": PGE | SMEP | SMAP | PCIDE, "efer": NXE}[register]
        changed = value ^ self._registers[register]
        if changed & ~free or (register == "cr4" and changed & ~value & PCIDE):
            raise ValueError(f"changing bits {changed:#x} of {register} is not simulated")
        if register == "cr4" and changed & PCIDE:
            self._check_pcide()
        self._registers[register] = value
        self._regime = self._current_regime()
        if register == "cr4" and changed & PGE:  # all of the TLB, global translations too
            self._keep({})  # (4.10.4.1)
            if self._space is not None:
                self._space.stale = StaleValues()
        if self._space is not None:
            self._space.change_regime(self._regime)
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

    def _check_pcide(self) -> None:
        if not self._features & PCID:
            raise ModelViolation(
                "PCIDE", "CR4.PCIDE is set, and CPUID says that there are no PCIDs"
            )
        if self._registers.get("cr3", 0) & 0xFFF:
            raise ModelViolation(
                "PCIDE",
                f"CR4.PCIDE is set while CR3 is {self._registers['cr3']:#x}: bits 11:0 must be 0",
            )

    # Spaces -------------------------------------------------------------------------------

    @property
    def _pcid(self) -> int:
        return self._registers["cr3"] & 0xFFF if self._registers["cr4"] & PCIDE else 0

    def _keep(self, left: dict[int, Space]) -> None:
        """Of the spaces that were left, something is cached of these alone."""
        self._spaces = left if self._space is None else {**left, self._pcid: self._space}

    def _switch(self, value: int) -> None:
        """MOV to CR3: drops what is cached under the PCID, unless bit 63 is 1 (4.10.4.1)."""
        has_pcids = bool(self._registers["cr4"] & PCIDE)
        keeps = has_pcids and bool(value & KEEP)
        value &= ~KEEP if has_pcids else -1
        if value >> self._regime.physical_bits or (not has_pcids and value & 0xFFF & ~0b11000):
            raise ModelViolation(
                "ROOT_ALIGN", f"CR3 becomes {value:#x}: the root must be a page that exists"
            )
        kept: list[Stale] = []
        if self._space is not None:
            kept = self._space.global_leaves()
            self._space.leave()
        self._registers["cr3"] = value
        known = self._spaces.get(self._pcid) if keeps else None
        root = value & ADDRESS
        if known is None:
            known = Space(self._ram, self._program, self._regime, root)
        elif known.root.base != root:
            raise ModelViolation(
                "PCID_ALIAS",
                f"CR3 becomes {root:#x} with PCID {self._pcid:#x} and keeps what is cached under "
                f"that, which is of the tables behind {known.root.base:#x}; missing: MOV to CR3 "
                "with bit 63 clear",
            )
        known.enter()
        for each in kept:
            known.stale.add(each)
        self._space = known
        self._spaces[self._pcid] = known
        self.enabled = True
        self._ram.forget()
        self._check_program()

    def _invlpg(self, address: int) -> None:
        """For the PCID in use; what is global goes everywhere (4.10.4.1)."""
        for space in self._spaces.values():
            space.stale.invlpg(address, left=space.left)

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

    # Stores -------------------------------------------------------------------------------

    def before_store(self, physical: int, new: bytes) -> bool:
        """Hear of a store; True if later ones to the same chunk need not be heard of."""
        tables = [each.store(physical, new) for each in self._spaces.values()]
        if any(tables):
            self._ram.forget()
        return not any(tables)

    # Accesses -----------------------------------------------------------------------------

    def translate(
        self, address: int, access: Access, size: int = 1, *, user: bool = False
    ) -> Translation:
        """Translate an access; PageFault if the MMU refuses, ModelViolation if it might."""
        if not self._regime.is_canonical(address):
            reason = "general protection: the address is not canonical"
            raise PageFault(address, access.name.lower(), reason, GENERAL_PROTECTION)
        if self._space is None:
            if address >= BOOT_END:
                self._fault(address, access, Fault(0, 0, "not in the boot code's table"), user)
            return Translation(address, True, True)
        space = self._space
        start = Start(*space.root[:2])
        places: list[int] = []

        def load(place: int) -> int:
            places.append(place)
            return space.load(place)

        now = self._judge(walk(self._regime, start, address, load), access, user)
        stale = space.stale.serving(address)
        for each in stale:
            then = self._judge(each.end(self._regime, address, space.load), access, user)
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
            entry = int.from_bytes(self._ram.peek(place, 8), "little")
            noted = entry | ACCESSED
            if access is Access.WRITE and place == places[-1]:
                noted |= DIRTY
            if noted != entry:
                self._ram.poke(place, noted.to_bytes(8, "little"))

    def _fault(self, address: int, access: Access, fault: Fault, user: bool) -> NoReturn:
        if self._space is not None:
            self._space.stale.fault(address)
        code = error_code(self._regime, fault.code, access, user=user)
        raise PageFault(
            address, access.name.lower(), f"page fault: {fault.reason}", PAGE_FAULT | code
        )

    # The whole state ----------------------------------------------------------------------

    def snapshot(self) -> Any:
        """A deep copy of the state, without the RAM."""
        state = {name: value for name, value in vars(self).items() if name != "_ram"}
        return self._copy(state)

    def restore(self, state: Any) -> None:
        """Go back to a snapshot, which stays good for another time."""
        vars(self).update(self._copy(state))

    def _copy(self, state: dict[str, Any]) -> dict[str, Any]:
        return copy.deepcopy(state, {id(self._ram): self._ram})
