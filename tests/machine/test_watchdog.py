from __future__ import annotations

import threading

from kernmem.machine.watchdog import watched


def test_it_stops_what_takes_too_long() -> None:
    """And goes on to say so until the block has ended."""
    stopped = threading.Semaphore(0)
    with watched(0.01, stopped.release):
        assert stopped.acquire(timeout=20)
        assert stopped.acquire(timeout=20)


def test_what_has_ended_is_left_alone_while_another_is_stopped() -> None:
    stopped = threading.Event()
    done: list[int] = []
    with watched(0.0, lambda: done.append(1)):
        pass
    before = len(done)
    with watched(0.0, stopped.set):
        assert stopped.wait(timeout=20)
    assert len(done) == before
