"""The instructions of x86-64 that C has no words for."""

from __future__ import annotations

from kernmem.hardware.instructions import ProcessorInstructions, read, write
from kernmem.language import intrinsic, u32, usize

EFER = 0xC000_0080  # IA32_EFER (SDM volume 4, 2.1)

CPUID = """uint32_t leaf = 1, b, features = 0, d;
__asm__ volatile("cpuid" : "+a"(leaf), "=b"(b), "+c"(features), "=d"(d));
return features;"""

READ_MSR = """uint32_t low, high;
__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(number));
return (uint64_t)high << 32 | low;"""

WRITE_MSR = """__asm__ volatile("wrmsr"
                 :: "c"(number), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)) : "memory");"""


class Instructions(ProcessorInstructions):
    """What the MMU's driver needs."""

    @intrinsic(c='__asm__ volatile("" ::: "memory");')
    def compiler_barrier(self) -> None:
        """No instruction: the compiler moves no load or store across."""

    # Invalidation (SDM 4.10.4.1)

    invlpg = write(
        "invlpg (%0)",
        "Invalidate the translation of an address, and all cached upper levels.",
        name="invlpg",
    )

    # Registers (SDM 2.5, 2.2.1)

    read_cr3 = read("mov %%cr3, %0", "The root table and the PCID.", name="mov r, cr3")
    write_cr3 = write(
        "mov %0, %%cr3",
        "The root table and the PCID; invalidates what is not global, unless bit 63 is 1.",
        name="mov cr3",
    )
    read_cr0 = read(
        "mov %%cr0, %0", "Paging, and whether the kernel keeps to R/W.", name="mov r, cr0"
    )
    write_cr0 = write(
        "mov %0, %%cr0", "Paging, and whether the kernel keeps to R/W.", name="mov cr0"
    )
    read_cr4 = read("mov %%cr4, %0", "Which extensions are on.", name="mov r, cr4")
    write_cr4 = write("mov %0, %%cr4", "Which extensions are on.", name="mov cr4")

    @intrinsic(c=CPUID)
    def cpuid_features(self) -> u32:
        """ECX of CPUID.1: which extensions there are."""
        return u32(self._execute("cpuid 0x1"))

    @intrinsic(c=READ_MSR)
    def rdmsr(self, number: u32) -> usize:
        """A model-specific register."""
        return usize(self._execute(f"rdmsr {int(number):#x}"))

    @intrinsic(c=WRITE_MSR)
    def wrmsr(self, number: u32, value: usize) -> None:
        """Write a model-specific register."""
        self._execute(f"wrmsr {int(number):#x}", int(value))
