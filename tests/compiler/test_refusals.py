"""What the compiler refuses, one case each: where, the rule, and what to write instead."""

from __future__ import annotations

import sys
import types
from itertools import count
from pathlib import Path

import pytest

from kernmem.compiler import CompileError, compile_component
from kernmem.language import Image, Target

_numbers = count()

PREAMBLE = """\
from __future__ import annotations
from enum import IntEnum, IntFlag
from kernmem.language import *
import kernmem.language as kl

def plain(x: u32) -> u32:
    return x

class Unnamed(IntEnum):
    A = 0

@enumeration("color_t")
class Color(IntFlag):
    RED = 1
    BLUE = 2

@struct("node_t", packed=True)
class Node(Struct):
    next: Node | None
    size: u32
    wide: u64
    words: Array[u32] = array(u32, 4)

class Other(Component):
    @kernel
    def touch(self) -> u32:
        self.print("touch")
        return u32(1)

class Kernel(Component):
    def __init__(self, image: Image) -> None:
        super().__init__(image)
        self.length = 16
        self.pair = (1, 2)
        self.many = tuple(range(65))
        self.on = True
        self.other = Other(image)
        self.lost = ((Other(image),),)
        self.info = self.static(Node, "info")

    def unmarked(self) -> None:
        pass

    @kernel
    def again(self, n: u32) -> u32:
        return self.more(n)

    @kernel
    def more(self, n: u32) -> u32:
        return self.again(n)

    @intrinsic(riscv="")
    def foreign(self) -> None:
        pass

    @api
    def work(self, n: u32, m: u64, node: Node | None, a: VirtualAddress, c: Color) -> None:
"""

