"""A kernel heap by itself, over a segment that grows in steps and can refuse to.

The same heap runs interpreted, in a plain block of bytes, and compiled, in this process: over the
same addresses, so that all of its memory can be compared.
"""

from __future__ import annotations

import ctypes
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from kernmem.compiler import compile_component, emit_c
from kernmem.language import (
    Component,
    Image,
    KernelPanic,
    Struct,
    Target,
    VirtualAddress,
    api,
    kernel,
    layout,
    set_pointer_bytes,
    usize,
)
from kernmem.language.structs import size_of
from kernmem.machine.native import load, shared_object
from kernmem.memory.gap import Buffer
from kernmem.memory.heap_check import HeapCheck
from kernmem.memory.kernel_heap import KernelHeap
from kernmem.memory.kernel_segment import SHADOW_MARGIN, KernelSegmentInfo
from kernmem.memory.profile import Idle, Placement, Profile, aligned, spec, tuned, tuned_lean

HERE = Path(__file__).parent
SEGMENT = 0x20_4000_0000  # where nothing else of this process is
LOW_SEGMENT = 0x4000_0000  # with pointers of 4 bytes, interpreted only
STATICS_LENGTH = 0x1_0000  # of the interpreted heap's statics and stack
FRESH = b"\xa5"  # what memory holds that nobody wrote to
TEXT_LENGTH = 1 << 16
LONGEST = 64 << 20
"""Bytes of the longest block of a compiled heap."""
CALLS = (
    "init_lone_heap",
    "let_segment_grow",
    "add_to_segment",
    "kmalloc",
    "kfree",
    "validate_kernel_heap",
    "kernel_heap_largest_gap",
)
"""In the order in which ``lone_heap.c`` numbers them."""
FORMATS = {1: struct.Struct("<B"), 2: struct.Struct("<H"), 4: struct.Struct("<I")}
FORMATS[8] = struct.Struct("<Q")

EAGER = Idle(share=0, kept_share=0, opens_from=2, slots_share=0, fewest_slots=1)
"""Of heaps that open runs of slots and keep buffers as soon as they can."""
PROFILES: dict[str, Profile] = {
    **{f"spec-{placement.value}": spec(placement) for placement in Placement},
    **{f"void-{placement.value}": spec(placement, no_void=False) for placement in Placement},
    **{f"aligned-{placement.value}": aligned(placement) for placement in Placement},
    "tuned": tuned(),
    "tuned-lean": tuned_lean(),
    "tuned-eager": replace(tuned(), idle=EAGER),
}


