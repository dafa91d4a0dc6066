"""The body of a request, on its way from disk to socket with its exact length.

Over a plain connection files go from the page cache straight into the socket (see `sendfile`); over TLS, and in chunks,
they pass through this process, the next read being under way while the last is sent. Either way the event loop never
waits for the disk, and nothing is read that the socket has not asked for: a body holds at most two reads in memory.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Protocol

import aiofiles

from bulkstow.blocking import ReadLimit, each
from bulkstow.config import READ_TIMEOUT_S
from bulkstow.destination.ahead import StorageSpeed
from bulkstow.destination.contents import BodyReader, Contents, Cursor, Files, InstanceChanged, look_again, segments
from bulkstow.destination.http import RequestWriter
from bulkstow.destination.sendfile import TURN_BYTES, SendfileWriter, TurnEnd
from bulkstow.model import Instance, RequestTiming
from bulkstow.wire.multipart import body_length

READ_BYTES = 2**20
"""A thread hop costs about 60 µs and a MiB takes about 150 µs to read from the page cache: at 1 MiB a hop costs little,
and two of them for each request under way are no memory."""

WRITE_BYTES = 256 * 2**10
"""A piece given to the socket at once: the clock that calls a peer stalled is set back with every piece; four pieces a
MiB cost 20 µs. Linux calls a full socket writable when a third of its buffer is free, 1.4 MB of the usual 4 MiB: on
either way a link that has been fast may fall to 23 kB/s before the default of 60 s takes it for dead."""

LAST_TURN_S = 0.1
"""How long a turn that is under way is heard out: it is over after 54 ms, where the disk does not hang."""

WaitingFor = Literal["server", "disk", "throttle"]
"""What a body waits for: the server to take bytes, the disk to give them, or its turn at the bandwidth."""


class Throttle(Protocol):
    """Who says how fast bytes may leave."""

    def piece_bytes(self, wanted_bytes: int) -> int:
        """Return how many may be asked for at once."""

    async def admit(self, size_bytes: int) -> None:
        """Wait until so many may leave."""

    def give_back(self, size_bytes: int) -> None:
        """Take back what was admitted and did not leave."""


class Source(Protocol):
    """Who reads a body in threads."""

    @property
    def read_bytes(self) -> int:
        """How many so far."""

    @property
    def reading_s(self) -> float:
        """What that took, once a thread was at it."""

    @property
    def waited_s(self) -> float:
        """What a thread waited meanwhile, for the socket."""


class Body:
    """One request's body; every `send` begins it anew.

    `length_bytes` is exact. `on_taken(n)` hears of every n bytes that the socket has taken; `is_sent` is true before
    it hears of the last. `on_waiting` hears for whom it waits now.
    """

    def __init__(
        self,
        instances: Sequence[Instance],
        boundary: str,
        contents: Contents,
        readers: Executor,
        throttle: Throttle | None = None,
        on_taken: Callable[[int], None] = lambda _: None,
        ahead: StorageSpeed | None = None,
        on_waiting: Callable[[WaitingFor], None] = lambda _: None,
        limit: ReadLimit | None = None,
    ) -> None:
        self._instances = instances
        self._limit = limit or ReadLimit(READ_TIMEOUT_S)
        self._boundary = boundary
        self._contents = contents
        self._readers = readers
        self._throttle = throttle
        self._on_taken = on_taken
        self._ahead = ahead
        self._on_waiting = on_waiting
        self.length_bytes = body_length(boundary, (i.candidate.size_bytes for i in instances))
        self.fault: InstanceChanged | None = None
        self._begin()

    def _begin(self) -> None:
        self._began_s: float | None = None
        self._taken_s: float | None = None
        self._reading_s = self._sending_s = self._throttled_s = 0.0
        self._receive_window = 0.0
        self._left_bytes = self.length_bytes
        self._is_uncopied = False
        self._place = Cursor()
        self._prefetch = None if self._ahead is None else self._ahead.begin(self._instances)
        self.is_started = False

    @property
    def is_sent(self) -> bool:
        """All of it has left."""
        return self._left_bytes == 0

    def timing(self, started_s: float, ended_s: float) -> RequestTiming:
        """Return where the time of a request went that took from `started_s` to `ended_s` (`time.perf_counter`)."""
        began_s = ended_s if self._began_s is None else self._began_s
        taken_s = ended_s if self._taken_s is None else self._taken_s
        return RequestTiming(
            elapsed_s=ended_s - started_s,
            connecting_s=began_s - started_s,
            reading_s=self._reading_s,
            sending_s=self._sending_s,
            waiting_s=ended_s - taken_s,
            throttled_s=self._throttled_s,
            receive_window_s=self._sending_s * self._receive_window,
        )

    async def send(self, request_writer: RequestWriter) -> None:
        """Send the whole body.

        Raises SourceChanged, and keeps it in `fault`, as soon as a file is not what the scan found; OSError when the
        connection is lost.
        """
        self._begin()
        self._began_s = time.perf_counter()
        drawn = segments(self._instances, self._boundary, self._contents, self._place)
        before = request_writer.congestion()
        self._on_waiting("disk")
        try:
            connection = await request_writer.duplicate_socket()
            if connection is None:
                await self._copy(BodyReader(drawn), request_writer)
            else:
                self._is_uncopied = True
                await self._sendfile(SendfileWriter(drawn, self.length_bytes, connection))
        except InstanceChanged as changed:
            self.fault = changed
            raise
        finally:
            if self._prefetch is not None:
                self._prefetch.end()
            if before is not None and (after := request_writer.congestion()) is not None:
                self._receive_window = after.receive_window_since(before)

    @property
    def under_way(self) -> Instance:
        """The instance that is being read."""
        return self._instances[self._place.number]

    async def changed(self) -> dict[str, str]:
        """Return, by SOP Instance UID, why what the server took of an instance may not be what the scan found."""
        changed: dict[str, str] = {}
        if self._is_uncopied:
            changed = await look_again(self._look, self._instances, self._readers, self._limit)
        if self.fault is not None:
            changed[self.fault.instance.header.sop_instance_uid] = self.fault.reason
        return changed

    def _look(self, instance: Instance) -> dict[str, str]:
        return self._contents.changed([instance])

    async def _sendfile(self, writer: SendfileWriter) -> None:
        """Let the writer take its turns in worker threads, and wait for the socket in between."""
        turn: Future[TurnEnd] | None = None
        halt = TurnEnd.TURN
        try:
            while halt is not TurnEnd.SENT:
                if halt is TurnEnd.FULL:
                    await self._sending(writer.until_space())
                turn_bytes = await self._admitted(TURN_BYTES)
                before_bytes = writer.sent_bytes
                self._on_waiting("disk")  # each turn has its own time
                self.is_started = True  # before it is so: the connection may end before we hear of the first byte
                with self._reading(writer):
                    turn = self._readers.submit(writer.send, turn_bytes)
                    self._look_ahead()  # behind the turn, not before it
                    try:
                        halt = await _ended(turn)
                    finally:
                        self._took(writer.sent_bytes - before_bytes, turn_bytes)
        finally:
            writer.stop()
            if turn is None:
                writer.close()
            else:
                if not turn.done():
                    writer.shut_down()
                # A turn that hangs on a disk is not waited for: what it holds is closed when it ends.
                turn.add_done_callback(lambda _: writer.close())

    async def _copy(self, reader: BodyReader, request_writer: RequestWriter) -> None:
        """Read blocks in threads, and write each while the next is read."""
        free, filled = (memoryview(bytearray(min(READ_BYTES, self.length_bytes))) for _ in range(2))
        reading = self._readers.submit(reader.read_into, free)
        self._look_ahead()
        try:
            while True:
                with self._reading(reader):
                    count = await asyncio.wrap_future(reading)
                if not count:
                    return
                # The other buffer is free: the outlet keeps nothing of what it has taken.
                free, filled = filled, free
                reading = self._readers.submit(reader.read_into, free)
                self._look_ahead()
                await self._write_block(filled[:count], request_writer)
        finally:
            reading.add_done_callback(lambda _: reader.close())

    async def _write_block(self, block: memoryview, request_writer: RequestWriter) -> None:
        start = 0
        while start < len(block):
            admitted_bytes = await self._admitted(min(WRITE_BYTES, len(block) - start))
            self.is_started = True
            await self._sending(request_writer.write(block[start : start + admitted_bytes]))
            self._took(admitted_bytes, admitted_bytes)
            start += admitted_bytes

    async def _admitted(self, wanted_bytes: int) -> int:
        """Return how many bytes may leave now."""
        if self._throttle is None:
            return wanted_bytes
        size_bytes = self._throttle.piece_bytes(min(wanted_bytes, self._left_bytes))
        started_s = time.perf_counter()
        self._on_waiting("throttle")
        await self._throttle.admit(size_bytes)
        self._on_waiting("disk")
        self._throttled_s += time.perf_counter() - started_s
        return size_bytes

    def _took(self, sent_bytes: int, admitted_bytes: int) -> None:
        """The socket has taken so many of the bytes that it was let have."""
        if self._throttle is not None and sent_bytes < admitted_bytes:
            self._throttle.give_back(admitted_bytes - sent_bytes)
        if sent_bytes:
            self._left_bytes -= sent_bytes
            if self.is_sent:
                self._taken_s = time.perf_counter()
            self._on_taken(sent_bytes)

    async def _sending(self, wait: Awaitable[None]) -> None:
        started_s = time.perf_counter()
        self._on_waiting("server")
        try:
            await wait
        finally:
            self._sending_s += time.perf_counter() - started_s
        self._on_waiting("disk")

    def _look_ahead(self) -> None:
        if self._prefetch is not None:
            self._prefetch.keep_ahead(self._place.number)

    @contextmanager
    def _reading(self, source: Source) -> Iterator[None]:
        """Count what a wait for a thread is spent on; that others had it first is not the disk's fault."""
        started_s, read_before_s, waited_before_s = time.perf_counter(), source.reading_s, source.waited_s
        try:
            yield
        finally:
            self._sending_s += source.waited_s - waited_before_s
            reading_s = source.reading_s - read_before_s
            self._reading_s += max(0.0, min(reading_s, time.perf_counter() - started_s))
            if self._prefetch is not None:
                self._prefetch.see(self._place.number, source.read_bytes, source.reading_s)


