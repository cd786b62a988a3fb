"""What can go wrong while kernel code runs, each with its facts as attributes."""

from __future__ import annotations


class KernmemError(Exception):
    """The base of every error that kernmem raises on purpose."""


class KernelPanic(KernmemError):
    """Kernel code found a broken contract and stopped.

    Attributes:
        message: the text of the panic, its values filled in.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class IntegerOverflow(KernelPanic, ArithmeticError):
    """Arithmetic left the width of its type, or divided by zero.

    Attributes:
        operation: the operator, or ``conversion``.
        left, right: the operands (``right`` is 0 for a conversion).
        kind: the name of the type that could not hold the result.
    """

    def __init__(self, operation: str, left: int, right: int, kind: str, maximum: int) -> None:
        if operation == "conversion":
            text = f"{left:#x} does not fit {kind}, which ends at {maximum:#x}"
        elif operation in ("//", "%") and right == 0:
            text = f"{kind}: {left:#x} {operation} 0 divides by zero"
        else:
            text = f"{kind}: {left:#x} {operation} {right:#x} leaves 0 to {maximum:#x}"
        super().__init__(text)
        self.operation = operation
        self.left = left
        self.right = right
        self.kind = kind


class PageFault(KernmemError):
    """An access that the MMU refused.

    Attributes:
        address: the virtual address of the access.
        access: ``"read"``, ``"write"`` or ``"execute"``.
        reason: what the MMU found, e.g. ``"translation fault, level 3"``.
        syndrome: the architecture's own word for it (ESR, error code, scause), if it has one.
    """

    def __init__(self, address: int, access: str, reason: str, syndrome: int | None = None) -> None:
        super().__init__(f"{access} of {address:#x}: {reason}")
        self.address = address
        self.access = access
        self.reason = reason
        self.syndrome = syndrome


class ModelViolation(KernmemError):
    """Kernel code did what the architecture leaves undefined; silicon may or may not show it.

    Attributes:
        rule: the name of the broken rule, e.g. ``"STALE_TRANSLATION"``.
        facts: what was done, to which address, with which values, and the missing step.
    """

    def __init__(self, rule: str, facts: str) -> None:
        super().__init__(f"{rule}: {facts}")
        self.rule = rule
        self.facts = facts
