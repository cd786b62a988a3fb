"""How images for boards with a RISC-V hart are built."""

from __future__ import annotations

from pathlib import Path

from kernmem.hardware.boot import Boot


def riscv64_boot(
    *,
    image_name: str,
    entry_level: int,
    arguments: tuple[int, ...] = (),
    qemu: tuple[str, ...] | None = None,
) -> Boot:
    """A board with a 64-bit RISC-V hart."""
    return Boot(
        sources=Path(__file__).parent,
        flags=(
            "-target",
            "riscv64-freestanding-none",
            "-mcpu=generic_rv64+m+a+c",  # what every one that runs Linux has; floating point is off
            "-mcmodel=medany",  # the program lies above 2 GiB
        ),
        image_name=image_name,
        entry_level=entry_level,
        arguments=arguments,
        qemu=qemu,
    )
