"""Each driver with its simulation, and with one that makes it wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kernmem.hardware import find
from kernmem.hardware.devices import ns16550, pl011
from kernmem.hardware.devices.finisher import Finisher, SimulatedFinisher
from kernmem.hardware.devices.mailbox import Mailbox, SimulatedMailbox
from kernmem.hardware.devices.ns16550 import Ns16550, SimulatedNs16550
from kernmem.hardware.devices.pl011 import Pl011, SimulatedPl011
from kernmem.hardware.devices.registers import DeviceRegisters
from kernmem.hardware.peripherals import Bus, Peripheral
from kernmem.hardware.rpi3 import MAILBOX
from kernmem.hardware.simulation import MachineExit
from kernmem.language import Component, Image, KernelPanic, api, u8, u32, u64
from kernmem.machine.model import Model
from kernmem.memory.architecture import Console, Hardware, Power, Region

DEVICE = 0x3F20_1000


class Writer(Component):
    """Writes to a console."""

    def __init__(self, image: Image, console: Console) -> None:
        super().__init__(image)
        self.console = console

    @api
    def hello(self) -> None:
        """Two characters."""
        self.console.put(u8(72))
        self.console.put(u8(105))


class Leaver(Component):
    """Leaves the machine."""

    def __init__(self, image: Image, power: Power) -> None:
        super().__init__(image)
        self.power = power

    @api
    def leave(self, status: u32) -> None:
        """With a status."""
        self.power.exit(status)


class Asker(Component):
    """Asks the firmware."""

    def __init__(self, image: Image, mailbox: Mailbox) -> None:
        super().__init__(image)
        self.mailbox = mailbox

    @api
    def ask(self) -> u64:
        """For the end of the memory."""
        return self.mailbox.memory_end()


def model(kernel: Callable[[Image, Hardware], Component], device: Callable[[Bus], Any]) -> Model:
    """A Raspberry Pi with this kernel and no device but one."""

    def peripherals(bus: Bus) -> tuple[Peripheral, ...]:
        return (device(bus),)

    return Model(replace(find("rpi3"), peripherals=peripherals), kernel)


class Busy:
    """A device with no room for a character the first times that it is asked.

    ``status`` is the register that tells, ``busy`` and ``ready`` what it tells.
    """

    def __init__(self, device: Any, status: int, busy: int, ready: int) -> None:
        self.window = device.window
        self._device = device
        self._status = status
        self._answers = [ready, busy, busy, ready, busy]

    def load(self, offset: int, size: int) -> int:
        """The next answer."""
        assert offset == self._status
        return self._answers.pop()

    def store(self, offset: int, size: int, value: int) -> None:
        """Only after an answer that there is room."""
        assert len(self._answers) in (0, 3), "a character was sent to a device that was busy"
        self._device.store(offset, size, value)


def pl011_console(image: Image) -> Console:
    return Pl011(image, DEVICE)


def ns16550_console(image: Image) -> Console:
    return Ns16550(image, DeviceRegisters(image), DEVICE)


CONSOLES = {
    "pl011": (pl011_console, SimulatedPl011, pl011.FLAGS, pl011.FULL, 0),
    "ns16550": (ns16550_console, SimulatedNs16550, ns16550.LINE_STATUS, 0, ns16550.EMPTY),
}


@pytest.mark.parametrize("name", CONSOLES)
def test_a_console_writes_characters(name: str) -> None:
    driver, simulated, *_ = CONSOLES[name]
    machine = model(
        lambda image, _: Writer(image, driver(image)),
        lambda bus: simulated(DEVICE, bus.write_console),
    )
    machine.call("hello")
    assert machine.console == "Hi"


@pytest.mark.parametrize("name", CONSOLES)
def test_a_console_waits_until_there_is_room(name: str) -> None:
    driver, simulated, status, busy, ready = CONSOLES[name]
    machine = model(
        lambda image, _: Writer(image, driver(image)),
        lambda bus: Busy(simulated(DEVICE, bus.write_console), status, busy, ready),
    )
    machine.call("hello")
    assert machine.console == "Hi"


@pytest.mark.parametrize("status", [0, 1, 77])
def test_the_test_finisher_ends_the_run(status: int) -> None:
    machine = model(
        lambda image, _: Leaver(image, Finisher(image, DEVICE)),
        lambda bus: SimulatedFinisher(DEVICE),
    )
    with pytest.raises(MachineExit) as end:
        machine.call("leave", status)
    assert end.value.status == status


def asker(image: Image, hardware: Hardware) -> Component:
    memory_map: Any = hardware.memory_map
    return Asker(image, memory_map.mailbox)


def test_the_mailbox_tells_the_end_of_the_memory() -> None:
    machine = model(asker, lambda bus: SimulatedMailbox(MAILBOX, bus, Region(0x1000, 0x3000_0000)))
    assert machine.call("ask") == 0x3000_0000


def test_a_mailbox_that_does_not_know_the_question_is_a_panic() -> None:
    class Ignorant(SimulatedMailbox):
        def _answer(self, message: int) -> None:
            self._bus.store_physical(message + 4, 4, 0x8000_0001)

    machine = model(asker, lambda bus: Ignorant(MAILBOX, bus, Region(0, 0)))
    with pytest.raises(KernelPanic, match="the firmware answered 0x80000001"):
        machine.call("ask")
