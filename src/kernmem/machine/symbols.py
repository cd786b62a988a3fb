"""What an ELF file says about itself: symbols, sections, and how deep the stack can get."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from elftools.elf.elffile import ELFFile

from kernmem.language import KernmemError
from kernmem.machine import calls_arm, calls_riscv
from kernmem.machine.calls_riscv import Jump
from kernmem.machine.calls_x86 import references


@dataclass(frozen=True)
class Symbol:
    """A function or variable of an image.

    Attributes:
        address: in the machine, virtual and physical alike.
        size: in bytes; 0 if it is only a label.
        kind: ``"function"``, ``"variable"`` or ``"label"``.
    """

    name: str
    address: int
    size: int
    kind: str


def _section(elf: ELFFile, name: str) -> Any:
    """A section, with the methods of its own kind, which pyelftools does not declare."""
    section = elf.get_section_by_name(name)
    if section is None:
        raise KernmemError(f"the ELF file has no section {name}")
    return cast(Any, section)


_KINDS = {"STT_FUNC": "function", "STT_OBJECT": "variable"}


def read_symbols(path: Path) -> dict[str, Symbol]:
    """The symbols of an ELF file by name, those of its own bookkeeping left out."""
    with path.open("rb") as file:
        return {symbol.name: symbol for symbol in _symbols(ELFFile(file))}


def _symbols(elf: Any) -> Iterator[Symbol]:
    """Every symbol of an ELF file that has a name of the program's own."""
    for entry in _section(elf, ".symtab").iter_symbols():
        bind, kind = entry["st_info"]["bind"], entry["st_info"]["type"]
        if not entry.name or entry.name.startswith("$") or entry["st_shndx"] == "SHN_UNDEF":
            continue
        if kind == "STT_FILE" or (bind == "STB_LOCAL" and kind == "STT_NOTYPE"):
            continue
        yield Symbol(entry.name, entry["st_value"], entry["st_size"], _KINDS.get(kind, "label"))


def section_sizes(path: Path) -> dict[str, int]:
    """Bytes of each section that takes memory at run time."""
    with path.open("rb") as file:
        return {
            section.name: section["sh_size"]
            for section in ELFFile(file).iter_sections()
            if section["sh_flags"] & 2 and section["sh_size"]  # SHF_ALLOC
        }


def raw_image(path: Path) -> tuple[int, bytes]:
    """The address and the bytes that a firmware would load: the ELF file without its wrapping."""
    with path.open("rb") as file:
        segments = [
            (segment["p_paddr"], segment.data())
            for segment in ELFFile(file).iter_segments()
            if segment["p_type"] == "PT_LOAD" and segment["p_filesz"]
        ]
    start = min(address for address, _ in segments)
    image = bytearray(max(address + len(data) for address, data in segments) - start)
    for address, data in segments:
        image[address - start : address - start + len(data)] = data
    return start, bytes(image)


def code_sizes(objects: Mapping[str, Path], linked: Mapping[str, Symbol]) -> dict[str, int]:
    """Bytes of code that each object contributes to an image, unused functions left out."""
    sizes = {}
    for name, path in objects.items():
        with path.open("rb") as file:
            table = _section(ELFFile(file), ".symtab")
            sizes[name] = sum(
                entry["st_size"]
                for entry in table.iter_symbols()
                if entry["st_info"]["type"] == "STT_FUNC"
                and entry["st_shndx"] != "SHN_UNDEF"
                and entry.name in linked
            )
    return sizes


# The deepest stack ------------------------------------------------------------------------


@dataclass(frozen=True)
class StackUse:
    """How deep the stack can get below one function.

    Attributes:
        bytes: of all frames on the deepest path.
        path: the functions on it, outermost first.
    """

    bytes: int
    path: tuple[str, ...]


class StackError(KernmemError):
    """The stack of an image has no bound that can be read from its code."""