# The body of `work`; the column (from 1) and the line of it (from 0) that is named; parts of the
# message in their order: the rule, what was found, what to write.
CASES = [
    # integers
    ("x = 5", 0, 5, "a value must have a width, not `5`, a build-time int; write `usize(5)`"),
    ("x = n + m", 0, 5, "the operands of + must have one type, not u32 + u64; write `u32(…)`"),
    ("x = n / 2", 0, 5, "arithmetic must be one of + - * // %, not `n / 2`; write `//`"),
    ("x = n ** 2", 0, 5, "arithmetic must be one of, not `n ** 2`"),
    ("x = -n", 0, 5, "unsigned and have no unary -, not `-n`; write `wrap_subtract"),
    ("x = +n", 0, 5, "unsigned and have no unary +, not `+n`; write the operand alone"),
    ("x = n + 0x1_0000_0000", 0, 5, "within 0 and 0xffffffff, not 0x100000000; write a number"),
    ("x = u8(256)", 0, 5, "u8 must be within 0 and 0xff, not 0x100 in `u8(256)`"),
    ("x = n << 32", 0, 5, "must be shifted by 0 to 31, not 32 in `n << 32`"),
    ("x = 1 << n", 0, 5, "what is shifted must have a width, not `1 << n`; write `u64(…) <<"),
    ("x = n // 0", 0, 5, "a divisor must not be 0, not `n // 0`"),
    ("x = a * 2", 0, 5, "an address has only + -, not * in `a * 2`; write `usize(address)`"),
    ("x = 2 + a", 0, 5, "an address has only + -, not + in `2 + a`"),
    ("x = PhysicalAddress(a)", 0, 5, "must not change its kind, write `from_linear(…)`"),
    ("x = ~a", 0, 5, "~ must have an integer, not `~a`, which is VirtualAddress"),
    ("x = u32(node)", 0, 5, "u32 must be made of an integer, write `address_of(x)`"),
    ("x = truncate(u8, 5)", 0, 18, "must be a machine integer, not `5`; write `usize(5)`"),
    ("x = self.length // 0", 0, 5, "cannot be computed at build time: integer division"),
    ("x = 1.5", 0, 5, "a constant must be an integer, a bool or None, not `1.5`, float"),
    # conditions
    ("if n:", 0, 4, "a condition must be a bool, not `n`, which is u32; write `n != 0`"),
    ("if node:", 0, 4, "a condition must be a bool, not `node`; write `node is not None`"),
    ("if n == m:", 0, 4, "the operands of == must have one type, not u32 and u64"),
    ("if node == None:", 0, 4, "None must be compared with is, not; write `is None`"),
    ("if n is None:", 0, 4, "what is compared with None must be a reference or an address"),
    ("if n is m:", 0, 4, "is must have None on its right, not `n is m`; write `==`"),
    ("if n in self.pair:", 0, 4, "in must have two flags of one IntFlag, not `n in self.pair`"),
    ("if n < self.info.size < 9:", 0, 8, "must be a name, not `self.info.size`; write `a < b"),
    ("if Color.RED & c:", 0, 4, "a condition must be a bool, not `Color.RED & c`"),
    ("x = n and n", 0, 5, "a condition must be a bool"),
    # names and types
    ("x = None", 0, 5, "None must have a type; write an annotation"),
    ("x = n\nx = m", 1, 1, "must keep its type: x is u32, not u64; write another name"),
    ("x: usize = n", 0, 12, "x must be usize, not `n`, which is u32; write `usize(n)`"),
    ("x: int = n", 0, 4, "a type must be one that kernel code has, not `x: int`"),
    ("x: u32 | None = None", 0, 4, "a type must be one that kernel code has"),
    ("x: Missing = n", 0, 4, "an annotation must be known when the kernel is built"),
    ("y = x", 0, 5, "a name must be known, not `x`"),
    ("if n == 0:\n    x = n\ny = x", 2, 5, "must have a value on every path to its use, not `x`"),
    ("for i in span(n, n): pass\nx = i", 1, 5, "must have a value on every path"),
    ("n = self.missing", 0, 5, "an attribute must be there when the kernel is built"),
    ("x = Unnamed.A", 0, 5, "an enumeration must have a C name; write `@enumeration"),
    ("x = self.other", 0, 5, "a value must be an integer, not `self.other`, a component"),
    ("x = self.pair", 0, 5, "a value must be an integer, not `self.pair`"),
    # memory
    ("self.length = 5", 0, 1, "a component's attributes must not change, write a field of"),
    ("x = node.missing", 0, 5, "a field must be one of Node, not `node.missing`"),
    ("x = n.size", 0, 5, "what has fields must be a reference, not `n`, which is u32"),
    ("self.info.size = m", 0, 18, "must be u32, not `m`, which is u64; write `u32(m)`"),
    ("self.info.size = 5", 0, 18, "`self.info.size` must be u32, not `5`; write `u32(5)`"),
    ("x = self.info.words", 0, 5, "an array of a packed struct must be used in place"),
    ("x = self.info.words[4]", 0, 21, "an index must be within the array of 4, not 4"),
    ("x = self.info.words.length", 0, 5, "an array has only elements"),
    ("x = self.pair[n]", 0, 15, "must be indexed by a build-time number, not `n`"),
    ("x = self.pair[2]", 0, 5, "cannot be computed at build time: tuple index out of range"),
    ("x = n[0]", 0, 5, "what is indexed must be an array or a build-time tuple, not `n`"),
    ("x = Node(5)", 0, 5, "must be marked @kernel, not `Node` (Node); write `self.at(Node"),
    ("x = self.at(Node, n)", 0, 19, "the address must be VirtualAddress, not `n`"),
    ("x = self.at(u32, a)", 0, 13, "the type must be a struct, not `u32`"),
    ("x = self.array_at(Node, a)", 0, 19, "the type must be a machine integer"),
    ("self.zero(a, 8)", 0, 14, "the length must be usize, not `8`; write `usize(8)`"),
    ("self.zero(a)", 0, 1, "zero must be called with 2 plain arguments"),
    # statements
    ("try:\n    pass\nexcept ValueError: pass", 0, 1, "must be of kernel Python, not try; write"),
    ("raise ValueError", 0, 1, "must be of kernel Python, not raise; write `panic(f"),
    ("def f(): pass", 0, 1, "must be of kernel Python, not a nested function"),
    ("async def f(): pass", 0, 1, "must be of kernel Python, not a nested function"),
    ("class C: pass", 0, 1, "must be of kernel Python, not a nested class"),
    ("import os", 0, 1, "must be of kernel Python, not an import"),
    ("from os import path", 0, 1, "must be of kernel Python, not an import"),
    ("global g", 0, 1, "must be of kernel Python, not global; write `self.static"),
    ("del n", 0, 1, "must be of kernel Python, not del"),
    ("match n:\n    case _: pass", 0, 1, "not match; write `if` and `elif`"),
    ("x = y = n", 0, 1, "an assignment must have one target"),
    ("x, y = n, n", 0, 8, "an expression must be of kernel Python, not a tuple"),
    ("n.x: u32 = n", 0, 1, "only a local may be annotated"),
    ("n", 0, 1, "an expression must be a call to be a statement, not `n`"),
    ("u32(n)", 0, 1, "a call must have an effect to be a statement, not `u32(n)`"),
    ("panic(n)", 0, 7, "a message must be a text, not `n`"),
    ("panic()", 0, 1, "a message must be one text, not `panic()`"),
    ("panic(f'{n:.2f}')", 0, 10, "the format of a value must be {x}, {x:#x}"),
    ("panic(f'{self.on and node is None}')", 0, 10, "a value in a message must be an integer"),
    ("assert n == 0", 0, 1, "an assert must say what is wrong; write `assert n == 0, f"),
    ("return\nn = n + 1", 1, 1, "a statement must be reachable, not `n = n + 1` after `return`"),
    ("while True: n = n\nn += 1", 1, 1, "a statement must be reachable"),
    ("return n", 0, 1, "Kernel.work must return None, not `return n`; write `return` alone"),
    ("with self.info as x: pass", 0, 1, "a with must be of a local struct"),
    ("with self.local(Node) as n: pass", 0, 26, "must have a name of its own, not `n`"),
    ("with self.local(Node) as x: x = node", 0, 29, "of a `for` or a `with` must not be assigned"),
    # loops
    ("for i in n: pass", 0, 10, "a loop must be over span(), range() or a build-time tuple"),
    ("for i in range(n): pass", 0, 16, "range must be of build-time numbers; write `span"),
    ("for i in range(65): pass", 0, 10, "an unrolled loop must have at most 64 rounds, not 65"),
    ("for i in self.many: pass", 0, 10, "an unrolled loop must have at most 64 rounds"),
    ("for i in self.pair:\n    if n == 1: break", 1, 16, "must run to its end, not `break`"),
    ("for i in span(0, n): pass", 0, 15, "a bound of a span must be a machine integer, not `0`"),
    ("for i in span(n, m): pass", 0, 10, "must have one type, not u32 and u64"),
    ("for i in span(n): pass", 0, 10, "span must be called with a start and a stop"),
    ("for i in span(n, n): i = n", 0, 22, "of a `for` or a `with` must not be assigned, not `i`"),
    ("for n in span(n, n): pass", 0, 5, "must have a name of its own, not `n`"),
    ("for i, j in self.pair: pass", 0, 5, "a loop must have one variable"),
    ("while n > 1: n -= 1\nelse: pass", 1, 7, "a loop must have no else"),
    ("i = span(n, n)", 0, 5, "span must stand in a statement of its own"),
    # expressions
    ("x = lambda: n", 0, 5, "an expression must be of kernel Python, not a lambda"),
    ("x = [n]", 0, 5, "not a list; write a tuple in the component's `__init__`"),
    ("x = {n}", 0, 5, "not a set"),
    ("x = {n: n}", 0, 5, "not a dict"),
    ("x = [i for i in self.pair]", 0, 5, "not a comprehension"),
    ("x = (i for i in self.pair)", 0, 5, "not a generator"),
    ("x = (y := n)", 0, 6, "not an assignment; write it as a statement of its own"),
    ("x = f'{n}'", 0, 5, "not an f-string"),
    ("x = self.info.words[0:2]", 0, 21, "not a slice"),
    ("x = 1 if n == 0 else 2", 0, 5, "a value must have a width, not `1`"),
    ("x = n if n == 0 else m", 0, 22, "the other result of a conditional expression must be u32"),
    ("x = yield n", 0, 5, "not yield"),
    # calls
    ("x = plain(n)", 0, 5, "must be marked @kernel, not `plain` (plain); write @kernel above"),
    ("x = kl.plain(n)", 0, 5, "an attribute must be there"),
    ("self.unmarked()", 0, 1, "must be marked @kernel, not `self.unmarked`"),
    ("x = len(self.pair)", 0, 5, "must be marked @kernel, not `len`"),
    ("x = bool(n)", 0, 5, "must be marked @kernel, not `bool` (bool); write `x != 0`"),
    ("x = n(n)", 0, 5, "what is called must be a kernel function, not `n`"),
    ("x = self.more(n)", -1, 16, "must not call itself, not Kernel.more -> Kernel.again"),
    ("x = self.other.touch(n)", 0, 22, "must be called with at most 0 arguments, not 1"),
    ("x = self.other.touch(k=n)", 0, 24, "a keyword must name a parameter of Other.touch"),
    ("x = self.again()", -1, 16, "must not call itself"),
    ("x = self.lost[0][0].touch()", 0, 5, "must be held in an attribute of the kernel"),
    ("self.foreign()", -1, 5, "must have a text for host, not Kernel.foreign with riscv"),
    ("x = super().work", 0, 5, "super() must be called, not `super().work`"),
    ("super().missing()", 0, 1, "super() must be a base that has the method"),
    # the order of evaluation
    ("x = self.other.touch() + self.info.size", 0, 5, "must not stand beside; write its result"),
    ("x = self.other.touch() + self.other.touch()", 0, 5, "a call with effects must not stand"),
    ("self.info.words[self.info.size] = self.other.touch()", 0, 1, "a call with effects must"),
]


