"""A kernel in C that ends in every way: what is printed, and with which status it ends."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from kernmem.hardware.armv7_virt import ARMV7_VIRT
from kernmem.machine.image import BuiltImage, link_image
from kernmem.machine.qemu import QemuMachine
from kernmem.machine.symbols import StackError
from kernmem.machine.unicorn_core import UnicornCore

STUB = """
#include <stdint.h>
#include "kernmem_base.h"
void kernmem_put(uint8_t character);
void kernmem_exit(uint32_t status);
void kernel_main(void);
__attribute__((noinline)) uint32_t recurse(uint32_t depth);
uint32_t (*volatile pointer)(uint32_t);
extern uint64_t fault_expected, fault_syndrome, fault_address;

void kernmem_put(uint8_t character) { *(volatile uint32_t *)0x09000000 = character; }

void kernmem_exit(uint32_t status)
{
    uint32_t block[2] = {0x20026, status};
    register uint32_t operation __asm__("r0") = 0x20;
    register uint32_t parameter __asm__("r1") = (uint32_t)block;
    __asm__ volatile("svc #0x123456" : "+r"(operation) : "r"(parameter) : "memory", "lr");
}

#if MODE == 8
uint32_t recurse(uint32_t depth) { return depth ? recurse(depth - 1) * recurse(depth / 2) : 1; }
#elif MODE == 7
uint32_t recurse(uint32_t depth) { return pointer(depth) + 1; }
#else
uint32_t recurse(uint32_t depth) { return depth; }
#endif

static __attribute__((aligned(16384))) uint32_t table[4096];

static void mmu_on(void)
{
    table[0x090] = 0x09000c16;
    table[0x402] = 0x40200c0e;
    table[0x403] = 0x40300c0e;
    __asm__ volatile("mcr p15, 0, %0, c2, c0, 0\\n mcr p15, 0, %1, c3, c0, 0\\n isb\\n"
                     "mcr p15, 0, %1, c8, c7, 0\\n dsb\\n isb\\n"
                     "mrc p15, 0, r9, c1, c0, 0\\n orr r9, r9, #5\\n"
                     "mcr p15, 0, r9, c1, c0, 0\\n isb"
                     :: "r"(table), "r"(1) : "r9", "memory");
}

static uint64_t probe(uint32_t address)
{
    fault_syndrome = 0;
    fault_expected = 1;
    __asm__ volatile("ldr r9, [%0]" :: "r"(address) : "r9", "memory");
    fault_expected = 0;
    return fault_syndrome;
}

void kernel_main(void)
{
    kernmem_print("hello %s %#llx %5llu %llu\\n", "board", 0ull, 42ull, 18446744073709551615ull);
    mmu_on();
    kernmem_print("probe %#llx at %#llx\\n", probe(0xc0000010), fault_address);
    kernmem_print("probe %#llx\\n", probe((uint32_t)table));
#if MODE == 1
    kernmem_panic("mode %llu", 1ull);
#elif MODE == 2
    *(volatile uint32_t *)0xc0000020 = 1;
#elif MODE == 3
    __asm__ volatile("mov sp, #0xc0000000\\n push {r0}");
#elif MODE == 4
    ((void (*)(void))0xc0000030)();
#elif MODE == 5
    __asm__ volatile("udf #7");
#elif MODE == 6
    __asm__ volatile("svc #7" ::: "lr");
#endif
    kernmem_exit(recurse(7));
}
"""
BASE = """
_Noreturn void kernmem_panic(const char *format, ...);
void kernmem_print(const char *format, ...);
"""
HELLO = r"""hello board 0x0    42 18446744073709551615
probe 0x5 at 0xc0000010
probe 0x0
"""
ABORT = r"""exception: {}
  translation fault, level 1, {} of {}
  FSR {}, FAR {}
"""
ENDS = {
    0: (7, ""),
    1: (1, "panic: mode 1\n"),
    2: (1, ABORT.format("data abort", "write", "0xc0000020", "0x805", "0xc0000020")),
    3: (1, ABORT.format("data abort", "write", "0xbffffffc", "0x805", "0xbffffffc")),
    4: (1, ABORT.format("prefetch abort", "execute", "0xc0000030", "0x5", "0xc0000030")),
    5: (1, "exception: undefined instruction\n"),
    6: (1, "exception: supervisor call\n"),
}
"""Status and console by mode, but for the last line."""


def stub(directory: Path, mode: int) -> BuiltImage:
    """The kernel; ``mode`` chooses how it ends."""
    files = {"kernmem_base.h": BASE, "board.c": f"#define MODE {mode}\n{STUB}"}
    return link_image(ARMV7_VIRT, files, directory)


def check(built: BuiltImage, mode: int, status: int, console: str) -> None:
    """The end that was meant, and where it was."""
    want, text = ENDS[mode]
    assert status == want
    place = r"  pc (0x\w+), called from 0x\w+, sp (0x\w+)\n" if "exception" in text else ""
    found = re.fullmatch(re.escape(HELLO + text) + place, console.replace("\r", ""))
    assert found is not None, console
    if place:
        main = built.symbols["kernel_main"]
        pc, sp = (int(number, 16) for number in found.groups())
        assert pc == 0xC000_0030 if mode == 4 else main.address <= pc < main.address + main.size
        assert sp == 0xC000_0000 if mode == 3 else 0x4030_0000 < sp < 0x4040_0000


@pytest.mark.parametrize("mode", ENDS)
def test_unicorn(tmp_path: Path, mode: int) -> None:
    """Exceptions are entered as the processor does it."""
    built = stub(tmp_path, mode)
    with UnicornCore(built, seconds=30) as core:
        check(built, mode, core.run(), core.console.text)


@pytest.mark.qemu
@pytest.mark.skipif(shutil.which("qemu-system-arm") is None, reason="no qemu-system-arm")
@pytest.mark.parametrize("mode", ENDS)
def test_qemu(tmp_path: Path, mode: int) -> None:
    """The same."""
    built = stub(tmp_path, mode)
    machine = QemuMachine(built, seconds=30)
    check(built, mode, machine.run(), machine.console.text)


@pytest.mark.parametrize(
    ("mode", "text"), [(7, "recurse calls through a register"), (8, "recurse -> recurse is")]
)
def test_a_stack_without_a_bound(tmp_path: Path, mode: int, text: str) -> None:
    """A call through a register, and recursion, are named."""
    with pytest.raises(StackError, match=text):
        stub(tmp_path, mode).stack_use  # noqa: B018
