"""Random kernel programs: functions of integers of all widths, branches, loops, structs, calls.

``generate(seeds)`` writes one module with a function for each ``(seed, size)``.  What it writes is
always accepted by the compiler, ends, and stays inside its memory; it may well overflow, which is
what the comparison is about.
"""

from __future__ import annotations

from random import Random

WIDTHS = {"u8": 8, "u16": 16, "u32": 32, "u64": 64, "usize": 64}
KINDS = (*WIDTHS, "bool")
FIELDS = {
    "u8": ("a8", "b8"),
    "u16": ("a16", "b16"),
    "u32": ("a32", "b32"),
    "u64": ("a64", "b64"),
    "usize": ("size",),
    "bool": ("flag",),
}
ARRAYS = {"u8": "bytes", "u16": "halves", "u32": "words", "u64": "wides"}

PREAMBLE = """
from __future__ import annotations
from kernmem.language import *

@struct("loose_t")
class Loose(Struct):
    a8: u8
    a16: u16
    b8: u8
    a64: u64
    flag: bool
    a32: u32
    size: usize
    b16: u16
    b32: u32
    b64: u64
    next: Loose | None
    bytes: Array[u8] = array(u8, 5)
    halves: Array[u16] = array(u16, 5)
    words: Array[u32] = array(u32, 5)
    wides: Array[u64] = array(u64, 5)

@struct("tight_t", packed=True)
class Tight(Struct):
    a8: u8
    a16: u16
    b8: u8
    a64: u64
    flag: bool
    a32: u32
    size: usize
    b16: u16
    b32: u32
    b64: u64
    next: Loose | None
    bytes: Array[u8] = array(u8, 5)
    halves: Array[u16] = array(u16, 5)
    words: Array[u32] = array(u32, 5)
    wides: Array[u64] = array(u64, 5)

class Generated(Component):
    def __init__(self, image: Image) -> None:
        super().__init__(image)
        self.three = 3
        self.flags = (True, False)
        self.loose = self.at(Loose, VirtualAddress(0x20_0000_0100))
        self.tight = self.at(Tight, VirtualAddress(0x20_0000_0201))
"""


