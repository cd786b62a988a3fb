"""Files of C: what goes to which header and source, or all of it into one of each."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag

from kernmem.compiler.c_base import write_base
from kernmem.compiler.c_functions import Functions, prototype
from kernmem.compiler.c_types import (
    INTEGERS,
    enumeration_definition,
    number,
    struct_definition,
)
from kernmem.compiler.errors import CompileError
from kernmem.compiler.names import c_constants
from kernmem.compiler.program import Function, Program, Variable
from kernmem.compiler.spelling import Named
from kernmem.compiler.text import Text
from kernmem.compiler.uses import Uses, body_uses, signature_uses, static_uses
from kernmem.language import Struct
from kernmem.language.structs import layout, size_of

BASE = "kernmem_base.h"


def emit_c(
    program: Program, *, checked: bool = False, lines: bool = False, amalgamate: bool = False
) -> dict[str, str]:
    """The C of a program, by file name.

    ``checked`` makes arithmetic panic where the model raises; ``lines`` points debuggers at the
    Python with ``#line``; ``amalgamate`` gives one ``kernmem.h`` and ``kernmem.c``.
    """
    writer = Writer(program, checked=checked, lines=lines, amalgamate=amalgamate)
    return writer.write()


@dataclass
class Module:
    """A header and its source."""

    name: str
    functions: list[Function] = field(default_factory=list)
    variables: list[Variable] = field(default_factory=list)
    sources: dict[str, None] = field(default_factory=dict)
    shared: Uses = field(default_factory=Uses)
    """What others, or APIs, use: it goes to the header."""
    own: Uses = field(default_factory=Uses)


class Writer:
    """Writes a program."""

    def __init__(self, program: Program, *, checked: bool, lines: bool, amalgamate: bool) -> None:
        self.program = program
        self.target = program.target
        self.checked = checked
        self.amalgamate = amalgamate
        self.constants = c_constants(program.constants)
        self.functions = Functions(self.target, self.constants, checked=checked, lines=lines)
        self.modules: dict[str, Module] = {}
        self.home: dict[object, str] = {}
        self.statics = {variable.name: variable for variable in program.variables}
        self.external: set[Function] = {one for one in program.functions if one.is_api}
        self._sort()

    # Sorting ------------------------------------------------------------------------------

    def _module(self, name: str) -> Module:
        name = "kernmem" if self.amalgamate else name
        return self.modules.setdefault(name, Module(name))

    def _sort(self) -> None:
        """Give everything its home, then find what must stand in headers."""
        program, target = self.program, self.target
        for function in program.functions:
            module = self._module(function.module)
            module.functions.append(function)
            module.sources[function.source.path] = None
        for variable in program.variables:
            self._module(variable.module).variables.append(variable)
        for module in self.modules.values():
            for function in module.functions:
                if function.is_api:
                    module.shared.add(signature_uses(function, target))
                module.own.add(signature_uses(function, target))
                module.own.add(body_uses(function, target))
            for variable in module.variables:
                module.shared.add(static_uses(variable.static, target))
        for module in self.modules.values():
            for uses in (module.shared, module.own):
                for thing in (*uses.structs, *uses.enumerations, *uses.constants):
                    self.home.setdefault(thing, self._home(thing, module))
        for module in self.modules.values():
            self._share(module)

    def _home(self, thing: object, user: Module) -> str:
        """The C file that a thing belongs to: that of its Python module, or its first user's."""
        if self.amalgamate:
            return user.name
        if isinstance(thing, Named):
            return thing.module if thing.module in self.modules else user.name
        home = self.program.homes.get(getattr(thing, "__module__", ""), user.name)
        return home if home in self.modules else user.name

    def _share(self, module: Module) -> None:
        """Put what a module uses of another, or shows in its header, in the header of its home."""
        for function in module.own.functions:
            other = self._module(function.module)
            if other is not module:
                self.external.add(function)
                other.shared.add(signature_uses(function, self.target))
        changed = True
        while changed:
            changed = False
            for uses, foreign_only in ((module.shared, False), (module.own, True)):
                for kind in ("structs", "enumerations", "constants"):
                    for thing in getattr(uses, kind):
                        home = self.modules[self.home[thing]]
                        if foreign_only and home is module:
                            continue
                        if thing not in getattr(home.shared, kind):
                            if isinstance(thing, type) and kind == "structs":
                                home.shared.add_struct(thing, self.target)
                            getattr(home.shared, kind)[thing] = None
                            changed = True
                    if changed:
                        break

    # Writing ------------------------------------------------------------------------------

    def write(self) -> dict[str, str]:
        """Every file."""
        files: dict[str, str] = {}
        if not self.amalgamate:
            base = Text()
            base.comment("Generated by kernmem: what all its C stands on.")
            base.line("#ifndef KERNMEM_BASE_H")
            base.line("#define KERNMEM_BASE_H")
            base.blank()
            write_base(base, self.target, checked=self.checked)
            base.line("#endif")
            files[BASE] = str(base)
        self._refuse_cycles()
        for module in self.modules.values():
            files[f"{module.name}.h"] = self._header(module)
            files[f"{module.name}.c"] = self._source(module)
        return files

    def _generated(self, module: Module) -> str:
        sources = ", ".join(module.sources) or "the image's statics"
        return f"Generated by kernmem from {sources}; edit the Python."

    def _header(self, module: Module) -> str:
        text = Text()
        guard = f"{module.name.upper()}_H"
        text.comment(self._generated(module))
        text.line(f"#ifndef {guard}")
        text.line(f"#define {guard}")
        text.blank()
        if self.amalgamate:
            write_base(text, self.target, checked=self.checked)
        else:
            text.line(f'#include "{BASE}"')
            for other in self._header_needs(module):
                text.line(f'#include "{other}.h"')
            text.blank()
        self._definitions(text, module, in_header=True)
        for variable in module.variables:
            text.line(f"extern {self._variable(variable)};")
        text.blank()
        declared = [
            function
            for function in module.functions
            if function in self.external and not self._is_inline(function)
        ]
        for function in declared:
            if function.is_api:
                text.comment(inspect.cleandoc(function.documentation))
                text.line(f"{prototype(function, is_static=False)};")
                text.blank()
        internal = [function for function in declared if not function.is_api]
        if internal:
            text.comment("For the other modules of kernmem.")
            for function in internal:
                text.line(f"{prototype(function, is_static=False)};")
            text.blank()
        for function in module.functions:
            if function in self.external and self._is_inline(function):
                self.functions.write(text, function, is_static=True)
        text.line("#endif")
        return str(text)

    def _is_inline(self, function: Function) -> bool:
        return function.intrinsic is not None and not function.is_api

    def _header_needs(self, module: Module) -> list[str]:
        """The headers that a header includes."""
        uses = Uses()
        for thing in (*module.shared.structs, *module.shared.enumerations):
            if self.home[thing] == module.name and issubclass(thing, Struct):
                uses.add_struct(thing, self.target)
        for function in module.functions:
            if function in self.external:
                uses.add(signature_uses(function, self.target))
        for variable in module.variables:
            uses.add(static_uses(variable.static, self.target))
        homes = {self.home[thing] for thing in (*uses.structs, *uses.enumerations)}
        return sorted(homes - {module.name})

    def _refuse_cycles(self) -> None:
        """Headers that would include each other have no order."""
        needs = {name: self._header_needs(module) for name, module in self.modules.items()}
        for start in needs:
            seen, queue = set[str](), list(needs[start])
            while queue:
                name = queue.pop()
                if name == start:
                    first = self.modules[start].functions[0]
                    raise CompileError(
                        first.file,
                        first.line,
                        1,
                        f"headers must have an order, not {start}.h and others that include each "
                        "other; write their structs in one module instead",
                        "",
                    )
                if name not in seen:
                    seen.add(name)
                    queue.extend(needs[name])

    def _source(self, module: Module) -> str:
        text = Text()
        text.comment(self._generated(module))
        text.line(f'#include "{module.name}.h"')
        others = {self._module(function.module).name for function in module.own.functions}
        things = (*module.own.structs, *module.own.enumerations, *module.own.constants)
        others |= {self.home[thing] for thing in things}
        others |= {self._module(self.statics[name].module).name for name in module.own.statics}
        for other in sorted(others - {module.name}):
            text.line(f'#include "{other}.h"')
        text.blank()
        self._definitions(text, module, in_header=False)
        for variable in module.variables:
            text.line(f"{self._variable(variable)};")
        text.blank()
        for function in module.functions:
            if function in self.external:
                if not self._is_inline(function):
                    self.functions.write(text, function, is_static=False)
            else:
                self.functions.write(text, function, is_static=True)
        return str(text)

    def _definitions(self, text: Text, module: Module, *, in_header: bool) -> None:
        """Constants, enumerations and structs whose home is here."""
        structs: list[type[Struct]] = []
        enumerations: list[type[IntEnum] | type[IntFlag]] = []
        constants: dict[str, int] = {}
        for uses in (module.shared, module.own):
            for constant in uses.constants:
                if self._belongs(constant, "constants", module, in_header):
                    constants[self.constants[constant]] = constant.value
            for cls in uses.enumerations:
                if self._belongs(cls, "enumerations", module, in_header):
                    enumerations.append(cls)
            for struct in uses.structs:
                if self._belongs(struct, "structs", module, in_header):
                    structs.append(struct)
        width = max(map(len, constants), default=0)
        for name, value in constants.items():
            text.line(f"#define {name:{width}} {number(value)}")
        text.blank()
        for cls in dict.fromkeys(enumerations):
            enumeration_definition(text, cls)
        for struct in dict.fromkeys(structs):
            struct_definition(text, struct, self.target)

    def _belongs(self, thing: object, kind: str, module: Module, in_header: bool) -> bool:
        is_shared = thing in getattr(module.shared, kind)
        return self.home[thing] == module.name and is_shared == in_header

    def _variable(self, variable: Variable) -> str:
        """``uint64_t table[512]``, aligned as the model has it."""
        static = variable.static
        if issubclass(static.kind, Struct):
            kind, natural = static.kind.c_name, 16
            natural = max(natural, layout(static.kind, self.target).alignment)
        else:
            kind, natural = INTEGERS[static.kind], size_of(static.kind, self.target)
        suffix = f"[{static.length}]" if static.length is not None else ""
        aligned = f"_Alignas({static.alignment}) " if static.alignment > natural else ""
        return f"{aligned}{kind} {static.name}{suffix}"
