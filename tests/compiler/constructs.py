"""A kernel with one API for each construct of the language."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import NoReturn

from kernmem.language import (
    Array,
    Component,
    Image,
    PhysicalAddress,
    Struct,
    VirtualAddress,
    address_of,
    api,
    array,
    enumeration,
    from_linear,
    highest_bit,
    intrinsic,
    kernel,
    linear,
    lowest_bit,
    outlined,
    panic,
    rare,
    span,
    struct,
    truncate,
    u8,
    u16,
    u32,
    u64,
    usize,
    wrap_add,
    wrap_multiply,
    wrap_subtract,
)

MAGIC = 0xA5
RECORDS = 0x20_0000_1000


@enumeration("mood_t")
class Mood(IntEnum):
    """How it goes."""

    WELL = 0
    BADLY = 1
    UNKNOWN = 7


@enumeration("access_t")
class Access(IntFlag):
    """What may be done."""

    READ = 1
    WRITE = 2
    EXECUTE = 4


@struct("record_t", packed=True)
class Record(Struct):
    """One of each kind of field, without padding."""

    small: u8  # the smallest
    half: u16
    word: u32
    wide: u64
    length: usize
    place: VirtualAddress | None
    frame: PhysicalAddress
    flag: bool
    mood: Mood
    access: Access
    next: Record | None
    bytes: Array[u8] = array(u8, 5)
    words: Array[u32] = array(u32, 3)


@struct("plain_t", alignment=16)
class Plain(Struct):
    """The same with C's padding."""

    small: u8
    half: u16
    word: u32
    flag: bool
    wide: u64
    words: Array[u16] = array(u16, 3)


@struct("void", opaque=True)
class Anything(Struct):
    """Memory of unknown content."""


@kernel
def twice(value: u32) -> u32:
    """A function of a module."""
    return value * 2


class Counter(Component):
    """One of several."""

    def __init__(self, image: Image, step: int) -> None:
        super().__init__(image)
        self.step = step

    @kernel
    def advance(self, value: u32) -> u32:
        """A step that is known at build time."""
        return value + self.step + self.bias()

    @kernel
    def bias(self) -> u32:
        """What subclasses change."""
        return u32(0)


class Biased(Counter):
    """Calls its base."""

    @kernel
    def bias(self) -> u32:
        """More than the base's."""
        return super().bias() + 5


