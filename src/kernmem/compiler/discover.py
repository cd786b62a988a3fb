"""Which components a kernel has, what they are called in C, and which file each goes to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from kernmem.language import Array, Component, Static, Struct


@dataclass(eq=False)
class Part:
    """A component of the kernel.

    Attributes:
        prefix: begins the names of its functions: the class in snake case, or the attribute
            that holds it when the class has several instances.
        module: the C file of its code.
        owner: the part that holds it first.
    """

    component: Component
    owner: Part | None
    attribute: str
    module: str
    prefix: str = ""


def snake_case(name: str) -> str:
    """``LengthTree`` is ``length_tree``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower().strip("_")


def discover(root: Component) -> list[Part]:
    """Every component that ``root`` holds in attributes, and in tuples of them; ``root`` first."""
    first = Part(root, None, "", root.c_module or snake_case(type(root).__name__))
    parts = {id(root): first}
    queue = [first]
    for part in queue:
        for attribute, component in _held(part.component):
            if id(component) not in parts:
                module = component.c_module or part.module
                parts[id(component)] = Part(component, part, attribute, module)
                queue.append(parts[id(component)])
    found = list(parts.values())
    _name(found)
    return found


def _held(component: Component) -> Iterator[tuple[str, Component]]:
    """The components in the attributes of one; those with a name of their own first."""
    attributes = vars(component).items()
    for name, value in attributes:
        if isinstance(value, Component):
            yield name, value
    for name, value in attributes:
        if isinstance(value, tuple):
            for index, item in enumerate(value):
                if isinstance(item, Component):
                    yield f"{name}_{index}", item


def _name(parts: list[Part]) -> None:
    """Give every part a prefix of its own: its class, its attribute, or its owner's before it."""
    for part in parts:
        same = [other for other in parts if type(other.component) is type(part.component)]
        is_only = len(same) == 1 or not part.attribute
        part.prefix = snake_case(type(part.component).__name__) if is_only else part.attribute
    taken: set[str] = set()
    for part in parts:
        name, owner = part.prefix.lstrip("_"), part.owner
        while name in taken and owner is not None:
            name, owner = f"{owner.prefix}_{name}", owner.owner
        count = 2
        while name in taken:
            name, count = f"{part.prefix}_{count}", count + 1
        part.prefix = name
        taken.add(name)


def holders(parts: list[Part], statics: dict[int, Static]) -> dict[str, Part]:
    """Which part holds each static in an attribute, by the static's name; the first one does."""
    found: dict[str, Part] = {}
    for part in parts:
        for value in vars(part.component).values():
            for item in value if isinstance(value, tuple) else (value,):
                static = static_of(item, statics)
                if static is not None:
                    found.setdefault(static.name, part)
    return found


def static_of(value: Any, statics: dict[int, Static]) -> Static | None:
    """The static that a struct reference or an array refers to; None if it is none."""
    if isinstance(value, Array):
        return statics.get(value.address)
    if isinstance(value, Struct):
        return statics.get(int(cast(Any, value)))
    return None
