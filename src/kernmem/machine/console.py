"""The text that a kernel writes: kept, and handed on line by line."""

from __future__ import annotations

from collections.abc import Callable


class Console:
    """Collects text; ``sink``, if any, gets each line as soon as it is complete."""

    def __init__(self, sink: Callable[[str], None] | None = None) -> None:
        self._sink = sink
        self._parts: list[str] = []
        self._line: list[str] = []

    def write(self, text: str) -> None:
        """Take some text; from a serial port, one character."""
        self._line.append(text)
        if text.endswith("\n"):
            self.flush()

    def flush(self) -> None:
        """Hand on what has come, a whole line or not."""
        line = "".join(self._line)
        self._line.clear()
        self._parts.append(line)
        if line and self._sink is not None:
            self._sink(line)

    @property
    def text(self) -> str:
        """All that has been written."""
        return "".join(self._parts) + "".join(self._line)
