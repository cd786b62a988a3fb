"""The memory of the model: sparse RAM and devices behind a simulated MMU.

The hot path of the whole model is a load or store of a field: one look-up of the address's chunk
in a dictionary of remembered translations, and one ``struct`` call.  Whatever does not fit there
(a first access, a device, an access across two chunks, a store to a live page table, anything
with the MMU off) takes the slow path, which asks the MMU.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from kernmem.hardware.description import HardwareDescription
from kernmem.hardware.peripherals import Peripheral
from kernmem.hardware.simulation import CHUNK, CHUNK_BITS, Access
from kernmem.language import PageFault

FORMATS = {1: struct.Struct("<B"), 2: struct.Struct("<H"), 4: struct.Struct("<I")}
FORMATS[8] = struct.Struct("<Q")
OFFSET = CHUNK - 1
ADDRESSES = 1 << 64


class Snapshot(NamedTuple):
    """The state of a :class:`ModelMemory`."""

    chunks: dict[int, bytes]
    mmu: Any
    console: tuple[str, ...]


class ModelMemory:
    """What the kernel's references load from and store to.

    Attributes:
        mmu: the simulated MMU, which translates every address.
        chunks: the RAM that was touched: 4 KiB each, by physical address >> 12.
    """

    def __init__(self, hardware: HardwareDescription) -> None:
        self.chunks: dict[int, bytearray] = {}
        self._ram = tuple(
            (each.start >> CHUNK_BITS, each.end >> CHUNK_BITS) for each in hardware.ram
        )
        self._reads: dict[int, bytearray] = {}  # by virtual address >> 12
        self._writes: dict[int, bytearray] = {}
        self._loaders = {size: self._loader(size) for size in FORMATS}
        self._storers = {size: self._storer(size) for size in FORMATS}
        self._console: list[str] = []
        self._peripherals: tuple[Peripheral, ...] = hardware.peripherals(self)
        self.mmu = hardware.simulated_mmu(self, hardware.program)

    # What the language asks for (kernmem.language.Memory) ---------------------------------

    def loader(self, size: int) -> Callable[[int], int]:
        """A function that loads ``size`` bytes at a virtual address."""
        return self._loaders[size]

    def storer(self, size: int) -> Callable[[int, int], None]:
        """A function that stores ``size`` bytes at a virtual address."""
        return self._storers[size]

    def _loader(self, size: int) -> Callable[[int], int]:
        unpack: Callable[[bytearray, int], tuple[int]] = FORMATS[size].unpack_from
        remembered = self._reads
        load_slowly = self._load

        def load(address: int) -> int:
            try:
                return unpack(remembered[address >> 12], address & 0xFFF)[0]
            except (KeyError, struct.error):
                return load_slowly(address, size)

        return load

    def _storer(self, size: int) -> Callable[[int, int], None]:
        pack = FORMATS[size].pack_into
        remembered = self._writes
        store_slowly = self._store

        def store(address: int, value: int) -> None:
            try:
                pack(remembered[address >> 12], address & 0xFFF, value)
            except (KeyError, struct.error):
                store_slowly(address, value, size)

        return store

    def zero(self, address: int, length: int) -> None:
        """Store ``length`` zero bytes at a virtual address."""
        if address % 8 or length % 8:
            raise ValueError(f"zero({address:#x}, {length:#x}): both must be multiples of 8")
        for start, part in _parts(int(address), int(length)):
            self._write(start, bytes(part), 8)

    # The slow path ------------------------------------------------------------------------

    def _load(self, address: int, size: int) -> int:
        address = int(address)
        offset = address & OFFSET
        if offset + size > CHUNK:
            return int.from_bytes(self.read(address, size, size), "little")
        physical, _, clean = self.mmu.translate(address, Access.READ, size)
        number = physical >> CHUNK_BITS
        chunk = self.chunks.get(number)
        if chunk is None:
            if not self._is_ram(number):
                device, register = self._peripheral(physical, address, Access.READ)
                return device.load(register, size)
            chunk = self.chunks[number] = bytearray(CHUNK)
        if clean:
            self._reads[address >> CHUNK_BITS] = chunk
        value: int = FORMATS[size].unpack_from(chunk, physical & OFFSET)[0]
        return value

    def _store(self, address: int, value: int, size: int) -> None:
        address, value = int(address), int(value)
        if (address & OFFSET) + size > CHUNK:
            self.write(address, value.to_bytes(size, "little"), size)
        else:
            self._write(address, value.to_bytes(size, "little"), size)

    def _write(self, address: int, data: bytes, size: int) -> None:
        """Store within one chunk, in accesses of ``size`` bytes."""
        physical, _, clean = self.mmu.translate(address, Access.WRITE, size)
        number = physical >> CHUNK_BITS
        chunk = self.chunks.get(number)
        if chunk is None:
            if not self._is_ram(number):
                device, register = self._peripheral(physical, address, Access.WRITE)
                device.store(register, len(data), int.from_bytes(data, "little"))
                return
            chunk = self.chunks[number] = bytearray(CHUNK)
        if self.mmu.before_store(physical, data) and clean:
            self._writes[address >> CHUNK_BITS] = chunk
        offset = physical & OFFSET
        chunk[offset : offset + len(data)] = data

    def read(self, address: int, length: int, size: int = 1) -> bytes:
        """Load bytes where the kernel may, in accesses of ``size`` bytes."""
        parts = list(_parts(address, length))
        places = [self.mmu.translate(start, Access.READ, size).physical for start, _ in parts]
        return b"".join(
            self._load_piece(start, physical, part)
            for (start, part), physical in zip(parts, places, strict=True)
        )

    def write(self, address: int, data: bytes, size: int = 1) -> None:
        """Store bytes where the kernel may; if any part faults, nothing is stored."""
        for start, _ in _parts(address, len(data)):
            self.mmu.translate(start, Access.WRITE, size)
        for start, part in _parts(address, len(data)):
            self._write(start, data[start - address : start - address + part], 1)

    def _load_piece(self, address: int, physical: int, length: int) -> bytes:
        if not self._is_ram(physical >> CHUNK_BITS):
            device, register = self._peripheral(physical, address, Access.READ)
            return device.load(register, length).to_bytes(length, "little")
        return self.peek(physical, length)

    # Physical memory ----------------------------------------------------------------------

    def _is_ram(self, number: int) -> bool:
        return any(start <= number < end for start, end in self._ram)

    def _peripheral(self, physical: int, address: int, access: Access) -> tuple[Peripheral, int]:
        """The device at a physical address, and the offset of the access into its window."""
        for device in self._peripherals:
            window = device.window
            if window.start <= physical < window.end:
                return device, physical - window.start
        raise PageFault(
            address, access.name.lower(), f"no RAM or device at physical address {physical:#x}"
        )

    def peek(self, address: int, length: int) -> bytes:
        """Bytes of the RAM, by physical address; zeros where nothing was touched."""
        start = address & OFFSET
        if start + length <= CHUNK:
            chunk = self.chunks.get(address >> CHUNK_BITS)
            return bytes(length) if chunk is None else bytes(chunk[start : start + length])
        pieces = []
        for start, part in _parts(address, length):
            chunk = self.chunks.get(start >> CHUNK_BITS)
            offset = start & OFFSET
            pieces.append(bytes(part) if chunk is None else bytes(chunk[offset : offset + part]))
        return b"".join(pieces)

    def poke(self, address: int, data: bytes) -> None:
        """Change the RAM from outside of the machine: the MMU does not hear of it."""
        for start, part in _parts(address, len(data)):
            number, offset = start >> CHUNK_BITS, start & OFFSET
            if not self._is_ram(number):
                raise ValueError(f"{start:#x} is not in RAM")
            chunk = self.chunks.get(number)
            if chunk is None:
                chunk = self.chunks[number] = bytearray(CHUNK)
            chunk[offset : offset + part] = data[start - address : start - address + part]

    # What devices and the MMU ask for -----------------------------------------------------

    def load_physical(self, address: int, size: int) -> int:
        """For devices: load ``size`` bytes of RAM."""
        return int.from_bytes(self.peek(address, size), "little")

    def store_physical(self, address: int, size: int, value: int) -> None:
        """For devices: store ``size`` bytes to RAM."""
        self.poke(address, value.to_bytes(size, "little"))

    def write_console(self, text: str) -> None:
        """Add to the console."""
        self._console.append(text)

    @property
    def console(self) -> str:
        """All that was written to the console."""
        return "".join(self._console)

    def forget(self) -> None:
        """Drop every remembered translation."""
        self._reads.clear()
        self._writes.clear()

    def forget_writes(self) -> None:
        """Drop the remembered translations of stores."""
        self._writes.clear()

    # The whole state ----------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """RAM, MMU and console."""
        chunks = {number: bytes(chunk) for number, chunk in self.chunks.items()}
        return Snapshot(chunks, self.mmu.snapshot(), tuple(self._console))

    def restore(self, state: Snapshot) -> None:
        """Go back to a snapshot."""
        self.forget()
        self.chunks.clear()
        self.chunks.update((number, bytearray(chunk)) for number, chunk in state.chunks.items())
        self.mmu.restore(state.mmu)
        self._console[:] = state.console


def _parts(address: int, length: int) -> Iterator[tuple[int, int]]:
    """Cut a range at the borders of chunks: (start, length) of each part."""
    if not 0 <= address <= ADDRESSES - length:
        raise ValueError(f"{length:#x} bytes at {address:#x} leave the address space")
    end = address + length
    while address < end:
        part = min(CHUNK - (address & OFFSET), end - address)
        yield address, part
        address += part
