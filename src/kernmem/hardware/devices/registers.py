"""How a driver reaches the registers of its device."""

from __future__ import annotations

from typing import Protocol

from kernmem.language import Component, Image, VirtualAddress, intrinsic, u8, u32


class ByteRegisters(Protocol):
    """Registers of a byte each, in memory or at ports."""

    def read_byte(self, address: VirtualAddress) -> u8:
        """Load a register, once."""

    def write_byte(self, address: VirtualAddress, value: u8) -> None:
        """Store to a register, once."""


class DeviceRegisters(Component):
    """Registers that lie in memory, which is mapped as device memory or not mapped at all.

    On the host the text calls the C runtime of the host machine:

        uint32_t kernmem_host_read_register(uint64_t address);
        void kernmem_host_write_register(uint64_t address, uint32_t value);
    """

    c_module = "virtual"

    def __init__(self, image: Image) -> None:
        super().__init__(image)
        self._load_byte, self._store_byte = image.memory.loader(1), image.memory.storer(1)
        self._load_word, self._store_word = image.memory.loader(4), image.memory.storer(4)

    @intrinsic(c="return *(volatile const uint8_t *)(uintptr_t)address;")
    def read_byte(self, address: VirtualAddress) -> u8:
        """Load a register, once."""
        return u8(self._load_byte(int(address)))

    @intrinsic(c="*(volatile uint8_t *)(uintptr_t)address = value;")
    def write_byte(self, address: VirtualAddress, value: u8) -> None:
        """Store to a register, once."""
        self._store_byte(int(address), int(value))

    @intrinsic(
        c="return *(volatile const uint32_t *)(uintptr_t)address;",
        host="return kernmem_host_read_register((uint64_t)address);",
    )
    def read_word(self, address: VirtualAddress) -> u32:
        """Load a register of 4 bytes, once."""
        return u32(self._load_word(int(address)))

    @intrinsic(
        c="*(volatile uint32_t *)(uintptr_t)address = value;",
        host="kernmem_host_write_register((uint64_t)address, value);",
    )
    def write_word(self, address: VirtualAddress, value: u32) -> None:
        """Store to a register of 4 bytes, once."""
        self._store_word(int(address), int(value))
