"""Each construct does in C what it does in Python."""

from __future__ import annotations

import pytest

from .both import BASE, Both
from .constructs import RECORDS, Constructs

TOP = 0xFFFF_FFFF
AT = BASE + 0x1000
CASES: list[tuple[str, tuple[int, ...]]] = [
    ("arithmetic", (5, 9)),
    ("arithmetic", (0, 0)),
    ("arithmetic", (TOP, 1)),
    ("arithmetic", (0x5555_0000, 0x5000_0000)),
    ("narrow", (50, 3)),
    ("narrow", (0, 0)),
    ("narrow", (200, 3)),
    ("narrow", (1, 3)),
    ("narrow", (60, 128)),
    ("narrow16", (3, 3)),
    ("narrow16", (0, 0)),
    ("narrow16", (3, 0xFFFF)),
    ("literal_left", (7,)),
    ("literal_left", (101,)),
    ("constants", ()),
    ("shifts_of", (3, 5)),
    ("shifts_of", (3, 15)),
    ("shifts_of", (0, 16)),
    ("order", (9, 8)),
    ("order", (5, 9)),
    ("order", (0, 0)),
    ("order", (300, 8)),
    ("order", (0x200, 6)),
    ("order_of_bits", (9, 8)),
    ("order_of_bits", (5, 6)),
    ("order_of_bits", (9, 5)),
    ("order_of_values", (9, 8)),
    ("order_of_values", (5, 6)),
    ("order_of_values", (9, 5)),
    ("convert", (255,)),
    ("convert", (256,)),
    ("convert", (1 << 40,)),
    ("truncated", (0x1234_5678_9ABC,)),
    ("wrapped", (0xFFFF, 0xFFFE, (1 << 64) - 3)),
    ("highest", (1,)),
    ("highest", (1 << 63,)),
    ("highest", (0,)),
    ("lowest", (1,)),
    ("lowest", (3 << 62,)),
    ("lowest", (0,)),
    ("addresses", (AT, AT, 5)),
    ("addresses", (AT, 3, 1 << 63)),
    ("addresses", ((1 << 64) - 2, 3, 1)),
    ("bools", (0, 0)),
    ("bools", (1, 0)),
    ("bools", (1, 1)),
    ("limits", (3,)),
    ("limits", (255,)),
    ("limits", (100,)),
    ("known", (1,)),
    ("known", (2,)),
    ("branches", (3,)),
    ("branches", (9,)),
    ("branches", (15,)),
    ("branches", (20,)),
    ("loops", (0,)),
    ("loops", (10,)),
    ("loops", (40,)),
    ("spans", (0,)),
    ("spans", (5,)),
    ("spans", (20,)),
    ("spans", (200,)),
    ("unrolled", (5,)),
    ("unrolled", (TOP,)),
    ("chain", (5, 6, 7)),
    ("chain", (4, 6, 7)),
    ("chain", (5, 5, 5)),
    ("fill", (0,)),
    ("fill", (17,)),
    ("fill", (TOP,)),
    ("fill", (9,)),
    ("flags", (3, 1)),
    ("flags", (1, 1)),
    ("flags", (5, 2)),
    ("mood", (0, 0)),
    ("mood", (3, 1)),
    ("mood", (3, 7)),
    ("list", (0,)),
    ("list", (4,)),
    ("last", (0,)),
    ("last", (RECORDS,)),
    ("bytes_at", (AT, 4)),
    ("clear", (AT, 3)),
    ("statics", (2,)),
    ("statics", (3,)),
    ("past", (4,)),
    ("past", (5,)),
    ("past", (8,)),
    ("locals", (5,)),
    ("locals", (TOP - 1,)),
    ("observed", (5,)),
    ("calls", (5,)),
    ("calls", (1 << 31,)),
    ("seldom", (5,)),
    ("seldom", (TOP,)),
    ("messages", (AT, RECORDS, 7)),
    ("panics", (1, AT)),
    ("panics", (3, AT)),
    ("panics", (4, AT)),
    ("panics", (5, AT)),
    ("intrinsics", (5, 6)),
    ("keywords", (5, 6, 7)),
    ("read", (RECORDS,)),
    ("read", (RECORDS + 64,)),
]


@pytest.fixture(scope="module")
def both() -> Both:
    return Both(Constructs)


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_both_ways(both: Both, name: str, arguments: tuple[int, ...]) -> None:
    both.run(name, *arguments)


def test_every_api_is_tested(both: Both) -> None:
    assert {function.c_name for function in both.program.apis} == {name for name, _ in CASES}


def test_what_was_pruned_whole_is_not_called_for_nothing(both: Both) -> None:
    """A call of an empty function stays only where computing its arguments does something."""
    calls = both.program["observed"].body.statements
    assert len(calls) == 2  # the second call, and the return
    assert [each.name for each in both.program["observed"].calls] == [
        "Constructs.observe",
        "Constructs.counted",
    ]


def test_the_left_operand_traps_first(both: Both) -> None:
    assert both.run("order", 5, 9).panic == "u32: 0x5 - 0x9 leaves 0 to 0xffffffff"
    assert both.run("order", 9, 5).panic == "u32: 0x5 - 0x7 leaves 0 to 0xffffffff"


def test_filled_records_are_read(both: Both) -> None:
    filled = both.run("fill", 6)
    assert both.run("read", RECORDS, memory=filled.memory).panic is None
    other = bytearray(filled.memory)
    other[0x1000] = 2  # record.small, which is the index
    assert both.run("read", RECORDS, memory=bytes(other)).result


def test_lists_are_followed(both: Both) -> None:
    listed = both.run("list", 4)
    assert listed.result is not None
    assert both.run("last", listed.result, memory=listed.memory).result == RECORDS


def test_console(both: Both) -> None:
    text = both.run("calls", 21).console
    assert text == "note 42 0x2a 2a       42 0000002a 0x0000002a 100%\n"
    lines = both.run("messages", AT, RECORDS, 7).console.splitlines()
    assert lines[0] == 'plain "text" with \\ and 5% and ??/'
    assert lines[1] == "0x2000001000 2000001000 0x2000001000 0x2000001000 7 4096"


def test_panics_have_their_values(both: Both) -> None:
    assert both.run("panics", 4, AT).panic == "four at 0x2000001000"
    assert both.run("panics", 5, AT).panic == "failed at 0x2000001000"
    assert both.run("panics", 3, AT).panic == "a must not be 3"
    assert both.run("past", 6).panic == "index 6 is past the end of an array of 5"
