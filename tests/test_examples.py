"""Each example runs as a user would run it, and prints what its comments promise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"

PROMISED = {
    "01_first_steps": [
        "<model machine: Raspberry Pi 3, AArch64, 64 KiB pages>",
        "in the first buffer: 0xc0ffee",
        "after kfree(first): 2 gaps",
        "after kfree(second): 1 gap, and 0 bytes live",
        "segment_start=0x200000 segment_end=0x210000",
    ],
    "02_page_tables": [
        "map here again: ALREADY_MAPPED",
        "map a crooked address: MISALIGNED",
        "here: 0x1111, there: 0x2222",
        "write a read-only page: write of 0x20010000: permission fault, level 3",
        "read what is not mapped: read of 0x20020000: translation fault, level 3",
    ],
    "03_placement": [
        "best: the shortest gap that is long enough\n#",
        "first: the lowest gap that is long enough\n",
        "largest: the longest gap of all\n",
    ],
    "04_what_goes_wrong": [
        "panic: kfree: 0x200000 is inside the gap 0x200000 to 0x210000",
        "panic: kfree: 0x200040 is inside the buffer 0x200000 to 0x2003e8",
        "panic: physical memory is not addressable here",
        "fault: read of 0x70000000: translation fault",
        "violation: STALE_TRANSLATION",
        "missing: TLBI VAALE1IS, DSB ISH and ISB",
    ],
    "05_rewind": [
        "before: 8 buffers, 1 gap, 0x900d",
        "then:   4 buffers, 5 gaps",
        "again:  8 buffers, 1 gap, 0x900d",
        "the write to 0x200080 does, where the header at 0x200080 begins",
        "the checker said: heap: the element at 0x200080 is damaged",
    ],
    "06_same_bytes": [
        "1200 buffers",
        "model and host: not a byte differs",
        "model and unicorn: not a byte differs",
        "after one store: physical memory: at 0x",
    ],
    "07_your_own_component": [
        "[True, True, True, True, False] on the model\n[10, 20, 30, 40]",
        "[True, True, True, True, False] on the host\n[10, 20, 30, 40]",
        "panic: ring_take: the ring is empty",
        "/* Put a number in; False when the ring is full. */\nbool ring_put(uint32_t number)\n{\n",
    ],
}


def test_every_example_is_tested() -> None:
    assert sorted(path.stem for path in EXAMPLES.glob("*.py")) == sorted(PROMISED)


@pytest.mark.parametrize("name", PROMISED)
def test_example(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for line in PROMISED[name]:
        assert line in done.stdout
    assert not list(tmp_path.iterdir())
