"""The way out of an Arm kernel under firmware that has power calls (Arm DEN 0022, PSCI)."""

from __future__ import annotations

from kernmem.hardware.devices.semihosting import AARCH64, ARMV7, WAIT
from kernmem.hardware.simulation import MachineExit
from kernmem.language import intrinsic, u32
from kernmem.memory.architecture import Power

SYSTEM_OFF = """operation = 0x84000008u;
__asm__ volatile({instructions} : "+r"(operation) :: "memory");
"""
HVC_AARCH64 = SYSTEM_OFF.format(instructions='"hvc #0"')
HVC_ARMV7 = SYSTEM_OFF.format(instructions='".arch_extension virt\\n\\thvc #0"')


class SemihostingOrPsci(Power):
    """A debugger's call, for its status; and where nobody takes that, the firmware's.

    The firmware is called by HVC, as QEMU's ``virt`` has it for a kernel that is entered at EL1.
    """

    c_module = "board"

    @intrinsic(
        aarch64=AARCH64 + HVC_AARCH64 + WAIT,
        armv7=ARMV7 + HVC_ARMV7 + WAIT,
        host="kernmem_host_exit(status);",
    )
    def exit(self, status: u32) -> None:
        """Leave the machine with an exit status; 0 is success.

        SYSTEM_OFF has no status: what there is to say stands in the log.
        """
        raise MachineExit(int(status))
