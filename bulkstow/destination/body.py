"""The body of a request, streamed from disk with its exact length.

Small files are read whole, many to one hop into a thread, straight into the buffer that is sent; large ones stream in
pieces. The next read is under way while the last one is sent, and nothing is read that the socket has not asked for: a
body holds at most two reads in memory. A file that is not what the scan found ends the body with `SourceChanged`: it is
never padded and never finished (a request that looks complete would be stored).
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path

import aiofiles
from aiofiles.threadpool.binary import AsyncFileIO

from bulkstow.errors import BulkstowError
from bulkstow.model import Candidate, Instance
from bulkstow.wire.multipart import body_length, closing, part_head

HOP_BYTES = 2**20
"""A thread hop costs about 60 µs and a MiB takes about 150 µs to read from the page cache: at 1 MiB a hop costs little,
and two of them for each request under way are no memory."""

WRITE_BYTES = 256 * 2**10
"""A piece given to the socket at once: the clock that calls a peer stalled is set back with every piece, so with the
default of 60 s a link of 5 kB/s is still alive; four pieces a MiB cost 20 µs."""


class SourceChanged(BulkstowError):
    """A file could not be read as the scan had found it; stays inside this room."""

    def __init__(self, instance: Instance, reason: str) -> None:
        super().__init__(reason)
        self.instance = instance
        self.reason = reason


class Body:
    """One request's body; every call of `chunks` begins it anew.

    `length_bytes` is exact. `chunks` yields it in pieces and calls `on_taken(n)` when the socket has taken the last
    piece of n bytes; `is_taken` is true when that was the last of all.
    """

    def __init__(
        self,
        instances: Sequence[Instance],
        boundary: str,
        readers: Executor,
        on_taken: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._boundary = boundary
        self._readers = readers
        self._on_taken = on_taken
        self._instances = instances
        self.length_bytes = body_length(boundary, (i.candidate.size_bytes for i in instances))
        self.is_started = False
        self.is_taken = False
        self.fault: SourceChanged | None = None

    async def chunks(self) -> AsyncGenerator[memoryview]:
        """Yield the body in pieces of at most WRITE_BYTES.

        Raises SourceChanged, and keeps it in `fault`, as soon as a file is not what the scan found.
        """
        left_bytes = self.length_bytes
        self.is_started = self.is_taken = False
        try:
            async with aclosing(self._blocks()) as blocks:
                async for block in blocks:
                    view = memoryview(block)
                    for start in range(0, len(view), WRITE_BYTES):
                        piece = view[start : start + WRITE_BYTES]
                        self.is_started = True
                        yield piece
                        left_bytes -= len(piece)
                        self.is_taken = left_bytes == 0
                        self._on_taken(len(piece))
        except SourceChanged as changed:
            self.fault = changed
            raise

    async def _blocks(self) -> AsyncGenerator[bytes | bytearray]:
        """Yield what one read gives, the next read being under way meanwhile."""
        loop = asyncio.get_running_loop()
        reads: deque[asyncio.Future[bytearray]] = deque()
        first = True
        try:
            for group in _hops(self._instances):
                large = group[0].candidate.size_bytes > HOP_BYTES
                if not large:
                    reads.append(loop.run_in_executor(self._readers, read_parts, group, self._boundary, first))
                while len(reads) > (0 if large else 1):
                    yield await reads[0]
                    reads.popleft()
                if large:
                    yield part_head(self._boundary, group[0].candidate.size_bytes, first=first)
                    async with aclosing(self._stream(group[0])) as pieces:
                        async for piece in pieces:
                            yield piece
                first = False
            while reads:
                yield await reads[0]
                reads.popleft()
            yield closing(self._boundary)
        finally:
            for read in reads:
                read.cancel()

    async def _stream(self, instance: Instance) -> AsyncGenerator[bytes]:
        candidate = instance.candidate
        left_bytes = candidate.size_bytes
        try:
            async with _opened(candidate.location, self._readers) as file:
                await self._compare_in_thread(instance, file.fileno())
                async with aclosing(_read_ahead(lambda: file.read(HOP_BYTES))) as pieces:
                    async for piece in pieces:
                        left_bytes -= len(piece)
                        if left_bytes <= 0:
                            # Before the last bytes leave: a request that is not finished is not stored.
                            await self._compare_in_thread(instance, file.fileno())
                        yield piece
        except OSError as error:
            raise SourceChanged(instance, _unreadable(error)) from error
        if left_bytes:
            raise SourceChanged(instance, _changed_size(candidate, candidate.size_bytes - left_bytes))

    async def _compare_in_thread(self, instance: Instance, fd: int) -> None:
        # A file system over the network may take its time for this too.
        _compare(instance, await asyncio.get_running_loop().run_in_executor(self._readers, os.fstat, fd))


@asynccontextmanager
async def _opened(location: str, readers: Executor) -> AsyncGenerator[AsyncFileIO]:
    """Open a file and close it, also when the opening itself is given up midway."""

    async def open_unbuffered() -> AsyncFileIO:
        return await aiofiles.open(location, "rb", buffering=0, executor=readers)

    opening = asyncio.ensure_future(open_unbuffered())
    try:
        yield await asyncio.shield(opening)
    finally:
        with suppress(OSError):
            await (await opening).close()


async def _read_ahead(read: Callable[[], Awaitable[bytes]]) -> AsyncGenerator[bytes]:
    """Yield what `read` gives until it gives nothing, with one call of it under way ahead."""
    pending = asyncio.ensure_future(read())
    try:
        while piece := await asyncio.shield(pending):
            pending = asyncio.ensure_future(read())
            yield piece
    finally:
        # The file is closed after us: a read still under way in its thread would then read from whatever file or
        # socket has got the number next.
        with suppress(OSError):
            await pending


def read_parts(instances: Sequence[Instance], boundary: str, first: bool) -> bytearray:
    """Return small instances framed one after the other, each file read straight into its place.

    Blocks. Raises SourceChanged.
    """
    heads = [part_head(boundary, i.candidate.size_bytes, first=first and n == 0) for n, i in enumerate(instances)]
    parts = zip(heads, instances, strict=True)
    block = bytearray(sum(len(head) + instance.candidate.size_bytes for head, instance in parts))
    view = memoryview(block)
    start = 0
    for head, instance in zip(heads, instances, strict=True):
        end = start + len(head)
        view[start:end] = head
        start = end + instance.candidate.size_bytes
        try:
            _read_into(view[end:start], instance)
        except OSError as error:
            raise SourceChanged(instance, _unreadable(error)) from error
    return block


def _read_into(view: memoryview, instance: Instance) -> None:
    fd = os.open(instance.candidate.location, os.O_RDONLY | os.O_CLOEXEC)
    try:
        filled = 0
        while filled < len(view) and (count := os.readv(fd, [view[filled:]])):
            filled += count
        # Once, and after reading: what is still as the scan found it was so all the while.
        _compare(instance, os.fstat(fd))
    finally:
        os.close(fd)
    if filled < len(view):
        raise SourceChanged(instance, _changed_size(instance.candidate, filled))


def _hops(instances: Sequence[Instance]) -> Iterator[Sequence[Instance]]:
    """Group neighbours that are read in one hop; a large file is a group of its own."""
    start = 0
    size_bytes = 0
    for end, instance in enumerate(instances):
        if end > start and size_bytes + instance.candidate.size_bytes > HOP_BYTES:
            yield instances[start:end]
            start, size_bytes = end, 0
        size_bytes += instance.candidate.size_bytes
    yield instances[start:]


def _compare(instance: Instance, found: os.stat_result) -> None:
    candidate = instance.candidate
    if found.st_size != candidate.size_bytes:
        raise SourceChanged(instance, _changed_size(candidate, found.st_size))
    if found.st_mtime_ns != candidate.modified_ns:
        raise SourceChanged(instance, "changed while it was sent: its modification time is new")


def _changed_size(candidate: Candidate, found_bytes: int) -> str:
    return f"changed while it was sent: {candidate.size_bytes} bytes at the scan, now {found_bytes}"


def _unreadable(error: OSError) -> str:
    return f"cannot be read: {error.strerror or error}"


async def write_body(instances: Sequence[Instance], boundary: str, path: Path) -> int:
    """Write a request's body to a file, byte for byte what would be sent, and return its length in bytes.

    Raises SourceChanged, and OSError where the file cannot be written.
    """
    with ThreadPoolExecutor(1) as readers:
        body = Body(instances, boundary, readers)
        async with aiofiles.open(path, "wb") as file:
            async for piece in body.chunks():
                await file.write(piece)
    return body.length_bytes
