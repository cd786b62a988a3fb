"""The hardware by name, and what every one of them must keep to."""

from __future__ import annotations

import pytest

from kernmem.hardware import HARDWARE, HardwareDescription, find
from kernmem.language import Image, set_pointer_bytes
from kernmem.memory.architecture import Hardware

NAMES = list(HARDWARE)


def test_find() -> None:
    """By name, or an error that lists the names."""
    assert find("rpi3").title == "Raspberry Pi 3, AArch64, 64 KiB pages"
    with pytest.raises(ValueError, match=r"hardware must be one of rpi3, lab.*, not 'rpi9'"):
        find("rpi9")


def built(name: str) -> tuple[HardwareDescription, Hardware]:
    """A hardware put together for no machine."""
    description = find(name)
    set_pointer_bytes(description.target.pointer_bytes)
    return description, description.build(Image(description.target))


@pytest.mark.parametrize("name", NAMES)
def test_the_map_of_every_hardware(name: str) -> None:
    """Pages fit the borders, and nothing overlaps what it must not."""
    description, hardware = built(name)
    memory_map = hardware.memory_map
    page = hardware.format.page_length
    assert memory_map.program_start == description.program.start
    assert memory_map.program_end() == description.program.end
    assert description.program.end % page == 0
    assert any(
        ram.start <= description.program.start < description.program.end <= ram.end
        for ram in description.ram
    )
    for device in memory_map.devices:
        assert device.start % page == 0
        assert device.end % page == 0
        assert not any(ram.start < device.end and device.start < ram.end for ram in description.ram)
        assert memory_map.linear_start <= device.start < device.end <= memory_map.linear_end
        assert device.end <= memory_map.segment_start or memory_map.segment_end <= device.start, (
            "a device lies in the kernel segment"
        )
    assert memory_map.segment_start % page == 0
    assert memory_map.segment_end <= 1 << hardware.format.address_bits
    assert memory_map.linear_end <= 1 << hardware.format.physical_bits


@pytest.mark.parametrize("name", NAMES)
def test_every_device_is_in_a_device_region(name: str) -> None:
    """What a simulator provides is what the kernel maps."""

    class Bus:
        def load_physical(self, address: int, size: int) -> int:
            return 0

        def store_physical(self, address: int, size: int, value: int) -> None: ...

        def write_console(self, text: str) -> None: ...

    description, hardware = built(name)
    for peripheral in description.peripherals(Bus()):
        window = peripheral.window
        assert any(
            region.start <= window.start and window.end <= region.end
            for region in hardware.memory_map.devices
        )
