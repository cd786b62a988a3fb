"""Texts of ``panic``, ``print`` and ``assert``: from f-strings to printf formats."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from kernmem.compiler.order import check_order
from kernmem.compiler.scope import Known
from kernmem.compiler.tree import Expression, Message
from kernmem.compiler.types import Enumeration, Number, Reference
from kernmem.language import Struct

if TYPE_CHECKING:
    from kernmem.compiler.expressions import Expressions

SPECIFICATION = re.compile(r"(?P<hash>#(?=0|x))?(?P<width>0?[1-9][0-9]?)?(?P<radix>[xd]?)")


def message(expressions: Expressions, node: ast.expr, end: str = "") -> Message:
    """The format and the values of a text."""
    context = expressions.context
    if not isinstance(node, ast.JoinedStr):
        value = expressions.evaluate(node)
        if isinstance(value, Known) and isinstance(value.value, str):
            return Message(escape(value.value) + end, ())
        raise context.refuse(
            node, "a message must be a text", context.show(node, value), 'f"…{value}…"'
        )
    text = ""
    values: list[Expression] = []
    for part in node.values:
        if isinstance(part, ast.Constant):
            text += escape(str(part.value))
            continue
        assert isinstance(part, ast.FormattedValue)
        text += _value(expressions, part, values)
    check_order(context, node, tuple(values))
    return Message(text + end, tuple(values))


def _value(expressions: Expressions, part: ast.FormattedValue, values: list[Expression]) -> str:
    """The format of one value in braces, which goes to ``values`` unless it is known."""
    context = expressions.context
    specification = ""
    if isinstance(part.format_spec, ast.JoinedStr):
        pieces = part.format_spec.values
        specification = "".join(
            str(piece.value) if isinstance(piece, ast.Constant) else "{}" for piece in pieces
        )
    match = SPECIFICATION.fullmatch(specification)
    if match is None or part.conversion != -1 or (match["hash"] and not match["radix"]):
        raise context.refuse(
            part.value,
            "the format of a value must be {x}, {x:#x}, {x:x} or {x:8} with a width",
            f"`{{{context.source.text(part.value)}}}` with {specification or 'a conversion'!r}",
            "one of these",
        )
    value = expressions.evaluate(part.value)
    known = value.value if isinstance(value, Known) else None
    if isinstance(known, (str, int)) and not isinstance(known, Struct):
        return escape(format(known, specification))
    lifted = context.value(value, part.value)
    if not isinstance(lifted.type, (Number, Reference, Enumeration)):
        raise context.refuse(
            part.value,
            "a value in a message must be an integer, an address or a reference",
            context.show(part.value, value),
            "`u8(…)` around a bool",
        )
    values.append(lifted)
    return _directive(lifted, match)


def _directive(value: Expression, match: re.Match[str]) -> str:
    is_place = isinstance(value.type, Reference) or (
        isinstance(value.type, Number) and value.type.is_address
    )
    if is_place and not match[0]:
        return "0x%llx"
    width, prefix = match["width"] or "", ""
    if match["hash"]:
        prefix = "0x"
        width = f"0{max(int(width) - 2, 1)}" if width else ""
    return f"{prefix}%{width}ll{'x' if match['radix'] == 'x' else 'u'}"


def escape(text: str) -> str:
    """A text as part of a printf format in a C string."""
    text = text.replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
    return text.replace("\n", "\\n").replace("\t", "\\t").replace("??", "?\\?")
