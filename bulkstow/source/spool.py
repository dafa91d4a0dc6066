"""The spool: content that cannot be read in place, copied to memory or to temporary files until it is sent.

Contents are written one after the other into chunks, which are files without a name. A chunk is removed when all of its
contents are released. The room that is taken is that of all chunks, so it never exceeds the limit. A process of this
computer opens a chunk by the number of its descriptor. If this process ends, nothing of the spool is left.

`reserve`, `grow` and `until_full` belong to the event loop; all else may be called in threads, and `write` blocks.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

from bulkstow.errors import SpoolError, SpoolExceeded
from bulkstow.model import Extent
from bulkstow.platform.files import anonymous_memory, path_of_descriptor, write_at
from bulkstow.quantities import show_size
from bulkstow.source.extents import identity_of

CHUNK_BYTES = 4 * 2**20
"""A chunk takes contents until it has this size. An instance that waits for a retry keeps its whole chunk; smaller
chunks would need more descriptors: 512 for 2 GiB."""

CHUNKS_OF_SMALL = 16
"""The chunks of a small spool, of which one may be kept by a single content."""

MEMORY_BYTES = 256 * 2**20
"""The part of the spool that is in memory. A file system in memory takes 3 GB/s, a temporary file on a disk 1 GB/s."""

_ACCESSED_NS = 2_100_000_000 * 10**9
"""A time in 2036, which no file gets by being used."""

_numbers = count()

MOST_CHUNKS = 4096
"""Chunks at a time, each with a descriptor: beyond that the spool counts as full."""


@dataclass(slots=True, eq=False)
class _Chunk:
    """A file of the spool."""

    descriptor: int
    path: str
    identity: tuple[int, int]
    is_memory: bool
    size_bytes: int = 0
    """The bytes of all contents, written or about to be."""
    unreleased: int = 0
    is_sealed: bool = False
    """It takes no more contents."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A task that waits for room."""

    size_bytes: int
    ready: asyncio.Future[None]
    content: SpooledContent | None = None
    """The content that grows; None if the task has nothing in the spool yet."""
    spare_bytes: int = 0
    """Room that has to stay free beside it."""


