"""Loads and stores that may fault, as every architecture tries them.

**Expected faults.**  A probe sets ``fault_expected`` to 1, then executes one load or store.  If
that faults, the exception vector (on the host, the runtime) finds ``fault_expected`` set, puts
the architecture's word for the fault into ``fault_syndrome`` and the address into
``fault_address``, and goes on after the instruction.  All three are 8 bytes; no fault has the
syndrome 0.
"""

from __future__ import annotations

from collections.abc import Callable

from kernmem.language import Image, PageFault, VirtualAddress, intrinsic, kernel, u64
from kernmem.memory.architecture import Fault, Probe


def load(
    assembly: str, *, value: str = "=r", address: str = "r", host: str = ""
) -> Callable[[VectorProbe, VirtualAddress], None]:
    """The instruction that loads 8 bytes to %0 from the address in %1, and its C on the host.

    ``value`` and ``address`` say in which registers these are, as C compilers have it.
    """

    @intrinsic(
        c=f'uint64_t value;\n__asm__ volatile("{assembly}" : "{value}"(value) '
        f': "{address}"(address) : "memory");',
        host=host,
    )
    def try_load(self: VectorProbe, address: VirtualAddress) -> None:
        """Load 8 bytes in one instruction, and ignore them."""
        self.model_load(address)

    return try_load


def store(
    assembly: str, *, value: str = "r", address: str = "r", host: str = ""
) -> Callable[[VectorProbe, VirtualAddress, u64], None]:
    """The instruction that stores the 8 bytes in %0 to the address in %1; else as :func:`load`."""

    @intrinsic(
        c=f'__asm__ volatile("{assembly}" :: "{value}"(value), "{address}"(address) : "memory");',
        host=host,
    )
    def try_store(self: VectorProbe, address: VirtualAddress, value: u64) -> None:
        """Store 8 bytes in one instruction."""
        self.model_store(address, value)

    return try_store


class VectorProbe(Probe):
    """A probe that exception vectors know of.

    Subclasses give the two instructions, ``try_load = load("…")`` and ``try_store = store("…")``,
    and three numbers at build time: of the bits of a syndrome in ``syndrome_mask``, ``not_mapped``
    and ``forbidden`` are what the MMU may say.
    """

    c_module = "board"

    try_load: Callable[[VirtualAddress], None]
    try_store: Callable[[VirtualAddress, u64], None]
    syndrome_mask: int
    not_mapped: int
    forbidden: int

    def __init__(self, image: Image) -> None:
        super().__init__(image)
        self.fault_expected = self.static_array(u64, 1, "fault_expected")
        self.fault_syndrome = self.static_array(u64, 1, "fault_syndrome")
        self.fault_address = self.static_array(u64, 1, "fault_address")

    @kernel
    def read(self, address: VirtualAddress) -> Fault:
        """Load 8 bytes at ``address`` and say what the MMU thought of it."""
        return self.fault(self.syndrome_of_load(address))

    @kernel
    def write(self, address: VirtualAddress, value: u64) -> Fault:
        """Store 8 bytes at ``address`` and say what the MMU thought of it."""
        return self.fault(self.syndrome_of_store(address, value))

    @kernel
    def fault(self, syndrome: u64) -> Fault:
        """What a syndrome means; 0 is no fault."""
        if syndrome == 0:
            return Fault.NONE
        kind = syndrome & self.syndrome_mask
        if kind == self.not_mapped:
            return Fault.NOT_MAPPED
        if kind == self.forbidden:
            return Fault.PERMISSION
        return Fault.OTHER

    @kernel
    def syndrome_of_load(self, address: VirtualAddress) -> u64:
        """What a load of 8 bytes meets: a syndrome, or 0."""
        self._expect_fault()
        self.try_load(address)
        return self._fault_met()

    @kernel
    def syndrome_of_store(self, address: VirtualAddress, value: u64) -> u64:
        """What a store of 8 bytes meets: a syndrome, or 0."""
        self._expect_fault()
        self.try_store(address, value)
        return self._fault_met()

    @kernel
    def _expect_fault(self) -> None:
        """Until :meth:`_fault_met`, a fault of a load or store is an answer, not an error."""
        self.fault_syndrome[0] = u64(0)
        self.fault_address[0] = u64(0)
        self.fault_expected[0] = u64(1)

    @kernel
    def _fault_met(self) -> u64:
        """The syndrome of the fault since :meth:`_expect_fault`; 0 if there was none."""
        self.fault_expected[0] = u64(0)
        return self.fault_syndrome[0]

    # What the model does for the two instructions -----------------------------------------------

    def model_load(self, address: VirtualAddress) -> None:
        """Load 8 bytes, and take the fault as the exception vector does."""
        try:
            self.image.memory.loader(8)(int(address))
        except PageFault as fault:
            self._take(fault)

    def model_store(self, address: VirtualAddress, value: u64) -> None:
        """Store 8 bytes, and take the fault as the exception vector does."""
        try:
            self.image.memory.storer(8)(int(address), int(value))
        except PageFault as fault:
            self._take(fault)

    def _take(self, fault: PageFault) -> None:
        """What the exception vector does."""
        self.fault_syndrome[0] = u64(fault.syndrome or 0)
        self.fault_address[0] = u64(fault.address)
