"""What can go wrong with a machine, as opposed to the kernel on it."""

from __future__ import annotations

from kernmem.language import KernmemError


class MachineError(KernmemError):
    """The machine cannot do what it was asked."""


class MachineTimeout(MachineError):
    """The kernel did not come to an end in time.

    Attributes:
        seconds: how long it was given.
    """

    def __init__(self, what: str, seconds: float) -> None:
        super().__init__(f"{what}: no end after {seconds:g} s")
        self.seconds = seconds


class MachineMissing(MachineError):
    """A program that the machine needs is not installed."""
