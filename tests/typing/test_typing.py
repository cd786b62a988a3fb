"""mypy and pyright accept kernel code, and reject what breaks its types, without a plugin."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SNIPPETS = Path(__file__).parent / "snippets"
ROOT = Path(__file__).parents[2]


def mypy(path: Path) -> set[int]:
    """The lines of a file that mypy --strict rejects."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--follow-imports"]
    done = subprocess.run(
        [*command, "silent", "--config-file", "", str(path)],
        cwd=ROOT,
        env={"MYPYPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    lines = (line.split(":") for line in done.stdout.splitlines() if ": error:" in line)
    return {int(parts[1]) for parts in lines if path.name in parts[0]}


def pyright(path: Path) -> set[int]:
    """The lines of a file that pyright rejects."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pyright",
            "--outputjson",
            "--pythonpath",
            sys.executable,
            str(path),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(done.stdout)["generalDiagnostics"]
    return {one["range"]["start"]["line"] + 1 for one in found if one["severity"] == "error"}


@pytest.mark.slow
@pytest.mark.parametrize("checker", [mypy, pyright])
@pytest.mark.parametrize("name", ["pass_kernel.py", "fail_kernel.py"])
def test_checker(checker, name: str) -> None:
    path = SNIPPETS / name
    lines = path.read_text().splitlines()
    expected = {number for number, line in enumerate(lines, 1) if "# reject" in line}
    assert checker(path) == expected
