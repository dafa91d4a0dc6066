"""Temporary files of a comparison: small ones stay in memory. Everything here blocks, and raises OSError."""

from __future__ import annotations

import os
import tempfile
import zlib
from collections.abc import Generator
from dataclasses import replace
from typing import IO

from bulkstow.wire.data_set_start import DataSetStart

SPOOL_BYTES = 4 * 2**20
"""The longest instance that is kept in memory; longer ones are kept in a file. CT and MR have 0.1 to 0.5 MB."""

MOST_INFLATED_BYTES = 16 * 2**30
"""The longest deflated data set that is inflated: 1,000 times a file of 16 MiB, the highest ratio of deflation."""

_WINDOW_BYTES = 2**16
_DEFLATED_BYTES = 2**18

_EXPLICIT_META = bytes(128) + b"DICM" + b"\x02\0\x10\0UI\x14\0" + b"1.2.840.10008.1.2.1\0"
"""The head of a file in Explicit VR Little Endian."""


class NotInflated(Exception):
    """A deflated data set cannot be inflated; the text says why."""


def spool(at: int = 0) -> IO[bytes]:
    """Return a temporary file at a position in it; the bytes before are written later."""
    file = tempfile.SpooledTemporaryFile(SPOOL_BYTES)  # noqa: SIM115 - the caller closes it
    if at > SPOOL_BYTES:
        file.rollover()
    file.seek(at)
    return file


class FileWindow:
    """A file's bytes for the step-by-step readers."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._at = 0
        self._data = b""
        self.size_bytes = file.seek(0, os.SEEK_END)

    def read(self, at: int, size_bytes: int) -> bytes | None:
        """Return bytes of the file (see `wire.steps.Window`)."""
        if at > self.size_bytes:
            return None
        begin = at - self._at
        if begin < 0 or begin + size_bytes > len(self._data):
            self._file.seek(at)
            self._at, self._data, begin = at, self._file.read(max(size_bytes, _WINDOW_BYTES)), 0
        return self._data[begin : begin + size_bytes]


def inflate(file: IO[bytes], start: DataSetStart) -> Generator[None, None, tuple[IO[bytes], DataSetStart]]:
    """Return a file whose data set is not deflated: an inflated copy, or the file itself. Raises NotInflated.

    Pauses after each block.
    """
    if not start.is_deflated:
        return file, start
    inflated = spool()
    inflated.write(_EXPLICIT_META)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    file.seek(start.offset)
    try:
        while not inflater.eof:
            deflated = inflater.unconsumed_tail or file.read(_DEFLATED_BYTES)
            piece = inflater.decompress(deflated, _DEFLATED_BYTES)
            if not piece and not deflated:
                raise NotInflated("the deflated data set is cut off")
            if inflated.tell() > MOST_INFLATED_BYTES:
                raise NotInflated("the deflated data set is too long")
            inflated.write(piece)
            yield
    except zlib.error:
        raise NotInflated("the data set cannot be inflated") from None
    return inflated, replace(start, offset=len(_EXPLICIT_META))
