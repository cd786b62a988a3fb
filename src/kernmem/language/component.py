"""Components: the parts of a kernel, wired together by ordinary Python at build time.

``__init__`` runs once, when the kernel is put together, and may do anything Python can.  What it
leaves in ``self`` is a build-time constant to the methods marked ``@kernel``: an ``int`` is a
number in the C, a bool prunes a branch, another component is a direct call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar, cast

from kernmem.language.errors import KernmemError
from kernmem.language.integers import Integer, VirtualAddress, usize
from kernmem.language.structs import Array, Bindings, Memory, Struct, layout, size_of
from kernmem.language.target import Target

S = TypeVar("S", bound=Struct)
T = TypeVar("T", bound=Integer)
F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Mark a method or function as kernel code: it runs interpreted and compiled."""
    function.__kernel__ = True  # type: ignore[attr-defined]
    return function


def api(function: F) -> F:
    """Mark kernel code that the C headers declare, under the function's own name."""
    function.__api__ = True  # type: ignore[attr-defined]
    return kernel(function)


def rare(function: F) -> F:
    """Mark kernel code that is seldom called: C keeps it out of line.

    Its callers then are short on their common path, and save only the registers that this needs.
    """
    function.__out_of_line__ = True  # type: ignore[attr-defined]
    return kernel(function)


def outlined(function: F) -> F:
    """Mark kernel code that several callers share: C keeps one copy of it, out of line.

    All of them are shorter than with copies of their own, for the price of a call.
    """
    function.__out_of_line__ = True  # type: ignore[attr-defined]
    return kernel(function)


def intrinsic(**text: str) -> Callable[[F], F]:
    """Mark a method whose Python body is what the model does, and whose C body is ``text``.

    The keyword is the instruction set (:attr:`Target.isa`), or ``c`` for any: the body of a C
    function with the same parameters, e.g. ``aarch64='__asm__ volatile("dsb ishst");'``.
    """

    def mark(function: F) -> F:
        function.__intrinsic__ = text  # type: ignore[attr-defined]
        return kernel(function)

    return mark


@dataclass(frozen=True)
class Static:
    """A variable that the image reserves in the machine's memory."""

    name: str
    kind: type[Struct] | type[Integer]
    address: int
    length: int | None
    alignment: int


class NoMachine:
    """The memory of an image that is only compiled: every access is an error."""

    def loader(self, size: int) -> Callable[[int], int]:
        """A function that refuses."""
        return self._refuse

    def storer(self, size: int) -> Callable[[int, int], None]:
        """A function that refuses."""
        return self._refuse

    def zero(self, address: int, length: int) -> None:
        """Refuse."""
        self._refuse()

    def _refuse(self, *_: int) -> Any:
        raise KernmemError("this image was built to be compiled: it has no machine to run on")


class Image:
    """A kernel being put together: its target, its statics, and the machine it may run on.

    Attributes:
        statics: what has been reserved, by address.
        console: takes the text of ``Component.print``; the machine sets it.
    """

    def __init__(
        self, target: Target, memory: Memory | None = None, statics_base: int = 0x1000
    ) -> None:
        self.target = target
        self.memory: Memory = memory or NoMachine()
        self.bound = Bindings(target, self.memory)
        self.statics: dict[int, Static] = {}
        self.statics_end = statics_base
        self.stack_pointer = 0
        self.console: Callable[[str], None] = lambda text: None

    def reserve(
        self, name: str, kind: type[Struct] | type[Integer], length: int | None, alignment: int
    ) -> Static:
        """Reserve a static under its C name."""
        if any(known.name == name for known in self.statics.values()):
            raise ValueError(f"static {name!r} is reserved already: give this one another name")
        if issubclass(kind, Struct):
            size = layout(kind, self.target).size
        else:
            size = size_of(kind, self.target) * (length or 1)
        address = self.statics_end + -self.statics_end % alignment
        static = Static(name, kind, address, length, alignment)
        self.statics[address] = static
        self.statics_end = address + max(size, 1)
        return static

    def lay_out_naturally(self, struct: type[Struct]) -> None:
        """Give the fields of a packed struct their alignment; call it before its first use."""
        self.target = replace(self.target, natural=self.target.natural | {struct})
        self.bound.target = self.target

    @contextmanager
    def local(self, struct: type[S]) -> Iterator[S]:
        """A struct on the kernel's stack, for the length of a ``with``."""
        before = self.stack_pointer
        size = layout(struct, self.target).size
        self.stack_pointer = (before - size) & -16
        yield cast(S, cast(Any, self.bound[struct])(self.stack_pointer))
        self.stack_pointer = before


class Component:
    """A part of a kernel.  Subclasses call ``super().__init__(image)`` first."""

    c_module: ClassVar[str | None] = None
    """The C file that holds the component's code (``"physical"``); None: that of its owner."""

    def __init__(self, image: Image) -> None:
        self.image = image
        self._bound = image.bound

    @property
    def target(self) -> Target:
        """What the component's code is compiled for."""
        return self.image.target

    # At build time ------------------------------------------------------------------------

    def static(self, struct: type[S], name: str) -> S:
        """Reserve a struct in the image, zeroed at boot, under its C name."""
        alignment = max(16, layout(struct, self.target).alignment)
        return self.at(
            struct, VirtualAddress(self.image.reserve(name, struct, None, alignment).address)
        )

    def static_array(
        self, element: type[T], length: int, name: str, alignment: int = 16
    ) -> Array[T]:
        """Reserve an array in the image, zeroed at boot, under its C name."""
        static = self.image.reserve(name, element, length, alignment)
        return Array(
            element, static.address, length, self.image.memory, size_of(element, self.target)
        )

    def sizeof(self, struct: type[Struct]) -> int:
        """The size of a struct in bytes, on this target."""
        return layout(struct, self.target).size

    # In kernel code -----------------------------------------------------------------------

    def at(self, struct: type[S], address: VirtualAddress) -> S:
        """The reference to a struct at ``address``: a cast, nothing is checked."""
        bound: Any = self._bound[struct]
        reference: S = bound(address)
        return reference

    def array_at(self, element: type[T], address: VirtualAddress) -> Array[T]:
        """Memory at ``address`` seen as an array; the caller knows where it ends."""
        return Array(element, int(address), None, self.image.memory, size_of(element, self.target))

    def local(self, struct: type[S]) -> Any:
        """``with self.local(Struct) as name:`` a struct on the stack, uninitialised."""
        return self.image.local(struct)

    def zero(self, address: VirtualAddress, length: usize) -> None:
        """Store ``length`` zero bytes at ``address``; both multiples of 8."""
        self.image.memory.zero(int(address), int(length))

    def print(self, message: str) -> None:
        """Write a line to the console: a text or an f-string of integers."""
        self.image.console(message + "\n")
