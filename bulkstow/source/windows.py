"""Open the files of an archive, and read windows at any offset, plain or inflated, in bounded memory.

Repeats a read that returns fewer bytes than requested, as on FUSE and network file systems. Everything here blocks.
"""

from __future__ import annotations

import errno
import zlib

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


class FileWindow:
    """A file's bytes. Raises OSError."""

    def __init__(self, descriptor: int, size_bytes: int) -> None:
        self._descriptor = descriptor
        self._size_bytes = size_bytes
        self._window_at = 0
        self._end_at = 0

    def read(self, at: int, size_bytes: int) -> bytes | None:
        """Return bytes of the file (see `Window`)."""
        if at > self._size_bytes:
            return None
        is_near = self._window_at <= at <= self._end_at
        data = read_up_to(self._descriptor, max(size_bytes, _NEAR_BYTES if is_near else _FAR_BYTES), at)
        self._window_at, self._end_at = at, at + len(data)
        return data


class InflatedWindow:
    """The bytes of raw deflated data in a file (PS3.5 §A.5), inflated as they are requested.

    Raises DamagedHead if the data are not deflated, end too early, or exceed _MOST_INFLATED_BYTES; OSError.
    """

    def __init__(self, descriptor: int, deflated_at: int) -> None:
        self._descriptor = descriptor
        self._deflated_at = deflated_at
        self._inflated_bytes = 0
        self._begin()

    def _begin(self) -> None:
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._next_at = self._deflated_at
        self._window_at = 0
        self._window = b""

    def read(self, at: int, size_bytes: int) -> bytes | None:
        """Return bytes of the inflated data (see `Window`)."""
        if at < self._window_at:
            self._begin()
        while at + size_bytes > self._window_at + len(self._window) and (piece := self._piece()):
            passed_bytes = min(max(at - self._window_at, 0), len(self._window))
            self._window_at += passed_bytes
            self._window = self._window[passed_bytes:] + piece
        begin = at - self._window_at
        return self._window[begin:] if begin <= len(self._window) else None

    def _piece(self) -> bytes:
        while not self._inflate.eof:
            deflated = self._inflate.unconsumed_tail or self._read_on()
            try:
                piece = self._inflate.decompress(deflated, _INFLATED_BYTES)
            except zlib.error:
                raise DamagedHead("damaged: its data set cannot be inflated") from None
            self._inflated_bytes += len(piece)
            if self._inflated_bytes > _MOST_INFLATED_BYTES:
                raise DamagedHead("its head is too long: it inflates without end")
            if piece:
                return piece
            if not deflated:
                raise DamagedHead(CUT_OFF)
        return b""

    def _read_on(self) -> bytes:
        deflated = read_up_to(self._descriptor, _DEFLATED_BYTES, self._next_at)
        self._next_at += len(deflated)
        return deflated
