"""Names in C: of functions, of constants, of locals; each means one thing in the whole kernel."""

from __future__ import annotations

from enum import IntEnum, IntFlag

from kernmem.compiler.discover import snake_case
from kernmem.compiler.errors import CompileError
from kernmem.compiler.program import Function, Program
from kernmem.compiler.spelling import Named
from kernmem.language import Struct

RESERVED = frozenset(
    "auto break case char const continue default do double else enum extern float for goto if "  # noqa: SIM905
    "inline int long register restrict return short signed sizeof static struct switch typedef "
    "union unsigned void volatile while asm typeof bool true false NULL offsetof main linux unix "
    "size_t ptrdiff_t wchar_t uint8_t uint16_t uint32_t uint64_t int8_t int16_t int32_t int64_t "
    "intptr_t uintptr_t virtual_address_t physical_address_t".split(" ")
)


def name_functions(program: Program) -> None:
    """Give every function its C name; APIs first, whose names are their own."""
    taken: dict[str, Function] = {}
    for function in sorted(program.functions, key=lambda function: not function.is_api):
        for name in _candidates(function):
            if name not in taken and name not in RESERVED:
                break
        else:
            other = taken.get(function.python.__name__)
            found = f"`{other.name}` and `{function.name}`" if other else f"`{name}`"
            raise CompileError(
                function.file,
                function.line,
                function.source.node.col_offset + 1,
                f"a C name must mean one function, not {found}; write another name instead",
                "",
            )
        function.c_name = name
        taken[name] = function


def _candidates(function: Function) -> list[str]:
    name = function.python.__name__
    if function.is_api:
        return [name]
    bare = name.strip("_")
    if function.part is None:
        home = function.python.__module__.rpartition(".")[2]
        return [bare, f"{home}_{bare}"]
    definer = snake_case(function.python.__qualname__.rpartition(".")[0].rpartition(".")[2])
    prefix = function.part.prefix
    return [f"{prefix}_{bare}", f"{prefix}_{definer}_{bare}", f"{prefix}_{definer}_{name}"]


def c_constants(constants: tuple[Named, ...]) -> dict[Named, str]:
    """The C name of each constant: with its owner's before it if the values differ."""
    values: dict[str, set[int]] = {}
    for constant in constants:
        values.setdefault(constant.name, set()).add(constant.value)
    names: dict[Named, str] = {}
    used: dict[str, int] = {}
    for constant in constants:
        name = constant.name
        if len(values[name]) > 1:
            name = f"{constant.owner.upper()}_{name}"
        count = 2
        while used.setdefault(name, constant.value) != constant.value:
            name, count = f"{constant.name}_{count}", count + 1
        names[constant] = name
    return names


def member_prefix(cls: type[IntEnum] | type[IntFlag]) -> str:
    """``pagetable_status_t`` gives ``PAGETABLE_STATUS_``."""
    return str(cls.c_name).removesuffix("_t").upper() + "_"  # type: ignore[union-attr]


def struct_tag(struct: type[Struct]) -> str:
    """``free_page_marker_t`` gives ``free_page_marker``."""
    return struct.c_name.removesuffix("_t")


def name_symbols(program: Program) -> None:
    """Give every local its C name: its own, unless that means something else."""
    taken = set(RESERVED)
    taken.update(function.c_name for function in program.functions)
    taken.update(variable.name for variable in program.variables)
    taken.update(struct.c_name for struct in program.structs)
    taken.update(str(cls.c_name) for cls in program.enumerations)  # type: ignore[union-attr]
    for function in program.functions:
        for symbol in function.symbols:
            symbol.c_name = symbol.name
            while symbol.c_name in taken or symbol.c_name.startswith("kernmem_"):
                symbol.c_name += "_"
