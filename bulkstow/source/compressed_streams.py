"""Compressed tar archives that are read again member by member, as `verify` does.

To read a member, all data in front of it are decompressed. A stream therefore stays open behind the last member that
was read, and continues there for a later one. Everything here blocks.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from bulkstow.model import Candidate, Container
from bulkstow.source.compressed_members import decompress
from bulkstow.source.extents import open_bytes
from bulkstow.source.forward import ForwardStream

STREAMS_KEPT = 4
"""Streams that stay open. Each may take 128 MiB of memory; usual are 40 KiB for gzip and 9 MiB for xz."""


@dataclass(frozen=True, slots=True, eq=False)
class _Open:
    """An open stream that no thread reads."""

    archive: Candidate
    descriptor: int
    content: ForwardStream


class CompressedStreams:
    """Reads parts of the contents of compressed archives; several threads at once."""

    def __init__(self) -> None:
        self._kept: list[_Open] = []
        """The one that was used last is at the end."""
        self._lock = threading.Lock()

    def read(self, container: Container, offset: int, size_bytes: int) -> Iterator[bytes | memoryview]:
        """Yield so many bytes at an offset of the content. Raises DamagedHead and OSError."""
        stream = self._take(container.candidate, offset) or _open(container)
        content = stream.content
        try:
            for _ in content.skip(offset - content.at):
                pass
            yield from content.blocks(size_bytes)
        finally:
            self._keep(stream, is_usable=content.at == offset + size_bytes)

    def _take(self, archive: Candidate, offset: int) -> _Open | None:
        """Return the stream that has the least to skip."""
        with self._lock:
            usable = [kept for kept in self._kept if kept.archive == archive and kept.content.at <= offset]
            if not usable:
                return None
            nearest = max(usable, key=lambda kept: kept.content.at)
            self._kept.remove(nearest)
            return nearest

    def _keep(self, stream: _Open, *, is_usable: bool) -> None:
        with self._lock:
            self._kept.append(stream)
            given_up = self._kept[:-STREAMS_KEPT] if is_usable else [stream]
            self._kept = [kept for kept in self._kept if kept not in given_up]
        for kept in given_up:
            os.close(kept.descriptor)

    def close(self) -> None:
        """Close all streams; no thread may be reading."""
        for kept in self._kept:
            os.close(kept.descriptor)
        self._kept.clear()


def _open(container: Container) -> _Open:
    data = open_bytes(container.candidate)
    try:
        return _Open(container.candidate, data.descriptor, decompress(data, container.format_name))
    except BaseException:
        os.close(data.descriptor)
        raise
