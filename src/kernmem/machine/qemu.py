"""The QEMU machine: the same image on a whole board, with an exit status."""

from __future__ import annotations

import selectors
import shutil
import subprocess
import time
from collections.abc import Callable

from kernmem.machine.console import Console
from kernmem.machine.errors import MachineError, MachineMissing, MachineTimeout
from kernmem.machine.image import BuiltImage

PACKAGES = {
    "qemu-system-aarch64": ("qemu-system-arm", "qemu-system-aarch64"),
    "qemu-system-arm": ("qemu-system-arm", "qemu-system-arm"),
    "qemu-system-riscv64": ("qemu-system-misc", "qemu-system-riscv"),
    "qemu-system-x86_64": ("qemu-system-x86", "qemu-system-x86"),
}
"""The packages of a command: Debian's and Fedora's."""


def how_to_install(command: str) -> str:
    """What to do about a command that is missing."""
    debian, fedora = PACKAGES.get(command, (command, command))
    return (
        f"install it with  apt-get install {debian}  (Debian, Ubuntu),  "
        f"dnf install {fedora}  (Fedora)  or  brew install qemu  (macOS); "
        "the unicorn machine needs nothing installed"
    )


class QemuMachine:
    """One kernel image on a board that QEMU imitates.

    Attributes:
        console: what the kernel has written.
        seconds: how long a run may take.
    """

    def __init__(
        self,
        built: BuiltImage,
        *,
        sink: Callable[[str], None] | None = None,
        seconds: float = 60.0,
    ) -> None:
        command = built.hardware.boot.qemu
        if command is None:
            raise MachineError(f"QEMU has no board like {built.hardware.name!r}: use rpi3")
        if shutil.which(command[0]) is None:
            raise MachineMissing(f"{command[0]} is not installed: {how_to_install(command[0])}")
        self.built = built
        self.console = Console(sink)
        self.seconds = seconds
        self._command = (
            *command,
            *("-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot"),
            *("-kernel", str(built.image)),
        )

    def run(self) -> int:
        """Run the image from its first instruction; returns its exit status."""
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            self._stream(process)
            return self.built.hardware.boot.qemu_status(process.wait(timeout=10))
        finally:
            process.kill()
            process.wait()
            self.console.flush()

    def _stream(self, process: subprocess.Popen[bytes]) -> None:
        """Hand on what comes, until the end or the deadline."""
        assert process.stdout is not None
        deadline = time.monotonic() + self.seconds
        with process.stdout as output, selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            while True:
                if not selector.select(deadline - time.monotonic()):
                    raise MachineTimeout("the kernel in QEMU", self.seconds)
                chunk = output.read1()  # type: ignore[attr-defined]
                if not chunk:
                    return
                for line in chunk.decode("utf-8", "replace").splitlines(keepends=True):
                    self.console.write(line)
