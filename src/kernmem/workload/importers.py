"""Traces from the logs that people have: glibc's mtrace, and the kmem events of Linux as text.

=========  ====================================================================================
format     what it reads
=========  ====================================================================================
mtrace     what ``mtrace()`` of glibc writes to ``$MALLOC_TRACE``
kmalloc    ``kmalloc`` and ``kfree`` of ftrace's ``trace``, ``trace-cmd report``, ``perf script``
slab       the same, with ``kmem_cache_alloc`` and ``kmem_cache_free``
pages      ``mm_page_alloc`` and ``mm_page_free``: pages of 4 KiB
=========  ====================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from kernmem.workload.addresses import AddressLog
from kernmem.workload.trace import Trace, TraceError

PAGE = 4096

# @ program:(function+0x1d)[0x401136] + 0x1b6a2a0 0x64
MTRACE = re.compile(
    r"(?:@ .*?\] |@ \S+ )?(?P<what>[-+<>!]) (?P<address>0x[0-9a-f]+|\(nil\))"
    r"(?: (?P<size>0x[0-9a-f]+|0))?$"
)
#  bash-123  [001] d..1.  12.345678: kmalloc: call_site=... ptr=00000000a6b9b6ed bytes_req=32 ...
KMEM = re.compile(
    r": (?:kmem:)?(?P<event>kmalloc|kfree|kmem_cache_alloc|kmem_cache_free|mm_page_alloc"
    r"|mm_page_free)(?:_node)?: (?P<fields>.*)$"
)
KMEM_EVENTS = {
    "kmalloc": {"kmalloc", "kfree"},
    "slab": {"kmalloc", "kfree", "kmem_cache_alloc", "kmem_cache_free"},
    "pages": {"mm_page_alloc", "mm_page_free"},
}


def import_trace(path: Path, form: str) -> Trace:
    """Read a log of a format; TraceError names the line that is wrong."""
    log = AddressLog()
    READERS[form](path, log)
    if not len(log):
        raise TraceError(path, f"there is no event of the format {form!r} in it")
    return log.trace(path.stem, f"imported from {path.name}, {form}")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text, numbered from 1."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            yield number, line.rstrip()


def _read_mtrace(path: Path, log: AddressLog) -> None:
    """glibc logs every call, so an address that is given twice is an error."""
    moving: int | None = None  # a reallocation takes two lines: < old, then > new and size
    for number, line in _lines(path):
        if line.startswith("=") or not line:
            continue
        found = MTRACE.match(line)
        if found is None:
            raise TraceError(path, f"not a line of mtrace: {line!r}", number, unit="line")
        what, address = found["what"], _hexadecimal(found["address"])
        if what in "+>" and found["size"] is None:
            raise TraceError(path, f"an allocation must have a size: {line!r}", number, unit="line")
        size = int(found["size"] or "0", 16)
        if what == "<":
            moving = address
        elif what == "-":
            log.free(address)
        elif what in "+>" and address:
            if log.is_live(address) and address != moving:
                problem = f"{address:#x} is allocated a second time, and was not freed"
                raise TraceError(path, problem, number, unit="line")
            if what == ">" and moving is not None:
                log.reallocate(moving, address, size)
            else:
                log.allocate(address, size)
            moving = None


def _reader_of_kmem(events: set[str]) -> Callable[[Path, AddressLog], None]:
    def read(path: Path, log: AddressLog) -> None:
        for number, line in _lines(path):
            found = KMEM.search(line)
            if found is None or found["event"] not in events:
                continue
            fields = dict(re.findall(r"(\w+)=(\S+)", found["fields"]))
            try:
                _add_kmem(log, found["event"], fields)
            except (KeyError, ValueError) as error:
                what = f"no {error}" if isinstance(error, KeyError) else str(error)
                problem = f"{found['event']} with {what}: {line.strip()!r}"
                raise TraceError(path, problem, number, unit="line") from error

    return read


def _add_kmem(log: AddressLog, event: str, fields: dict[str, str]) -> None:
    """Add an event of the kernel; ValueError or KeyError if a field is not as it must be."""
    if event.startswith("mm_page"):
        address = int(fields["pfn"], 0) * PAGE
        size = PAGE << int(fields["order"]) if event == "mm_page_alloc" else 0
    else:
        address = _hexadecimal(fields["ptr"])
        size = int(fields["bytes_req"]) if event in ("kmalloc", "kmem_cache_alloc") else 0
    if not address:
        return
    if event in ("kmalloc", "kmem_cache_alloc", "mm_page_alloc"):
        log.allocate(address, size)
    else:
        log.free(address)


def _hexadecimal(text: str) -> int:
    """An address as logs have it, with 0x or without."""
    return 0 if text in ("(nil)", "(null)") else int(text, 16)


READERS: dict[str, Callable[[Path, AddressLog], None]] = {
    "mtrace": _read_mtrace,
    **{name: _reader_of_kmem(events) for name, events in KMEM_EVENTS.items()},
}
FORMATS = tuple(READERS)


def guess_format(path: Path) -> str:
    """The format of a log, by its first lines; TraceError if they are of none."""
    for number, line in _lines(path):
        if line.startswith(("= Start", "@ ", "+ 0x")):
            return "mtrace"
        if KMEM.search(line):
            return "pages" if "mm_page" in line and "kmalloc" not in line else "kmalloc"
        if number > 1_000:
            break
    raise TraceError(path, f"it is of none of the formats {', '.join(FORMATS)}")
