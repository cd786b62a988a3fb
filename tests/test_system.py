"""Machines by name."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

import kernmem
from kernmem.memory.profile import Checks, Placement, aligned, spec
from kernmem.system import TUNED, NoSuchChoice, choose, heap_profile


def test_boot_gives_a_raspberry_pi_with_its_heap_ready() -> None:
    machine = kernmem.boot()
    assert machine.name == "model"
    assert machine.hardware.name == "rpi3"
    assert machine.memory.mmu.enabled  # type: ignore[attr-defined]
    buffer = machine.kmalloc(100)
    assert machine.kernel_heap_info.live_buffers == 1
    machine.kfree(buffer)
    assert machine.validate_kernel_heap()


def test_the_heap_has_the_profile_asked_for() -> None:
    machine = kernmem.boot("lab", profile="spec", placement="first")
    heap = machine.kernel.kernel_heap.buffers  # type: ignore[attr-defined]
    assert heap.first_fit
    assert heap.grain == 60


@pytest.mark.parametrize("machine", ["host", "unicorn"])
def test_compiled_machines_boot_by_name(machine: str) -> None:
    booted = kernmem.boot("lab", machine)
    try:
        assert booted.name == machine
        model = kernmem.boot("lab")
        for length in (1, 100, 70000):
            assert booted.kmalloc(length) == model.kmalloc(length)
    finally:
        booted.close()


def test_each_machine_has_a_default_hardware() -> None:
    assert choose(None, "model").name == "rpi3"
    assert choose(None, "unicorn").name == "rpi3"
    assert choose(None, "host").name == "lab"
    assert choose("lab", "unicorn").name == "lab"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"machine": "pdp11"}, "machine must be one of model, host, unicorn, not 'pdp11'"),
        (
            {"profile": "fast"},
            "profile must be one of spec, aligned, tuned, tuned-lean, tuned-fast, not 'fast'",
        ),
        ({"checks": "all"}, "checks must be one of none, basic, full, not 'all'"),
        ({"placement": "worst"}, "placement must be one of best, first, largest, not 'worst'"),
        (
            {"no_void": False},
            "no_void must be True with the tuned profile: only spec has voids",
        ),
        (
            {"placement": "first"},
            "placement must be 'best' with the tuned profile, not 'first': "
            "choose the spec or the aligned profile for it",
        ),
        (
            {"hardware": "rpi3", "machine": "host"},
            "the host machine must be the 'lab', not 'rpi3': "
            "a process has no memory to give at that board's addresses",
        ),
    ],
)
def test_a_wrong_choice_is_told_the_right_ones(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(NoSuchChoice) as caught:
        kernmem.boot(**arguments)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_an_unknown_hardware_is_told_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"hardware must be one of rpi3, .*not 'rpi9'"):
        kernmem.boot("rpi9")


def test_profiles_by_name() -> None:
    assert heap_profile("tuned").headerless
    assert [heap_profile(name).name for name in TUNED] == ["tuned", "tuned-lean", "tuned-fast"]
    assert heap_profile("aligned", "first") == aligned(Placement.FIRST)
    assert heap_profile("spec", "largest").placement is Placement.LARGEST
    assert heap_profile("spec", no_void=False).voids
    assert heap_profile("tuned").checks is Checks.BASIC
    assert heap_profile("spec", checks="full") == replace(spec(), checks=Checks.FULL)


def test_the_import_waits_for_no_compiler_and_no_emulator() -> None:
    script = (
        "import kernmem, sys; kernmem.boot('lab');"
        "print({'unicorn', 'kernmem.compiler', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert done.stdout == "set()\n"
