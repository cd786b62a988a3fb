"""The compiler: kernel Python to typed tree to C.

``compile_component`` reads a wired component tree, ``emit_c`` writes it as C11.
"""

from kernmem.compiler.c_files import emit_c
from kernmem.compiler.driver import compile_component
from kernmem.compiler.errors import CompileError
from kernmem.compiler.program import Function, Parameter, Program, Variable
from kernmem.compiler.types import (
    Boolean,
    Enumeration,
    Nothing,
    Number,
    Reference,
    Sequence,
    Type,
)

__all__ = [
    # compiling
    "compile_component",
    "emit_c",
    # what comes of it
    "CompileError",
    "Function",
    "Parameter",
    "Program",
    "Variable",
    # types of parameters and results
    "Boolean",
    "Enumeration",
    "Nothing",
    "Number",
    "Reference",
    "Sequence",
    "Type",
]
