"""Contents that are read forward once: of a file with seeks, or of a stream of blocks. Everything here blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from bulkstow.errors import DamagedHead, InstanceChanged
from bulkstow.model import Candidate, Extent
from bulkstow.source.extents import open_extent
from bulkstow.source.windows import ByteReader

CUT_OFF = "cut off: its last member is incomplete"

SKIP_BYTES = 16 * 2**20
"""The bytes of a stream that are skipped at once: 0.05 s of gzip, 0.5 s of bzip2."""


class Forward(Protocol):
    """A content with a position. Its methods raise DamagedHead and OSError."""

    @property
    def at(self) -> int:
        """The number of bytes that were read or skipped."""

    def read(self, size_bytes: int) -> bytes:
        """Return the next bytes, fewer only at the end."""

    def blocks(self, size_bytes: int) -> Iterator[bytes | memoryview]:
        """Yield the next bytes in blocks. Raises DamagedHead if there are fewer."""

    def skip(self, size_bytes: int) -> Iterator[None]:
        """Skip bytes, and yield now and then if that takes long. Raises DamagedHead if there are fewer."""


class ForwardFile:
    """The content of a file, or of a part of one, with seeks."""

    BLOCK_BYTES = 2**20

    def __init__(self, data: ByteReader) -> None:
        self._data = data
        self._size_bytes = data.size_bytes
        self.at = 0

    def read(self, size_bytes: int) -> bytes:
        """Return the next bytes (see `Forward`)."""
        data = self._data.read(size_bytes, self.at)
        self.at += len(data)
        return data

    def blocks(self, size_bytes: int) -> Iterator[bytes | memoryview]:
        """Yield the next bytes (see `Forward`)."""
        while size_bytes:
            block = self.read(min(size_bytes, self.BLOCK_BYTES))
            if not block:
                raise DamagedHead(CUT_OFF)
            size_bytes -= len(block)
            yield block

    def skip(self, size_bytes: int) -> Iterator[None]:
        """Skip bytes (see `Forward`)."""
        if size_bytes > self._size_bytes - self.at:
            raise DamagedHead(CUT_OFF)
        self.at += size_bytes
        yield from ()


class ForwardStream:
    """The content of a stream of blocks; `read_block` returns an empty one at the end."""

    def __init__(self, read_block: Callable[[], bytes | memoryview]) -> None:
        self._read_block = read_block
        self._block = memoryview(b"")
        """The rest of the last block."""
        self.at = 0

    def peek(self, size_bytes: int) -> bytes:
        """Return the next bytes, fewer only at the end, without reading them."""
        if len(self._block) < size_bytes:
            parts: list[bytes | memoryview] = [self._block]
            while sum(map(len, parts)) < size_bytes and (block := self._read_block()):
                parts.append(block)
            self._block = memoryview(b"".join(parts))
        return bytes(self._block[:size_bytes])

    def part(self, size_bytes: int) -> ForwardStream:
        """Return the next bytes, fewer at the end, as a content of their own; it moves this one forward."""
        end_at = self.at + size_bytes
        return ForwardStream(lambda: self.read_some(end_at - self.at))

    def read(self, size_bytes: int) -> bytes:
        """Return the next bytes (see `Forward`)."""
        parts: list[bytes | memoryview] = []
        while size_bytes and (part := self.read_some(size_bytes)):
            parts.append(part)
            size_bytes -= len(part)
        return b"".join(parts)

    def blocks(self, size_bytes: int) -> Iterator[bytes | memoryview]:
        """Yield the next bytes (see `Forward`)."""
        while size_bytes:
            part = self.read_some(size_bytes)
            if not part:
                raise DamagedHead(CUT_OFF)
            size_bytes -= len(part)
            yield part

    def skip(self, size_bytes: int) -> Iterator[None]:
        """Skip bytes (see `Forward`)."""
        step_bytes = 0
        for block in self.blocks(size_bytes):
            step_bytes += len(block)
            if step_bytes >= SKIP_BYTES:
                yield
                step_bytes = 0

    def read_some(self, most_bytes: int = SKIP_BYTES) -> memoryview:
        """Return at most so many of the next bytes, without a copy; none at the end."""
        if not self._block and most_bytes:
            self._block = memoryview(self._read_block())
        part = self._block[:most_bytes]
        self._block = self._block[most_bytes:]
        self.at += len(part)
        return part


def inflated(extent: Extent, archive: Candidate) -> Callable[[], bytes]:
    """Return the function that returns the next block of a deflated extent, whose checksum is compared at the end."""
    segments = open_extent(extent, by_link=bool(archive.by_link))

    def read_block() -> bytes:
        try:
            segment = next(segments, None)
        except InstanceChanged as error:
            raise DamagedHead(str(error)) from None
        return bytes(segment) if isinstance(segment, memoryview) else b""

    return read_block
