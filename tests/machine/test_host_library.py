"""The host's runtime, with functions written in C."""

from __future__ import annotations

import ctypes
import faulthandler
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernmem.hardware.simulation import MachineExit
from kernmem.language import KernelPanic, PageFault
from kernmem.machine.errors import MachineError, MachineTimeout
from kernmem.machine.host_library import Configuration, HostLibrary, Window, build_library

RAM = 0x10_0000_0000
SEGMENT = 0x18_0000_0000
PAGE = 0x1_0000
UART = 0x0900_0000

CODE = """
#include <stdint.h>
uint64_t fault_expected[1], fault_syndrome[1], fault_address[1];

uint64_t add(uint64_t one, uint64_t other) { return one + other; }
uint64_t peek(uint64_t address) { return *(volatile uint64_t *)address; }
void poke(uint64_t address, uint64_t value) { *(volatile uint64_t *)address = value; }
void hang(void) { for (;;) __asm__ volatile(""); }
void trap(void) { __builtin_trap(); }
void say(uint64_t value) { kernmem_print("said %llu\\n", (unsigned long long)value); }
void broken(uint64_t value) { kernmem_panic("%#llx is %s", (unsigned long long)value, "bad"); }
void end(uint32_t status) { kernmem_host_exit(status); }
uint64_t probe_read(uint64_t address)
{
    fault_syndrome[0] = 0;
    kernmem_host_probe_read(address);
    return fault_syndrome[0];
}
uint64_t probe_write(uint64_t address)
{
    fault_syndrome[0] = 0;
    kernmem_host_probe_write(address, 1);
    return fault_syndrome[0];
}
"""


def configuration() -> Configuration:
    return Configuration(
        Window(RAM, RAM + (16 << 20)), Window(SEGMENT, SEGMENT + (1 << 30)), 16, 13, 2, UART
    )


@pytest.fixture(scope="module")
def path() -> Path:
    return build_library({"functions.c": CODE})


@pytest.fixture
def library(path: Path) -> Iterator[HostLibrary]:
    library = HostLibrary(path, configuration(), seconds=10)
    library.set_ttbr0(0)
    yield library
    library.close()


@pytest.fixture
def mapped(library: HostLibrary) -> HostLibrary:
    """Pages of the segment: 0 writable, 1 the same but read-only, 2 and 3 further on, no more."""
    root, leaves = RAM + PAGE, RAM + 2 * PAGE
    entries = [RAM + 3 * PAGE | 0x703, RAM + 3 * PAGE | 0x783, RAM + 5 * PAGE | 0x703]
    entries.append(RAM + 6 * PAGE | 0x703)
    library.ram.write(leaves, struct.pack("<4Q", *entries))
    library.ram.write(root + 8 * (SEGMENT >> 29), struct.pack("<Q", leaves | 3))
    library.set_ttbr0(root | 5 << 48)
    return library


def test_a_call_returns_a_word(library: HostLibrary) -> None:
    assert library.call("add", 2, 3) == 5


def test_text_is_taken_once(library: HostLibrary) -> None:
    library.call("say", 5)
    library.call("say", 2**64 - 1)
    assert library.take_text() == f"said 5\nsaid {2**64 - 1}\n"
    assert library.take_text() == ""


def test_what_ends_a_call_is_an_exception(library: HostLibrary) -> None:
    with pytest.raises(KernelPanic, match=r"^0xff is bad$"):
        library.call("broken", 255)
    with pytest.raises(MachineExit) as exited:
        library.call("end", 3)
    assert exited.value.status == 3
    with pytest.raises(MachineError, match=f"trap was ended by signal {int(signal.SIGILL)}"):
        library.call("trap")
    library.seconds = 0.2
    with pytest.raises(MachineTimeout, match=r"hang: no end after 0\.2 s"):
        library.call("hang")
    assert library.call("add", 1, 1) == 2
    assert library.take_text() == ""


@pytest.mark.parametrize("address", [0, 8, SEGMENT, RAM + (16 << 20), UART])
def test_an_address_of_nothing_is_a_page_fault(library: HostLibrary, address: int) -> None:
    with pytest.raises(PageFault) as caught:
        library.call("poke", address, 1)
    assert (caught.value.address, caught.value.access) == (address, "write")
    assert caught.value.syndrome == 0x96000044, "there are no tables: level 0"


def test_an_address_that_no_processor_has_is_a_page_fault(library: HostLibrary) -> None:
    with pytest.raises(PageFault):
        library.call("peek", 1 << 63)


def test_physical_memory_is_at_its_own_addresses(library: HostLibrary) -> None:
    library.call("poke", RAM + 0x100, 0x1234)
    assert library.ram.read(RAM + 0x100, 2) == b"\x34\x12"
    library.ram.write(RAM + 0x108, b"\x56")
    assert library.call("peek", RAM + 0x108) == 0x56