def stack_use(path: Path) -> dict[str, StackUse]:
    """The deepest stack below each function of an image, from its machine code.

    The compiler leaves the size of every frame in ``.stack_sizes`` (clang's
    ``-fstack-size-section``); the calls are, on AArch64, the ``bl`` instructions, and the ``b``
    that leave a function, on RISC-V and 32-bit Arm the like; on x86-64, relocations.  StackError
    names a cycle, or what could be called through a register.
    """
    with path.open("rb") as file:
        elf = ELFFile(file)
        frames = _frames(elf)
        text = _section(elf, ".text")
        start, code = text["sh_addr"], text.data()
        x86 = elf["e_machine"] == "EM_X86_64"
        jumps = {"EM_RISCV": calls_riscv.jumps, "EM_ARM": calls_arm.jumps}.get(elf["e_machine"])
        relocations = list(_section(elf, ".rela.text").iter_relocations()) if x86 else []
        functions = {
            symbol.address: symbol
            for symbol in _symbols(elf)
            if symbol.kind == "function" and symbol.size and symbol.address in frames
        }
    # By address, since static functions of one name may stand in several files.
    if x86:
        frames = {at: size + 8 for at, size in frames.items()}  # and the return address
        calls = _x86_calls(start, code, relocations, functions)
    else:
        find = _calls if jumps is None else partial(_jumps, jumps)
        calls = {at: find(symbol, start, code, functions) for at, symbol in functions.items()}
    results: dict[int, StackUse] = {}

    def visit(at: int, above: tuple[str, ...]) -> StackUse:
        path_here = (*above, functions[at].name)
        if functions[at].name in above:
            raise StackError(f"the stack has no bound: {' -> '.join(path_here)} is recursion")
        if at not in results:
            below = [visit(callee, path_here) for callee in calls[at]]
            deepest = max(below, key=lambda use: use.bytes, default=StackUse(0, ()))
            path = (functions[at].name, *deepest.path)
            results[at] = StackUse(frames[at] + deepest.bytes, path)
        return results[at]

    for at in calls:
        visit(at, ())
    return {functions[at].name: use for at, use in results.items()}


def _frames(elf: Any) -> dict[int, int]:
    """Function address -> frame bytes: pairs of an address and a ULEB128 number."""
    word = elf.elfclass // 8
    data = _section(elf, ".stack_sizes").data()
    frames = {}
    at = 0
    while at < len(data):
        address = int.from_bytes(data[at : at + word], "little")
        at += word
        size = shift = 0
        while True:
            byte = data[at]
            at += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        frames[address] = size
    return frames


def _calls(symbol: Symbol, start: int, code: bytes, functions: Mapping[int, Symbol]) -> set[int]:
    """The addresses of the functions that ``symbol`` calls or ends in."""
    callees = set()
    for address in range(symbol.address, symbol.address + symbol.size, 4):
        word = int.from_bytes(code[address - start : address - start + 4], "little")
        if word & 0xFFFFFC1F in (0xD63F0000, 0xD61F0000):  # blr, br
            raise StackError(f"the stack has no bound: {symbol.name} calls through a register")
        if word & 0x7C000000 == 0x14000000:  # bl, b: a signed number of words in 26 bits
            distance = ((word & 0x3FFFFFF) ^ 0x2000000) - 0x2000000
            target = address + 4 * distance
            inside = symbol.address <= target < symbol.address + symbol.size
            if target in functions and (not inside or word >> 31):
                callees.add(target)
    return callees


def _jumps(
    jumps: Callable[[int, bytes], Iterator[Jump]],
    symbol: Symbol,
    start: int,
    code: bytes,
    functions: Mapping[int, Symbol],
) -> set[int]:
    """The same for a function of an instruction set whose jumps are found elsewhere."""
    callees = set()
    at = symbol.address - start
    for jump in jumps(symbol.address, code[at : at + symbol.size]):
        if jump.target is None:
            raise StackError(f"the stack has no bound: {symbol.name} calls through a register")
        if jump.target in functions and (jump.is_call or jump.target != symbol.address):
            callees.add(jump.target)
    return callees


def _x86_calls(
    start: int, code: bytes, relocations: list[Any], functions: Mapping[int, Symbol]
) -> dict[int, set[int]]:
    """The same for all functions of an x86-64 image."""
    calls: dict[int, set[int]] = {at: set() for at in functions}
    for use in references(start, code, relocations):
        if use.target not in functions:
            continue
        callers = [at for at in functions if at <= use.place < at + functions[at].size]
        if not use.is_call:
            name = functions[use.target].name
            raise StackError(f"the stack has no bound: {name} may be called through a register")
        for caller in callers:
            calls[caller].add(use.target)
    return calls