class Constructs(Component):
    """Every construct, each in an API of its own."""

    c_module = "constructs"

    def __init__(self, image: Image) -> None:
        super().__init__(image)
        self.page_length = 0x1000
        self.verbose = False
        self.nothing: Counter | None = None
        self.up = Counter(image, 1)
        self.leap = Counter(image, 10)
        self.biased = Biased(image, 100)
        self.counters = (self.up, self.leap, self.biased)
        self.shifts = (0, 4, 8)
        self.home = VirtualAddress(RECORDS)
        self.record = self.at(Record, VirtualAddress(RECORDS))
        self.total = self.static(Plain, "constructs_total")
        self.table = self.static_array(u32, 8, "constructs_table", alignment=64)

    # Integers -----------------------------------------------------------------------------

    @api
    def arithmetic(self, a: u32, b: u32) -> u32:
        """All operators."""
        return (a + b) * 3 - (a // (b + 1)) % 7 + ((a & b) | (a ^ 0xF0)) % 16 + (a >> 3)

    @api
    def narrow(self, a: u8, b: u8) -> u8:
        """C computes these as int."""
        return (a * 2 - b) // 3 + (~a & 0x0F) + (b << 1) % 5

    @api
    def narrow16(self, a: u16, b: u16) -> bool:
        """Compared without a cast."""
        return a * b - 1 < b + 2 and ~a > b

    @api
    def literal_left(self, a: u64) -> u64:
        """Numbers on the left."""
        return 100 - a + 2 * a + (u64(1) << 40)

    @api
    def constants(self) -> u64:
        """Typed numbers among themselves."""
        return u64(0xFFFF_FFFF) * u64(3) + u64(self.page_length - 1) * 2

    @api
    def shifts_of(self, a: u16, count: u8) -> u16:
        """Shifts that may be too wide."""
        return (a << count) + (a >> count)

    @api
    def order(self, a: u32, b: u32) -> u32:
        """Two operands that may overflow: the left one first."""
        return (a - b) + (b - 7) * (a + 0xFFFF_FF00)

    @api
    def order_of_bits(self, a: u32, b: u32) -> u32:
        """The same where the operator itself never overflows."""
        return ((a - b) & (b - 7)) + wrap_add(a - b, b - 7) + ((b - 7) ^ (a - b))

    @api
    def order_of_values(self, a: u32, b: u32) -> None:
        """The same in a message."""
        self.print(f"{a - b} {b - 7}")

    @api
    def convert(self, a: u64) -> u8:
        """Narrowing is checked."""
        return u8(u16(a))

    @api
    def truncated(self, a: u64) -> u64:
        """Narrowing is meant."""
        return u64(truncate(u8, a)) + u64(truncate(u16, a >> 8)) + u64(u32(a & 0xFFFF_FFFF))

    @api
    def wrapped(self, a: u16, b: u16, c: u64) -> u64:
        """Wrapping is meant."""
        narrow = wrap_subtract(wrap_multiply(wrap_add(a, b), b), a)
        return wrap_multiply(c, c) // 2 + u64(narrow)

    @api
    def highest(self, a: u64) -> u32:
        """The highest set bit."""
        return highest_bit(a) + highest_bit(u8(3))

    @api
    def lowest(self, a: u64) -> u32:
        """The lowest set bit."""
        return lowest_bit(a) + lowest_bit(u8(4))

    @api
    def addresses(self, at: VirtualAddress, frame: PhysicalAddress, n: usize) -> usize:
        """Addresses and lengths."""
        end = at + n + self.page_length
        down = end - n
        part = (end - down) + at % self.page_length + at // 16 + (at >> 4) + (at & 0xFF)
        same = linear(frame) == at and from_linear(at) >= frame
        return part + (usize(1) if same else usize(frame))

    @api
    def bools(self, a: bool, b: bool) -> u8:
        """Bools as numbers and conditions."""
        c = not a or b
        return u8(c) + u8(a != b) * 2 + (u8(4) if a == b else u8(8))

    @api
    def limits(self, a: u8) -> bool:
        """Comparisons that C compilers would warn of."""
        return a >= 0 and a + 1 >= 0 and not a > 255 and not a + 200 < 0

    @api
    def known(self, a: u32) -> u32:
        """Branches decided at build time."""
        if self.verbose:
            a = a + 1
        elif self.nothing is None and self.page_length > 0x800:
            a = a + 2
        else:
            a = a + 4
        if self.verbose or (a > 3 and not self.verbose):
            a = a + 8
        return a + u32(self.shifts[1]) + (MAGIC if self.verbose else a)

    # Statements ---------------------------------------------------------------------------

    @api
    def branches(self, a: u32) -> u32:
        """Locals in branches."""
        if a < 10:
            x = a + 1
            y = x * 2
        elif a < 20:
            x = a
            y = u32(7)
        else:
            return u32(99)
        if y > 12:
            z = x
            y = z + y
        return x * 1000 + y

    @api
    def loops(self, n: u32) -> u32:
        """while, break and continue."""
        total = u32(0)
        i = u32(0)
        while True:
            i += 1
            if i > n:
                break
            if i % 3 == 0:
                continue
            square = i * i
            total += square
        while total > 1000 and n != 3:
            total //= 2
        return total

    @api
    def spans(self, n: u8) -> u32:
        """Loops over spans; the stop is computed once."""
        total = u32(0)
        limit = n
        for i in span(u8(0), limit):
            limit = u8(0)
            total += u32(i)
        for i in span(n, n * 2):
            if i == 9:
                continue
            if i == 30:
                break
            for j in span(u8(0), i):
                total += u32(j)
        return total + u32(limit)

    @api
    def unrolled(self, a: u32) -> u32:
        """Loops over what is known."""
        for counter in self.counters:
            a = counter.advance(a)
        for shift in self.shifts:
            part = (a >> shift) & 3
            a = a ^ part
        for i in range(1, 6, 2):
            a += i
        return a

    @api
    def chain(self, a: u32, b: u32, c: u32) -> bool:
        """A chained comparison."""
        return 3 < a <= b < c and (a == 5 or b != 6)

    # Memory -------------------------------------------------------------------------------

    @api
    def fill(self, seed: u32) -> None:
        """Store to every kind of field."""
        record = self.record
        record.small = truncate(u8, seed)
        record.half = truncate(u16, seed) ^ 0x5A5A
        record.word = seed
        record.wide = u64(seed) << 13
        record.length = usize(seed)
        record.place = None if seed % 2 == 0 else VirtualAddress(seed)
        record.frame = PhysicalAddress(seed + 1)
        record.flag = seed > 7
        record.mood = Mood.BADLY if seed % 3 == 0 else Mood.UNKNOWN
        record.access = Access.READ | Access.EXECUTE
        record.next = record
        record.bytes[seed % 5] = u8(7)
        record.words[2] = seed
        record.words[0] += 3
        record.word += 1
        record.small //= 3

    @api
    def read(self, record: Record) -> u64:
        """Load every kind of field."""
        total = u64(record.small) + u64(record.half) + u64(record.word) + record.wide % 1000
        total += u64(record.length) + u64(record.frame) + u64(record.bytes[3])
        place = record.place
        if place is not None:
            total += u64(place)
        if record.flag and record.mood is Mood.WELL:
            total += 1
        if Access.WRITE in record.access and record.mood != Mood.BADLY:
            total += 2
        after = record.next
        if after is not None and after == record:
            total += 4
        return total + u64(record.words[record.small])

    @api
    def flags(self, a: Access, b: Access) -> Access:
        """Flags and their tests."""
        if (Access.READ | Access.WRITE) in a or b not in a:
            return a | b
        return (a & b) | Access.EXECUTE

    @api
    def mood(self, a: u32, mood: Mood) -> Mood:
        """An enumeration as argument and result."""
        if u32(mood) == a:
            return Mood.UNKNOWN
        return Mood.WELL if mood == Mood.BADLY else mood

    @api
    def list(self, count: usize) -> VirtualAddress | None:
        """A linked list in memory; None if it is empty."""
        first: Record | None = None
        for i in span(usize(0), count):
            record = self.at(Record, self.home + i * self.sizeof(Record))
            record.next = first
            first = record
        if first is None:
            return None
        return address_of(first)

    @api
    def last(self, first: Record | None) -> Record | None:
        """References as arguments and results."""
        record = first
        while record is not None and record.next is not None:
            record = record.next
        return record

    @api
    def bytes_at(self, address: VirtualAddress, n: usize) -> u64:
        """Arrays over memory, of any width over the same bytes."""
        wide = self.array_at(u64, address)
        for i in span(usize(0), n):
            wide[i] = u64(i) * 0x0101_0101
        half = self.array_at(u16, address + 2)
        half[0] = u16(0xBEEF)
        record = self.at(Record, address)
        record.word = u32(1)
        void = self.at(Anything, address)
        return wide[0] + u64(usize(address_of(void)) % 4096)

    @api
    def clear(self, address: VirtualAddress, n: usize) -> None:
        """Zero memory."""
        self.zero(address, n * 8)

    @api
    def statics(self, a: u32) -> u64:
        """Variables of the image, which keep their values only within a call here."""
        self.total.wide = u64(a)
        self.total.words[a % 3] = u16(5)
        self.table[a % 8] = a
        self.table[3] = self.table[a % 8] + 1
        total = self.total
        table = self.table
        return total.wide + u64(table[3]) + u64(total.words[a % 3]) + u64(self.sizeof(Plain))

    @api
    def past(self, i: u32) -> u32:
        """An index that may be past the end."""
        return self.table[i] * 0 + u32(self.record.bytes[i])

    @api
    def locals(self, a: u32) -> u32:
        """A struct on the stack."""
        with self.local(Plain) as plain:
            plain.word = a
            plain.words[1] = truncate(u16, a)
            self.raise_word(plain, by=u32(3))
            result = plain.word + u32(plain.words[1])
        with self.local(Plain) as plain:
            plain.word = result
            self.raise_word(plain)
            return plain.word

    @kernel
    def raise_word(self, plain: Plain, by: u32 = u32(9)) -> None:  # noqa: B008
        """A reference as argument, and a default."""
        plain.word += by

    # Calls and messages -------------------------------------------------------------------

    @api
    def observed(self, a: u32) -> u32:
        """Calls of a method of which nothing is left: only what computes its argument stays."""
        self.observe(a)
        self.observe(self.counted(a))
        return self.total.word

    @kernel
    def observe(self, value: u32) -> None:
        """Nothing, unless the kernel is a verbose one."""
        if self.verbose:
            self.print(f"{value}")

    @kernel
    def counted(self, value: u32) -> u32:
        """A value with an effect."""
        self.total.word = value
        return value

    @api
    def calls(self, a: u32) -> u32:
        """Functions of modules and of other components."""
        b = twice(a)
        self.note(b)
        return self.up.advance(b) + twice(self.leap.advance(a))

    @api
    def seldom(self, a: u32) -> u32:
        """A function that C does not put in here."""
        return self._put_off(a) + twice(a) + self._shared(a)

    @outlined
    def _shared(self, a: u32) -> u32:
        """One copy for all."""
        return a + 2

    @rare
    def _put_off(self, a: u32) -> u32:
        """What any compiler would inline."""
        return a + 1

    @kernel
    def note(self, value: u32) -> None:
        """Print."""
        self.print(f"note {value} {value:#x} {value:x} {value:8} {value:08x} {value:#010x} 100%")

    @api
    def messages(self, address: VirtualAddress, record: Record, mood: Mood) -> None:
        """What messages may hold."""
        self.print('plain "text" with \\ and 5% and ??/')
        self.print(f"{address} {address:x} {address_of(record)} {record} {mood} {self.page_length}")
        self.print(f"sum {usize(address) + 1} {{braces}} {MAGIC:#x}")

    @api
    def panics(self, a: u32, address: VirtualAddress) -> u32:
        """Panics and asserts."""
        assert a != 3, f"a must not be {a}"
        if a == 4:
            panic(f"four at {address}")
        if a == 5:
            self.fail(address)
        return a

    @kernel
    def fail(self, address: VirtualAddress) -> NoReturn:
        """Never comes back."""
        panic(f"failed at {address}")

    @intrinsic(c="return a ^ (b << 1);")
    def mixed(self, a: u32, b: u32) -> u32:
        """Has a body of its own in C."""
        return a ^ (b << 1)

    @api
    def intrinsics(self, a: u32, b: u32) -> u32:
        """Calls it."""
        return self.mixed(a, b & 0xFFFF)

    @api
    def keywords(self, register: u32, int_: u32, past: u32) -> u32:
        """Names that mean something in C, or are functions."""
        default = register + int_
        double = default * 2
        return double + past
