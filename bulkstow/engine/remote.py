"""A sender elsewhere, seen from the coordinator.

`RemoteSender.send` gives a batch to the sender and waits until its request has ended. A sender that is lost ends its
requests without a response: whether the server has stored them is unknown, and the scheduler sends them again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from anyio.abc import TaskGroup

from bulkstow.destination.body import ByteLimiter
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
from bulkstow.errors import BulkstowError, RunStopped
from bulkstow.events import BytesSent, Reporter, RequestTimed
from bulkstow.model import Batch, Cause, Exchange, Instance, NoResponse

Reply = Ended | Failed | Verified


@dataclass(frozen=True, slots=True)
class Used:
    """Processor time of a process, and the part of it that was not spent in the system's calls."""

    cpu_s: float = 0.0
    user_s: float = 0.0

    def since(self, before: Used) -> Used:
        """Return the difference to an earlier sum."""
        return Used(self.cpu_s - before.cpu_s, self.user_s - before.user_s)


class Channel(Protocol):
    """Messages to and from one sender; belongs to the event loop."""

    @property
    def name(self) -> str:
        """The name for messages to the user."""

    def send(self, message: ToSender) -> None:
        """Send a message as soon as the sender takes it; without effect if the sender is lost."""

    async def receive(self) -> FromSender | None:
        """Wait for the next message; None if the sender is lost."""

    async def close(self) -> None:
        """End the sender, and wait until it has ended."""


class RemoteSender:
    """One sender; `run` has to be running while it is used."""

    def __init__(
        self, channel: Channel, *, throttle: ByteLimiter | None, reporter: Reporter, is_checked: bool = True
    ) -> None:
        self._channel = channel
        self._throttle = throttle
        self._reporter = reporter
        self._numbers = count(1)
        self._replies: dict[int, asyncio.Future[Reply | None]] = {}
        self._sent_bytes = 0
        self._has_begun = False
        self.is_checked = is_checked
        """It sees the same files; until then it gets no batches."""
        self.is_retired = False
        """It gets no more batches."""
        self.is_lost = False
        self.failure: BulkstowError | None = None
        """Why it could not begin, or was refused."""
        self.requests_ended = self.requests_lost = 0
        self.messages = 0
        """Messages received so far; a sender of which none comes any more hangs."""
        self._messages_before = -1
        self._silent_looks = 0
        self.used = Used()
        """Processor time that it has used."""

    @property
    def name(self) -> str:
        """The name for messages to the user."""
        return self._channel.name

    @property
    def is_ready(self) -> bool:
        """True if it takes batches."""
        return self._has_begun and self.is_checked and not self.is_retired and not self.is_lost

    def accept(self) -> None:
        """Take batches from now on: the check has found nothing."""
        self.is_checked = True

    def refuse(self, why: str) -> None:
        """Take no batches: the check has found something."""
        self.failure = self.failure or RunStopped(why)

    def retire(self) -> None:
        """Take no more batches."""
        self.is_retired = True

    @property
    def in_flight(self) -> int:
        """The number of requests under way."""
        return len(self._replies)

    def silent_looks(self) -> int:
        """Return for how many calls of this function in a row no message has come.

        Calls are counted, not seconds: while this process is stopped, no message arrives either.
        """
        self._silent_looks = self._silent_looks + 1 if self.messages == self._messages_before else 0
        self._messages_before = self.messages
        return self._silent_looks

    async def run(
        self, begin: Begin, tasks: TaskGroup, changed: Callable[[], None], *, is_ending: bool = False
    ) -> None:
        """Handle the sender's messages until it is lost; `changed` is called when it is ready, and when it is lost."""
        self._channel.send(begin)
        if is_ending:
            self.shorten_reads()
        try:
            while (message := await self._channel.receive()) is not None:
                self.messages += 1
                match message:
                    case Ready():
                        self._has_begun = True
                        changed()
                    case Failed(number=None):
                        self.failure = message.error
                        return
                    case Wanted():
                        tasks.start_soon(self._admit, message)
                    case _:
                        self._take(message)
        finally:
            self.is_lost = True
            self.requests_lost = len(self._replies)
            for reply in self._replies.values():
                if not reply.done():
                    reply.set_result(None)
            changed()

    def _take(self, message: FromSender) -> None:
        match message:
            case Progress(sent_bytes, cpu_s, user_s):
                if sent_bytes > self._sent_bytes:
                    self._reporter.tell(BytesSent(sent_bytes - self._sent_bytes))
                self._sent_bytes, self.used = sent_bytes, Used(cpu_s, user_s)
            case GivenBack(size_bytes):
                if self._throttle is not None:
                    self._throttle.give_back(size_bytes)
            case Ended(number=int(number)) | Failed(number=int(number)) | Verified(number=int(number)):
                if (reply := self._replies.get(number)) is not None and not reply.done():
                    reply.set_result(message)
            case _:
                raise TypeError(f"unexpected message {type(message).__name__} from {self.name}")

    async def _admit(self, wanted: Wanted) -> None:
        size_bytes = wanted.size_bytes if self._throttle is None else await self._throttle.admit(wanted.size_bytes)
        self._channel.send(Admitted(wanted.number, size_bytes))

    async def send(self, batch: Batch) -> Exchange:
        """Have a batch sent once. Raises RunStopped as the sender's destination does."""
        match await self._asked(lambda number: Post.of(number, batch)):
            case Ended(exchange=exchange, timings=timings):
                self.requests_ended += 1
                for timing in timings:
                    self._reporter.tell(RequestTimed(timing, batch))
                return exchange
            case Failed() as failed:
                raise failed.error
            case _:
                return NoResponse(Cause.SENDER_LOST, body_started=True, detail=self.name)

    async def verify(self, instance: Instance) -> str | None:
        """Return how a file differs from the scan where the sender is; empty if it does not, None if it is lost.

        Raises RunStopped if the server cannot be used from there.
        """
        match await self._asked(lambda number: Verify.of(number, instance)):
            case Verified(change=change):
                return change
            case Failed() as failed:
                raise failed.error
            case _:
                return None

    def shorten_reads(self) -> None:
        """Wait only a moment longer for storage that hangs."""
        self._channel.send(ShortenReads())

    async def close(self) -> None:
        """End the sender, and wait until it has ended."""
        await self._channel.close()

    async def _asked(self, message: Callable[[int], ToSender]) -> Reply | None:
        """Send a message and wait for the reply; None if the sender is lost."""
        if self.is_lost:
            return None
        number = next(self._numbers)
        reply: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
        self._replies[number] = reply
        self._channel.send(message(number))
        try:
            return await reply
        finally:
            del self._replies[number]
            if not reply.done() or reply.cancelled():
                self._channel.send(Cancel(number))
