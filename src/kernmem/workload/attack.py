"""Attacks: programs that look at the addresses they are given, and so differ for each allocator.

J. M. Robson, Bounds for some functions concerning dynamic storage allocation, Journal of the ACM
21(3), 1974: whatever an allocator does, as long as it moves nothing, a program that never has more
than M words live, in objects of 1 to n words, can make it use about M (1 + log2(n) / 2).
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

from kernmem.workload.allocators import Allocator
from kernmem.workload.bench import Bench, BenchError, environment_of, same_addresses
from kernmem.workload.trace import Trace, TraceBuilder

WORD = 64  # bytes that the attack takes for one, so that headers matter little
LIVE_WORDS = 1 << 14  # M
ROUNDS = 10  # log2(n)
ARENA = 1 << 28


@dataclass(frozen=True)
class Attack:
    """A trace that is made anew for each allocator.

    Attributes:
        name: what people call it.
        make: attacks an allocator, and returns what was done.
    """

    name: str
    make: Callable[[Allocator], Trace]


class Served:
    """An allocator in a process of its own, call by call.  Use it in a ``with``."""

    def __init__(self, allocator: Allocator) -> None:
        self._allocator = allocator
        self._bench = Bench(TraceBuilder().build("served", ""))
        self._process = subprocess.Popen(
            self._bench.command(allocator, "serve", ARENA),
            env=environment_of(allocator),
            preexec_fn=same_addresses,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self) -> Served:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):  # what was never sent
                    pipe.close()
        self._bench.__exit__(kind, error, traceback)

    def allocate(self, count: int, size: int) -> tuple[int, ...]:
        """The addresses of ``count`` buffers of ``size`` bytes; BenchError if one is not given."""
        assert self._process.stdout is not None
        self._send(struct.pack("=3Q", 0, count, size))
        answer = self._process.stdout.read(8 * count)
        if len(answer) < 8 * count:
            raise self._died()
        addresses = struct.unpack(f"={count}Q", answer)
        if 0 in addresses:
            raise BenchError(f"{self._allocator.name}: {ARENA} bytes do not outlast the attack")
        return addresses

    def free(self, buffers: Iterable[tuple[int, int]]) -> None:
        """Give buffers back, named by address and length."""
        words = [word for buffer in buffers for word in buffer]
        self._send(struct.pack(f"={2 + len(words)}Q", 1, len(words) // 2, *words))

    def _died(self) -> BenchError:
        return BenchError(f"{self._allocator.name} died under attack")

    def _send(self, request: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(request)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None


def robson(allocator: Allocator, live_words: int = LIVE_WORDS, rounds: int = ROUNDS) -> Trace:
    """Robson's program against an allocator; its objects have 1 to 2 ** rounds words.

    In round i only such objects stay as cover an address that is ``offset`` modulo 2 ** i words:
    so no gap between two of them has room for an object of 2 ** i words.
    """
    trace = TraceBuilder()
    live: list[tuple[int, int, int]] = []  # id, address, words
    offset = 0
    with Served(allocator) as served:
        for round_number in range(rounds + 1):
            words = 1 << round_number
            choices = (offset, offset + words // 2)
            kept = [[each for each in live if _covers(each, choice, words)] for choice in choices]
            stay = max(kept, key=lambda those: sum(words - each[2] for each in those))
            offset = choices[kept.index(stay)]
            staying = set(stay)
            leaving = [each for each in live if each not in staying]
            served.free((address, size * WORD) for _, address, size in leaving)
            for name, _, _ in leaving:
                trace.free(name)
            live = stay
            count = (live_words - sum(size for _, _, size in live)) // words
            for address in served.allocate(count, words * WORD):
                live.append((trace.allocate(words * WORD), address, words))
    source = f"Robson's attack on {allocator.name}: {live_words} words of {WORD} bytes live"
    return trace.build("robson", f"{source}, objects of 1 to {1 << rounds} words")


def _covers(each: tuple[int, int, int], offset: int, modulus: int) -> bool:
    """Whether an object covers the first byte of a word that is ``offset`` modulo ``modulus``."""
    _, address, words = each
    place = (offset * WORD - address) % (modulus * WORD)
    return place < words * WORD


ATTACKS = {"robson": Attack("robson", robson)}
