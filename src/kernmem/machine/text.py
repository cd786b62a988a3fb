"""The text of a panic, from the format string that the C passes to its hook."""

from __future__ import annotations

import re
from collections.abc import Callable

_SPECIFICATION = re.compile(r"%(#?)(0?)(\d*)(llu|llx|s|%)")


def format_text(form: str, number: Callable[[], int], text: Callable[[], str]) -> str:
    """Fill in ``%llu``, ``%llx`` and ``%s``, as ``hardware/format.c`` does.

    ``number`` and ``text`` give the next argument, of the one kind and the other.
    """

    def fill(match: re.Match[str]) -> str:
        prefix, pad, width, kind = match.groups()
        if kind == "%":
            return "%"
        if kind == "s":
            return text()
        return format(number(), f"{prefix}{pad}{width}{'x' if kind == 'llx' else 'd'}")

    return _SPECIFICATION.sub(fill, form)
