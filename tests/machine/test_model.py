"""The model machine: its RAM, its devices, its errors, its snapshots."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernmem.hardware.lab import LAB, RAM
from kernmem.hardware.rpi3 import RPI3
from kernmem.hardware.simulation import MachineExit
from kernmem.language import (
    Component,
    Image,
    IntegerOverflow,
    KernelPanic,
    ModelViolation,
    PageFault,
    PhysicalAddress,
    Struct,
    VirtualAddress,
    api,
    kernel,
    panic,
    struct,
    u8,
    u32,
    u64,
    usize,
)
from kernmem.machine.model import Model
from kernmem.memory.architecture import Fault, Hardware, Mapping, Region

PAGE = 0x1_0000
TABLES = RAM.start + 0x100_0000
FREE = RAM.start + 0x200_0000
FAR = 0x20_0000_0000  # an address that is mapped to the page at FREE, read-only
NEVER = 0x30_0000_0000


@struct("pair_t")
class Pair(Struct):
    """Two numbers."""

    small: u8
    large: u64


class Kernel(Component):
    """Enough of a kernel to try a machine."""

    def __init__(self, image: Image, hardware: Hardware) -> None:
        super().__init__(image)
        self.format = hardware.format
        self.mmu = hardware.mmu
        self.hardware = hardware
        self.map = hardware.memory_map
        self.pair = self.static(Pair, "pair")
        self.numbers = self.static_array(u32, 4, "numbers")

    @api
    def turn_on(self) -> None:
        """The MMU on, RAM and devices linear, one page read-only."""
        root = PhysicalAddress(TABLES)
        devices = self.format.leaf(PhysicalAddress(0), Mapping.DEVICE, u32(1))
        self.format.write(root, usize(0), devices)
        below = PhysicalAddress(TABLES + PAGE)
        ram = PhysicalAddress(RAM.start)
        self.format.write(
            root, usize(RAM.start >> 29), self.format.leaf(ram, Mapping.KERNEL, u32(1))
        )
        self.format.write(root, usize(FAR >> 29), self.format.table(below))
        free = PhysicalAddress(FREE)
        self.format.write(below, usize(0), self.format.leaf(free, Mapping.USER_READ_ONLY, u32(0)))
        self.mmu.enable(root)

    @api
    def forget_a_barrier(self) -> None:
        """A store to a live table, used at once."""
        below = PhysicalAddress(TABLES + PAGE)
        free = PhysicalAddress(FREE)
        self.format.write(below, usize(1), self.format.leaf(free, Mapping.KERNEL, u32(0)))
        self.load(VirtualAddress(FAR + PAGE))

    @api
    def load(self, address: VirtualAddress) -> u8:
        """The first number of a pair."""
        return self.at(Pair, address).small

    @api
    def store(self, address: VirtualAddress, value: u64) -> None:
        """The second number of a pair."""
        self.at(Pair, address).large = value

    @api
    def on_the_stack(self, depth: u32) -> VirtualAddress | None:
        """The address of a local."""
        with self.local(Pair) as pair:
            pair.large = u64(depth)
            if depth > 3:
                panic(f"{depth} is too deep")
            return VirtualAddress(int(pair))  # type: ignore[call-overload]

    @api
    def probe(self, address: VirtualAddress) -> Fault:
        """What a load meets."""
        return self.hardware.probe.read(address)

    @api
    def probe_store(self, address: VirtualAddress) -> Fault:
        """What a store meets."""
        return self.hardware.probe.write(address, u64(1))

    @api
    def hello(self) -> None:
        """Two ways to the console."""
        self.hardware.console.put(u8(72))
        self.hardware.console.put(u8(105))
        self.print("")
        self.print("there")

    @api
    def leave(self, status: u32) -> None:
        """Exit."""
        self.hardware.power.exit(status)

    @api
    def report(self) -> None:
        """Ask the board for its RAM."""
        self.map.report()

    @api
    def add(self, left: u8, right: u8 = u8(1)) -> u8:  # noqa: B008
        """A sum."""
        return left + right

    @kernel
    def hidden(self) -> None:
        """Not in the interface."""


@pytest.fixture
def model() -> Model:
    """A lab that was just switched on."""
    return Model(LAB, Kernel)


@pytest.fixture
def running() -> Model:
    """A lab with its MMU on."""
    model = Model(LAB, Kernel)
    model.turn_on()
    return model


# RAM ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("on", [False, True])
@given(
    offset=st.integers(0, 3 * 4096),
    data=st.binary(min_size=1, max_size=3 * 4096),
)
@settings(max_examples=30)
def test_bytes_come_back(on: bool, offset: int, data: bytes) -> None:
    """Whatever the alignment, across the borders of chunks."""
    model = Model(LAB, Kernel)
    if on:
        model.turn_on()
    model.write_virtual(FREE + offset, data)
    assert model.read_virtual(FREE + offset, len(data)) == data
    assert model.read_physical(FREE + offset, len(data)) == data
    assert model.read_physical(FREE + offset - 1, 1) == b"\0"
    assert model.read_physical(FREE + offset + len(data), 1) == b"\0"


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_unaligned_loads_and_stores(running: Model, size: int) -> None:
    """Also where two chunks meet; and twice, so the remembered way gives the same."""
    memory = running.memory
    load, store = memory.loader(size), memory.storer(size)
    for address in range(FREE + 0xFF0, FREE + 0x1010):
        value = 0x1122_3344_5566_7788 & (1 << 8 * size) - 1
        for _ in range(2):
            store(address, value)
            assert load(address) == value
        running.write_physical(address, bytes(size))
        assert load(address) == 0


def test_a_terabyte_costs_nothing() -> None:
    """Only what is touched exists."""
    huge = dataclasses.replace(LAB, ram=(*LAB.ram, Region(1 << 38, (1 << 38) + (1 << 39))))
    model = Model(huge, Kernel)
    model.memory.storer(8)((1 << 39) + 8, 77)
    assert model.memory.loader(8)((1 << 39) + 8) == 77
    assert len(model.memory.chunks) == 1


def test_zero(running: Model) -> None:
    """A range of any length, in multiples of 8."""
    running.write_virtual(FREE, b"x" * 0x3000)
    running.memory.zero(FREE + 8, 0x2008)
    assert running.read_virtual(FREE, 0x3000) == b"x" * 8 + bytes(0x2008) + b"x" * 0xFF0
    with pytest.raises(ValueError, match="multiples of 8"):
        running.memory.zero(FREE + 4, 8)


def test_where_there_is_nothing(model: Model, running: Model) -> None:
    """No RAM, no device; and an address that no core has."""
    with pytest.raises(PageFault, match="no RAM or device at physical address 0x10"):
        model.load(0x10)
    with pytest.raises(PageFault, match="address size fault, level 0"):
        model.load(1 << 40)
    with pytest.raises(ValueError, match="leave the address space"):
        running.read_virtual((1 << 64) - 4, 8)
    with pytest.raises(ValueError, match="0x10 is not in RAM"):
        model.write_physical(0x10, b"x")


def test_a_store_that_faults_stores_nothing(running: Model) -> None:
    """Even if its first half could."""
    running.write_physical(FREE + PAGE - 8, b"before!!")
    with pytest.raises(PageFault):
        running.write_virtual(FAR + PAGE - 4, b"after!!!")
    assert running.read_physical(FREE + PAGE - 8, 8) == b"before!!"


# Calls --------------------------------------------------------------------------------------


def test_permissions_reach_the_kernel(running: Model) -> None:
    """A page fault has the facts, and leaves the machine in order."""
    running.store(FREE, 5)
    assert running.load(FAR) == 5
    with pytest.raises(PageFault) as caught:
        running.call("store", FAR, 6)
    fault = caught.value
    assert (fault.address, fault.access, fault.syndrome) == (FAR + 8, "write", 0x9600_004F)
    assert str(fault) == "write of 0x2000000008: permission fault, level 3"
    assert running.call("load", FAR) == 5


def test_violations_reach_the_caller(running: Model) -> None:
    """With the rule and the facts as attributes."""
    with pytest.raises(ModelViolation) as caught:
        running.forget_a_barrier()
    assert caught.value.rule == "NEW_NOT_VISIBLE"
    assert "missing: DSB ISHST and ISB after the store" in caught.value.facts


def test_panics_and_overflows(model: Model) -> None:
    """The stack is empty again after a panic."""
    first = model.on_the_stack(1)
    with pytest.raises(KernelPanic, match=r"^4 is too deep$"):
        model.on_the_stack(4)
    assert model.on_the_stack(1) == first
    with pytest.raises(IntegerOverflow):
        model.add(255)


def test_probes(running: Model) -> None:
    """A fault that was expected is an answer, and noted where a vector would note it."""
    assert running.probe(FAR) is Fault.NONE
    assert running.probe_store(FAR) is Fault.PERMISSION
    assert running.fault_syndrome[0] == 0x9600_004F
    assert running.fault_address[0] == FAR
    assert running.probe(NEVER) is Fault.NOT_MAPPED
    assert running.probe(FAR + 4) is Fault.NONE
    assert running.fault_expected[0] == 0


def test_the_console_and_the_exit(model: Model) -> None:
    """A UART, and a status."""
    model.hello()
    assert model.console == "Hi\nthere\n"
    with pytest.raises(MachineExit) as caught:
        model.leave(3)
    assert caught.value.status == 3


def test_the_mailbox() -> None:
    """The Raspberry Pi asks its firmware."""
    model = Model(RPI3, Kernel)
    model.report()
    assert model.mailbox_message[1] == 0x8000_0000
    assert (model.memory_ranges_ram[0], model.memory_ranges_ram[1]) == (0x8_0000, 0x3C00_0000)
    assert model.memory_ranges_info.ram_count == 1


# Snapshots ----------------------------------------------------------------------------------


def test_snapshot_and_restore(running: Model) -> None:
    """RAM, tables, registers and console; as often as wanted."""
    running.store(FREE, 1)
    running.hello()
    state = running.snapshot()
    for _ in range(2):
        running.store(FREE, 2)
        running.hello()
        with pytest.raises(ModelViolation):
            running.forget_a_barrier()
        running.restore(state)
        assert running.load(FREE) == 1
        assert running.console == "Hi\nthere\n"
        with pytest.raises(PageFault):
            running.load(FAR + PAGE)


def test_restore_to_before_the_mmu_was_on(model: Model) -> None:
    """The MMU is off again, and can be turned on again."""
    state = model.snapshot()
    model.turn_on()
    registers = model.registers()
    model.restore(state)
    assert model.registers() == {"sctlr_el1": 0x30D0_0800}
    with pytest.raises(PageFault, match="alignment"):
        model.memory.loader(8)(FREE + 4)
    model.turn_on()
    assert model.registers() == registers


def test_two_models_have_nothing_in_common(model: Model) -> None:
    """Nor their statics."""
    other = Model(LAB, Kernel)
    model.pair.small = u8(1)
    assert (int(model.pair.small), int(other.pair.small)) == (1, 0)


def test_statics_must_fit() -> None:
    """Else they would lie in the heap."""

    class Fat(Kernel):
        def __init__(self, image: Image, hardware: Hardware) -> None:
            super().__init__(image, hardware)
            self.static_array(u64, 1 << 20, "fat")

    with pytest.raises(ValueError, match=r"the statics end at 0x10.*, past the program window"):
        Model(LAB, Fat)
