"""The C compiles without a warning: gcc and clang, every -O, both pointer widths, sanitizers."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kernmem.compiler import compile_component, emit_c
from kernmem.language import Component, Image, Target, set_pointer_bytes

from .both import FREESTANDING, WARNINGS, Both
from .constructs import Constructs
from .golden.pages import Pages
from .test_constructs import CASES

ZIG = [sys.executable, "-m", "ziglang", "cc", "-target", "arm-freestanding-eabi"]


def compile_files(files: dict[str, str], directory: Path, command: list[str]) -> None:
    """Compile every .c file by itself."""
    for name, text in files.items():
        (directory / name).write_text(text)
    for name in files:
        if name.endswith(".c"):
            subprocess.run(
                [*command, *FREESTANDING, *WARNINGS, "-c", name, "-o", "out.o"],
                cwd=directory,
                check=True,
            )


@pytest.mark.parametrize("checked", [False, True], ids=["plain", "checked"])
@pytest.mark.parametrize("level", ["-O0", "-O1", "-O2", "-O3"])
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_no_warnings(compiler: str, level: str, checked: bool, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    program = compile_component(Constructs(Image(Target("host", 8))))
    for amalgamate in (False, True):
        files = emit_c(program, checked=checked, amalgamate=amalgamate)
        compile_files(files, tmp_path, [compiler, level])


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_rare_and_outlined_functions_stay_out_of_line(compiler: str, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    program = compile_component(Constructs(Image(Target("host", 8))))
    for name, text in emit_c(program, amalgamate=True).items():
        (tmp_path / name).write_text(text)
    command = [compiler, "-O3", *FREESTANDING, "-S", "kernmem.c", "-o", "-"]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "\nconstructs_put_off:" in done.stdout
    assert "\nconstructs_shared:" in done.stdout
    assert "\ntwice:" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [Constructs, Pages])
@pytest.mark.parametrize("checked", [False, True], ids=["plain", "checked"])
def test_32_bit(kernel: type[Component], checked: bool, tmp_path: Path) -> None:
    set_pointer_bytes(4)
    try:
        program = compile_component(narrow(kernel))
    finally:
        set_pointer_bytes(8)
    files = emit_c(program, checked=checked)
    compile_files(files, tmp_path, [*ZIG, "-O2"])
    assert "_Alignas(8)" in str(files) or kernel is Pages


def narrow(kernel: type[Component]) -> Component:
    """A kernel on a machine of 32 bits."""
    image = Image(Target("arm", 4))
    if kernel is not Constructs:
        return kernel(image)  # type: ignore[return-value]
    from . import constructs

    constructs.RECORDS = 0x1000
    try:
        return Constructs(image)
    finally:
        constructs.RECORDS = 0x20_0000_1000


def test_lines_point_into_python(tmp_path: Path) -> None:
    program = compile_component(Pages(Image(Target("host", 8))))
    files = emit_c(program, lines=True)
    assert (
        f'#line {program["alloc_page"].line + 2} "{Pages.alloc_page.__code__.co_filename}"'
        in (files["pages.c"])
    )
    compile_files(files, tmp_path, ["gcc"])


@pytest.mark.slow
def test_undefined_behaviour_sanitizer() -> None:
    flags = ["-fsanitize=undefined", "-fno-sanitize-recover=all", "-fno-sanitize=alignment"]
    both = Both(Constructs, flags=flags)
    for name, arguments in CASES:
        both.run(name, *arguments)


@pytest.mark.slow
def test_address_sanitizer(tmp_path: Path) -> None:
    """In a process of its own: the sanitizer must be there first."""
    program = compile_component(Pages(Image(Target("host", 8))))
    for name, text in emit_c(program, checked=True, amalgamate=True).items():
        inside = "extern char heap[];\n#define HEAP_START (uintptr_t)heap"
        (tmp_path / name).write_text(re.sub(r"#define HEAP_START +0x800000", inside, text))
    (tmp_path / "main.c").write_text(
        """
        #include <stdlib.h>
        #include "kernmem.h"
        _Alignas(4096) char heap[256 * 4096];
        void kernmem_print(const char *format, ...) { (void)format; }
        _Noreturn void kernmem_panic(const char *format, ...) { (void)format; abort(); }
        int main(void)
        {
            init_pages();
            for (int i = 0; i < 256; i++)
                if (alloc_page() == 0)
                    return 1;
            return alloc_page() != 0 || free_page((uintptr_t)heap) != PAGE_STATUS_OK;
        }
        """
    )
    sanitizers = "-fsanitize=address,undefined"
    subprocess.run(
        ["gcc", "-std=c11", "-g", sanitizers, "-fno-sanitize-recover=all", "kernmem.c", "main.c"],
        cwd=tmp_path,
        check=True,
    )
    subprocess.run(["./a.out"], cwd=tmp_path, check=True)
