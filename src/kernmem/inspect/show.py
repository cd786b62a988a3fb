"""Registries as aligned text: one line a field, addresses in hex."""

from __future__ import annotations

from typing import Any

from kernmem.language import Array, Integer, PhysicalAddress, Struct, VirtualAddress
from kernmem.machine.port import Machine


def show_registry(machine: Machine, name: str) -> str:
    """One static variable of the kernel, by its C name."""
    value = machine.static(name)
    if isinstance(value, Array):
        shown = " ".join(str(int(value[at])) for at in range(min(value.length or 0, 8)))
        return f"{name} at {int(value.address):#x}, {value.length} elements: {shown}"
    layout: Any = value.layout
    width = max(len(field.name) for field in layout.fields)
    lines = [f"{name} at {int(value):#x}"]
    for field in layout.fields:
        shown = show_value(getattr(value, field.name))
        lines.append(f"  {field.name:<{width}}  {shown}")
    return "\n".join(lines)


def show_registries(machine: Machine) -> str:
    """Every registry of the kernel."""
    names = [static.name for static in machine.image.statics.values()]
    return "\n".join(show_registry(machine, name) for name in names)


def show_value(value: Any) -> str:
    """A field: addresses and references in hex, numbers in decimal, None as itself."""
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, Struct | VirtualAddress | PhysicalAddress):
        number: Any = value
        return f"{int(number):#x}"
    if isinstance(value, Array):
        return f"{value.length} elements at {int(value.address):#x}"
    if isinstance(value, Integer):
        return str(int(value))
    return str(value)
