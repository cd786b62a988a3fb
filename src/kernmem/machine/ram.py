"""RAM of a machine: a file in memory, as sparse as what the kernel has touched."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator

from kernmem.machine.errors import MachineError


class Ram:
    """Physical memory from ``start`` on, ``length`` bytes, zero at first.

    It lies in a memory file (memfd), of which the system keeps only the pages that were written:
    a snapshot of a gigabyte costs what is in it.

    Attributes:
        descriptor: of the file; an offset in it is a distance from ``start``.
    """

    def __init__(self, start: int, length: int) -> None:
        if not hasattr(os, "memfd_create"):
            raise MachineError("this machine keeps its RAM in a memfd, which only Linux has")
        self.start = start
        self.length = length
        self.descriptor = os.memfd_create("kernmem-ram", os.MFD_CLOEXEC)
        os.ftruncate(self.descriptor, length)
        self._map = mmap.mmap(self.descriptor, length)

    @property
    def end(self) -> int:
        """The first address after the RAM."""
        return self.start + self.length

    def pointer(self) -> int:
        """Where the RAM is in this process."""
        return ctypes.addressof(ctypes.c_char.from_buffer(self._map))

    def read(self, address: int, length: int) -> bytes:
        """Bytes at a physical address."""
        # Not through the mapping: that would fill the holes that it reads.
        return os.pread(self.descriptor, length, self._offset(address, length))

    def write(self, address: int, data: bytes) -> None:
        """Store bytes at a physical address."""
        os.pwrite(self.descriptor, data, self._offset(address, len(data)))

    def _offset(self, address: int, length: int) -> int:
        if not self.start <= address <= address + length <= self.end:
            raise MachineError(
                f"there is no RAM at {address:#x} to {address + length:#x}: "
                f"it is at {self.start:#x} to {self.end:#x}"
            )
        return address - self.start

    def extents(self) -> Iterator[tuple[int, bytes]]:
        """Address and content of every stretch that has been written; the rest is zero."""
        at = 0
        while at < self.length:
            try:
                start = os.lseek(self.descriptor, at, os.SEEK_DATA)
            except OSError:  # no data after `at`
                return
            at = os.lseek(self.descriptor, start, os.SEEK_HOLE)
            yield self.start + start, os.pread(self.descriptor, at - start, start)

    def snapshot(self) -> dict[int, bytes]:
        """What :meth:`restore` takes."""
        return dict(self.extents())

    def restore(self, snapshot: dict[int, bytes]) -> None:
        """Make the RAM what it was."""
        os.ftruncate(self.descriptor, 0)  # drops every page, in all mappings
        os.ftruncate(self.descriptor, self.length)
        for address, data in snapshot.items():
            self.write(address, data)

    def close(self) -> None:
        """Give the memory back."""
        self._map.close()
        os.close(self.descriptor)
