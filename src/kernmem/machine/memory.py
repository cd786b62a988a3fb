"""A machine's memory as the references of kernel Python see it, over the port's own functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kernmem.language import KernmemError


class PortMemory:
    """Loads and stores by virtual address.  ``read`` and ``write`` are set once there is a machine.

    (An image must have its memory before the kernel is put together, and that must be before
    the machine can be made.)
    """

    def __init__(self) -> None:
        self.read: Callable[[int, int], bytes] = self._refuse
        self.write: Callable[[int, bytes], None] = self._refuse

    def _refuse(self, *_: object) -> Any:
        raise KernmemError("the kernel is being put together: there is no memory yet")

    def loader(self, size: int) -> Callable[[int], int]:
        """A function that loads ``size`` bytes at an address."""
        return lambda address: int.from_bytes(self.read(address, size), "little")

    def storer(self, size: int) -> Callable[[int, int], None]:
        """A function that stores ``size`` bytes at an address."""
        return lambda address, value: self.write(address, value.to_bytes(size, "little"))

    def zero(self, address: int, length: int) -> None:
        """Store ``length`` zero bytes at ``address``."""
        self.write(address, bytes(length))
