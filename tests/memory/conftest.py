"""Machines for behaviour tests: each test that takes one runs on all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import machines
import pytest
import segments

from kernmem.machine.port import Machine


@pytest.fixture(params=machines.NAMES)
def machine(request: pytest.FixtureRequest) -> Machine:
    """Every machine in turn, with the physical memory manager up and the MMU off."""
    found = machines.machine_named(request.param)
    found.init_physical_memory_manager()
    return found


@pytest.fixture(params=machines.NAMES)
def booted(request: pytest.FixtureRequest) -> Machine:
    """Every machine in turn, booted: in the kernel's space, its heap empty."""
    return machines.booted(request.param)


@pytest.fixture(
    scope="module",
    params=[*((name, 64) for name in machines.NAMES), ("flat", 0), ("unicorn", 0)],
    ids=lambda which: f"{which[0]}-{which[1]}",
)
def segmented(request: pytest.FixtureRequest) -> Iterator[tuple[Machine, Any]]:
    """Every machine in turn, with an empty segment and no heap, and its state.

    The segment has a shadow; on two of the machines there is one without too.
    """
    with segments.make(*request.param) as machine:
        yield machine, machine.snapshot()


@pytest.fixture(scope="module", autouse=True)
def _machines_of_this_module() -> Iterator[None]:
    """Tests of other folders may want the host machine, of which there can be one at a time."""
    yield
    machines.close_machines()