class Spool:
    """Up to `most_bytes` of contents; files are in `directory`, or the system's directory for temporary files."""

    def __init__(self, most_bytes: int, directory: str | os.PathLike[str] | None = None) -> None:
        self.most_bytes = most_bytes
        self._directory = directory
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._free_bytes = most_bytes
        self._memory_free_bytes = min(MEMORY_BYTES, most_bytes)
        self._reserved_bytes = 0
        """Room that is reserved for contents that have not begun."""
        self.chunk_bytes = min(CHUNK_BYTES, most_bytes // CHUNKS_OF_SMALL)
        self._chunks: dict[str, _Chunk] = {}
        """By path."""
        self._current: dict[bool, _Chunk] = {}
        """The chunks that take contents, by whether the contents spare room for others: these may have to wait until
        those are sent, so they do not share a chunk."""
        self._unfinished: set[SpooledContent] = set()
        self._finished = 0
        """Contents that are not released yet."""
        self._waiting: deque[_Waiting] = deque()
        self._numbers = count()
        self._became_full = asyncio.Event()

    @property
    def used_bytes(self) -> int:
        """The room that is taken or reserved."""
        return self.most_bytes - self._free_bytes

    # --- room

    async def reserve(self, size_bytes: int, spare_bytes: int = 0) -> None:
        """Wait for room for a content; it is used by `begin`, or given back by `give_back`.

        `spare_bytes` stay free beside it, for a task that others wait for: it may overtake those that spare more.
        Raises SpoolExceeded if the spool is smaller.
        """
        if size_bytes + spare_bytes > self.most_bytes:
            raise SpoolExceeded(
                f"larger than the spool: {show_size(size_bytes)}, --spool-bytes {show_size(self.most_bytes)}"
            )
        await self._wait(size_bytes, None, spare_bytes)

    def try_reserve(self, size_bytes: int, spare_bytes: int = 0) -> bool:
        """Reserve room as `reserve` does, if there is enough and no task waits; return whether it is reserved."""
        with self._lock:
            if self._waiting or not self._has_room_for(size_bytes, spare_bytes):
                return False
            self._free_bytes -= size_bytes
            self._reserved_bytes += size_bytes
        return True

    async def grow(self, content: SpooledContent, size_bytes: int) -> None:
        """Wait for more room for a content whose size was not known when it began.

        Raises SpoolExceeded if all of the spool is taken by contents that have to grow, and this one began last: its
        room is then needed for the others; or if it is the only one, as it is larger than the spool.
        """
        if content.room_bytes + size_bytes > self.most_bytes:
            raise SpoolExceeded(f"larger than the spool: --spool-bytes {show_size(self.most_bytes)}")
        await self._wait(size_bytes, content)

    async def until_full(self) -> None:
        """Return when a task waits for room."""
        self._loop = asyncio.get_running_loop()
        while not self._waiting:
            self._became_full.clear()
            await self._became_full.wait()

    async def _wait(self, size_bytes: int, content: SpooledContent | None, spare_bytes: int = 0) -> None:
        self._loop = asyncio.get_running_loop()
        waiting = _Waiting(size_bytes, self._loop.create_future(), content, spare_bytes)
        with self._lock:
            if content is None:
                self._waiting.append(waiting)
            else:  # before those that have nothing in the spool yet: it cannot be finished otherwise
                self._waiting.insert(sum(other.content is not None for other in self._waiting), waiting)
        self._admit()
        if not waiting.ready.done():
            self._became_full.set()
        try:
            await waiting.ready
        except asyncio.CancelledError:
            with self._lock:
                if waiting in self._waiting:
                    self._waiting.remove(waiting)
            if waiting.ready.done() and not waiting.ready.cancelled() and waiting.ready.exception() is None:
                self._take_back(waiting)
            self._admit()
            raise

    def _take_back(self, waiting: _Waiting) -> None:
        """Give back room that a task got when it was cancelled."""
        if waiting.content is None:
            self.give_back(waiting.size_bytes)
            return
        with self._lock:
            waiting.content.add_room(-waiting.size_bytes)
        self._free(waiting.size_bytes)

    def _admit(self) -> None:
        """Give room to the tasks that wait, in the order of those that spare as much; called in the event loop."""
        with self._lock:
            least_spared_bytes = self.most_bytes + 1
            for waiting in tuple(self._waiting):
                if waiting.spare_bytes >= least_spared_bytes:
                    continue
                if not self._has_room_for(waiting.size_bytes, waiting.spare_bytes):
                    least_spared_bytes = waiting.spare_bytes
                    continue
                self._waiting.remove(waiting)
                if waiting.ready.done():
                    continue
                self._free_bytes -= waiting.size_bytes
                if waiting.content is None:
                    self._reserved_bytes += waiting.size_bytes
                else:
                    waiting.content.add_room(waiting.size_bytes)
                waiting.ready.set_result(None)
            growing = [waiting for waiting in self._waiting if waiting.content is not None]
            is_stalled = not (self._finished or self._reserved_bytes) and len(growing) == len(self._unfinished)
            if growing and is_stalled:
                last = max(growing, key=lambda waiting: waiting.content.number if waiting.content else 0)
                self._waiting.remove(last)
                if not last.ready.done():
                    last.ready.set_exception(SpoolExceeded("the spool is full of instances that are received"))

    def _has_room_for(self, size_bytes: int, spare_bytes: int) -> bool:
        most_chunks = MOST_CHUNKS // 2 if spare_bytes else MOST_CHUNKS
        return size_bytes + spare_bytes <= self._free_bytes and len(self._chunks) < most_chunks

    def give_back(self, size_bytes: int) -> None:
        """Give back reserved room that is not used."""
        with self._lock:
            self._reserved_bytes -= size_bytes
        self._free(size_bytes)

    def _free(self, size_bytes: int) -> None:
        with self._lock:
            self._free_bytes += size_bytes
        if self._loop is not None and self._waiting and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._admit)

    # --- contents

    def begin(self, size_bytes: int, *, grows: bool = False, spares: bool = False) -> SpooledContent:
        """Begin a content in reserved room; one that grows gets a chunk of its own.

        `spares` tells that room was reserved with some to spare. Raises SpoolError.
        """
        with self._lock:
            chunk = None if grows else self._current.get(spares)
            if chunk is None or chunk.size_bytes + size_bytes > self.chunk_bytes:
                chunk = self._new_chunk(is_memory=not grows and size_bytes <= min(CHUNK_BYTES, self._memory_free_bytes))
                if not grows:
                    self._seal_current(spares=spares)
                    self._current[spares] = chunk
            if chunk.is_memory:
                self._memory_free_bytes -= size_bytes
            content = SpooledContent(self, chunk, size_bytes, number=next(self._numbers))
            chunk.size_bytes += size_bytes
            chunk.unreleased += 1
            chunk.is_sealed = grows
            self._reserved_bytes -= size_bytes
            self._unfinished.add(content)
        return content

    def _new_chunk(self, *, is_memory: bool) -> _Chunk:
        with _spool_errors():
            descriptor = anonymous_memory("bulkstow") if is_memory else None
            is_memory = descriptor is not None
            if descriptor is None:
                with tempfile.TemporaryFile(dir=self._directory) as file:
                    descriptor = os.dup(file.fileno())
        chunk = _Chunk(descriptor, path_of_descriptor(descriptor), _identity_of_new(descriptor), is_memory)
        self._chunks[chunk.path] = chunk
        return chunk

    def _seal_current(self, *, spares: bool) -> None:
        chunk = self._current.pop(spares, None)
        if chunk is not None:
            chunk.is_sealed = True
            self._remove_if_unused(chunk)

    def _remove_if_unused(self, chunk: _Chunk) -> None:
        if chunk.unreleased or not chunk.is_sealed:
            return
        os.close(chunk.descriptor)
        del self._chunks[chunk.path]
        self._free_bytes += chunk.size_bytes
        if chunk.is_memory:
            self._memory_free_bytes += chunk.size_bytes

    def finish(self, content: SpooledContent) -> Extent:
        """Take note that a content is whole; return its extent."""
        chunk = content.chunk
        with self._lock:
            self._end(content)
            self._finished += 1
        self._free(0)
        return Extent(chunk.path, content.offset, content.size_bytes, chunk.identity, is_spooled=True)

    def abort(self, content: SpooledContent) -> None:
        """Remove a content that is not whole."""
        with self._lock:
            self._end(content)
            self._release(content.chunk)
        self._free(0)

    def _end(self, content: SpooledContent) -> None:
        """Give back the room that a content did not need, if no other follows it in its chunk."""
        chunk = content.chunk
        self._unfinished.discard(content)
        unused_bytes = content.room_bytes - content.size_bytes
        if chunk.size_bytes == content.offset + content.room_bytes:
            chunk.size_bytes -= unused_bytes
            self._free_bytes += unused_bytes
            if chunk.is_memory:
                self._memory_free_bytes += unused_bytes

    def share(self, extent: Extent) -> None:
        """Take note that a part of a content is a content of its own; the bytes stay until both are released."""
        with self._lock:
            self._finished += 1
            self._chunks[extent.path].unreleased += 1

    def release(self, extent: Extent) -> None:
        """Remove a content; its extent must not be used any more, and only once."""
        with self._lock:
            chunk = self._chunks.get(extent.path)
            if chunk is None or chunk.identity != extent.version:
                return
            self._finished -= 1
            self._release(chunk)
        self._free(0)

    def _release(self, chunk: _Chunk) -> None:
        chunk.unreleased -= 1
        if chunk.unreleased == 0:
            self._current = {spares: current for spares, current in self._current.items() if current is not chunk}
            chunk.is_sealed = True
            self._remove_if_unused(chunk)

    def close(self) -> None:
        """Remove everything."""
        with self._lock:
            for chunk in self._chunks.values():
                os.close(chunk.descriptor)
            self._chunks.clear()
            self._current.clear()


