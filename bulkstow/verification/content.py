"""Compares instances at a server with their files: retrieved by WADO-RS, and compared while they are received.

Only where bytes differ is a received instance kept in a temporary file, and compared as a data set.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, closing
from dataclasses import replace

from bulkstow.blocking import ReadLimit
from bulkstow.destination.wado import InstanceReceiver, Retriever
from bulkstow.errors import HeadError
from bulkstow.model import Cause, Header, Instance, NoResponse, Response
from bulkstow.ports import Source
from bulkstow.verification.content_bytes import ByteComparison
from bulkstow.verification.content_received import ReceivedInstance
from bulkstow.verification.content_result import ContentComparer, ContentResult, NotCompared, Tell
from bulkstow.wire.part10 import Incomplete, read_head
from bulkstow.wire.resource_path import instance_path, series_path

NO_PATH = "its UIDs cannot be part of a URL"

HEAD_BYTES = 2**16
"""The bytes of a received instance in which its SOP Instance UID is looked for; most have it in the first KiB."""

PENDING = 4
"""Received instances that may still be compared while the next instance is received."""


class ContentComparison(ContentComparer):
    """Compares instances at a server with the files of a source.

    `retriever` knows the server; `threads` make the blocking calls, within the `limit`.
    """

    def __init__(self, retriever: Retriever, source: Source, *, threads: Executor, limit: ReadLimit) -> None:
        self._retriever = retriever
        self._source = source
        self._threads = threads
        self._limit = limit

    async def compare(self, instance: Instance) -> ContentResult:
        """Retrieve an instance once, and compare it with the source's (see `ContentComparer`)."""
        path = instance_path(instance.header)
        if path is None:
            return NotCompared(NO_PATH)
        with closing(_Single(self._begin(instance))) as receiver:
            exchange = await self._retriever.retrieve(path, receiver)
            if isinstance(exchange, NoResponse) or exchange.status != 200:
                return exchange
            return await receiver.result()

    async def compare_series(self, instances: Sequence[Instance], tell: Tell) -> Response | NoResponse:
        """Retrieve a series once, and compare its instances with the source's (see `ContentComparer`)."""
        path = series_path(instances[0].header)
        if path is None:
            return NoResponse(Cause.UNREACHABLE, body_started=False, detail=NO_PATH)
        with closing(_Series(instances, self._begin, tell)) as receiver:
            exchange = await self._retriever.retrieve(path, receiver)
            await receiver.settle()
        return exchange

    def _begin(self, instance: Instance) -> ReceivedInstance:
        """Begin to receive an instance."""
        # Compared files may be outside of the sources, so links to them are followed.
        instance = replace(instance, candidate=replace(instance.candidate, by_link=True))
        return ReceivedInstance(ByteComparison(self._source, instance), self._threads, self._limit)


class _Single(InstanceReceiver):
    """Receives the instance that was requested."""

    def __init__(self, received: ReceivedInstance) -> None:
        self._received = received
        self._has_ended = False
        self._has_more = False

    async def take(self, data: Sequence[memoryview]) -> bool:
        """Compare bytes; return False if the server sends another instance, or there is nothing more to compare."""
        self._has_more = self._has_ended
        return not self._has_more and await self._received.take(data)

    async def end(self) -> bool:
        """End the instance."""
        self._has_ended = True
        await self._received.end()
        return True

    async def result(self) -> ContentResult:
        """Return the result."""
        if self._has_more:
            detail = "more than the one instance that was requested"
            return NoResponse(Cause.MALFORMED, body_started=False, detail=detail)
        return await self._received.result()

    def close(self) -> None:
        """Close the files of the comparison."""
        self._received.close()


class _Series(InstanceReceiver):
    """Receives the instances of a series in any order, and reports the results of instances that have a file."""

    def __init__(
        self, instances: Iterable[Instance], begin: Callable[[Instance], ReceivedInstance], tell: Tell
    ) -> None:
        self._instances = {instance.header.sop_instance_uid: instance for instance in instances}
        self._begin = begin
        self._tell = tell
        self._first: list[memoryview] = []
        """The first bytes of an instance that is not identified yet."""
        self._current: tuple[Instance, ReceivedInstance] | None = None
        self._is_skipped = False
        """The rest of an instance is not needed."""
        self._pending: deque[tuple[Instance, ReceivedInstance]] = deque()
        self._is_wanted = True

    async def take(self, data: Sequence[memoryview]) -> bool:
        """Compare bytes with the file of the instance, as soon as it is identified."""
        if self._current is None and not self._is_skipped:
            self._first += data
            data = self._identify(is_whole=False)
        if self._current is not None and data and not self._is_skipped:
            self._is_skipped = not await self._current[1].take(data)
        return True

    async def end(self) -> bool:
        """End an instance; return False if all have been received."""
        if self._current is None and not self._is_skipped and (data := self._identify(is_whole=True)):
            await self.take(data)
        if self._current is not None:
            await self._current[1].end()
            self._pending.append(self._current)
        self._current, self._is_skipped, self._first = None, False, []
        while len(self._pending) > PENDING:
            await self._tell_first()
        return self._is_wanted and bool(self._instances)

    async def settle(self) -> None:
        """Wait for the results of all instances that were received to their end."""
        while self._pending:
            await self._tell_first()

    def close(self) -> None:
        """Close the files of the comparisons."""
        with ExitStack() as stack:
            for _, received in (*self._pending, *([self._current] if self._current else ())):
                stack.callback(received.close)

    def _identify(self, *, is_whole: bool) -> Sequence[memoryview]:
        """Find the file of an instance by its first bytes; return these bytes if there is one."""
        first = self._first
        head = first[0] if len(first) == 1 else b"".join(first)
        try:
            found = read_head(head, whole=is_whole)
        except HeadError:
            found = None
        if isinstance(found, Incomplete) and len(head) < HEAD_BYTES and not is_whole:
            return []
        instance = self._instances.pop(found.sop_instance_uid, None) if isinstance(found, Header) else None
        if instance is None:
            self._is_skipped = True
            return []
        self._current = instance, self._begin(instance)
        return first

    async def _tell_first(self) -> None:
        instance, received = self._pending.popleft()
        try:
            self._is_wanted = await self._tell(instance, await received.result()) and self._is_wanted
        finally:
            received.close()
