"""Types in C: how they are named, and the definitions of structs, enumerations and constants."""

from __future__ import annotations

import ast
import inspect
import io
import textwrap
import tokenize
from enum import IntEnum, IntFlag
from typing import Any

from kernmem.compiler.names import member_prefix, struct_tag
from kernmem.compiler.text import Text, plain
from kernmem.compiler.types import (
    Boolean,
    Enumeration,
    Nothing,
    Number,
    Reference,
    Sequence,
    Type,
    class_type,
)
from kernmem.language import (
    Address,
    Field,
    Integer,
    PhysicalAddress,
    Struct,
    Target,
    VirtualAddress,
    u8,
    u16,
    u32,
    u64,
    usize,
)
from kernmem.language.structs import Layout, layout

INTEGERS: dict[type[Integer], str] = {
    u8: "uint8_t",
    u16: "uint16_t",
    u32: "uint32_t",
    u64: "uint64_t",
    usize: "size_t",
    VirtualAddress: "virtual_address_t",
    PhysicalAddress: "physical_address_t",
    Address: "uintptr_t",
}
ALIASED: dict[type[Integer], str] = {
    u16: "kernmem_u16_t",
    u32: "kernmem_u32_t",
    u64: "kernmem_u64_t",
    usize: "kernmem_usize_t",
    VirtualAddress: "kernmem_usize_t",
    PhysicalAddress: "kernmem_usize_t",
}


def type_name(kind: Type) -> str:
    """The C name of a type that is not an array."""
    match kind:
        case Number():
            return INTEGERS[kind.kind]
        case Boolean():
            return "bool"
        case Enumeration():
            return kind.c_name
        case Reference():
            return f"{kind.struct.c_name} *"
        case Sequence():
            return f"{ALIASED.get(kind.element, INTEGERS[kind.element])} *"
        case Nothing():
            return "void"


def declare(kind: Type, name: str) -> str:
    """``gap_t *gap``"""
    c_type = type_name(kind)
    return c_type + name if c_type.endswith("*") else f"{c_type} {name}"


def struct_definition(text: Text, struct: type[Struct], target: Target) -> None:
    """A struct, its comments, and the assertions that hold C to the layout of the model."""
    if struct.opaque:
        if struct.c_name != "void":
            text.line(f"typedef struct {struct_tag(struct)} {struct.c_name};")
            text.blank()
        return
    tag, laid = struct_tag(struct), layout(struct, target)
    text.line(f"typedef struct {tag} {struct.c_name};")
    text.blank()
    text.comment(own_documentation(struct))
    text.line(f"struct {tag} {{")
    comments = _field_comments(struct)
    declarations = [_field(laid, field, target) for field in laid.fields]
    width = max(map(len, declarations), default=0)
    for field, declaration in zip(laid.fields, declarations, strict=True):
        comment = comments.get(field.name)
        if comment and 4 + width + 8 + len(comment) < 100:
            text.line(f"    {declaration:{width}}  /* {comment} */")
        else:
            text.line(f"    {declaration}")
    text.line(f"}} __attribute__(({_attributes(laid)}));")
    text.blank()
    name = struct.c_name
    text.line(f'_Static_assert(sizeof({name}) == {laid.size}, "size of {name}");')
    for field in laid.fields:
        offset = f"offsetof({name}, {field.name}) == {field.offset}"
        text.line(f'_Static_assert({offset}, "place of {field.name}");')
    text.blank()


def _attributes(laid: Layout) -> str:
    attributes = ["packed"] if laid.packed else []
    if laid.struct.alignment is not None:
        attributes.append(f"aligned({laid.struct.alignment})")
    return ", ".join([*attributes, "may_alias"])


def _field(laid: Layout, field: Field, target: Target) -> str:
    kind = class_type(field.kind)
    assert kind is not None
    suffix = f"[{field.length}]" if field.length is not None else ""
    wide = field.size > target.pointer_bytes and not laid.packed
    return f"{'_Alignas(8) ' if wide else ''}{declare(kind, field.name)}{suffix};"


def own_documentation(thing: Any) -> str:
    """The docstring of a class, not the one it inherits."""
    return inspect.cleandoc(vars(thing).get("__doc__") or "")


def _field_comments(struct: type[Struct]) -> dict[str, str]:
    """The comment behind each field, or the docstring below it."""
    try:
        source = textwrap.dedent(inspect.getsource(struct))
    except (OSError, TypeError):
        return {}
    behind = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and token.line.strip() != token.string
    }
    found: dict[str, str] = {}
    last = ""
    for node in ast.parse(source).body[0].body:  # type: ignore[attr-defined]
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            last = node.target.id
            if node.end_lineno in behind:
                found[last] = behind[node.end_lineno]
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and last:
            found.setdefault(last, str(node.value.value).strip())
    return {name: plain(comment) for name, comment in found.items() if "\n" not in comment}


def enumeration_definition(text: Text, cls: type[IntEnum] | type[IntFlag]) -> None:
    """An IntEnum as a C enum, an IntFlag as a word and its bits."""
    prefix = member_prefix(cls)
    name = cls.c_name  # type: ignore[union-attr]
    text.comment(own_documentation(cls))
    if issubclass(cls, IntFlag):
        text.line(f"typedef uint32_t {name};")
        members = [(member, int(value)) for member, value in cls.__members__.items()]
        for member, number in members:
            text.line(f"#define {prefix}{member.upper()} {number:#x}u")
    else:
        text.line("typedef enum {")
        for member, value in cls.__members__.items():
            text.line(f"    {prefix}{member.upper()} = {int(value)},")
        text.line(f"}} {name};")
    text.blank()
    text.line(f'_Static_assert(sizeof({name}) == 4, "size of {name}");')
    text.blank()


def number(value: int, digits: str | None = None) -> str:
    """A number as a C constant that has room for it."""
    text = digits or (hex(value) if value >= 0x10000 else str(value))
    return text + ("" if value < 1 << 31 else "u" if value < 1 << 32 else "ull")
