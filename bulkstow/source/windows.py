"""Open files, and read bytes at any offset: of a whole file, of a part of one, or inflated, in bounded memory.

Repeats a read that returns fewer bytes than requested, as on FUSE and network file systems. Everything here blocks.
"""

from __future__ import annotations

import errno
import os
import zlib
from typing import Protocol

from bulkstow.errors import DamagedHead
from bulkstow.platform.files import open_to_read, read_at
from bulkstow.wire.elements import MOST_READ_BYTES
from bulkstow.wire.steps import CUT_OFF

REPLACED = "it was replaced by a symbolic link after the scan"

_NEAR_BYTES = 2**16
"""Size of a read at or near the last one, as elements are requested one by one."""

_FAR_BYTES = 2**10
"""Size of a read elsewhere: after a long value follow the head of one element, and often another long value."""

_DEFLATED_BYTES = 2**14
_INFLATED_BYTES = 2**16
"""Sizes of the buffers for deflated and for inflated data; zlib itself has 32 KiB."""

_FEWEST_INFLATED_BYTES = 2**12
"""The smallest piece that is inflated: inflating 64 KiB for a head of 4 KiB would take ten times as long."""

_MOST_INFLATED_BYTES = 4 * MOST_READ_BYTES
"""The limit of inflated bytes for one head: 1 s. It includes restarts, which only an element of unknown VR causes."""


def open_file(location: str, *, by_link: bool) -> int:
    """Open a file for reading and return its descriptor; `by_link` if the scan followed a link to it.

    The scan decides which links are followed. A link that replaces a regular file after the scan would bypass that
    decision, so O_NOFOLLOW rejects it. That covers the file itself, not the directories above it. Opening takes 5 to
    9 µs with and without it.

    Raises OSError if the file cannot be opened.
    """
    try:
        return open_to_read(location, follow_link=by_link)
    except OSError as error:
        if error.errno == errno.ELOOP and not by_link:
            raise OSError(errno.ELOOP, REPLACED, location) from None
        raise


def read_up_to(descriptor: int, size_bytes: int, at: int) -> bytes:
    """Read so many bytes at an offset, fewer only at the end of the file. Raises OSError."""
    data = read_at(descriptor, size_bytes, at)
    if not data or len(data) == size_bytes:
        return data
    pieces = [data]
    left_bytes = size_bytes - len(data)
    while left_bytes and (piece := read_at(descriptor, left_bytes, at + size_bytes - left_bytes)):
        pieces.append(piece)
        left_bytes -= len(piece)
    return b"".join(pieces)


class ByteReader(Protocol):
    """Bytes that can be read at any offset: those of a file, of a part of one, or of an object."""

    @property
    def size_bytes(self) -> int:
        """The number of bytes."""

    def read(self, size_bytes: int, at: int) -> bytes:
        """Read so many bytes at an offset, fewer only at the end. Raises OSError, and DamagedHead if inflated."""


class OpenBytes(ByteReader, Protocol):
    """Those of an open file."""

    descriptor: int
    """The caller closes it."""


class FileBytes:
    """The bytes of a whole file."""

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @property
    def size_bytes(self) -> int:
        """The present size of the file."""
        return os.fstat(self.descriptor).st_size

    def read(self, size_bytes: int, at: int) -> bytes:
        """Read bytes (see `ByteReader`)."""
        data = read_at(self.descriptor, size_bytes, at)
        # Only a short read costs a further call.
        return data if len(data) == size_bytes else read_up_to(self.descriptor, size_bytes, at)


class PartBytes:
    """The bytes of a part of a file."""

    __slots__ = ("_offset", "descriptor", "size_bytes")

    def __init__(self, descriptor: int, offset: int, size_bytes: int) -> None:
        self.descriptor = descriptor
        self._offset = offset
        self.size_bytes = size_bytes

    def read(self, size_bytes: int, at: int) -> bytes:
        """Read bytes (see `ByteReader`)."""
        wanted_bytes = min(size_bytes, self.size_bytes - at)
        return read_up_to(self.descriptor, wanted_bytes, self._offset + at) if wanted_bytes > 0 else b""


