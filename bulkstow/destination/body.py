"""The body of a store request: framing and instances, with its exact length, from the source to the socket.

Worker threads send it in turns: over a plain connection the content of files goes from the page cache to the socket
(`sendfile`), over TLS they read and encrypt one block after the other (`tls_writer`). A body in chunks is read into
memory and written by aiohttp, the next block being read while the last one is written. In each case the event loop
never waits for the storage, and nothing is read before the socket has accepted what precedes it: a body holds at most
two blocks in memory. An instance that is not as the scan found it ends the body; it is never padded and never finished,
because the server would store a request that looks complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import anyio

from bulkstow.destination.prefetch import StorageSpeed
from bulkstow.destination.request_timer import RequestState, RequestTimer
from bulkstow.destination.request_writer import RequestWriter
from bulkstow.destination.segments import GATHER_BYTES, Blocks, BodyReader, Cursor, segments
from bulkstow.destination.sendfile import SendfileWriter
from bulkstow.destination.tls_writer import TlsWriter
from bulkstow.destination.turns import TURN_BYTES, TurnEnd, TurnWriter
from bulkstow.errors import InstanceChanged, RunStopped
from bulkstow.events import BytesSent, Reporter
from bulkstow.model import Instance
from bulkstow.ports import Source
from bulkstow.wire.multipart import body_length

READ_BYTES = 2**20
"""The block of a body in chunks. A thread hop costs about 60 µs, reading a MiB from the page cache about 150 µs."""

WRITE_BYTES = 256 * 2**10
"""The piece that is written at once: the stall timeout begins again with each. Linux calls a full socket writable when
a third of its buffer is free, 1.4 MB of the usual 4 MiB; so a link may slow down to 23 kB/s before 60 s are over."""

ENCRYPT_BYTES = 256 * 2**10
"""The block of a body over TLS; OpenSSL keeps as much memory for each connection.
Reading and encrypting 4.2 GB takes 2.1 s of processor time with 128 KiB to 1 MiB."""

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
        """The time that worker threads have waited for the server meanwhile."""


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
    tls_blocks: Blocks = field(default_factory=partial(Blocks, ENCRYPT_BYTES))
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
        self.length_bytes = body_length(boundary, (i.size_bytes for i in instances))
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
            elif tls := request_writer.tls:
                blocks = self._resources.tls_blocks
                await self._take_turns(TlsWriter(drawn, self.length_bytes, connection, tls, blocks))
            else:
                self.is_copied = False
                await self._take_turns(SendfileWriter(drawn, self.length_bytes, connection))
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

    async def _take_turns(self, writer: TurnWriter) -> None:
        """Let the writer take its turns in worker threads, and wait for the socket in between."""
        turn: Future[TurnEnd] | None = None
        end = TurnEnd.TURN
        try:
            while end is not TurnEnd.SENT:
                if end is TurnEnd.FULL:
                    self._timer.enter(RequestState.SENDING)
                    await writer.until_ready()
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