def alignment(profile: Profile, length: int) -> int:
    """What a buffer of ``length`` bytes is aligned to, at least."""
    if not profile.headerless:
        return profile.alignment
    whole = -(-length // 8) * 8
    if 0 < whole <= 4096 and whole & (whole - 1) == 0:
        return whole
    return 16 if whole % 16 == 0 else 8


class SteppedSegment(Component):
    """The segment of a heap: so many bytes at a time, up to a limit, and only while it may."""

    c_module = "steppedsegment"

    def __init__(self, image: Image, start: int, length: int, step: int, shadow: int) -> None:
        super().__init__(image)
        self.segment_start = start
        self.segment_limit = start + length
        self.step = step
        self.shadow = shadow
        self.info = self.static(KernelSegmentInfo, "kernel_segment_info")
        self.may_grow = self.static_array(usize, 1, "segment_may_grow")

    @kernel
    def begin(self) -> None:
        """Begin with an empty segment that may grow."""
        info = self.info
        info.segment_start = VirtualAddress(self.segment_start)
        info.segment_limit = VirtualAddress(self.segment_limit)
        self.may_grow[0] = usize(1)
        self._end_at(VirtualAddress(self.segment_start))

    @kernel
    def extend_kernel_segment_to(self, end: VirtualAddress) -> bool:
        """Grow until ``end`` is within; False, with nothing changed, if that cannot be."""
        if end > self.segment_limit or self.may_grow[0] == 0:
            return False
        steps = (end - VirtualAddress(self.segment_start) + (self.step - 1)) // self.step
        self._end_at(VirtualAddress(self.segment_start) + steps * self.step)
        return True

    @kernel
    def shrink_kernel_segment_to(self, end: VirtualAddress) -> None:
        """Give back whole steps from ``end`` on."""
        assert end >= self.segment_start and end <= self.info.segment_end, "not in the segment"
        steps = (end - VirtualAddress(self.segment_start) + (self.step - 1)) // self.step
        self._end_at(VirtualAddress(self.segment_start) + steps * self.step)

    @kernel
    def _end_at(self, end: VirtualAddress) -> None:
        self.info.segment_end = end
        if self.shadow != 0:
            length = (end - VirtualAddress(self.segment_start)) // self.shadow + SHADOW_MARGIN
            self.info.shadow_start = VirtualAddress(self.segment_limit)
            self.info.shadow_end = VirtualAddress(self.segment_limit) + length


class LoneHeap(Component):
    """The heap, its checker and its segment, of ``length`` bytes, a multiple of ``step``."""

    c_module = "loneheap"

    def __init__(self, image: Image, profile: Profile, start: int, length: int, step: int) -> None:
        super().__init__(image)
        self.segment = SteppedSegment(image, start, length, step, profile.shadow)
        self.kernel_heap = KernelHeap(image, self.segment, profile)
        self.heap_check = HeapCheck(image, self.kernel_heap)

    @api
    def init_lone_heap(self) -> None:
        """Begin with an empty heap over an empty segment."""
        self.segment.begin()
        self.kernel_heap.init_kernel_heap()

    @api
    def let_segment_grow(self, may: usize) -> None:
        """Whether the segment may grow from now on: 0 if not."""
        self.segment.may_grow[0] = may

    @api
    def add_to_segment(self) -> bool:
        """Grow by a step of which the heap knows nothing yet."""
        return self.segment.extend_kernel_segment_to(self.segment.info.segment_end + 1)


class Block:
    """The memory of an interpreted heap: bytes from ``base`` on, and nothing else."""

    def __init__(self, base: int, length: int) -> None:
        self.base = base
        self.bytes = bytearray(length)

    def loader(self, size: int) -> Callable[[int], int]:
        unpack = FORMATS[size].unpack_from
        base, data = self.base, self.bytes

        def load(address: int) -> int:
            at = int(address) - base
            assert at >= 0, f"a load before the memory, at {int(address):#x}"
            return int(unpack(data, at)[0])

        return load

    def storer(self, size: int) -> Callable[[int, int], None]:
        pack = FORMATS[size].pack_into
        base, data = self.base, self.bytes

        def store(address: int, value: int) -> None:
            at = int(address) - base
            assert at >= 0, f"a store before the memory, at {int(address):#x}"
            pack(data, at, int(value))

        return store

    def zero(self, address: int, length: int) -> None:
        at = address - self.base
        assert address % 8 == length % 8 == 0
        assert 0 <= at <= at + length <= len(self.bytes)
        self.bytes[at : at + length] = bytes(length)


class Heap:
    """A heap interpreted.  Its block of memory is the segment, and behind its limit the shadow.

    Attributes:
        text: what was printed since it was last emptied.
    """

    def __init__(self, profile: Profile, length: int, step: int, *, pointer_bytes: int = 8) -> None:
        set_pointer_bytes(pointer_bytes)
        self.profile = profile
        self.start = SEGMENT if pointer_bytes == 8 else LOW_SEGMENT
        shadow = length // profile.shadow + SHADOW_MARGIN if profile.shadow else 0
        self.block_length = -(-(length + shadow) // 16) * 16
        self.memory = Block(self.start, self.block_length + STATICS_LENGTH)
        target = Target("host", pointer_bytes)
        self.image = Image(target, self.memory, self.start + self.block_length)
        self.image.stack_pointer = self.start + len(self.memory.bytes)
        self.image.console = self._print
        self.text = ""
        self.root = LoneHeap(self.image, profile, self.start, length, step)
        self.statics = {each.name: each for each in self.image.statics.values()}
        self.calls: dict[str, Callable[..., Any]] = {
            "init_lone_heap": self.root.init_lone_heap,
            "let_segment_grow": lambda may: self.root.let_segment_grow(usize(may)),
            "add_to_segment": self.root.add_to_segment,
            "kmalloc": lambda length: self.root.kernel_heap.kmalloc(usize(length)),
            "kfree": self._kfree,
            "validate_kernel_heap": self.root.heap_check.validate_kernel_heap,
            "kernel_heap_largest_gap": self.root.kernel_heap.kernel_heap_largest_gap,
        }

    def _print(self, text: str) -> None:
        self.text += text

    def _kfree(self, buffer: int) -> None:
        heap = self.root.kernel_heap
        heap.kfree(heap.at(Buffer, VirtualAddress(buffer)) if buffer else None)

    # Calls ----------------------------------------------------------------------------------

    def call(self, name: str, *arguments: int) -> int:
        """Call an API; what it returns as a number, 0 for None.  KernelPanic if it panics."""
        try:
            return int(self.calls[name](*arguments) or 0)
        except AssertionError as failure:  # what the compiled kernel panics with
            raise KernelPanic(str(failure)) from failure

    def begin(self) -> None:
        """Begin anew, in fresh memory."""
        self.block()[:] = FRESH * self.block_length
        for static in self.statics:
            data = self.static_bytes(static)
            data[:] = bytes(len(data))
        self.call("init_lone_heap")

    def kmalloc(self, length: int) -> int:
        """A buffer; 0 if there is none."""
        return self.call("kmalloc", length)

    def kfree(self, buffer: int) -> None:
        """Free a buffer."""
        self.call("kfree", buffer)

    def is_sound(self) -> bool:
        """What the checker says; what it prints is in ``text``."""
        return self.call("validate_kernel_heap") != 0

    # Memory ---------------------------------------------------------------------------------

    def block(self) -> memoryview:
        """The memory of segment and shadow."""
        return memoryview(self.memory.bytes)[: self.block_length]

    def static_bytes(self, name: str) -> memoryview:
        """The memory of a static."""
        at = self.statics[name].address - self.start
        return memoryview(self.memory.bytes)[at : at + self.static_length(name)]

    def static_length(self, name: str) -> int:
        """How long a static is."""
        static = self.statics[name]
        if issubclass(static.kind, Struct):
            return layout(static.kind, self.image.target).size
        return size_of(static.kind, self.image.target) * (static.length or 1)

    def field(self, static: str, name: str) -> memoryview:
        """The memory of a field of a static struct."""
        kind: Any = self.statics[static].kind
        fields = layout(kind, self.image.target).fields
        field = next(field for field in fields if field.name == name)
        return self.static_bytes(static)[field.offset : field.end]

    def info(self, name: str) -> int:
        """A field of the heap's registry."""
        return int.from_bytes(self.field("kernel_heap_info", name), "little")

    def read(self, address: int, length: int) -> bytes:
        """Bytes of the block."""
        at = address - self.start
        return bytes(self.block()[at : at + length])

    def write(self, address: int, data: bytes) -> None:
        """Write to the block."""
        at = address - self.start
        self.block()[at : at + len(data)] = data

    def snapshot(self) -> dict[str, bytes]:
        """All of the state: the block, named "", and every static."""
        statics = {name: bytes(self.static_bytes(name)) for name in self.statics}
        return {"": bytes(self.block()), **statics}

    def restore(self, state: dict[str, bytes]) -> None:
        """Go back to a snapshot."""
        for name, data in state.items():
            (self.static_bytes(name) if name else self.block())[:] = data


class CompiledHeap(Heap):
    """The heap compiled to C, in this process: all have their blocks in the same place."""

    def __init__(self, profile: Profile, length: int, step: int, *, checked: bool = True) -> None:
        super().__init__(profile, length, step)
        self.library = load(build(self.root, checked))
        assert self.block_length <= LONGEST
        self._result = ctypes.c_size_t()

    def call(self, name: str, *arguments: int) -> int:
        argument = arguments[0] if arguments else 0
        number = CALLS.index(name)
        panicked = self.library.lone_call(
            number, ctypes.c_size_t(argument), ctypes.byref(self._result)
        )
        text = (ctypes.c_char * TEXT_LENGTH).in_dll(self.library, "lone_text").value.decode()
        if panicked:
            raise KernelPanic(re.sub(r"^\S+\.py:\d+: ", "", text))
        self.text += text
        return self._result.value

    def block(self) -> memoryview:
        return memoryview(mapping()).cast("B")[: self.block_length]

    def static_bytes(self, name: str) -> memoryview:
        kind = ctypes.c_ubyte * self.static_length(name)
        return memoryview(kind.in_dll(self.library, name)).cast("B")


def build(root: Component, checked: bool) -> Path:
    """The C of a heap, and what calls it, as a shared object."""
    generated = emit_c(compile_component(root), checked=checked, amalgamate=True)
    own = {
        name: (HERE / name).read_text()
        for name in ("lone_heap.h", "lone_heap.c", "heap_sequences.c")
    }
    return shared_object({**generated, **own}, ("-fvisibility=default",))


@lru_cache
def mapping() -> Any:
    """The memory of this process where compiled heaps have their blocks, one after the other."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    read_write, private_anonymous_no_replace = 3, 0x2 | 0x20 | 0x10_0000
    found = libc.mmap(SEGMENT, LONGEST, read_write, private_anonymous_no_replace, -1, 0)
    assert found == SEGMENT, f"this process has something at {SEGMENT:#x} already"
    return (ctypes.c_ubyte * LONGEST).from_address(SEGMENT)
