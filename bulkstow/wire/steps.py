"""The protocol of the step-by-step readers: their requests for bytes, and their errors.

A reader is a generator: it yields a `Need`, is sent the bytes, and returns its result. Reading from a file, or
inflating, is left to the caller, and only the requested bytes are in memory.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

CUT_OFF = "cut off in its head"

_PIXEL_DATA = frozenset({0x7FE0_0008, 0x7FE0_0009, 0x7FE0_0010})


class Need(NamedTuple):
    """The bytes that a reader requests: it is sent fewer at the end of the data, None if they end before `offset`."""

    offset: int
    size_bytes: int


_Result = TypeVar("_Result")
Steps = Generator[Need, bytes | None, _Result]
"""A running reader: it yields a `Need`, is sent the bytes, and returns its result."""


class Window(Protocol):
    """Bytes at offsets."""

    def read(self, at: int, size_bytes: int) -> bytes | None:
        """Return this number of bytes or more, fewer only where they end; None if they end before `at`."""


class MemoryWindow:
    """Bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, at: int, size_bytes: int) -> bytes | None:
        """Return bytes (see `Window`)."""
        return self._data[at : at + size_bytes] if at <= len(self._data) else None


def run(steps: Steps[_Result], window: Window) -> _Result:
    """Send a reader the bytes of a window, and return its result. Raises what the window raises."""
    try:
        need = next(steps)
        while True:
            need = steps.send(window.read(need.offset, need.size_bytes))
    except StopIteration as stop:
        result: _Result = stop.value
        return result


@dataclass(frozen=True, slots=True)
class CutOff:
    """The element in which the data end."""

    tag: int | None = None
    """None if they end before its value."""
    length_bytes: int | None = None
    missing_bytes: int | None = None
    """None if the element has no defined length."""

    def __str__(self) -> str:
        if self.tag is None:
            return "cut off: its last element is incomplete"
        is_pixel_data = self.tag in _PIXEL_DATA
        where = "pixel data cut off" if is_pixel_data else f"cut off in ({self.tag >> 16:04X},{self.tag & 0xFFFF:04X})"
        if self.missing_bytes is None:
            return f"{where}: its end is missing"
        return f"{where}: {self.missing_bytes} of {self.length_bytes} bytes missing"


class Problem(Exception):
    """The elements cannot be read further; the text is a reason for the report."""


class TooLong(Problem):
    """The file exceeds the limits on elements or bytes."""

    def __init__(self, limit: str) -> None:
        super().__init__(f"its head is too long: more than {limit}")


class Ended(Problem):
    """The data end too early."""

    def __init__(self, truncation: CutOff) -> None:
        super().__init__(CUT_OFF)
        self.truncation = truncation


def makes_no_sense(at: int) -> Problem:
    """Return the exception for an impossible element at an offset."""
    return Problem(f"damaged: its head makes no sense at byte {at}")