class Section:
    """A part of other bytes."""

    def __init__(self, data: ByteReader, begin: int, size_bytes: int) -> None:
        self._data = data
        self._begin = begin
        self.size_bytes = size_bytes

    def read(self, size_bytes: int, at: int) -> bytes:
        """Read bytes (see `ByteReader`)."""
        wanted_bytes = min(size_bytes, self.size_bytes - at)
        return self._data.read(wanted_bytes, self._begin + at) if wanted_bytes > 0 else b""


class InflatedBytes:
    """The bytes of raw deflated data, inflated as they are requested; they are cheap to read in ascending order."""

    def __init__(self, deflated: OpenBytes, size_bytes: int) -> None:
        self.descriptor = deflated.descriptor
        self.size_bytes = size_bytes
        # From one end to the other it may be read twice.
        most_bytes = max(_MOST_INFLATED_BYTES, 2 * size_bytes)
        self._window = InflatedWindow(deflated, 0, subject="the archive's data", most_bytes=most_bytes)

    def read(self, size_bytes: int, at: int) -> bytes:
        """Read bytes (see `ByteReader`)."""
        return (self._window.read(at, size_bytes) or b"")[:size_bytes]


class FileWindow:
    """Bytes for the steps of a reader (see `steps.Window`); it reads ahead. Raises OSError."""

    def __init__(self, data: ByteReader, size_bytes: int) -> None:
        self._data = data
        self._size_bytes = size_bytes
        self._window_at = 0
        self._end_at = 0

    def read(self, at: int, size_bytes: int) -> bytes | None:
        """Return bytes."""
        if at > self._size_bytes:
            return None
        is_near = self._window_at <= at <= self._end_at
        data = self._data.read(max(size_bytes, _NEAR_BYTES if is_near else _FAR_BYTES), at)
        self._window_at, self._end_at = at, at + len(data)
        return data


class InflatedWindow:
    """The bytes of raw deflated data (PS3.5 §A.5) from an offset on, inflated as they are requested.

    Raises DamagedHead if the data, which the reason calls `subject`, are not deflated or end too early, and if more
    than `most_bytes` are inflated; OSError.
    """

    def __init__(
        self,
        data: ByteReader,
        deflated_at: int,
        *,
        subject: str = "its data set",
        most_bytes: int = _MOST_INFLATED_BYTES,
    ) -> None:
        self._data = data
        self._deflated_at = deflated_at
        self._subject = subject
        self._most_bytes = most_bytes
        self._inflated_bytes = 0
        self._begin()

    def _begin(self) -> None:
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._next_at = self._deflated_at
        self._window_at = 0
        self._window = b""

    def read(self, at: int, size_bytes: int) -> bytes | None:
        """Return bytes of the inflated data (see `steps.Window`)."""
        if at < self._window_at:
            self._begin()
        while (missing_bytes := at + size_bytes - self._window_at - len(self._window)) > 0 and (
            piece := self._piece(min(max(missing_bytes, _FEWEST_INFLATED_BYTES), _INFLATED_BYTES))
        ):
            passed_bytes = min(max(at - self._window_at, 0), len(self._window))
            self._window_at += passed_bytes
            self._window = self._window[passed_bytes:] + piece
        begin = at - self._window_at
        return self._window[begin:] if begin <= len(self._window) else None

    def _piece(self, size_bytes: int) -> bytes:
        while not self._inflate.eof:
            deflated = self._inflate.unconsumed_tail or self._read_on()
            try:
                piece = self._inflate.decompress(deflated, size_bytes)
            except zlib.error:
                raise DamagedHead(f"damaged: {self._subject} cannot be inflated") from None
            self._inflated_bytes += len(piece)
            if self._inflated_bytes > self._most_bytes:
                raise DamagedHead("its head is too long: it inflates without end")
            if piece:
                return piece
            if not deflated:
                raise DamagedHead(CUT_OFF)
        return b""

    def _read_on(self) -> bytes:
        deflated = self._data.read(_DEFLATED_BYTES, self._next_at)
        self._next_at += len(deflated)
        return deflated
