"""What kernel code is compiled for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """An instruction set, as far as the language can see it.  Always little-endian.

    Attributes:
        isa: chooses the text of an intrinsic, e.g. ``"aarch64"``; ``"host"`` for a shared object.
        pointer_bytes: 4 or 8; the width of ``usize``, addresses and references.
        natural: structs declared packed that are laid out naturally all the same; a choice that
            an image makes for all its code (:meth:`Image.lay_out_naturally`).
    """

    isa: str
    pointer_bytes: int
    natural: frozenset[type] = frozenset()

    def __post_init__(self) -> None:
        if self.pointer_bytes not in (4, 8):
            raise ValueError(f"pointer_bytes must be 4 or 8, not {self.pointer_bytes!r}")
