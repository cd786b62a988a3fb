"""What the rules for changing live tables ask about tables and descriptors.

Levels are the manual's: they count up from the root to :attr:`TranslationRegime.last_level`.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Protocol


class Kind(Enum):
    """What a descriptor is."""

    INVALID = "invalid"
    TABLE = "table"
    LEAF = "leaf"


class TranslationRegime(Protocol):
    """The form of the tables behind one base register.

    Attributes:
        entry_length: bytes of a descriptor.
        start_level: the level of the root.
        last_level: the level of pages.
        page_invalidation: the instruction that drops a leaf, for messages.
        table_invalidation: the one that drops descriptors that lead to tables too.
        space_invalidation: those that drop all of an address space.
    """

    @property
    def entry_length(self) -> int: ...
    @property
    def start_level(self) -> int: ...
    @property
    def last_level(self) -> int: ...
    @property
    def page_invalidation(self) -> str: ...
    @property
    def table_invalidation(self) -> str: ...
    @property
    def space_invalidation(self) -> str: ...

    def table_length(self, level: int) -> int:
        """Bytes of a table, and what its address is a multiple of."""

    def shift(self, level: int) -> int:
        """The lowest address bit that ``level`` resolves."""

    def kind(self, entry: int, level: int) -> Kind:
        """What a descriptor of ``level`` is."""

    def claims(self, entry: int) -> bool:
        """Whether a descriptor says that it is valid, even if its level knows no such one."""

    def next_table(self, entry: int) -> int:
        """The address that a table descriptor holds."""

    def output(self, entry: int, level: int) -> int:
        """The address that a leaf holds."""

    def reserved(self, entry: int, level: int) -> int:
        """The bits of a valid descriptor that should be 0 and are not."""

    def cacheable(self, entry: int, level: int) -> bool:
        """Whether a TLB may hold it: it is valid, and causes no other fault of the walk."""

    def is_global(self, entry: int, level: int) -> bool:
        """Whether it is a leaf for all address spaces."""

    def find(self, table: bytes, level: int, kind: Kind) -> Iterator[tuple[int, int]]:
        """The descriptors of one kind in a table: (index, value)."""

    def find_global(self, table: bytes, level: int) -> Iterator[int]:
        """The indices of the leaves of a table that are for all address spaces."""

    def forbidden_change(self, old: int, new: int, level: int) -> str | None:
        """Why a live descriptor may not be overwritten by another without break-before-make.

        None if it may.
        """

    def harmless_change(self, old: int, new: int, level: int) -> bool:
        """Whether two values of a descriptor mean the same to the walker."""