async def _ended(turn: Future[TurnEnd]) -> TurnEnd:
    """Wait for a turn. That it sent the last byte stands, even if we are cancelled before we hear of it.

    aiohttp cancels who still writes when the answer is there, and gives up the connection; and an answer can be faster
    than the thread that has just sent the last byte.
    """
    try:
        return await asyncio.wrap_future(turn)
    except asyncio.CancelledError:
        if not turn.cancelled():
            ending = asyncio.wrap_future(turn)
            ending.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # nobody else will ask
            await asyncio.wait([ending], timeout=LAST_TURN_S)
        task = asyncio.current_task()
        if turn.cancelled() or not turn.done() or turn.exception() or turn.result() is not TurnEnd.SENT or task is None:
            raise
        task.uncancel()
        return TurnEnd.SENT


async def write_body(
    instances: Sequence[Instance], boundary: str, path: Path, readers: Executor, limit: ReadLimit
) -> int:
    """Write a request's body to a file, byte for byte what would be sent, and return its length in bytes.

    Raises SourceChanged, also where the storage does not answer, and OSError where the file cannot be written.
    """
    view = memoryview(bytearray(READ_BYTES))
    size_bytes = 0
    place = Cursor()
    reader = BodyReader(segments(instances, boundary, Files(), place))

    def missed(_view: memoryview, why: str) -> int:
        raise InstanceChanged(instances[place.number], f"cannot be read: {why}")

    async with aiofiles.open(path, "wb", buffering=0) as file:
        while True:
            # Where it hangs, an empty list comes first.
            count = sum([sum(read) async for read in each(reader.read_into, [view], missed, readers, limit)])
            if not count:
                return size_bytes
            written_bytes = 0
            while written_bytes < count:  # without a buffer a write may take less than it is given
                written_bytes += await file.write(view[written_bytes:count])
            size_bytes += count
