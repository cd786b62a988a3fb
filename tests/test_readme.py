"""The README says what is so: its example runs, and its commands exist."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

from click.testing import CliRunner

from kernmem.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_example_runs_and_prints_what_its_comments_say() -> None:
    example = re.search(r"```python\n(.*?)```", README, re.S)
    assert example is not None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(example.group(1), "README.md", "exec"), {})
    registry, panic, fault = printed.getvalue().splitlines()
    assert registry.startswith("<kernel_heap_info_t at ")
    assert panic == "kfree: 0x200000 is inside the gap 0x200000 to 0x200068"
    assert fault == "read of 0x70000000: translation fault, level 2"
    for said in re.findall(r"print\(\w+\) +# (.*)", example.group(1)):
        assert said.removeprefix("... ") in printed.getvalue()


def test_every_command_it_shows_exists() -> None:
    for command in re.findall(r"^ {4}kernmem (\w+)", README, re.M):
        assert CliRunner().invoke(main, [command, "--help"]).exit_code == 0


def test_the_two_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^ {4}make (\w+)", README, re.M):
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_every_page_it_links_to_exists() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / link).exists(), link