class Writer:
    """Writes one function, and a helper that it calls."""

    def __init__(self, name: str, seed: int, size: int) -> None:
        self.name = name
        self.random = Random(seed)
        self.size = size
        self.lines: list[str] = []
        self.variables: list[tuple[str, str]] = []
        self.fixed: set[str] = set()
        self.count = 0
        self.loops = 0
        self.helper: tuple[str, list[str], str] | None = None

    def write(self) -> tuple[str, list[str]]:
        """The text, and the types of the parameters."""
        result = self.random.choice(KINDS)
        helper = self.random.random() < 0.6
        if helper:
            self._function("@kernel", f"help_{self.name}", self.random.choice(KINDS), 2, pure=True)
        parameters = self._function("@api", self.name, result, self.size, pure=False)
        return "\n".join(self.lines), parameters

    def _function(self, mark: str, name: str, result: str, size: int, *, pure: bool) -> list[str]:
        kinds = [self.random.choice(KINDS) for _ in range(self.random.randint(1, 3))]
        self.variables = [(f"p{index}", kind) for index, kind in enumerate(kinds)]
        self.pure = pure
        self.size = size
        text = ", ".join(f"{name}: {kind}" for name, kind in self.variables)
        self.lines += [f"    {mark}", f"    def {name}(self, {text}) -> {result}:"]
        self.result = result
        self.block(2)
        self.line(2, f"return {self.value(result, 3)}")
        if pure:
            self.helper = (name, kinds, result)
        return kinds

    def line(self, depth: int, text: str) -> None:
        self.lines.append("    " * depth + text)

    # Statements ---------------------------------------------------------------------------

    def block(self, depth: int) -> None:
        """Some statements; what they declare ends with them."""
        known = len(self.variables)
        for _ in range(self.random.randint(1, 3)):
            self.statement(depth)
        del self.variables[known:]

    def statement(self, depth: int) -> None:
        self.size -= 1
        choices = [self.declare, self.declare, self.assign, self.augment, self.augment]
        if not self.pure:
            choices += [self.store, self.store, self.store_augmented, self.say]
        if depth < 5 and self.size > 0:
            choices += [self.branch, self.branch, self.count_down, self.span, self.unroll]
        self.random.choice(choices)(depth)

    def declare(self, depth: int) -> None:
        kind = self.random.choice(KINDS)
        self.count += 1
        self.line(depth, f"v{self.count} = {self.value(kind, 3, typed=True)}")
        self.variables.append((f"v{self.count}", kind))

    def assign(self, depth: int) -> None:
        name, kind = self.random.choice(self.variables)
        if name in self.fixed:
            self.declare(depth)
            return
        value = self.value(kind, 3)
        self.line(depth, f"{name} = {value}" if value != name else "pass")

    def augment(self, depth: int) -> None:
        name, kind = self.random.choice(self.variables)
        if name in self.fixed or kind == "bool":
            self.declare(depth)
            return
        self.line(depth, f"{name} {self.augmented(kind)}")

    def augmented(self, kind: str) -> str:
        sign = self.random.choice(["+", "+", "-", "*", "//", "%", "&", "|", "^", "<<", ">>"])
        if sign in ("//", "%", "<<", ">>"):
            return f"{sign}= {self.random.randint(1, 7)}"
        small = str(self.random.randint(0, 9))
        return f"{sign}= {self.random.choice([small, self.value(kind, 1)])}"

    def place(self, kind: str) -> str:
        """A field or element of a kind."""
        base = self.random.choice(["self.loose", "self.tight"])
        if kind in ARRAYS and self.random.random() < 0.3:
            index = self.random.choice(["u8", "u32", "usize"])
            at = self.random.choice([str(self.random.randint(0, 4)), f"{self.atom(index)} % 5"])
            if self.random.random() < 0.1:
                at = self.atom(index)
                at = at if not at.startswith(("u", "(")) else "4"
            return f"{base}.{ARRAYS[kind]}[{at}]"
        return f"{base}.{self.random.choice(FIELDS[kind])}"

    def store(self, depth: int) -> None:
        kind = self.random.choice(KINDS)
        place, value = self.place(kind), self.value(kind, 3)
        if place != value:
            self.line(depth, f"{place} = {value}")
        else:
            self.line(depth, "pass")

    def store_augmented(self, depth: int) -> None:
        kind = self.random.choice([*WIDTHS])
        self.line(depth, f"{self.place(kind)} {self.augmented(kind)}")

    def say(self, depth: int) -> None:
        kind = self.random.choice([*WIDTHS])
        self.line(depth, f'self.print(f"{{{self.atom(kind)}}} and {{{self.atom("u32")}:#x}}")')

    def branch(self, depth: int) -> None:
        self.line(depth, f"if {self.condition(2)}:")
        self.block(depth + 1)
        if self.random.random() < 0.2:
            self.line(depth + 1, f"return {self.value(self.result, 2)}")
        if self.random.random() < 0.3:
            self.line(depth, f"elif {self.condition(2)}:")
            self.block(depth + 1)
        if self.random.random() < 0.5:
            self.line(depth, "else:")
            self.block(depth + 1)

    def count_down(self, depth: int) -> None:
        self.count += 1
        name = f"n{self.count}"
        self.line(depth, f"{name} = u32({self.random.randint(1, 6)})")
        more = f" and {self.condition(1)}" if self.random.random() < 0.5 else ""
        self.line(depth, f"while {name} > 0{more}:")
        self.line(depth + 1, f"{name} -= 1")
        self.variables.append((name, "u32"))
        self.fixed.add(name)
        self.body(depth)

    def body(self, depth: int) -> None:
        if self.random.random() < 0.3:
            self.line(depth + 1, f"if {self.condition(1)}:")
            self.line(depth + 2, self.random.choice(["break", "continue"]))
        self.block(depth + 1)

    def span(self, depth: int) -> None:
        kind = self.random.choice([*WIDTHS])
        self.count += 1
        name = f"i{self.count}"
        start = self.random.choice([f"{kind}(0)", f"{self.atom(kind)} % 4"])
        stop = self.random.choice([f"{kind}(5)", f"{self.atom(kind)} % 9"])
        self.line(depth, f"for {name} in span({start}, {stop}):")
        self.variables.append((name, kind))
        self.fixed.add(name)
        self.body(depth)
        self.variables.remove((name, kind))

    def unroll(self, depth: int) -> None:
        self.count += 1
        self.line(depth, f"for k{self.count} in range({self.random.randint(1, 3)}):")
        name, kind = self.random.choice(self.variables)
        known = len(self.variables)
        if kind in WIDTHS and name not in self.fixed:
            self.line(depth + 1, f"{name} ^= k{self.count} + self.three")
        self.statement(depth + 1)
        del self.variables[known:]
        self.line(depth + 1, "pass")

    # Expressions --------------------------------------------------------------------------

    def atom(self, kind: str) -> str:
        """A variable, or a number."""
        names = [name for name, other in self.variables if other == kind]
        if names and self.random.random() < 0.8:
            return self.random.choice(names)
        if kind == "bool":
            return self.random.choice(["True", "False"])
        bits = WIDTHS[kind]
        value = self.random.choice(
            [0, 1, 2, 7, 100, (1 << bits) - 1, self.random.getrandbits(bits)]
        )
        return f"{kind}({value:#x})" if value > 9 else f"{kind}({value})"

    def value(self, kind: str, depth: int, *, typed: bool = False) -> str:
        """An expression of a kind."""
        if kind == "bool":
            return self.condition(depth)
        if depth == 0 or self.random.random() < 0.2:
            return self.atom(kind)
        choice = self.random.random()
        if choice < 0.45:
            return self.binary(kind, depth)
        if choice < 0.55:
            other = self.random.choice([*WIDTHS])
            inner = self.value(other, depth - 1)
            cast = self.random.random() < 0.3 or WIDTHS[other] < WIDTHS[kind]
            return f"{kind}({inner})" if cast else f"truncate({kind}, {inner})"
        if choice < 0.62:
            sides = self.value(kind, depth - 1), self.value(kind, depth - 1)
            wrap = self.random.choice(["wrap_add", "wrap_subtract", "wrap_multiply"])
            return f"{wrap}({sides[0]}, {sides[1]})"
        if choice < 0.68:
            one, other = self.value(kind, depth - 1), self.value(kind, depth - 1)
            return f"({one} if {self.condition(depth - 1)} else {other})"
        if choice < 0.73:
            return f"(~{self.atom(kind)})"
        if choice < 0.76 and kind == "u32":
            bit = self.random.choice(["highest_bit", "lowest_bit"])
            return f"{bit}({self.value(self.random.choice([*WIDTHS]), depth - 1)})"
        if choice < 0.86 and self.helper is not None and self.helper[2] == kind and not self.pure:
            name, kinds, _ = self.helper
            return f"self.{name}({', '.join(self.value(one, depth - 1) for one in kinds)})"
        return self.atom(kind) if self.pure else self.place(kind)

    def binary(self, kind: str, depth: int) -> str:
        sign = self.random.choice(["+", "+", "-", "*", "//", "%", "&", "&", "|", "^", "<<", ">>"])
        left = self.value(kind, depth - 1)
        if sign in ("<<", ">>"):
            count = self.random.choice([str(self.random.randint(0, 7)), self.variable_count()])
            return f"({left} {sign} {count})"
        if sign in ("//", "%"):
            divisor = str(self.random.randint(1, 9))
            names = [name for name, other in self.variables if other == kind]
            divisor = self.random.choice([divisor, divisor, *names])
            return f"({left} {sign} {divisor})"
        right = self.random.choice([str(self.random.randint(0, 9)), self.value(kind, depth - 1)])
        if self.random.random() < 0.1:
            return f"({self.random.randint(0, 9)} {sign} {left})"
        return f"({left} {sign} {right})"

    def variable_count(self) -> str:
        names = [name for name, other in self.variables if other in WIDTHS]
        return f"({self.random.choice(names)} % 9)" if names else "3"

    def condition(self, depth: int) -> str:
        choice = self.random.random()
        if depth == 0 or choice < 0.1:
            return self.atom("bool")
        if choice < 0.6:
            kind = self.random.choice([*WIDTHS])
            sign = self.random.choice(["==", "!=", "<", "<=", ">", ">="])
            left, right = self.value(kind, depth - 1), self.value(kind, depth - 1)
            if left == right:
                right = f"({right} ^ 1)"
            number = self.random.random() < 0.3
            return f"{left} {sign} {self.random.randint(0, 99) if number else right}"
        if choice < 0.75:
            joined = self.random.choice(["and", "or"])
            return f"({self.condition(depth - 1)} {joined} {self.condition(depth - 1)})"
        if choice < 0.85:
            return f"(not {self.condition(depth - 1)})"
        if choice < 0.9:
            return f"self.flags[{self.random.randint(0, 1)}]"
        return self.atom("bool") if self.pure else self.place("bool")


def generate(seeds: list[tuple[int, int]]) -> tuple[str, dict[str, list[str]]]:
    """A module with a function for each ``(seed, size)``, and the parameters of each."""
    text, functions = PREAMBLE, {}
    for index, (seed, size) in enumerate(seeds):
        name = f"f{index}"
        body, functions[name] = Writer(name, seed, size).write()
        text += body + "\n"
    return text, functions
