"""What the MMU drivers have in common: identifiers of spaces, and the order of a retirement."""

from __future__ import annotations

from kernmem.language import Image, PhysicalAddress, VirtualAddress, kernel
from kernmem.memory.address_spaces import AddressSpaces
from kernmem.memory.architecture import EntryFormat, Mmu


class MmuDriver(Mmu):
    """A driver made of steps.  Which instructions a step takes, the architecture says.

    A retirement is: :meth:`order_tables`, so that no walk sees the old entries once they are
    dropped; then nothing more, if the table is not in use and can give up its identifier instead;
    else the invalidations, and :meth:`complete`.

    Where a new entry needs an invalidation too (RISC-V), the four calls about changes are
    overridden, and the steps are not needed.

    Attributes:
        one_by_one: so many pages are invalidated one by one; of more, all that is cached goes.
    """

    c_module = "virtual"

    one_by_one = 32

    def __init__(self, image: Image, entries: EntryFormat) -> None:
        super().__init__(image)
        self.spaces = AddressSpaces(image)
        self.page_length = entries.page_length
        self.by_page = self.one_by_one * entries.page_length

    # The steps ----------------------------------------------------------------------------------

    @kernel
    def invalidate_leaf(self, address: VirtualAddress) -> None:
        """Drop the leaf translation of ``address``, global or of any space in use."""
        raise NotImplementedError

    @kernel
    def invalidate(self, address: VirtualAddress) -> None:
        """Drop the translation of ``address``, and every entry that led to it."""
        raise NotImplementedError

    @kernel
    def invalidate_all(self, is_global: bool) -> None:
        """Drop all that is cached, if ``is_global`` what is global too."""
        raise NotImplementedError

    @kernel
    def complete(self) -> None:
        """Wait until what was invalidated so far is gone."""
        raise NotImplementedError

    # What is made of them -----------------------------------------------------------------------

    @kernel
    def publish_range(
        self, table: PhysicalAddress, start: VirtualAddress, last: VirtualAddress, is_global: bool
    ) -> None:
        """Let the walker see new leaves, and new tables that lead to them: as for a page."""
        self.publish_page(table, start, is_global)

    @kernel
    def retire_page(self, table: PhysicalAddress, address: VirtualAddress, is_global: bool) -> None:
        """Forget the leaf translation of ``address``, page or block, everywhere."""
        self.order_tables()
        if self.spaces.must_invalidate(table, is_global):
            self.invalidate_leaf(address)
            self.complete()

    @kernel
    def retire_range(
        self, table: PhysicalAddress, start: VirtualAddress, last: VirtualAddress, is_global: bool
    ) -> None:
        """Forget every translation in the range, and what led to its tables, everywhere."""
        self.order_tables()
        if not self.spaces.must_invalidate(table, is_global):
            return
        if last - start < self.by_page:
            address = start
            while True:
                self.invalidate(address)
                if last - address < self.page_length:
                    break
                address += self.page_length
        else:
            self.invalidate_all(is_global)
        self.complete()

    @kernel
    def forget(self, table: PhysicalAddress) -> None:
        """Forget whatever was remembered under the root ``table``, which is not current.

        When its identifier is lent again, what is cached under it is invalidated.
        """
        self.spaces.forget(table)
