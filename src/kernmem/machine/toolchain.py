"""The C compiler and linker of the ``ziglang`` wheel: every target, nothing to install.

Objects are cached by the content of everything that goes into them, so a build in which nothing
changed costs nothing.  The cache is ``$KERNMEM_CACHE``, else ``kernmem`` in the user's cache
directory (``$XDG_CACHE_HOME``, ``~/.cache``); it may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from kernmem.language import KernmemError

BUILD_SECONDS = 120
"""How long one run of the compiler may take."""


class ToolchainError(KernmemError):
    """The compiler or the linker refused.

    Attributes:
        command: the command line, as a shell would take it.
        output: what the tool said.
    """

    def __init__(self, summary: str, command: Sequence[str] = (), output: str = "") -> None:
        self.command = shlex.join(command)
        self.output = output
        super().__init__("\n".join(filter(None, (summary, self.command, output.rstrip()))))


def cache_directory() -> Path:
    """Where built things are kept; made if need be."""
    chosen = os.environ.get("KERNMEM_CACHE")
    if chosen:
        path = Path(chosen)
    else:
        path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kernmem"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ToolchainError(
            f"the cache directory {path} cannot be made ({error.strerror}): "
            "set KERNMEM_CACHE to one that can"
        ) from error
    return path


def digest(*parts: str | bytes) -> str:
    """A name for ``parts``, equal when all are equal."""
    summary = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        summary.update(len(data).to_bytes(8, "little"))
        summary.update(data)
    return summary.hexdigest()[:32]


def replace_file(path: Path, data: bytes) -> None:
    """Write a file so that another process sees the old one or the new one, never a part."""
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(data)
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(file.name, 0o666 & ~umask)  # a temporary file is its maker's alone
    os.replace(file.name, path)


def run(command: Sequence[str], summary: str, directory: Path | None = None) -> str:
    """Run a tool of the wheel and return what it said; ToolchainError if it fails."""
    environment = dict(os.environ)
    # Zig keeps its own cache; beside ours, one directory is all there is to delete.
    environment.setdefault("ZIG_GLOBAL_CACHE_DIR", str(cache_directory() / "zig"))
    environment.setdefault("ZIG_LOCAL_CACHE_DIR", str(cache_directory() / "zig"))
    full = [sys.executable, "-m", "ziglang", *command]
    try:
        done = subprocess.run(
            full,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=BUILD_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolchainError(f"{summary}: no result after {BUILD_SECONDS} s", full) from error
    if done.returncode != 0:
        raise ToolchainError(summary, full, done.stdout)
    return done.stdout


def toolchain_version() -> str:
    """The version of the wheel; ToolchainError if it is not installed."""
    try:
        return importlib.metadata.version("ziglang")
    except importlib.metadata.PackageNotFoundError as error:
        raise ToolchainError(
            f"the ziglang wheel is not installed: run  {sys.executable} -m pip install ziglang"
        ) from error


@dataclass(frozen=True)
class Compiler:
    """A compiler for one target.

    Attributes:
        flags: everything between ``cc`` and the file names.
    """

    flags: tuple[str, ...]

    def compile(self, sources: Mapping[str, str]) -> dict[str, Path]:
        """Compile files given as name -> text; returns the objects of all but the headers.

        The sources see each other's headers by name.  Files that did not change since they were
        last compiled, headers included, are not compiled again.
        """
        headers = [f"{name}\0{text}" for name, text in sorted(sources.items()) if _header(name)]
        common = (toolchain_version(), *self.flags, *headers)
        objects = cache_directory() / "objects"
        objects.mkdir(exist_ok=True)
        found = {
            name: objects / f"{digest(*common, name, text)}.o"
            for name, text in sources.items()
            if not _header(name)
        }
        missing = {name: path for name, path in found.items() if not path.exists()}
        if missing:
            with tempfile.TemporaryDirectory(prefix="kernmem-") as place:
                for name, text in sources.items():
                    Path(place, name).write_text(text)
                with ThreadPoolExecutor(os.cpu_count()) as pool:
                    for done in [
                        pool.submit(self._compile_one, Path(place), name, path)
                        for name, path in missing.items()
                    ]:
                        done.result()
        return found

    def _compile_one(self, place: Path, name: str, target: Path) -> None:
        # Debug information names the file as it stands beside the headers, wherever that is.
        output = place / (name + ".o")
        run(
            ["cc", *self.flags, f"-ffile-prefix-map={place}=.", "-c", name, "-o", str(output)],
            f"{name} does not compile",
            directory=place,
        )
        replace_file(target, output.read_bytes())


def _header(name: str) -> bool:
    return name.endswith(".h")


def link(arguments: Iterable[str], objects: Iterable[Path], output: Path) -> None:
    """Link objects with LLVM's linker; ``arguments`` are those of ``ld.lld``."""
    command = ["ld.lld", *arguments, "-o", str(output), *map(str, objects)]
    run(command, f"{output.name} does not link")


def archive(objects: Mapping[str, Path], output: Path) -> None:
    """Make a static library, its members named after their sources."""
    with tempfile.TemporaryDirectory(prefix="kernmem-") as place:
        members = []
        for name, path in objects.items():
            member = Path(place, Path(name).stem + ".o")
            member.write_bytes(path.read_bytes())
            members.append(member.name)
        output.unlink(missing_ok=True)
        run(
            ["ar", "rcsD", str(output.resolve()), *members],
            f"{output.name} cannot be made",
            directory=Path(place),
        )
