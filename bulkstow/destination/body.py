"""The body of a store request: framing and instances, with its exact length, from the source to the socket.

Over a plain connection the content of files goes from the page cache to the socket (`sendfile`); over TLS, and in
chunks, it is read into memory, and the next block is read while the last one is written. Either way the event loop
never waits for the storage, and nothing is read before the socket has accepted what precedes it: a body holds at most
two blocks in memory. An instance that is not as the scan found it ends the body; it is never padded and never finished,
because the server would store a request that looks complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import anyio

from bulkstow.blocking import ReadLimit, map_in_threads
from bulkstow.destination.http import RequestWriter
from bulkstow.destination.prefetch import StorageSpeed
from bulkstow.destination.request_timer import RequestState, RequestTimer
from bulkstow.destination.sendfile import TURN_BYTES, SendfileWriter, Stopwatch, TurnEnd
from bulkstow.errors import InstanceChanged, RunStopped
from bulkstow.events import BytesSent, Reporter
from bulkstow.model import Instance
from bulkstow.ports import Segment, SegmentReader, Source, size_of
from bulkstow.wire.multipart import body_length, closing, part_head

GATHER_BYTES = 256 * 2**10
"""The buffer of a body in which framing and small instances are gathered: a send of 256 KiB costs 40 µs, a thirtieth of
that for the call itself."""

SMALL_BYTES = 16 * 2**10
"""Instances up to this size are read into that buffer. Runs with one thread: 1.3 KB files take 10 µs each, or 13 µs by
sendfile; 35 KB files 17 or 15 µs, 0.5 MB files 150 or 90 µs."""

READ_BYTES = 2**20
"""The size of a block. A thread hop costs about 60 µs, and a MiB takes about 150 µs to read from the page cache."""

WRITE_BYTES = 256 * 2**10
"""The piece that is written at once: the stall timeout begins again with each. Linux calls a full socket writable when
a third of its buffer is free, 1.4 MB of the usual 4 MiB; so a link may slow down to 23 kB/s before 60 s are over."""

LAST_TURN_S = 0.1
"""How long a cancelled body waits for the turn that may have sent the last byte: a turn ends after 54 ms, unless the
storage hangs."""


class ByteLimiter(Protocol):
    """Decides how fast bytes may be sent."""

    async def admit(self, wanted_bytes: int) -> int:
        """Wait until some of the wanted bytes may be sent; return how many."""

    def give_back(self, size_bytes: int) -> None:
        """Take back bytes that were admitted and not sent."""


class Reading(Protocol):
    """The reading side of a body, in worker threads."""

    @property
    def read_bytes(self) -> int:
        """Bytes read so far."""

    @property
    def reading_s(self) -> float:
        """The time that worker threads have spent reading them."""

    @property
    def waited_s(self) -> float:
        """The time that worker threads have waited for the socket meanwhile."""


class Blocks:
    """Memory of one size that is used again and again: fresh memory made a body over TLS a tenth slower.

    Thread-safe. What is given back must not be in use any more, nor referenced by a transport.
    """

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._free: list[memoryview] = []

    def take(self) -> memoryview:
        """Return a block with any content."""
        with suppress(IndexError):
            return self._free.pop()
        return memoryview(bytearray(self._size_bytes))

    def give_back(self, block: memoryview) -> None:
        """Keep a block for the next caller."""
        self._free.append(block)


@dataclass(frozen=True, slots=True)
class Resources:
    """What all bodies of a destination share."""

    source: Source
    readers: Executor
    reporter: Reporter
    """Gets all bytes that sockets accept, as `BytesSent`."""
    throttle: ByteLimiter | None = None
    storage_speed: StorageSpeed | None = None
    """Decides whether to prefetch; None never does."""
    read_blocks: Blocks = field(default_factory=partial(Blocks, READ_BYTES))
    gather_blocks: Blocks = field(default_factory=partial(Blocks, GATHER_BYTES))


@dataclass(frozen=True, slots=True)
class SourceFault:
    """The instance that ended a body, and why."""

    instance: Instance
    reason: str


class Body:
    """The body of one request, of exactly `length_bytes`; each `send` begins it anew."""

    def __init__(self, instances: Sequence[Instance], boundary: str, timer: RequestTimer, resources: Resources) -> None:
        self._instances = instances
        self._boundary = boundary
        self._timer = timer
        self._resources = resources
        self._readers = resources.readers
        self._throttle = resources.throttle
        self.length_bytes = body_length(boundary, (i.candidate.size_bytes for i in instances))
        self.fault: SourceFault | None = None
        """Why the body ended before its last byte, if an instance has changed."""
        self.stopped_by: RunStopped | None = None
        """The error that ended the body and that no retry fixes; aiohttp calls it a lost connection."""
        self._begin()

    def _begin(self) -> None:
        self._cursor = Cursor()
        self._left_bytes = self.length_bytes
        storage_speed = self._resources.storage_speed
        self._prefetch = None if storage_speed is None else storage_speed.begin(self._instances)
        self.is_started = False
        """At least one byte may have been sent."""
        self.is_copied = True
        """The bytes were copied before they were compared with the scan, so later changes cannot affect them."""

    @property
    def is_sent(self) -> bool:
        """The socket has accepted the last byte."""
        return self._left_bytes == 0

    @property
    def current(self) -> Instance:
        """The instance that is being read."""
        return self._instances[self._cursor.number]

    async def send(self, request_writer: RequestWriter) -> None:
        """Send the whole body.

        Raises InstanceChanged, and keeps it in `fault`, as soon as an instance is not as the scan found it; OSError
        when the connection is lost; StorageGone, and keeps it in `stopped_by`.
        """
        self._begin()
        self._timer.begin_body()
        drawn = segments(
            self._instances, self._boundary, self._resources.source, self._cursor, self._resources.gather_blocks
        )
        try:
            connection = await request_writer.duplicate_socket()
            if connection is None:
                await self._copy(BodyReader(drawn), request_writer)
            else:
                self.is_copied = False
                await self._sendfile(SendfileWriter(drawn, self.length_bytes, connection))
        except InstanceChanged as changed:
            self.fault = SourceFault(self.current, str(changed))
            raise
        except RunStopped as stop:
            self.stopped_by = stop
            raise
        except ConnectionError:
            self._timer.enter(RequestState.SENDING)
            raise
        finally:
            if self._prefetch is not None:
                self._prefetch.end()
            self._timer.add_receive_window(request_writer.receive_window_share())

    async def _sendfile(self, writer: SendfileWriter) -> None:
        """Let the writer take its turns in worker threads, and wait for the socket in between."""
        turn: Future[TurnEnd] | None = None
        end = TurnEnd.TURN
        try:
            while end is not TurnEnd.SENT:
                if end is TurnEnd.FULL:
                    self._timer.enter(RequestState.SENDING)
                    await writer.until_space()
                admitted_bytes = await self._admit(TURN_BYTES)
                before_bytes = writer.sent_bytes
                self._timer.enter(RequestState.READING)
                self.is_started = True  # set first: the connection may end before the turn does
                with self._accounting(writer):
                    turn = self._readers.submit(writer.send, admitted_bytes)
                    self._keep_ahead()  # behind the turn in the queue, not before it
                    try:
                        end = await _turn_end(turn)
                    finally:
                        self._note_sent(writer.sent_bytes - before_bytes, admitted_bytes)
        finally:
            writer.stop()
            if turn is None:
                writer.close()
            else:
                if not turn.done():
                    writer.shut_down()
                # A turn that hangs is not waited for: what it holds is closed when it ends.
                turn.add_done_callback(lambda _: writer.close())

    async def _copy(self, reader: BodyReader, request_writer: RequestWriter) -> None:
        """Read blocks in worker threads, and write each while the next one is read."""
        blocks = self._resources.read_blocks
        spare, filled = blocks.take(), blocks.take()
        reading = self._readers.submit(reader.read_into, spare)
        self._keep_ahead()
        try:
            while not self.is_sent:
                self._timer.enter(RequestState.READING)
                with self._accounting(reader):
                    count = await asyncio.wrap_future(reading)
                spare, filled = filled, spare  # `RequestWriter.write` keeps nothing of what it has written
                if count < self._left_bytes:
                    reading = self._readers.submit(reader.read_into, spare)
                    self._keep_ahead()
                await self._write(filled[:count], request_writer)
            # Only now: after an error a read may still fill one of them, or the transport refer to the other.
            blocks.give_back(spare)
            blocks.give_back(filled)
        finally:
            reading.add_done_callback(lambda _: reader.close())

    async def _write(self, block: memoryview, request_writer: RequestWriter) -> None:
        start = 0
        while start < len(block):
            admitted_bytes = await self._admit(min(WRITE_BYTES, len(block) - start))
            self._timer.enter(RequestState.SENDING)
            self.is_started = True
            await request_writer.write(block[start : start + admitted_bytes])
            self._note_sent(admitted_bytes, admitted_bytes)
            start += admitted_bytes

    async def _admit(self, wanted_bytes: int) -> int:
        """Wait for the throttle, and return how many bytes may be sent."""
        if self._throttle is None:
            return wanted_bytes
        self._timer.enter(RequestState.THROTTLED)
        return await self._throttle.admit(min(wanted_bytes, self._left_bytes))

    def _note_sent(self, sent_bytes: int, admitted_bytes: int) -> None:
        if self._throttle is not None and sent_bytes < admitted_bytes:
            self._throttle.give_back(admitted_bytes - sent_bytes)
        if not sent_bytes:
            return
        self._left_bytes -= sent_bytes
        if self.is_sent:
            self._timer.enter(RequestState.WAITING)
        self._resources.reporter.tell(BytesSent(sent_bytes))

    def _keep_ahead(self) -> None:
        if self._prefetch is not None:
            self._prefetch.keep_ahead(self._cursor.number)

    @contextmanager
    def _accounting(self, reading: Reading) -> Iterator[None]:
        """Tell the timer and the prefetch what worker threads measure meanwhile."""
        started_s, read_before_s, waited_before_s = anyio.current_time(), reading.reading_s, reading.waited_s
        try:
            yield
        finally:
            read_s = reading.reading_s - read_before_s
            # A block may have been read before it was waited for.
            waited_for_s = max(0.0, min(read_s, anyio.current_time() - started_s))
            self._timer.add_turn(waited_for_s, reading.waited_s - waited_before_s)
            if self._prefetch is not None:
                self._prefetch.see(self._cursor.number, reading.read_bytes, reading.reading_s)


async def _turn_end(turn: Future[TurnEnd]) -> TurnEnd:
    """Wait for a turn; if it has sent the last byte, return even if the caller is cancelled.

    aiohttp cancels a body that has not returned when the response arrives, and closes the connection; a response can
    arrive before the event loop runs the callback of the thread that has sent the last byte.
    """
    try:
        return await asyncio.wrap_future(turn)
    except asyncio.CancelledError:
        if not turn.cancelled():
            ending = asyncio.wrap_future(turn)
            ending.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # no other code retrieves it
            await asyncio.wait([ending], timeout=LAST_TURN_S)
        task = asyncio.current_task()
        if turn.cancelled() or not turn.done() or turn.exception() or turn.result() is not TurnEnd.SENT or task is None:
            raise
        task.uncancel()
        return TurnEnd.SENT


@dataclass(slots=True)
class Cursor:
    """The position of a body that is being drawn."""

    number: int = 0
    """The index of the instance that is being read."""


def segments(
    instances: Sequence[Instance],
    boundary: str,
    source: Source,
    cursor: Cursor | None = None,
    blocks: Blocks | None = None,
) -> Generator[Segment]:
    """Yield a whole body: framing and small instances gathered, large ones as the source gives them.

    Blocks. Yields exactly `body_length` bytes, or raises InstanceChanged; the cursor is then at the instance.
    """
    cursor, blocks = cursor or Cursor(), blocks or Blocks(GATHER_BYTES)
    gathered = blocks.take()
    filled = 0
    try:
        for number, instance in enumerate(instances):
            cursor.number = number
            head = part_head(boundary, instance.candidate.size_bytes, first=number == 0)
            if filled + len(head) > GATHER_BYTES:
                yield gathered[:filled]
                filled = 0
            gathered[filled : filled + len(head)] = head
            filled += len(head)
            left_bytes = instance.candidate.size_bytes
            for segment in source.open(instance):
                size_bytes = size_of(segment)
                left_bytes -= size_bytes
                if left_bytes < 0:
                    break
                if filled and (size_bytes > SMALL_BYTES or filled + size_bytes > GATHER_BYTES):
                    yield gathered[:filled]
                    filled = 0
                if size_bytes > SMALL_BYTES:
                    yield segment
                else:
                    _read_whole(segment, gathered[filled : filled + size_bytes])
                    filled += size_bytes
            if left_bytes:
                words = "more" if left_bytes < 0 else "fewer"
                raise InstanceChanged(f"the source gives {words} bytes than its scan found")
        end = closing(boundary)
        if filled + len(end) > GATHER_BYTES:
            yield gathered[:filled]
            filled = 0
        gathered[filled : filled + len(end)] = end
        yield gathered[: filled + len(end)]
    except OSError as error:  # aiohttp would call it a lost connection
        raise InstanceChanged(f"cannot be read: {error.strerror or error}") from error
    finally:
        blocks.give_back(gathered)


def _read_whole(segment: Segment, view: memoryview) -> None:
    if isinstance(segment, memoryview):
        view[:] = segment
        return
    filled = 0
    while filled < segment.size_bytes:
        filled += segment.read_into(view[filled:], filled)


class BodyReader(SegmentReader):
    """A body as a stream of bytes, for connections that need them in memory."""

    waited_s = 0.0
    """Reads wait for nothing but the storage."""

    def __init__(self, drawn: Generator[Segment]) -> None:
        super().__init__(drawn)
        self.read_bytes = 0
        self._reading = Stopwatch()

    @property
    def reading_s(self) -> float:
        """The time of all reads."""
        return self._reading.elapsed_s

    def read_into(self, view: memoryview) -> int:
        """Fill the view as far as the body goes, and return how many bytes. Blocks. Raises InstanceChanged."""
        with self._reading:
            filled = super().read_into(view)
        self.read_bytes += filled
        return filled


async def write_body(
    instances: Sequence[Instance],
    boundary: str,
    path: Path,
    *,
    source: Source,
    readers: Executor,
    limit: ReadLimit,
) -> int:
    """Write a request's body to a file, byte for byte what would be sent, and return its length in bytes.

    Raises InstanceChanged with the instance's location, also if the storage does not answer, and OSError if the file
    cannot be written.
    """
    import aiofiles

    view = memoryview(bytearray(READ_BYTES))
    size_bytes = 0
    cursor = Cursor()
    reader = BodyReader(segments(instances, boundary, source, cursor))

    def on_timeout(_view: memoryview, why: str) -> int:
        raise InstanceChanged(f"cannot be read: {why}")

    async with aiofiles.open(path, "wb", buffering=0) as file:
        while True:
            try:
                # If the storage hangs, an empty list comes first.
                read = map_in_threads(reader.read_into, [view], on_timeout, readers, limit)
                count = sum([sum(counts) async for counts in read])
            except InstanceChanged as changed:
                raise InstanceChanged(f"{instances[cursor.number].candidate.location}: {changed}") from changed
            if not count:
                return size_bytes
            written_bytes = 0
            while written_bytes < count:  # without a buffer, a write may accept less than it is given
                written_bytes += await file.write(view[written_bytes:count])
            size_bytes += count
