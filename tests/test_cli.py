"""The command, as scripts and people use it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kernmem.cli import main
from kernmem.hardware import HARDWARE

TRACE = Path(__file__).parent / "data" / "traces" / "arm64-boot-kmalloc.npz"
KEYS = [
    "calls",
    "failed",
    "peak_live_bytes",
    "peak_heap_bytes",
    "peak_pages",
    "end_gaps",
    "end_live_bytes",
]


def kernmem(*arguments: str | Path) -> Result:
    """Run the command in this process; an exception that it does not handle is the test's."""
    return CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)


def facts(*arguments: str | Path) -> Any:
    """The JSON that a command that succeeds prints."""
    result = kernmem(*arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


# Help and usage ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    ["", *main.commands],
)
def test_help(command: str) -> None:
    result = kernmem(*command.split(), "--help")
    assert result.exit_code == 0
    assert "Usage: " in result.stdout
    assert command in ("hardware",) or "Example" in result.stdout


def test_version() -> None:
    assert kernmem("--version").stdout.split()[1][0].isdigit()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["boot", "rpi9"], "'rpi9' is not one of 'rpi3', "),
        (["boot", "--machine", "toaster"], "is not one of 'unicorn', 'qemu', 'model'"),
        (["boot", "--void"], "no_void must be True with the tuned profile: only spec has voids"),
        (["boot", "--checks", "some"], "'some' is not one of 'none', 'basic', 'full'"),
        (["boot", "--timeout", "0"], "0.0 is not in the range x>0"),
        (["build", "rpi3"], "Missing option '-o'"),
        (["replay", "none.npz"], "none.npz: there is no such file"),
        (["replay", __file__], "test_cli.py: not an .npz file of plain columns"),
        (["replay", TRACE, "--limit", "-1"], "-1 is not in the range x>=0"),
        (["replay", TRACE, "--machine", "host", "--hardware", "rpi3"], "must be the 'lab'"),
        (["run", "none.py"], "'none.py' does not exist"),
        (["fly"], "No such command 'fly'"),
    ],
)
def test_what_cannot_be_tried_exits_with_2(arguments: list[str], message: str) -> None:
    result = kernmem(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = kernmem("build", "lab", "-o", tmp_path / "file" / "out")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"kernmem: {tmp_path}/file")


# kernmem boot -----------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", ["model", "unicorn"])
def test_boot(machine: str) -> None:
    result = kernmem("boot", "lab", "--machine", machine)
    assert result.exit_code == 0
    assert result.stdout.startswith("kernmem self-test\n")
    assert result.stdout.endswith("\nPASS\n")
    assert "kernmem: the self-test passed after" in result.stderr


def test_boot_without_arguments_is_a_raspberry_pi() -> None:
    result = kernmem("boot")
    assert result.exit_code == 0
    assert "physical: 15327 pages of 65536 bytes\n" in result.stdout


@pytest.mark.qemu
@pytest.mark.skipif(shutil.which("qemu-system-aarch64") is None, reason="QEMU is not installed")
def test_boot_on_qemu() -> None:
    result = kernmem("boot", "--machine", "qemu")
    assert result.exit_code == 0
    assert result.stdout.replace("\r", "") == kernmem("boot").stdout


def test_boot_on_a_qemu_that_has_no_such_board() -> None:
    result = kernmem("boot", "lab", "--machine", "qemu")
    assert result.exit_code == 2
    assert "QEMU has no board like 'lab': use rpi3" in result.stderr


def test_boot_without_end_is_a_failure() -> None:
    result = kernmem("boot", "--timeout", "0.001")
    assert result.exit_code == 1
    assert "no end after 0.001 s" in result.stderr


def test_a_kernel_that_fails_exits_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kernmem.kernels.selftest_heap.HeapTest.run", lambda self: fail())
    result = kernmem("boot", "lab", "--machine", "model")
    assert result.exit_code == 1
    assert "kernmem: panic: the heap is on fire" in result.stderr
    assert "PASS" not in result.stdout


def test_an_image_that_fails_exits_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kernmem.kernels.selftest.SEGMENT_PAGES", 100_000)
    result = kernmem("boot", "lab")
    assert result.exit_code == 1
    assert "the segment could not be extended to page" in result.stdout
    assert "kernmem: the self-test failed with status 1 after" in result.stderr


def fail() -> None:
    """Kernel code that panics."""
    from kernmem.language import panic

    panic("the heap is on fire")


# kernmem build ----------------------------------------------------------------------------------


