"""Options of the whole test suite."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from kernmem.language import set_pointer_bytes

# By itself Hypothesis tries the same examples every time where it takes its surroundings for a CI.
# Here each run tries others, and a failure prints the line that reproduces it; and no timing is
# asserted.
settings.register_profile("kernmem", derandomize=False, print_blob=True, deadline=None)
settings.load_profile("kernmem")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write the golden C anew, to be reviewed"
    )


@pytest.fixture(autouse=True)
def wide_pointers() -> None:
    """Kernel code that a test runs on no machine has pointers of 8 bytes, whatever ran before."""
    set_pointer_bytes(8)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where everything is installed, as at the gate, a skipped test is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("KERNMEM_NO_SKIPS") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