def refusal(body: str, directory: Path, preamble: str = PREAMBLE) -> CompileError:
    """What the compiler says to a kernel with this body."""
    lines = "".join(f"        {line}\n" for line in body.splitlines())
    if body.endswith(":"):
        lines += "            pass\n"
    path = directory / f"refused_{next(_numbers)}.py"
    path.write_text(preamble + lines)
    module = types.ModuleType(path.stem)
    sys.modules[path.stem] = module
    exec(compile(path.read_text(), str(path), "exec"), module.__dict__)
    with pytest.raises(CompileError) as caught:
        compile_component(module.Kernel(Image(Target("host", 8))))
    return caught.value


@pytest.mark.parametrize(("body", "line", "column", "parts"), CASES, ids=[c[0] for c in CASES])
def test_refusal(body: str, line: int, column: int, parts: str, tmp_path: Path) -> None:
    error = refusal(body, tmp_path)
    start = PREAMBLE.count("\n") + 1
    if line >= 0:
        assert (error.line, error.column) == (start + line, column + 8), str(error)
    else:  # elsewhere in the module
        assert error.column == column, str(error)
    rest = error.problem
    for part in parts.replace(", not", "|, not").replace("; write", "|; write").split("|"):
        for piece in part.split(", write"):
            assert piece in rest, f"{piece!r} must be in {error.problem!r}"
            rest = rest[rest.index(piece) :]


