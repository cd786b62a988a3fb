"""Lines of C, and the indentation they stand at."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

WIDTH = 99


class Text:
    """A file being written."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 0

    def line(self, text: str) -> None:
        """Write a line; one that is too long is broken after a comma or before an operator."""
        indent = "    " * self.depth
        if text.startswith("#"):
            self.lines.append(text)
            return
        rest = indent + text
        hang = " " * (len(indent) + len(text) - len(text.lstrip()) + 8)
        while len(rest) > WIDTH:
            at = _break(rest, len(hang) + 1)
            if at == 0:
                break
            self.lines.append(rest[:at].rstrip())
            rest = hang + rest[at:].lstrip()
        self.lines.append(rest.rstrip())

    def blank(self) -> None:
        """An empty line, unless one is there already."""
        if self.lines and self.lines[-1]:
            self.lines.append("")

    def comment(self, documentation: str) -> None:
        """A comment of any length; nothing if there is nothing to say."""
        if not documentation:
            return
        safe = plain(documentation).replace("*/", "* /").replace("/*", "/ *")
        indent = "    " * self.depth
        if "\n" not in safe and len(indent) + len(safe) + 6 <= WIDTH:
            self.lines.append(f"{indent}/* {safe} */")
            return
        first = True
        for paragraph in safe.split("\n"):
            for part in textwrap.wrap(paragraph, WIDTH - len(indent) - 6) or [""]:
                lead = "/* " if first else " * "
                self.lines.append((indent + lead + part).rstrip())
                first = False
        self.lines.append(f"{indent} */")

    @contextmanager
    def indent(self) -> Iterator[None]:
        """What is written inside stands one step further right."""
        self.depth += 1
        yield
        self.depth -= 1

    def __str__(self) -> str:
        return "\n".join(self.lines).rstrip("\n") + "\n"


def _break(text: str, after: int) -> int:
    """Where to break a line: the last good place that keeps it short; 0 if there is none."""
    best = 0
    quoted = escaped = False
    for position, character in enumerate(text[:WIDTH]):
        if quoted:
            quoted = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            quoted = True
        elif character == " " and position > after:
            before, behind = text[:position], text[position + 1 :]
            if before.endswith(",") or behind.startswith(("&& ", "|| ", "? ", ": ", "+ ", "- ")):
                best = position
    return best


def plain(documentation: str) -> str:
    """A docstring's text as C would say it: no markup, and NULL for None."""
    text = re.sub(r":(?:meth|func):`[.~]*(?:\w+\.)*(\w+)`", r"\1()", documentation)
    text = re.sub(r":\w+:`[.~]*([^`]+)`", r"\1", text)
    return re.sub(r"\bNone\b", "NULL", text.replace("``", ""))