@contextmanager
def _spool_errors() -> Iterator[None]:
    """Raise SpoolError instead of OSError."""
    try:
        yield
    except OSError as error:
        raise SpoolError(f"the spool cannot be written: {error.strerror or error}") from error


def _identity_of_new(descriptor: int) -> tuple[int, int]:
    """Give a new file an identity that no other has had: file systems use the inode of a removed file again at once.

    The time of the last access can be set, writing does not change it, and `open_own` opens files so that reading does
    not either.
    """
    os.utime(descriptor, ns=(_ACCESSED_NS + next(_numbers), 0))
    return identity_of(os.fstat(descriptor))


class SpooledContent:
    """A content that is written, by one thread at a time; `finish` or `abort` ends it."""

    def __init__(self, spool: Spool, chunk: _Chunk, room_bytes: int, *, number: int) -> None:
        self.chunk = chunk
        self.number = number
        """Its place in the order in which contents begin."""
        self.offset = chunk.size_bytes
        self.room_bytes = room_bytes
        self.size_bytes = 0
        """Bytes written so far."""
        self._spool = spool

    def add_room(self, size_bytes: int) -> None:
        """Take note of more room; called by the spool."""
        self.room_bytes += size_bytes
        self.chunk.size_bytes += size_bytes

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write the next bytes. Blocks. Raises SpoolExceeded if there is no room for them, and SpoolError."""
        if self.size_bytes + len(data) > self.room_bytes:
            raise SpoolExceeded(f"more than the {self.room_bytes} bytes that were announced")
        with _spool_errors():
            write_at(self.chunk.descriptor, data, self.offset + self.size_bytes)
        self.size_bytes += len(data)

    def finish(self) -> Extent:
        """End the content, which is whole, and return its extent."""
        return self._spool.finish(self)

    def abort(self) -> None:
        """Remove the content."""
        self._spool.abort(self)
