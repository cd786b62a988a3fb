"""The way out of an Arm kernel that a debugger or simulator watches (Arm IHI 0088).

On the host the text calls the C runtime of the host machine:

    void kernmem_host_exit(uint32_t status);   does not return
"""

from __future__ import annotations

from kernmem.hardware.simulation import MachineExit
from kernmem.language import intrinsic, u32
from kernmem.memory.architecture import Power

QEMU_SEMIHOSTING = ("-semihosting-config", "enable=on,target=native")
"""What QEMU needs on its command line."""

AARCH64 = """uint64_t block[2] = {0x20026u, status};
register uint64_t operation __asm__("x0") = 0x20;
register uint64_t parameter __asm__("x1") = (uint64_t)(uintptr_t)block;
__asm__ volatile("hlt #0xf000" : "+r"(operation) : "r"(parameter) : "memory");
"""

ARMV7 = """uint32_t block[2] = {0x20026u, status};
register uint32_t operation __asm__("r0") = 0x20;
register uint32_t parameter __asm__("r1") = (uint32_t)(uintptr_t)block;
__asm__ volatile("svc #0x123456" : "+r"(operation) : "r"(parameter) : "memory", "lr");
"""

WAIT = """for (;;) {
    __asm__ volatile("wfi");
}"""
"""Where nobody takes the call, the kernel's handler goes on after the instruction."""


class Semihosting(Power):
    """The calls of semihosting, of which one ends the run."""

    c_module = "board"

    @intrinsic(aarch64=AARCH64 + WAIT, armv7=ARMV7 + WAIT, host="kernmem_host_exit(status);")
    def exit(self, status: u32) -> None:
        """Leave the machine with an exit status; 0 is success.

        SYS_EXIT_EXTENDED, ADP_Stopped_ApplicationExit.
        """
        raise MachineExit(int(status))
