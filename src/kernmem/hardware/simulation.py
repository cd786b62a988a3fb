"""What the model machine asks of an architecture: one simulated MMU.

The MMU sees every store and every instruction of maintenance, and answers translations.
It raises :class:`PageFault` where silicon would, and :class:`ModelViolation` where silicon
might do one thing or another.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import IntEnum
from typing import Any, NamedTuple, Protocol

from kernmem.language import KernmemError

CHUNK_BITS = 12
CHUNK = 1 << CHUNK_BITS  # the unit of simulated RAM and of cached translations


class MachineExit(KernmemError):
    """Kernel code left the machine through :meth:`Power.exit`.

    Attributes:
        status: 0 is success.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"the kernel left the machine with status {status}")
        self.status = status


class Access(IntEnum):
    """What an access does."""

    READ = 0
    WRITE = 1
    EXECUTE = 2


class Translation(NamedTuple):
    """Where an access goes.

    Attributes:
        physical: the physical address of the access.
        normal: normal memory, not a device: unaligned accesses are fine.
        clean: every access of this kind to the same chunk gives the same, until
            :meth:`SimulatedRam.forget` is called; so it may be remembered.
    """

    physical: int
    normal: bool
    clean: bool


class SimulatedRam(Protocol):
    """What a simulated MMU asks of the machine around it."""

    def peek(self, address: int, length: int) -> bytes:
        """Bytes of physical memory, as the latest stores left them; zeros where there is none."""

    def poke(self, address: int, data: bytes) -> None:
        """Store to physical memory, as an MMU does that notes accesses in the tables."""

    def forget(self) -> None:
        """Drop every remembered translation."""

    def forget_writes(self) -> None:
        """Drop the remembered translations of stores."""


class SimulatedMmu(ABC):
    """The MMU of one simulated core."""

    enabled: bool
    """Whether addresses are translated; when not, data accesses are device accesses."""

    @abstractmethod
    def execute(self, instruction: str, operand: int = 0) -> int:
        """Execute one instruction of the architecture's manual, e.g. ``"dsb ishst"``.

        ``msr``, ``tlbi`` and the like take an operand; ``mrs`` gives a result.
        """

    @abstractmethod
    def translate(
        self, address: int, access: Access, size: int = 1, *, user: bool = False
    ) -> Translation:
        """Translate an access that does not leave its chunk; raise what it meets."""

    @abstractmethod
    def before_store(self, physical: int, new: bytes) -> bool:
        """Hear of a store of ``new`` to RAM, before it is done.

        Returns whether later stores to the chunk may go unheard until
        :meth:`SimulatedRam.forget_writes` is called.
        """

    @abstractmethod
    def registers(self) -> dict[str, int]:
        """The registers that have been written, by name."""

    @abstractmethod
    def snapshot(self) -> Any:
        """All state, as a value that later changes leave alone."""

    @abstractmethod
    def restore(self, state: Any) -> None:
        """Go back to a snapshot."""
