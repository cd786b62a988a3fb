"""Imported logs: the objects are right, and a wrong line is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernmem.workload.importers import guess_format, import_trace
from kernmem.workload.trace import TraceError

from .traces import ALLOCATE, FREE, REALLOCATE

# Written by glibc 2.36; a reallocation that moves, one that frees, and the C library's own buffer.
MTRACE = """\
= Start
@ /tmp/m:[0x11c0] + 0x55afece254a0 0x64
@ /tmp/m:[0x11d5] < 0x55afece254a0
@ /tmp/m:[0x11d5] > 0x55afece26000 0xc8
@ /tmp/m:[0x11fd] + 0x55afece252a0 0x15
@ /tmp/m:[0x122e] - 0x55afece26000
@ /tmp/m:[0x123a] - 0x55afece26880
@ /tmp/m:[0x124b] + (nil) 0x7fffffffffffffff
@ /lib/x86_64-linux-gnu/libc.so.6:(_IO_file_doallocate+8c)[0x758cc] + 0x55afece254a0 0x1000
= End
"""

# As the trace file of ftrace, trace-cmd and perf script show the events.
KMEM = """\
# tracer: nop
   sh-71  [000] ..... 12.000001: kmalloc: call_site=load_elf_phdrs+0x4c/0xa0 \
ptr=00000000ed4b1a2c bytes_req=728 bytes_alloc=1024 gfp_flags=GFP_KERNEL node=-1 accounted=false
   sh-71  [000] ..... 12.000002: kmem_cache_alloc: call_site=vm_area_alloc+0x1b/0x50 \
ptr=0000000011aa22bb name=vm_area_struct bytes_req=152 bytes_alloc=152 gfp_flags=GFP_KERNEL
   sh-71  [001] ..... 12.000003: kmalloc_node: (x) call_site=ffffffff8112 \
ptr=0xffff888003c4b000 bytes_req=64 bytes_alloc=64 gfp_flags=GFP_KERNEL node=-1
  swapper     0 [000]    12.000004: kmem:kfree: call_site=0x81 ptr=0x00000000ed4b1a2c
   sh-71  [001] ..... 12.000005: kfree: call_site=x+0x1/0x2 ptr=(null)
   sh-71  [001] ..... 12.000006: kfree: call_site=x+0x1/0x2 ptr=0000000000c0ffee
   sh-71  [001] ..... 12.000007: mm_page_alloc: page=00000000aa pfn=0x10a2b3 order=2 \
migratetype=0 gfp_flags=GFP_KERNEL
   sh-71  [001] ..... 12.000008: kmem_cache_free: call_site=x ptr=0000000011aa22bb name=v
   sh-71  [001] ..... 12.000009: mm_page_free: page=00000000aa pfn=0x10a2b3 order=2
   sh-71  [001] ..... 12.000010: kmalloc: call_site=y ptr=ffff888003c4b000 bytes_req=32 \
bytes_alloc=32 gfp_flags=GFP_KERNEL
"""

EXPECTED: dict[str, tuple[str, list[tuple[int, int, int]]]] = {
    "mtrace": (
        MTRACE,
        [
            (ALLOCATE, 0, 100),
            (REALLOCATE, 0, 200),
            (ALLOCATE, 1, 21),
            (FREE, 0, 0),
            (ALLOCATE, 2, 4096),
        ],
    ),
    "kmalloc": (
        KMEM,
        [(ALLOCATE, 0, 728), (ALLOCATE, 1, 64), (FREE, 0, 0), (FREE, 1, 0), (ALLOCATE, 2, 32)],
    ),
    "slab": (
        KMEM,
        [
            (ALLOCATE, 0, 728),
            (ALLOCATE, 1, 152),
            (ALLOCATE, 2, 64),
            (FREE, 0, 0),
            (FREE, 1, 0),
            (FREE, 2, 0),
            (ALLOCATE, 3, 32),
        ],
    ),
    "pages": (KMEM, [(ALLOCATE, 0, 4 * 4096), (FREE, 0, 0)]),
}


@pytest.mark.parametrize("form", EXPECTED)
def test_the_events_of_a_log(tmp_path: Path, form: str) -> None:
    text, events = EXPECTED[form]
    path = tmp_path / "some.log"
    path.write_text(text)
    trace = import_trace(path, form)
    found = zip(trace.op.tolist(), trace.id.tolist(), trace.size.tolist(), strict=True)
    assert list(found) == events
    assert trace.name == "some"
    assert trace.meta.startswith(f"imported from some.log, {form}")


def test_what_was_left_out_or_put_in_is_told(tmp_path: Path) -> None:
    path = tmp_path / "some.log"
    path.write_text(KMEM)
    assert import_trace(path, "kmalloc").meta.endswith(
        "; left out: 1 frees of older objects; put in: 1 frees that the log has not"
    )


@pytest.mark.parametrize(("text", "form"), [(MTRACE, "mtrace"), (KMEM, "kmalloc")])
def test_the_format_is_guessed(tmp_path: Path, text: str, form: str) -> None:
    path = tmp_path / "some.log"
    path.write_text(text)
    assert guess_format(path) == form


@pytest.mark.parametrize(
    ("form", "text", "problem"),
    [
        ("mtrace", "@ x:[0x1] + 0x10 0x4\nnonsense\n", "line 2: not a line of mtrace: 'nonsense'"),
        ("mtrace", "+ 0x10\n", "line 1: an allocation must have a size: '+ 0x10'"),
        (
            "mtrace",
            "+ 0x10 0x4\n+ 0x10 0x8\n",
            "line 2: 0x10 is allocated a second time, and was not freed",
        ),
        ("kmalloc", "a: kmalloc: ptr=00ff bytes=3\n", "line 1: kmalloc with no 'bytes_req': "),
        ("kmalloc", "a: kmalloc: ptr=(____ptrval____) bytes_req=3\n", "line 1: kmalloc with inva"),
        ("pages", KMEM.replace("order=2", "order=x"), "line 8: mm_page_alloc with invalid literal"),
        ("kmalloc", MTRACE, "there is no event of the format 'kmalloc' in it"),
        ("mtrace", "= Start\n= End\n", "there is no event of the format 'mtrace' in it"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, form: str, text: str, problem: str) -> None:
    path = tmp_path / "some.log"
    path.write_text(text)
    with pytest.raises(TraceError) as caught:
        import_trace(path, form)
    assert str(caught.value).startswith(f"{path}: {problem}")


def test_a_file_of_no_format(tmp_path: Path) -> None:
    path = tmp_path / "some.log"
    path.write_text("hello\n" * 2_000)
    with pytest.raises(TraceError, match="of none of the formats mtrace, kmalloc, slab, pages"):
        guess_format(path)