def test_the_segment_goes_through_the_tables(mapped: HostLibrary) -> None:
    mapped.call("poke", SEGMENT + 8, 77)
    assert mapped.ram.read(RAM + 3 * PAGE + 8, 1) == b"\x4d"
    assert mapped.call("peek", SEGMENT + PAGE + 8) == 77
    mapped.call("poke", SEGMENT + 3 * PAGE, 78)
    assert mapped.call("peek", RAM + 6 * PAGE) == 78


def test_faults_are_those_of_the_architecture(mapped: HostLibrary) -> None:
    with pytest.raises(PageFault, match="write of 0x1800010008: permission fault, level 3") as it:
        mapped.call("poke", SEGMENT + PAGE + 8, 1)
    assert it.value.syndrome == 0x9600004F
    with pytest.raises(PageFault, match="read of 0x1800040000: translation fault, level 3") as it:
        mapped.call("peek", SEGMENT + 4 * PAGE)
    assert it.value.syndrome == 0x96000007


def test_a_probe_notes_its_fault_and_goes_on(mapped: HostLibrary) -> None:
    assert mapped.call("probe_read", SEGMENT + 4 * PAGE) == 0x96000007
    assert mapped.call("probe_write", SEGMENT + PAGE) == 0x9600004F
    assert mapped.call("probe_read", SEGMENT + PAGE) == 0
    assert mapped.call("probe_write", SEGMENT) == 0
    assert mapped.call("peek", mapped.symbols["fault_address"].address) == SEGMENT + PAGE


def test_a_translation_stays_until_it_is_invalidated(mapped: HostLibrary) -> None:
    mapped.call("poke", SEGMENT + 8, 77)
    mapped.ram.write(RAM + 2 * PAGE, bytes(8))  # unmapped, but nobody said so
    assert mapped.call("peek", SEGMENT + 8) == 77
    mapped.call("kernmem_host_invalidate_page", SEGMENT + 0x1234)
    with pytest.raises(PageFault):
        mapped.call("peek", SEGMENT + 8)
    assert mapped.call("peek", SEGMENT + PAGE + 8) == 77


def test_another_root_has_other_translations(mapped: HostLibrary) -> None:
    mapped.call("poke", SEGMENT, 1)
    mapped.set_ttbr0(RAM + 10 * PAGE)
    with pytest.raises(PageFault):
        mapped.call("peek", SEGMENT)
    mapped.set_ttbr0(RAM + PAGE)
    assert mapped.call("peek", SEGMENT) == 1


def test_devices_answer_by_their_registers(library: HostLibrary) -> None:
    for character in b"hi\n":
        library.call("kernmem_host_write_register", UART, character)
    assert library.take_text() == "hi\n"
    with pytest.raises(MachineError, match="no device has a register at 0x1000"):
        library.call("kernmem_host_read_register", 0x1000)


def test_there_is_one_at_a_time(path: Path, library: HostLibrary) -> None:
    with pytest.raises(MachineError, match="a host machine is open already"):
        HostLibrary(path, configuration(), seconds=1)
    library.call("poke", RAM, 1)
    library.close()
    with pytest.raises(MachineError, match="the host machine is closed"):
        library.call("add", 1, 1)
    again = HostLibrary(path, configuration(), seconds=1)
    assert again.call("peek", RAM) == 0
    again.close()


def test_addresses_in_use_are_refused(path: Path) -> None:
    other = Configuration.from_buffer_copy(configuration())
    buffer = ctypes.create_string_buffer(16 << 20)
    other.ram.start = ctypes.addressof(buffer) & -PAGE
    other.ram.end = other.ram.start + PAGE
    with pytest.raises(MachineError, match=r"this process has something at 0x\w+ to 0x\w+"):
        HostLibrary(path, other, seconds=1)
    HostLibrary(path, configuration(), seconds=1).close()


def test_signals_are_pythons_own_between_calls(library: HostLibrary) -> None:
    before = signal.getsignal(signal.SIGSEGV)
    faulthandler.enable()
    with pytest.raises(PageFault):
        library.call("peek", 0)
    assert faulthandler.is_enabled()
    assert signal.getsignal(signal.SIGSEGV) == before


def test_a_fault_of_another_thread_is_not_taken_for_the_kernels(path: Path) -> None:
    script = f"""
import ctypes, sys, threading, time
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from machine.test_host_library import configuration
from kernmem.machine.host_library import HostLibrary
from pathlib import Path
library = HostLibrary(Path({str(path)!r}), configuration(), 10)
threading.Thread(target=lambda: (time.sleep(0.2), ctypes.string_at(8)), daemon=True).start()
library.call("hang")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=30)
    assert done.returncode == -signal.SIGSEGV


def test_calls_from_several_threads_in_turn(library: HostLibrary) -> None:
    results: list[int] = []
    for number in range(3):
        thread = threading.Thread(target=lambda n=number: results.append(library.call("add", n, 1)))
        thread.start()
        thread.join()
    assert results == [1, 2, 3]
