"""Recordings: what a program asked of malloc is in its trace, call by call."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kernmem.machine.native import executable
from kernmem.workload.allocators import Allocator
from kernmem.workload.bench import Bench
from kernmem.workload.record import NothingRecorded, record
from kernmem.workload.trace import Trace

from .traces import ALLOCATE, FREE, REALLOCATE

CALLS = """
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void *churn(void *unused)
{
    for (int i = 0; i < 20000; i++) {
        void *volatile one = malloc(3000 + i % 7), *volatile two = malloc(5);
        free(one);
        two = realloc(two, 9000);
        free(two);
    }
    return unused;
}

int main(int count, char **words)
{
    void *volatile a = malloc(1001), *volatile b = calloc(3, 1007), *volatile c, *d;

    (void)words;
    a = realloc(a, 100003);
    c = aligned_alloc(64, 1024 + 64);
    if (posix_memalign(&d, 32, 1013) != 0 || posix_memalign(&d, 3, 1) == 0)
        return 1;
    free(b);
    b = realloc(c, 0);
    free(NULL);
    if (fork() == 0) {
        a = malloc(7777); /* a copy of the program: not recorded */
        _exit(0);
    }
    wait(NULL);
    if (count > 1) {
        pthread_t threads[4];
        for (int i = 0; i < 4; i++)
            pthread_create(&threads[i], NULL, churn, NULL);
        for (int i = 0; i < 4; i++)
            pthread_join(threads[i], NULL);
    }
    b = malloc(1019);
    if (count > 2)
        abort();
    _exit(3);
}
"""


@pytest.fixture(scope="module")
def program() -> Path:
    return executable({"calls.c": CALLS})


def events(trace: Trace) -> list[tuple[int, int, int]]:
    return list(zip(trace.op.tolist(), trace.id.tolist(), trace.size.tolist(), strict=True))


def test_every_call_is_in_the_trace(program: Path) -> None:
    recording = record([str(program)])
    assert recording.status == 3
    (trace,) = recording.traces
    assert trace.name == program.name[:15]
    assert str(program) in trace.meta
    first = trace.id[trace.size == 1001][0]
    found = [event for event in events(trace) if event[1] >= first]
    assert found == [
        (ALLOCATE, first, 1001),
        (ALLOCATE, first + 1, 3 * 1007),
        (REALLOCATE, first, 100_003),
        (ALLOCATE, first + 2, 1024 + 64),
        (ALLOCATE, first + 3, 1013),
        (FREE, first + 1, 0),
        (FREE, first + 2, 0),
        (ALLOCATE, first + 4, 1019),
    ]


def test_threads_do_not_disturb_each_other(program: Path) -> None:
    """Were a call noted at the wrong moment, an address would be given twice."""
    (trace,) = record([str(program), "threads"]).traces
    assert "frees" not in trace.meta
    own = trace.id[(trace.op == ALLOCATE) & (trace.size >= 3000) & (trace.size < 3007)]
    assert len(own) == 4 * 20_000
    with Bench(trace) as bench:
        bench.check(Allocator("malloc"))


def test_what_was_recorded_survives_a_crash(program: Path) -> None:
    recording = record([str(program), "threads", "abort"])
    assert recording.status == -6
    assert events(recording.traces[0])[-1][::2] == (ALLOCATE, 1019)


def test_each_program_has_a_trace_of_its_own(program: Path) -> None:
    recording = record(["sh", "-c", f"{program}; {program} threads; exit 0"])
    assert recording.status == 0
    sizes = [len(trace) for trace in recording.traces]
    assert sizes == sorted(sizes, reverse=True)
    assert sorted(trace.name for trace in recording.traces) == sorted(
        ["sh", program.name[:15], program.name[:15]]
    )


def test_a_real_program() -> None:
    (trace, *_) = record([sys.executable, "-c", "print(sorted(range(10000))[5])"]).traces
    assert len(trace) > 1_000
    with Bench(trace) as bench:
        bench.check(Allocator("malloc"))


def test_what_cannot_be_recorded() -> None:
    with pytest.raises(FileNotFoundError):
        record(["/no/such/program"])
    static = executable({"static.c": "int main(void) { return 0; }"})
    with pytest.raises(NothingRecorded, match="must be linked dynamically, with glibc"):
        record([str(static)])
