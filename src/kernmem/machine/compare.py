"""Whether two machines hold the same bytes: in their statics and in all RAM beside the program."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kernmem.language import Struct, layout
from kernmem.language.component import Static
from kernmem.language.structs import size_of
from kernmem.machine.port import Machine

SLICE = 1 << 20  # bytes compared at a time


@dataclass(frozen=True)
class Difference:
    """The first place where two machines differ.

    Attributes:
        place: the name of a static variable, or ``"physical memory"``.
        address: of the first byte that differs (in a static: on the first machine).
        one, other: the bytes from there on, at most 16.
    """

    place: str
    address: int
    one: bytes
    other: bytes

    def __str__(self) -> str:
        return (
            f"{self.place}: at {self.address:#x} one machine has {self.one.hex(' ')}, "
            f"the other {self.other.hex(' ')}"
        )


def first_difference(one: Machine, other: Machine) -> Difference | None:
    """The first byte that differs between two machines that run the same kernel, or None."""
    for (place, address, left), (_, _, right) in zip(_parts(one), _parts(other), strict=True):
        if left != right:
            offset = next(i for i, (a, b) in enumerate(zip(left, right, strict=True)) if a != b)
            end = offset + 16
            return Difference(place, address + offset, left[offset:end], right[offset:end])
    return None


def _parts(machine: Machine) -> Iterator[tuple[str, int, bytes]]:
    """All that is compared: (what it is, its address, its bytes)."""
    for static in machine.image.statics.values():
        address = machine.static_address(static)
        yield static.name, address, machine.read_virtual(address, _length(machine, static))
    program = machine.hardware.program  # code and stack differ, and the statics are named above
    for region in machine.hardware.ram:
        for start, end in (
            (region.start, min(region.end, program.start)),
            (max(region.start, program.end), region.end),
        ):
            for place in range(start, end, SLICE):
                data = machine.read_physical(place, min(SLICE, end - place))
                yield "physical memory", place, data


def _length(machine: Machine, static: Static) -> int:
    """The bytes of a static variable."""
    target = machine.hardware.target
    if issubclass(static.kind, Struct):
        return layout(static.kind, target).size
    return size_of(static.kind, target) * (static.length or 1)
