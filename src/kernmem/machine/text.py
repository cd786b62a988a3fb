"""The text of a panic, from the format string that the C passes to its hook."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

_SPECIFICATION = re.compile(r"%(#?)(0?)(\d*)(llu|llx|s|%)")


def format_text(form: str, values: Iterator[int], text_at: Callable[[int], str]) -> str:
    """Fill ``values`` into ``%llu``, ``%llx`` and ``%s``, as ``hardware/format.c`` does.

    ``text_at`` gives the string at an address.
    """

    def fill(match: re.Match[str]) -> str:
        prefix, pad, width, kind = match.groups()
        if kind == "%":
            return "%"
        value = next(values)
        if kind == "s":
            return text_at(value)
        return format(value, f"{prefix}{pad}{width}{'x' if kind == 'llx' else 'd'}")

    return _SPECIFICATION.sub(fill, form)
