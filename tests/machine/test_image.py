from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kernmem.hardware import HARDWARE
from kernmem.machine.image import BuiltImage, link_image
from kernmem.machine.symbols import StackError, read_symbols
from kernmem.machine.toolchain import ToolchainError
from kernmem.memory.architecture import Region
from machine.stub import FUNCTIONS, stub_files


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> BuiltImage:
    return link_image(
        HARDWARE["rpi3"], stub_files("rpi3"), tmp_path_factory.mktemp("image"), FUNCTIONS
    )


def test_the_image_begins_with_the_first_instruction(built: BuiltImage) -> None:
    assert built.image.name == "kernel8.img"
    assert built.symbols["_start"].address == 0x80000
    first_word = int.from_bytes(built.image.read_bytes()[:4], "little")
    assert first_word == 0xAA0003F3  # mov x19, x0


def test_variables_are_not_in_the_image(built: BuiltImage) -> None:
    variable = built.symbols["variable"]
    assert (variable.kind, variable.size) == ("variable", 32)
    assert variable.address - 0x80000 >= built.image.stat().st_size


def test_sizes_are_those_of_the_generated_code(built: BuiltImage) -> None:
    assert built.code_sizes.keys() == {"board.c"}
    functions = [symbol.size for name, symbol in built.symbols.items() if name in FUNCTIONS]
    assert built.code_sizes["board.c"] >= sum(functions)
    assert built.section_sizes[".text"] > built.code_sizes["board.c"]


def test_functions_that_nothing_needs_are_left_out(tmp_path: Path) -> None:
    built = link_image(HARDWARE["rpi3"], stub_files("rpi3"), tmp_path)
    assert "probe" not in built.symbols or "add" not in built.symbols
    assert "count_down" not in built.symbols


def test_the_library_holds_the_generated_code_alone(built: BuiltImage) -> None:
    assert built.library.read_bytes().startswith(b"!<arch>\n")
    assert b"board.o" in built.library.read_bytes()
    assert b"freestanding.o" not in built.library.read_bytes()


def test_an_image_that_does_not_fit_its_window_is_refused(tmp_path: Path) -> None:
    files = stub_files("rpi3")
    files["board.c"] += "char large[0x180000]; char *keep(void); char *keep(void) {return large;}"
    with pytest.raises(ToolchainError, match="do not fit between program_start and program_end"):
        link_image(HARDWARE["rpi3"], files, tmp_path, ["keep"])


def test_the_window_is_that_of_the_description(tmp_path: Path) -> None:
    hardware = replace(HARDWARE["lab"], program=Region(0x10_0001_0000, 0x10_0020_0000))
    built = link_image(hardware, stub_files("lab"), tmp_path)
    assert read_symbols(built.elf)["_start"].address == 0x10_0001_0000


# The stack -------------------------------------------------------------------------------


def test_the_deepest_stack_is_the_sum_of_the_frames_on_the_deepest_path(built: BuiltImage) -> None:
    use = built.stack_use["broken"]
    assert use.path[:2] == ("broken", "kernmem_panic")
    assert use.path[-1] == "kernmem_put"
    assert use.bytes > built.stack_use["kernmem_panic"].bytes > 0
    assert built.stack_use["add"].bytes == 0
    assert built.stack_use["deep"].bytes >= 128


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (
            "int again(int n); int again(int n) { return n ? again(n - 1) * n : 1; }\n",
            "again is recursion|again -> again",
        ),
        (
            "int again(int (*f)(void)); int again(int (*f)(void)) { return f() + 1; }\n",
            "again calls through a register",
        ),
    ],
    ids=["recursion", "pointer"],
)
def test_a_stack_without_a_bound_is_refused(tmp_path: Path, code: str, reason: str) -> None:
    files = stub_files("lab")
    # A compiler makes a loop of simple recursion: keep it from seeing what is called.
    files["board.c"] += "__attribute__((optnone)) " + code
    with pytest.raises(StackError, match=reason):
        _ = link_image(HARDWARE["lab"], files, tmp_path, ["again"]).stack_use
