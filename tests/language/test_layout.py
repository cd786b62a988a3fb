"""Structs lie in memory as a C compiler lays them out, and references load and store there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from compiler.both import BASE, ByteMemory
from kernmem.compiler.c_base import write_base
from kernmem.compiler.c_types import enumeration_definition, struct_definition
from kernmem.compiler.text import Text
from kernmem.language import (
    Component,
    Image,
    KernelPanic,
    KernmemError,
    Struct,
    Target,
    VirtualAddress,
    array,
    layout,
    u8,
    u16,
    u32,
    u64,
)

from .shapes import Aligned, Mixed, Shade, Tight, Wide

STRUCTS = [Mixed, Tight, Wide, Aligned]
ZIG = [sys.executable, "-m", "ziglang", "cc", "-target"]
COMPILERS = [
    (8, ["gcc"]),
    (8, ["clang"]),
    (8, [*ZIG, "aarch64-freestanding"]),
    (4, [*ZIG, "arm-freestanding-eabi"]),
    (4, [*ZIG, "riscv32-freestanding"]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("pointer_bytes", "compiler"), COMPILERS)
def test_c_agrees(pointer_bytes: int, compiler: list[str], tmp_path: Path) -> None:
    """The static assertions below each struct hold."""
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"{compiler[0]} is not installed")
    target = Target("any", pointer_bytes)
    text = Text()
    write_base(text, target, checked=False)
    enumeration_definition(text, Shade)
    for struct in STRUCTS:
        struct_definition(text, struct, target)
    (tmp_path / "layout.c").write_text(str(text))
    assert str(text).count("_Static_assert") > 30
    command = [*compiler, "-std=c11", "-ffreestanding", "-c", "layout.c", "-o", "layout.o"]
    subprocess.run(command, cwd=tmp_path, check=True)


def test_a_wrong_layout_does_not_compile(tmp_path: Path) -> None:
    """The same test fails if the model is wrong."""
    text = Text()
    write_base(text, Target("any", 8), checked=False)
    struct_definition(text, Wide, Target("any", 8))
    wrong = str(text).replace("offsetof(wide_t, b) == 8", "offsetof(wide_t, b) == 4")
    (tmp_path / "layout.c").write_text(wrong)
    done = subprocess.run(["gcc", "-c", "layout.c"], cwd=tmp_path, capture_output=True, check=False)
    assert b"place of b" in done.stderr


def test_known_layouts() -> None:
    eight, four = Target("any", 8), Target("any", 4)
    assert [field.offset for field in layout(Wide, four).fields] == [0, 8, 16]
    assert layout(Wide, eight).size == layout(Wide, four).size == 24
    assert (layout(Tight, eight).size, layout(Tight, four).size) == (52, 40)
    assert (layout(Aligned, eight).size, layout(Aligned, eight).alignment) == (64, 64)


@pytest.fixture
def component() -> Component:
    return Component(Image(Target("host", 8), ByteMemory(), BASE))


def test_references_load_and_store(component: Component) -> None:
    memory = component.image.memory.bytes
    tight = component.at(Tight, VirtualAddress(BASE + 1))
    tight.b = u64(0x1122)
    assert memory[2:4] == b"\x22\x11"
    tight.next = component.at(Mixed, VirtualAddress(BASE + 0x100))
    tight.next.shade = Shade.DARK
    assert tight.next.shade is Shade.DARK
    tight.words[2] = u32(7)
    assert [int(tight.words[index]) for index in range(3)] == [0, 0, 7]
    tight.next = None
    assert tight.next is None


def test_fields_keep_their_types(component: Component) -> None:
    mixed = component.at(Mixed, VirtualAddress(BASE))
    with pytest.raises(TypeError, match="must be u8"):
        mixed.a = 5
    with pytest.raises(TypeError, match="must be a Mixed or None"):
        mixed.next = component.at(Wide, VirtualAddress(BASE))
    with pytest.raises(TypeError, match="must be u16"):
        mixed.words[0] = u32(5)
    with pytest.raises(TypeError, match="a reference into memory"):
        Mixed(BASE)
    mixed.place = VirtualAddress(9)
    assert type(mixed.place) is VirtualAddress


def test_arrays_end(component: Component) -> None:
    mixed = component.at(Mixed, VirtualAddress(BASE))
    with pytest.raises(KernelPanic, match="index 3 is past the end of an array of 3"):
        mixed.words[u16(3)]
    endless = component.array_at(u8, VirtualAddress(BASE))
    assert int(endless[1000]) == 0
    table = component.static_array(u32, 4, "table", alignment=64)
    assert table.address % 64 == 0
    with pytest.raises(KernelPanic):
        table[4] = u32(1)
    with pytest.raises(ValueError, match="at least 1"):
        array(u8, 0)


def test_statics_and_locals(component: Component) -> None:
    first = component.static(Wide, "first")
    second = component.static(Tight, "second")
    assert int(first) == BASE
    assert int(second) >= int(first) + 24
    with pytest.raises(ValueError, match="reserved already"):
        component.static(Wide, "first")
    component.image.stack_pointer = BASE + 0x1000
    with component.local(Wide) as local:
        assert isinstance(local, Struct)
        assert int(local) == BASE + 0x1000 - 32
    assert component.image.stack_pointer == BASE + 0x1000


def test_references_show_their_fields(component: Component) -> None:
    wide = component.at(Wide, VirtualAddress(BASE))
    wide.b = u64(3)
    assert repr(wide) == "<wide_t at 0x2000000000: a=0 b=3 c=0>"
    assert f"{wide} {wide:x}" == "0x2000000000 2000000000"


def test_compiled_images_have_no_memory() -> None:
    component = Component(Image(Target("host", 8)))
    with pytest.raises(KernmemError, match="built to be compiled"):
        _ = component.at(Wide, VirtualAddress(8)).a