def test_build(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    result = kernmem("build", "rpi3", "-o", out)
    assert result.exit_code == 0, result.output
    for name in ("kernel8.img", "kernel.elf", "libkernmem.a"):
        assert (out / name).stat().st_size > 0
        assert name in result.stdout
    modules = ("physical", "virtual", "linearspace", "kernelsegment", "kernelheap")
    for name in modules:
        assert (out / "c" / f"{name}.c").exists()
        assert (out / "c" / f"{name}.h").exists()
    assert not (out / "c" / "selftest.c").exists()
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize("board", ["virt", "armv7-virt", "pc", "riscv-virt"])
def test_build_tells_the_deepest_stack(board: str, tmp_path: Path) -> None:
    """On every architecture: a bound, below what the linker leaves for the stack."""
    told = facts("build", board, "-o", tmp_path, "--json")
    assert 500 < told["deepest_stack"] < 2048


def test_build_tells_a_program_what_it_wrote(tmp_path: Path) -> None:
    told = facts("build", "lab", "-o", tmp_path, "--amalgamate", "--profile", "spec", "--json")
    assert told["hardware"] == "lab"
    assert 0 < told["deepest_stack"] < 4096
    files = {each["name"]: each for each in told["files"]}
    assert set(files) == {
        "c/kernmem.c",
        "c/kernmem.h",
        "libkernmem.a",
        "lab.img",
        "kernel.elf",
    }
    for name, each in files.items():
        assert (tmp_path / name).stat().st_size == each["bytes"]
    assert files["c/kernmem.c"]["code_bytes"] > 1000


def test_a_build_leaves_no_c_of_the_last_one(tmp_path: Path) -> None:
    facts("build", "lab", "-o", tmp_path, "--json")
    own = tmp_path / "c" / "own.c"
    own.write_text("/* somebody's */\n")
    facts("build", "lab", "-o", tmp_path, "--amalgamate", "--json")
    assert {path.name for path in own.parent.iterdir()} == {"own.c", "kernmem.c", "kernmem.h"}


@pytest.mark.parametrize("option", ["--checked", "--lines"])
def test_build_options(tmp_path: Path, option: str) -> None:
    facts("build", "lab", "-o", tmp_path, option, "--json")
    text = (tmp_path / "c" / "kernelheap.c").read_text()
    assert ("#line" in text) == (option == "--lines")


# kernmem run ------------------------------------------------------------------------------------


def test_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, kernmem\nprint(sys.argv[1:], kernmem.boot('lab').kmalloc(10))\nsys.exit(7)\n"
    )
    result = kernmem("run", script, "--json", "-o", "x")
    assert result.exit_code == 7
    assert capfd.readouterr().out == "['--json', '-o', 'x'] <void at 0x1800000000>\n"


def test_run_of_a_script_that_fails(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "script.py"
    script.write_text("import kernmem\nkernmem.boot('lab').load(8)\n")
    assert kernmem("run", script).exit_code == 1
    assert "PageFault: read of 0x8" in capfd.readouterr().err


# kernmem hardware -------------------------------------------------------------------------------


def test_hardware() -> None:
    result = kernmem("hardware")
    assert result.exit_code == 0
    assert "Raspberry Pi 3" in result.stdout


def test_hardware_as_json() -> None:
    told = facts("hardware", "--json")
    assert [each["name"] for each in told] == list(HARDWARE)
    assert "host" in told[1]["machines"]
    assert "qemu" in told[0]["machines"]


# kernmem replay ---------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", ["model", "host", "unicorn"])
def test_replay_as_json(machine: str) -> None:
    told = facts("replay", TRACE, "--machine", machine, "--limit", "400", "--json")
    timed = ["ns_per_call"] if machine == "host" else []
    assert list(told) == [*KEYS, *timed]
    assert told["calls"] == 400
    assert told["failed"] == 0


def test_replay_as_text() -> None:
    result = kernmem("replay", TRACE, "--limit", "2000", "--machine", "host")
    assert result.exit_code == 0
    for name in (*KEYS, "ns_per_call"):
        assert name.replace("_", " ") in result.stdout


def test_replay_addresses() -> None:
    result = kernmem("replay", TRACE, "--limit", "50", "--addresses")
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert [int(name) for name, _ in lines] == list(range(len(lines)))
    assert int(lines[0][1]) == 0
    assert "peak live bytes" in result.stderr
    told = facts("replay", TRACE, "--limit", "50", "--addresses", "--json")
    assert told["addresses"] == [[int(name), int(offset)] for name, offset in lines]


def test_the_profile_is_the_one_asked_for() -> None:
    told = facts(
        *("replay", TRACE, "--profile", "spec", "--void", "--placement", "first"),
        *("--limit", "30", "--addresses", "--json"),
    )
    assert any(offset % 4 for _, offset in told["addresses"])


# The command itself -----------------------------------------------------------------------------


def test_the_installed_command_has_no_colour_in_a_pipe() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from kernmem.cli import main; main()", "hardware"],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "40"},
    )
    assert "\x1b" not in done.stdout
    assert all("…" not in line for line in done.stdout.splitlines())


