"""The instructions of x86-64 that C has no words for."""

from __future__ import annotations

from kernmem.hardware.instructions import ProcessorInstructions
from kernmem.language import VirtualAddress, intrinsic, u32, u64

EFER = 0xC000_0080  # IA32_EFER (SDM volume 4, 2.1)

CPUID = """uint32_t leaf = 1, b, features = 0, d;
__asm__ volatile("cpuid" : "+a"(leaf), "=b"(b), "+c"(features), "=d"(d));
return features;"""

READ_MSR = """uint32_t low, high;
__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(number));
return (uint64_t)high << 32 | low;"""

WRITE_MSR = """__asm__ volatile("wrmsr"
                 :: "c"(number), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)) : "memory");"""


def _read(register: str) -> str:
    return (
        f'uint64_t value;\n__asm__ volatile("mov %%{register}, %0" : "=r"(value));\nreturn value;'
    )


def _write(register: str) -> str:
    return f'__asm__ volatile("mov %0, %%{register}" :: "r"(value) : "memory");'


class Instructions(ProcessorInstructions):
    """What the MMU's driver needs."""

    # Order --------------------------------------------------------------------------------

    @intrinsic(x86_64='__asm__ volatile("" ::: "memory");')
    def compiler_barrier(self) -> None:
        """No instruction: the compiler moves no load or store across."""

    # Invalidation (SDM 4.10.4.1) ----------------------------------------------------------

    @intrinsic(x86_64='__asm__ volatile("invlpg (%0)" :: "r"(address) : "memory");')
    def invlpg(self, address: VirtualAddress) -> None:
        """Invalidate the translation of an address, and all cached upper levels."""
        self._execute("invlpg", int(address))

    # Registers (SDM 2.5, 2.2.1) -----------------------------------------------------------

    @intrinsic(x86_64=_write("cr3"))
    def write_cr3(self, value: u64) -> None:
        """The root table and the PCID; invalidates what is not global, unless bit 63 is 1."""
        self._execute("mov cr3", int(value))

    @intrinsic(x86_64=_read("cr3"))
    def read_cr3(self) -> u64:
        """The root table and the PCID."""
        return u64(self._execute("mov r, cr3"))

    @intrinsic(x86_64=_read("cr0"))
    def read_cr0(self) -> u64:
        """Paging on or off, and whether the kernel keeps to R/W."""
        return u64(self._execute("mov r, cr0"))

    @intrinsic(x86_64=_write("cr0"))
    def write_cr0(self, value: u64) -> None:
        """Paging on or off, and whether the kernel keeps to R/W."""
        self._execute("mov cr0", int(value))

    @intrinsic(x86_64=_read("cr4"))
    def read_cr4(self) -> u64:
        """Which extensions are on."""
        return u64(self._execute("mov r, cr4"))

    @intrinsic(x86_64=_write("cr4"))
    def write_cr4(self, value: u64) -> None:
        """Which extensions are on."""
        self._execute("mov cr4", int(value))

    @intrinsic(x86_64=CPUID)
    def cpuid_features(self) -> u32:
        """ECX of CPUID.1: which extensions there are."""
        return u32(self._execute("cpuid 0x1"))

    @intrinsic(x86_64=READ_MSR)
    def rdmsr(self, number: u32) -> u64:
        """A model-specific register."""
        return u64(self._execute(f"rdmsr {int(number):#x}"))

    @intrinsic(x86_64=WRITE_MSR)
    def wrmsr(self, number: u32, value: u64) -> None:
        """Write a model-specific register."""
        self._execute(f"wrmsr {int(number):#x}", int(value))
