"""A kernel in C, as small as can be, to test what surrounds one without the compiler."""

from __future__ import annotations

import re

BASE = """
#include <stdint.h>
_Noreturn void kernmem_panic(const char *format, ...);
void kernmem_print(const char *format, ...);
"""

BOARD = """
#include <stdint.h>
#include "kernmem_base.h"
void kernmem_put(uint8_t character);
void kernmem_exit(uint32_t status);
uint64_t add(uint64_t one, uint64_t other);
uint64_t count_down(uint64_t from);
uint64_t broken(uint64_t value);
uint64_t peek(uint64_t address);
void poke(uint64_t address, uint64_t value);
uint64_t deep(uint64_t depth);
void hang(void);
uint64_t probe(uint64_t address);
void kernel_main(void);
extern uint64_t fault_expected, fault_syndrome, fault_address;
uint64_t variable[4];

void kernmem_put(uint8_t character) { *(volatile uint32_t *)UART = character; }

void kernmem_exit(uint32_t status)
{
    uint64_t block[2] = {0x20026, status};
    register uint64_t operation __asm__("x0") = 0x20;
    register uint64_t parameter __asm__("x1") = (uint64_t)block;
    __asm__ volatile("hlt #0xf000" : "+r"(operation) : "r"(parameter) : "memory");
}

uint64_t add(uint64_t one, uint64_t other) { return one + other; }

uint64_t count_down(uint64_t from)
{
    while (from > 0)
        __asm__ volatile("sub %0, %0, #1" : "+r"(from));
    return variable[1]++;
}

uint64_t broken(uint64_t value)
{
    kernmem_panic("value %llu is %#llx and %08llx, %s (%llu %llu %llu %llu %llu)",
                  value, value, value, "said the test", 1ull, 2ull, 3ull, 4ull, 5ull);
}

uint64_t peek(uint64_t address) { return *(volatile uint64_t *)address; }
void poke(uint64_t address, uint64_t value) { *(volatile uint64_t *)address = value; }

uint64_t deep(uint64_t depth)
{
    volatile uint64_t frame[16] = {0};
    for (unsigned i = 0; i < 16; i++)
        frame[i] = depth;
    return add(frame[3], 1);
}

void hang(void) { for (;;) __asm__ volatile(""); }

uint64_t probe(uint64_t address)
{
    uint64_t value;
    fault_syndrome = 0;
    fault_expected = 1;
    __asm__ volatile("ldr %0, [%1]" : "=r"(value) : "r"(address) : "memory");
    fault_expected = 0;
    return fault_syndrome;
}

static __attribute__((aligned(65536))) uint64_t table[8192];

/* 64 KiB pages, 42 bits of address: the root has blocks of 512 MiB. */
void mmu_on(void);
void mmu_on(void)
{
    table[UART >> 29] = (UART & ~0x1fffffffull) | 0x60000000000405;
    table[(uint64_t)table >> 29] = ((uint64_t)table & ~0x1fffffffull) | 0x701;
    __asm__ volatile("msr ttbr0_el1, %0\\n msr mair_el1, %1\\n msr tcr_el1, %2\\n isb\\n"
                     "tlbi vmalle1\\n dsb nsh\\n isb\\n"
                     "mrs x9, sctlr_el1\\n orr x9, x9, #1\\n orr x9, x9, #4\\n"
                     "msr sctlr_el1, x9\\n isb"
                     :: "r"(table), "r"(0x4ffull),
                     "r"(22ull | 1 << 14 | 0xf << 8 | 1 << 23 | 2ull << 32)
                     : "x9", "memory");
}

void kernel_main(void)
{
    kernmem_print("hello %s %#llx %5llu\\n", "board", 0ull, 42ull);
    mmu_on();
    kernmem_print("probe %#llx at %#llx\\n", probe(0x3ff00000010), fault_address);
    kernmem_print("probe %#llx\\n", probe((uint64_t)table));
#if MODE == 1
    kernmem_panic("mode %llu", 1ull);
#elif MODE == 2
    poke(0x3ff00000020, 1);
#elif MODE == 3
    __asm__ volatile("mov x9, #0x3ff00000000\\n mov sp, x9\\n str x0, [sp, #-8]!");
#elif MODE == 4
    hang();
#elif MODE == 5
    ((void (*)(void))0x3ff00000030)();
#elif MODE == 6
    __asm__ volatile("udf #7");
#endif
    kernmem_exit(7);
}
"""

FUNCTIONS = ("mmu_on", "add", "count_down", "broken", "peek", "poke", "deep", "hang", "probe")
UART = {"rpi3": 0x3F201000, "lab": 0x09000000}


def stub_files(hardware: str, mode: int = 0) -> dict[str, str]:
    """The stub's C; ``mode`` chooses how it ends."""
    head = f"#define UART 0x{UART[hardware]:x}ull\n#define MODE {mode}\n"
    return {"kernmem_base.h": BASE, "board.c": head + BOARD}


STATUS = {0: 7}
"""Exit status by mode; 1 for all others."""

_END = {
    0: "",
    1: "panic: mode 1\\n",
    2: r"""exception: data abort
  translation fault, level 2, write of 0x3ff00000020
  vector 4, ESR 0x96000046, FAR 0x3ff00000020
  pc 0x\w+, called from 0x\w+, sp 0x\w+
""",
    3: r"""exception: data abort
  translation fault, level 2, write of 0x3fefffffff8
  vector 4, ESR 0x96000046, FAR 0x3fefffffff8
  pc 0x\w+, called from 0x\w+, sp 0x3ff00000000
""",
    5: r"""exception: instruction abort
  translation fault, level 2, execute of 0x3ff00000030
  vector 4, ESR 0x86000006, FAR 0x3ff00000030
  pc 0x3ff00000030, called from 0x\w+, sp 0x\w+
""",
    6: r"""exception: unknown reason or undefined instruction
  vector 4, ESR 0x2000000, FAR 0x3ff00000010
  pc 0x\w+, called from 0x\w+, sp 0x\w+
""",
}
ENDS = tuple(_END)
"""The modes in which the stub comes to an end."""


def expected_console(mode: int) -> re.Pattern[str]:
    """What the stub writes."""
    return re.compile(
        r"""hello board 0x0    42
probe 0x96000006 at 0x3ff00000010
probe 0x0
"""
        + _END[mode]
    )
