"""A sender: sends the batches that a coordinator gives it, with an event loop and connections of its own.

The same code runs in a process of this computer (`engine.process`) and in a worker of a cluster (`engine.dask`). It
decides nothing about instances: it gives back how each request ended, and the coordinator settles that.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from itertools import count
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from bulkstow.blocking import ReadLimit
from bulkstow.destination.auth import Auth, login
from bulkstow.destination.body import ByteLimiter
from bulkstow.destination.stow import StowDestination
from bulkstow.engine.messages import (
    Admitted,
    Begin,
    Cancel,
    Ended,
    Failed,
    FromSender,
    GivenBack,
    Post,
    Progress,
    Ready,
    ShortenReads,
    ToSender,
    Verified,
    Verify,
    Wanted,
)
from bulkstow.errors import ConfigurationError, RunStopped
from bulkstow.events import BytesSent, Event, RequestTimed
from bulkstow.model import RequestTiming
from bulkstow.pipeline.worker_threads import WorkerThreads
from bulkstow.ports import Source
from bulkstow.source.archives import Archives
from bulkstow.source.files import FileSource
from bulkstow.source.spool import Spool
from bulkstow.source_check import SourceCheck

if TYPE_CHECKING:
    from bulkstow.wire.edit_rules import Edits

PROGRESS_INTERVAL_S = 0.25
"""Interval of the messages of progress: as often as the coordinator looks at its senders. It decodes one in 2.5 µs."""

Tell = Callable[[FromSender], None]


async def serve(messages: AsyncIterator[ToSender], tell: Tell) -> None:
    """Send the batches of a coordinator until its messages end; `tell` takes messages to it without waiting."""
    begin = await anext(messages)
    if not isinstance(begin, Begin):
        raise TypeError(f"the first message to a sender is Begin, not {type(begin).__name__}")
    limit = ReadLimit(begin.read_timeout_s)
    threads = WorkerThreads(begin.read_concurrency, stuck_s=limit.stuck_s)
    try:
        auth = await anyio.to_thread.run_sync(login, begin.destination, begin.environment, abandon_on_cancel=True)
        sender = Sender(begin, auth, tell, threads, limit)
        async with sender.destination, anyio.create_task_group() as tasks:
            tell(Ready())
            tasks.start_soon(sender.report_progress)
            async for message in messages:
                sender.take(message, tasks)
            tasks.cancel_scope.cancel()
    except ConfigurationError as error:
        tell(Failed.of(error))
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


class Sender:
    """Sends batches to one destination; belongs to the event loop.

    Raises ConfigurationError for a destination that cannot be used from here.
    """

    def __init__(self, begin: Begin, auth: Auth, tell: Tell, threads: WorkerThreads, limit: ReadLimit) -> None:
        self._tell = tell
        self._limit = limit
        self._throttle = CoordinatorLimit(tell) if begin.is_throttled else None
        source = _source(begin.edits)
        self._source_check = SourceCheck(source, threads, limit)
        self.destination = StowDestination(
            begin.destination,
            auth,
            source=source,
            readers=threads,
            limit=limit,
            reporter=self,
            throttle=self._throttle,
            headers=begin.headers,
        )
        self._under_way: dict[int, anyio.CancelScope] = {}
        self._timings: dict[int, tuple[RequestTiming, ...]] = {}
        self._sent_bytes = 0
        self._cpu_before_s, self._user_before_s = time.process_time(), os.times().user

    def take(self, message: ToSender, tasks: TaskGroup) -> None:
        """Act on a message; requests become tasks."""
        match message:
            case Post():
                self._under_way[message.number] = anyio.CancelScope()
                tasks.start_soon(self._post, message)
            case Verify():
                tasks.start_soon(self._verify, message)
            case Cancel(number):
                if number in self._under_way:
                    self._under_way[number].cancel()
            case Admitted(number, size_bytes):
                if self._throttle is not None:
                    self._throttle.admitted(number, size_bytes)
            case ShortenReads():
                self._limit.shorten()
            case Begin():
                raise TypeError("a sender begins only once")

    def tell(self, event: Event) -> None:
        """Take an event of the destination."""
        match event:
            case BytesSent(size_bytes):
                self._sent_bytes += size_bytes
            case RequestTimed(timing, batch) if batch is not None:
                self._timings[batch.number] = (*self._timings.get(batch.number, ()), timing)
            case _:
                pass

    async def report_progress(self) -> None:
        """Tell the progress at intervals, until it is cancelled."""
        while True:
            self._tell_progress()
            await anyio.sleep(PROGRESS_INTERVAL_S)

    def _tell_progress(self) -> None:
        cpu_s, user_s = time.process_time() - self._cpu_before_s, os.times().user - self._user_before_s
        self._tell(Progress(self._sent_bytes, cpu_s, user_s))

    async def _post(self, post: Post) -> None:
        with self._under_way[post.number]:
            try:
                exchange = await self.destination.send(post.batch)
            except RunStopped as stop:
                self._tell(Failed.of(stop, post.number))
            else:
                self._tell_progress()
                self._tell(Ended(post.number, exchange, self._timings.get(post.number, ())))
            finally:
                del self._under_way[post.number]
                self._timings.pop(post.number, None)

    async def _verify(self, verify: Verify) -> None:
        instance = verify.instance
        try:
            await self.destination.reach()
        except RunStopped as stop:
            self._tell(Failed.of(stop, verify.number))
            return
        changed = await self._source_check.changed([instance])
        self._tell(Verified(verify.number, changed.get(instance.header.sop_instance_uid, "")))


def _source(edits: Edits | None) -> Source:
    """Return the source of the coordinator's files, with its edits."""
    # Members that the coordinator has not found in place are found here.
    files = FileSource(archives=Archives(Spool(0), looks_into_files=False))
    if edits is None:
        return files
    from bulkstow.engine.edits import edited  # pydicom takes 0.2 s to import

    return edited(files, edits)


class CoordinatorLimit(ByteLimiter):
    """The bandwidth limit of all senders together: the coordinator admits the bytes of each."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._numbers = count()
        self._waiting: dict[int, asyncio.Future[int]] = {}

    async def admit(self, wanted_bytes: int) -> int:
        """Ask the coordinator, and wait for its answer."""
        if not wanted_bytes:
            return 0
        number = next(self._numbers)
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        self._tell(Wanted(number, wanted_bytes))
        try:
            return await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled():
                self.give_back(answer.result())
            raise
        finally:
            self._waiting.pop(number, None)

    def admitted(self, number: int, size_bytes: int) -> None:
        """Pass on an answer; give it back if the request that asked was cancelled."""
        answer = self._waiting.pop(number, None)
        if answer is None or answer.done():
            self.give_back(size_bytes)
        else:
            answer.set_result(size_bytes)

    def give_back(self, size_bytes: int) -> None:
        """Return bytes that were admitted and not sent."""
        self._tell(GivenBack(size_bytes))
