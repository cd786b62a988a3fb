"""The port: the kernel's functions and variables as attributes of a machine."""

from __future__ import annotations

import inspect

import pytest

from kernmem.hardware.lab import LAB
from kernmem.language import (
    Component,
    Image,
    PhysicalAddress,
    Struct,
    VirtualAddress,
    api,
    struct,
    u8,
    u32,
    u64,
    usize,
)
from kernmem.machine.model import Model
from kernmem.machine.port import api_functions, components
from kernmem.memory.architecture import Hardware, Mapping


@struct("node_t")
class Node(Struct):
    """A number and what follows."""

    value: u64
    next: Node | None


class Part(Component):
    """A component below the root."""

    @api
    def twice(self, value: u32) -> u32:
        """Two of it."""
        return value + value


class Kernel(Component):
    """Every kind of parameter and result."""

    def __init__(self, image: Image, hardware: Hardware) -> None:
        super().__init__(image)
        self.parts = (Part(image),)
        self.again = self.parts[0]
        self.first = self.static(Node, "first")
        self.second = self.static(Node, "second")
        self.words = self.static_array(u32, 3, "words")
        self.hardware = hardware

    @api
    def page(self, address: PhysicalAddress) -> PhysicalAddress | None:
        """The page of an address; None for the first."""
        page = address - address % 4096
        return None if page == PhysicalAddress(0) else page

    @api
    def flags(self, mapping: Mapping = Mapping.KERNEL) -> Mapping:
        """The same."""
        return mapping

    @api
    def link(self, node: Node, following: Node | None) -> Node | None:
        """Put one after another."""
        node.next = following
        return node.next

    @api
    def is_zero(self, value: usize) -> bool:
        """Whether it is."""
        return value == 0

    @api
    def nothing(self) -> None:
        """Nothing."""


@pytest.fixture
def machine() -> Model:
    """A model with that kernel."""
    return Model(LAB, Kernel)


def test_functions_of_all_components(machine: Model) -> None:
    """Each once, though a component may be reached twice."""
    assert machine.twice(21) == 42
    assert type(machine.twice(21)) is u32
    assert [type(each).__name__ for each in components(machine.kernel)] == ["Kernel", "Part"]


def test_results_have_their_types(machine: Model) -> None:
    """Addresses, None, enumerations, references, bools."""
    assert type(machine.page(0x12345)) is PhysicalAddress
    assert machine.page(0x12345) == 0x12000
    assert machine.page(5) is None
    assert machine.flags(4) is Mapping.NO_EXECUTE
    assert machine.flags() is Mapping.KERNEL
    assert machine.is_zero(0) is True
    assert machine.nothing() is None


def test_references_as_arguments(machine: Model) -> None:
    """A reference, its address, or None."""
    second = machine.link(machine.first, machine.second)
    assert repr(second).startswith("<node_t at 0x")
    assert machine.first.next == machine.second
    assert machine.link(int(machine.first), int(machine.second)) == machine.second
    assert machine.link(machine.first, None) is None
    assert machine.link(machine.first, 0) is None


def test_arguments_are_checked(machine: Model) -> None:
    """By the kernel's own types and by Python's rules for calls."""
    with pytest.raises(ArithmeticError, match="0x100000000 does not fit u32"):
        machine.twice(1 << 32)
    with pytest.raises(TypeError, match="PhysicalAddress must be a value, not None"):
        machine.page(None)
    with pytest.raises(TypeError, match="missing a required argument: 'value'"):
        machine.twice()
    with pytest.raises(TypeError, match="too many positional arguments"):
        machine.nothing(1)
    assert machine.twice(value=4) == 8


def test_variables(machine: Model) -> None:
    """Structs and arrays, by their C names."""
    machine.first.value = u64(7)
    assert machine.first.value == 7
    assert repr(machine.first) == f"<node_t at {int(machine.first):#x}: value=7 next=None>"
    machine.words[2] = u32(9)
    assert [int(machine.words[i]) for i in range(3)] == [0, 0, 9]
    address = VirtualAddress(int(machine.first))  # type: ignore[call-overload]
    assert machine.load(int(address)) == 7
    machine.store(int(address), 8)
    assert machine.reference(Node, int(address)).value == 8


def test_names_that_are_not_there(machine: Model) -> None:
    """What there is instead."""
    with pytest.raises(AttributeError, match="model machine with this kernel has no 'twoce'"):
        machine.twoce  # noqa: B018
    with pytest.raises(AttributeError, match=r"the kernel has no function 'first'; it has .*twice"):
        machine.call("first")
    with pytest.raises(AttributeError, match=r"has no variable 'third'; it has .*first.*second"):
        machine.static("third")


def test_they_can_be_discovered(machine: Model) -> None:
    """dir(), help() and signatures, as for methods."""
    assert {"twice", "first", "words", "snapshot", "call"} <= set(dir(machine))
    assert machine.twice.__doc__ == "Two of it."
    assert str(inspect.signature(machine.twice)) == "(value: 'u32') -> 'u32'"
    assert repr(machine) == f"<model machine: {LAB.title}>"


def test_two_functions_of_one_name() -> None:
    """Which of them would a machine have?"""

    class Twin(Component):
        @api
        def twice(self, value: u8) -> u8:
            """Another."""
            return value

    class Root(Component):
        def __init__(self, image: Image) -> None:
            super().__init__(image)
            self.part = Part(image)
            self.twin = Twin(image)

    with pytest.raises(ValueError, match="two components have an @api function 'twice'"):
        api_functions(Root(Image(LAB.target)))