def test_the_whole_message(tmp_path: Path) -> None:
    error = refusal("x = n + m", tmp_path)
    line = PREAMBLE.count("\n") + 1
    assert str(error) == (
        f"{error.file}:{line}:13: error: the operands of + must have one type, "
        "not u32 + u64 in `n + m`; write `u32(…)` around one instead\n"
        "        x = n + m\n"
        "            ^"
    )


SIGNATURES = [
    ("def f(self, n) -> None: pass", "every parameter and the result must have a type, not n"),
    ("def f(self): pass", "every parameter and the result must have a type, not the result"),
    ("def f(self, *n: u32) -> None: pass", "parameters must be named one by one, not `n`"),
    ("def f(self, **n: u32) -> None: pass", "parameters must be named one by one, not `n`"),
    ("def f(self, n: int) -> None: pass", "a type must be one that kernel code has, not `n: int`"),
    ("def f(self, n: None) -> None: pass", "a type must be one that kernel code has"),
    ("def f(self) -> str: pass", "a type must be one that kernel code has"),
    ("def f(n: u32) -> None: pass", "a method must take self, not `f` without it"),
    ("def f(self) -> u32: pass", "every path of Kernel.f must end in a return"),
    ("def f(self, n: u32 = 5) -> None: pass", None),
]


@pytest.mark.parametrize(("method", "problem"), SIGNATURES, ids=[s[0] for s in SIGNATURES])
def test_signature(method: str, problem: str | None, tmp_path: Path) -> None:
    preamble = "from kernmem.language import *\nclass Kernel(Component):\n    @api\n"
    if problem is None:
        method += "\n    @api\n    def g(self) -> None:\n        self.f()"
        problem = "n of Kernel.f must be u32, not `self.f()`, a build-time int"
    error = refusal("", tmp_path, preamble + f"    {method}\n")
    assert problem in error.problem


def test_two_apis_of_one_name(tmp_path: Path) -> None:
    method = "    @api\n    def go(self) -> None: pass\n"
    preamble = (
        f"from kernmem.language import *\nclass One(Component):\n{method}"
        f"class Kernel(Component):\n    def __init__(self, image: Image) -> None:\n"
        f"        super().__init__(image)\n        self.one = One(image)\n{method}"
    )
    error = refusal("", tmp_path, preamble)
    assert "a C name must mean one function, not `Kernel.go` and `One.go`" in error.problem


def test_names_are_objects_not_texts(tmp_path: Path) -> None:
    """A renamed import works; a stranger of the same name does not."""
    renamed = "from kernmem.language import Component as C, api as a, panic as stop, u32 as word\n"
    method = "class Kernel(C):\n    @a\n    def f(self, n: word) -> word:\n"
    path = tmp_path / "renamed.py"
    path.write_text(
        renamed + method + "        if n == 3: stop('three')\n        return word(5) + n\n"
    )
    module = types.ModuleType("renamed")
    sys.modules["renamed"] = module
    exec(compile(path.read_text(), str(path), "exec"), module.__dict__)
    assert compile_component(module.Kernel(Image(Target("host", 8)))).apis
    stranger = "from kernmem.language import *\ndef panic(text): pass\nclass Kernel(Component):\n"
    error = refusal("panic('x')", tmp_path, stranger + "    @api\n    def f(self) -> None:\n")
    assert "what kernel code calls must be marked @kernel" in error.problem
