"""Address-space identifiers: the small numbers that cached translations are tagged with.

A processor that has them keeps the translations of several spaces at once, so that a switch back
to a space finds its own still there.  There are more spaces than identifiers, so a space has one
only on loan: it gets one when it is entered, and loses it to another space that is entered, or
when what is cached under it is no longer true.  A space without one has nothing cached.

An MMU's driver keeps to three rules, and has nothing else to remember:

* When :meth:`AddressSpaces.enter` says False, whatever is cached under the identifier is of
  another space, or out of date: invalidate it before anything is translated by it.
* When a table is changed, invalidate under its identifier, or :meth:`AddressSpaces.forget` it;
  if it has none, nothing is to be done.  What is global is cached under all identifiers, or none:
  it must be invalidated whichever table is in use.  :meth:`AddressSpaces.must_invalidate` says so.
* :meth:`AddressSpaces.forget` a table that is gone: its memory may become another table.
"""

from __future__ import annotations

from kernmem.language import (
    Component,
    Image,
    PhysicalAddress,
    Struct,
    kernel,
    outlined,
    span,
    struct,
    usize,
)

SPACES = 8
"""How many spaces have an identifier at a time, if the processor has so many."""

NO_IDENTIFIER = SPACES


@struct("address_spaces_t")
class AddressSpacesInfo(Struct):
    """Which identifiers there are; all of them are below count, and count is at most SPACES."""

    count: usize
    current: usize  # that of the space in use; NO_IDENTIFIER before the first is entered
    oldest: usize  # the next to be lent


class AddressSpaces(Component):
    """Lends identifiers to root tables, first in first out.  Each call takes O(SPACES)."""

    c_module = "virtual"

    def __init__(self, image: Image) -> None:
        super().__init__(image)
        self.info = self.static(AddressSpacesInfo, "address_spaces")
        self.tables = self.static_array(PhysicalAddress, SPACES, "address_space_tables")

    @kernel
    def start(self, count: usize) -> None:
        """Lend the identifiers from 0 to ``count`` - 1, or to SPACES - 1 if these are fewer.

        Until then no space has one, and none is in use.
        """
        self.info.current = usize(NO_IDENTIFIER)
        self.info.count = count if count < SPACES else usize(SPACES)

    @outlined
    def identifier(self, table: PhysicalAddress) -> usize:
        """The identifier of the space behind a root table; NO_IDENTIFIER if it has none."""
        for slot in span(usize(0), usize(SPACES)):
            if self.tables[slot] == table:
                return slot
        return usize(NO_IDENTIFIER)

    @kernel
    def enter(self, table: PhysicalAddress) -> bool:
        """Make ``info.current`` the identifier of ``table``; whether it had one already.

        The space in use keeps its own, unless there is only one: translations are still being
        cached under it until the switch is done.
        """
        info = self.info
        known = self.identifier(table)
        if known != NO_IDENTIFIER:
            info.current = known
            return True
        slot = info.oldest
        if slot == info.current:
            slot = self._after(slot)
        info.oldest = self._after(slot)
        self.tables[slot] = table
        info.current = slot
        return False

    @kernel
    def forget(self, table: PhysicalAddress) -> None:
        """Take the identifier of ``table`` back, if it has one; the space is not in use."""
        slot = self.identifier(table)
        if slot != NO_IDENTIFIER:
            self.tables[slot] = PhysicalAddress(0)

    @outlined
    def must_invalidate(self, table: PhysicalAddress, is_global: bool) -> bool:
        """Whether what is cached of a change must go now, or goes with the identifier.

        A ``table`` that is not in use loses its own, but that is not enough for what is global.
        """
        slot = self.identifier(table)
        if slot == self.info.current:
            return True
        if slot != NO_IDENTIFIER:
            self.tables[slot] = PhysicalAddress(0)
        return is_global

    @kernel
    def _after(self, slot: usize) -> usize:
        """The identifier that is lent after ``slot``."""
        return slot + 1 if slot + 1 < self.info.count else usize(0)
