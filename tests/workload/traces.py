"""Traces for the tests: small ones, made on the spot, and the recorded ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

RECORDED = Path(__file__).parent.parent / "data" / "traces"
ARM64 = RECORDED / "arm64-boot-kmalloc.npz"
X86 = RECORDED / "x86-boot-kmalloc.npz"

ALLOCATE, FREE, REALLOCATE = range(3)


def save(path: Path, *events: tuple[int, int, int], **columns: Any) -> Path:
    """Write events (op, id, size) as a trace; ``columns`` come on top, None takes one away."""
    rows = np.array(events, np.uint32).reshape(-1, 3)
    every: dict[str, Any] = {
        "op": rows[:, 0].astype(np.uint8),
        "id": rows[:, 1],
        "size": rows[:, 2],
        **columns,
    }
    with path.open("wb") as file:
        np.savez(file, **{name: column for name, column in every.items() if column is not None})
    return path
