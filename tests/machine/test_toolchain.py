from __future__ import annotations

from pathlib import Path

import pytest

from kernmem.hardware import find
from kernmem.hardware.boot import FREESTANDING
from kernmem.machine import toolchain
from kernmem.machine.image import C_FLAGS
from kernmem.machine.toolchain import Compiler, ToolchainError

FLAGS = ("-target", "aarch64-freestanding-none", "-O1")
SOURCES = {"one.c": '#include "two.h"\nint f(void) { return TWO; }\n', "two.h": "#define TWO 2\n"}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KERNMEM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_did_not_change_is_not_compiled_again(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Compiler(FLAGS).compile(SOURCES)
    assert list(first) == ["one.c"]
    assert first["one.c"].is_relative_to(cache)
    monkeypatch.setattr(toolchain, "run", lambda *_, **__: pytest.fail("compiled again"))
    assert Compiler(FLAGS).compile(SOURCES) == first


@pytest.mark.parametrize("changed", ["one.c", "two.h"])
def test_a_change_of_source_or_header_is_compiled(cache: Path, changed: str) -> None:
    first = Compiler(FLAGS).compile(SOURCES)
    second = Compiler(FLAGS).compile({**SOURCES, changed: SOURCES[changed] + "/* new */\n"})
    assert first != second


def test_an_error_shows_the_command_and_what_the_compiler_said(cache: Path) -> None:
    with pytest.raises(ToolchainError) as caught:
        Compiler(FLAGS).compile({"broken.c": "int f(void) { return wrong; }\n"})
    assert str(caught.value).startswith("broken.c does not compile\n")
    assert "-m ziglang cc -target aarch64-freestanding-none -O1" in caught.value.command
    assert "broken.c:1:22: error: use of undeclared identifier 'wrong'" in caught.value.output
    assert caught.value.output.rstrip() in str(caught.value)


def test_a_cache_that_cannot_be_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("KERNMEM_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ToolchainError, match=r"file/cache cannot be made .*set KERNMEM_CACHE"):
        toolchain.cache_directory()


@pytest.mark.parametrize("board", ["rpi3", "armv7-virt", "pc", "riscv-virt"])
def test_the_runtime_of_images_compiles_without_a_warning(board: str) -> None:
    code = find(board).boot.code
    strict = ("-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion", "-Wmissing-prototypes")
    sources = {
        path.name: path.read_text()
        for folder in (FREESTANDING, code.sources)
        for path in folder.iterdir()
        if path.suffix in (".c", ".h")
    }
    Compiler((*code.flags, *code.early_flags, *C_FLAGS, *strict, "-Werror")).compile(sources)