# kernmem generate and compare -------------------------------------------------------------------


def test_generate_writes_a_trace_that_replays(tmp_path: Path) -> None:
    path = tmp_path / "small.npz"
    result = kernmem("generate", "churn", "--events", "1200", "--seed", "5", "-o", path)
    assert result.exit_code == 0
    assert facts("replay", path, "--machine", "host", "--check", "--json")["calls"] == 1200
    assert "zephyr" in kernmem("generate").stdout


def test_compare_as_json_and_against_an_earlier_run(tmp_path: Path) -> None:
    first = tmp_path / "first.json"
    arguments = ("compare", "churn", "--allocators", "tuned,malloc", "--repetitions", "1")
    told = facts(*arguments, "--json", "-o", first)
    assert json.loads(first.read_text()) == told
    assert [each["allocator"] for each in told["measurements"]] == ["tuned", "malloc"]
    result = kernmem(*arguments, "--against", first, "--picture", tmp_path / "picture.svg")
    assert result.exit_code == 0
    assert "over the earlier" in result.stdout
    assert "1.000" in result.stdout  # the smallest arena is what it was
    assert (tmp_path / "picture.svg").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "churn", "--allocators", "best"], "must be one of spec-best, "),
        (["compare", "churn", "--plugin", "none.so"], "none.so: there is no such file"),
        (["compare", "none.npz"], "none.npz: there is no such file"),
        (["compare", "churn", "--against", __file__], "not a file of results"),
        (["generate", "chum"], "a synthetic trace must be one of best-fit-killer, "),
        (["replay", "churn:x"], "the seed of 'churn:x' must be an integer"),
    ],
)
def test_what_cannot_be_compared(arguments: list[str], message: str) -> None:
    result = kernmem(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


# kernmem record and import ----------------------------------------------------------------------


def test_record_writes_the_longest_trace_and_passes_the_status_on(tmp_path: Path) -> None:
    path = tmp_path / "python.npz"
    script = "import sys; sys.exit(5)"
    result = kernmem("record", "-o", path, "--", sys.executable, "-c", script)
    assert result.exit_code == 5
    assert f"bytes at the peak in {path}" in " ".join(result.stderr.split())
    assert facts("replay", path, "--machine", "host", "--json")["calls"] > 1000


def test_record_tells_which_programs_ran(tmp_path: Path) -> None:
    result = kernmem(
        *("record", "-o", tmp_path / "x.npz", "--program", "gcc", "--", sys.executable, "-c", "1")
    )
    assert result.exit_code == 2
    assert "no program 'gcc' was recorded, but python" in result.stderr


def test_import_a_log(tmp_path: Path) -> None:
    log = tmp_path / "small.log"
    log.write_text("= Start\n+ 0x1000 0x20\n- 0x1000\n= End\n")
    assert kernmem("import", log).exit_code == 0
    assert facts("replay", tmp_path / "small.npz", "--json")["calls"] == 2
    log.write_text("+ 0x1000 0x20\n+ 0x1000 0x20\n")
    result = kernmem("import", log)
    assert result.exit_code == 2
    assert "line 2: 0x1000 is allocated a second time" in result.stderr
    assert "no such file" in kernmem("import", tmp_path / "none").stderr.lower()


# kernmem budget ---------------------------------------------------------------------------------


def test_the_heap_keeps_its_budget() -> None:
    """If a figure is worse for a good reason, say so, and run kernmem budget --update."""
    result = kernmem("budget", Path(__file__).parent.parent / "bench" / "heap_budget.json")
    assert result.exit_code == 0, result.stderr


def test_a_broken_budget_is_told_and_can_be_updated(tmp_path: Path) -> None:
    path = tmp_path / "budget.json"
    item = {"trace": "churn", "heap": "tuned", "arena_ratio": 1, "physical_pages": 99}
    path.write_text(json.dumps({"budget": [{**item, "instructions": 1e6}]}))
    result = kernmem("budget", path)
    assert result.exit_code == 1
    assert "kernmem: arena_ratio of tuned on churn is 1." in result.stderr
    assert kernmem("budget", path, "--update").exit_code == 0
    assert kernmem("budget", path).exit_code == 0
