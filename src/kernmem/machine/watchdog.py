"""Ends what runs for too long, from outside: one thread for all that runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PERIOD = 0.25  # seconds between two looks

_watched: dict[object, tuple[float, Callable[[], None]]] = {}
_lock = threading.Lock()
_thread: threading.Thread | None = None


@contextmanager
def watched(seconds: float, stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` from another thread, again and again, once the block has taken ``seconds``.

    Never after the block has ended; ``stop`` must return soon.
    """
    global _thread
    key = object()
    with _lock:
        _watched[key] = (time.monotonic() + seconds, stop)
        if _thread is None:
            _thread = threading.Thread(target=_watch, name="kernmem watchdog", daemon=True)
            _thread.start()
    try:
        yield
    finally:
        with _lock:
            del _watched[key]


def _watch() -> None:
    while True:
        time.sleep(PERIOD)
        now = time.monotonic()
        with _lock:
            for deadline, stop in _watched.values():
                if now > deadline:
                    stop()
