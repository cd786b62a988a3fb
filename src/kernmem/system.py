"""Machines by name: ``kernmem.boot("rpi3")`` gives one with its MMU on and its heap ready."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from kernmem.language import KernmemError
from kernmem.memory.profile import (
    Checks,
    Placement,
    Profile,
    aligned,
    spec,
    tuned,
    tuned_fast,
    tuned_lean,
)

if TYPE_CHECKING:
    from kernmem.hardware import HardwareDescription
    from kernmem.language import Component, Image
    from kernmem.machine.port import Machine
    from kernmem.memory.architecture import Hardware

DEFAULT_HARDWARE = {"model": "rpi3", "host": "lab", "unicorn": "rpi3"}
"""The hardware of each machine, if none is asked for: the host can only be the lab."""

MACHINES = tuple(DEFAULT_HARDWARE)
TUNED = {make().name: make for make in (tuned, tuned_lean, tuned_fast)}
PROFILES = ("spec", "aligned", *TUNED)
PLACEMENTS = tuple(placement.value for placement in Placement)
CHECKS = tuple(checks.value for checks in Checks)


class NoSuchChoice(KernmemError, ValueError):
    """A name is not one of those that there are, or two do not go together."""


def boot(
    hardware: str | None = None,
    machine: str = "model",
    *,
    profile: str = "tuned",
    placement: str = "best",
    no_void: bool = True,
    checks: str = "basic",
) -> Machine:
    """Boot the memory manager: MMU on, in the kernel's space, an empty heap ready.

    Args:
        hardware: its name, ``"rpi3"`` or ``"lab"``; by default the Raspberry Pi 3, and on the
            host machine the lab.
        machine: ``"model"`` interprets the kernel, ``"host"`` runs it compiled in this process,
            ``"unicorn"`` runs it compiled on a simulated processor.
        profile: ``"tuned"`` for use (``"tuned-lean"`` and ``"tuned-fast"`` give time for space,
            or space for time), ``"spec"`` for the specification to the byte, ``"aligned"``
            for its headers around buffers that are aligned to 16 bytes.
        placement: which gap a buffer is placed in: ``"best"``, or, with headers, ``"first"`` or
            ``"largest"``.
        no_void: whether the ``spec`` profile keeps every free space long enough for a gap.
        checks: what the heap does against mistakes of its callers: ``"none"``, ``"basic"``, or
            ``"full"``, with guards around every buffer.
    """
    description = choose(hardware, machine)
    choice = heap_profile(profile, placement, no_void, checks)

    def manager(image: Image, parts: Hardware) -> Component:
        from kernmem.memory.manager import MemoryManager

        return MemoryManager(image, parts, choice)

    booted = make_machine(description, machine, manager)
    booted.call("init_memory")
    return booted


def choose(hardware: str | None, machine: str) -> HardwareDescription:
    """The hardware of a machine, by their names."""
    from kernmem.hardware import find

    _one_of("machine", machine, MACHINES)
    description = find(hardware if hardware is not None else DEFAULT_HARDWARE[machine])
    if machine == "host" and description.name != "lab":
        raise NoSuchChoice(
            f"the host machine must be the 'lab', not {description.name!r}: "
            "a process has no memory to give at that board's addresses"
        )
    return description


def heap_profile(
    profile: str, placement: str = "best", no_void: bool = True, checks: str = "basic"
) -> Profile:
    """The profile of the heap, by its name and parameters."""
    _one_of("profile", profile, PROFILES)
    _one_of("placement", placement, PLACEMENTS)
    _one_of("checks", checks, CHECKS)
    return replace(_layout(profile, Placement(placement), no_void), checks=Checks(checks))


def _layout(profile: str, where: Placement, no_void: bool) -> Profile:
    """The layout of that name; NoSuchChoice if its parameters do not go with it."""
    if profile == "spec":
        return spec(where, no_void=no_void)
    if not no_void:
        raise NoSuchChoice(f"no_void must be True with the {profile} profile: only spec has voids")
    if profile == "aligned":
        return aligned(where)
    if where is not Placement.BEST:
        raise NoSuchChoice(
            f"placement must be 'best' with the {profile} profile, not {where.value!r}: "
            "choose the spec or the aligned profile for it"
        )
    return TUNED[profile]()


def make_machine(
    hardware: HardwareDescription,
    machine: str,
    make_kernel: Callable[[Image, Hardware], Component],
) -> Machine:
    """A machine of one kind with any kernel in it, of which nothing has run yet.

    The machines are imported here, so that who uses the model waits for no compiler.
    """
    _one_of("machine", machine, MACHINES)
    if machine == "host":
        from kernmem.machine.host import HostMachine

        return HostMachine(hardware, make_kernel)
    if machine == "unicorn":
        from kernmem.machine.unicorn import UnicornMachine

        return UnicornMachine(hardware, make_kernel)
    from kernmem.machine.model import Model

    return Model(hardware, make_kernel)


def _one_of(what: str, name: str, names: tuple[str, ...]) -> None:
    if name not in names:
        raise NoSuchChoice(f"{what} must be one of {', '.join(names)}, not {name!r}")
