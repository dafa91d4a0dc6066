"""Puts one load on a server, once, and has it recorded.

Starts the requests: in a closed load, a connection's next request when its last has ended; in an open load, as the
schedule says and a slot is free. Ends the load after its time, on demand, or when a request fails in a way that no
retry fixes. Then it waits for the requests in flight and starts no more. The clock is the sender's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import anyio
import anyio.abc

from bulkstow.bench.recorder import Measured, OnSecond, RecordedRequest, Recorder
from bulkstow.bench.result import Load
from bulkstow.bench.schedule import Due, OpenLoad
from bulkstow.bench.sender import Answered, Sender
from bulkstow.errors import RunStopped

LOOK_S = 0.02
"""Between two looks at the clock and the event loop's lag: 50 samples/s cost a thousandth of a processor."""

FILL_S = 1.0
"""The least time of a warm-up that ends when every connection has had a response."""

LONGEST = 6
"""A load that waits for its rounds ends after so many times its duration."""

NO_CONNECTION_S = 0.2
"""Before another attempt to connect to a server that is gone."""


@dataclass(frozen=True, slots=True)
class LoadPhase:
    """One load, once."""

    load: Load
    connections: int
    """Requests at once, at most."""
    duration_s: float
    warmup_s: float | None
    """None: until goodput has settled, or with `rounds` until every connection has had a response."""
    starts: Callable[[], Iterator[float]] | None = None
    """When requests of an open load are due, from its beginning; None for a closed one."""
    rounds: int = 0
    """Responses that every connection has at the end of the load, within LONGEST times the duration. Such a load is
    measured from one response of a connection to a later one of the same, so that long requests are counted whole."""


class Driver:
    """Carries out a phase; `stopped_by` is the error that ended it early, if any."""

    def __init__(
        self,
        phase: LoadPhase,
        sender: Sender,
        *,
        on_second: OnSecond = lambda *_: None,
        on_answered: Callable[[Answered], None] = lambda _: None,
        rss_bytes: Callable[[], int] = lambda: 0,
    ) -> None:
        self._phase = phase
        self._sender = sender
        self._on_answered = on_answered
        self._rss_bytes = rss_bytes
        self._now = sender.now
        self._began_s = self._now()
        self.recorder = Recorder(self._began_s, warmup_s=phase.warmup_s, on_second=on_second)
        self._answers = [0] * phase.connections
        self._last_warm = 0
        """The connection whose response ended the warm-up."""
        self._is_over = False
        self._ended = anyio.Event()
        self.stopped_by: RunStopped | None = None

    async def carry_out(self) -> Measured:
        """Put the load on and return its figures when the last request has ended.

        When cancelled, requests in flight count as unanswered; `recorder` has the figures then.
        """
        try:
            async with anyio.create_task_group() as watching:
                watching.start_soon(self._watch)
                async with anyio.create_task_group() as requests:
                    if self._phase.starts is None:
                        for worker in range(self._phase.connections):
                            requests.start_soon(self._connection, worker)
                    else:
                        await self._keep(OpenLoad(self._phase.starts(), self._began_s), requests)
                watching.cancel_scope.cancel()
        finally:
            self.end()
        return self.recorder.finish(self._now())

    def end(self) -> None:
        """Start no more requests."""
        self._end(self._now())

    def _end(self, at_s: float) -> None:
        if not self._is_over:
            self._is_over = True
            self.recorder.stop(at_s)
            self._ended.set()

    async def _connection(self, worker: int) -> None:
        """Send one request after the other."""
        while not self._is_over:
            answered = await self._request(worker)
            if answered is not None and answered.is_unreachable:
                await anyio.sleep(NO_CONNECTION_S)

    async def _keep(self, schedule: OpenLoad, requests: anyio.abc.TaskGroup) -> None:
        """Start the requests that are due while slots are free, until the load has ended."""
        loop = asyncio.get_running_loop()
        # The slot that was used last is used next, so that few studies are started.
        free = list(reversed(range(self._phase.connections)))
        timer = loop.call_soon(lambda: None)

        def turn() -> None:
            nonlocal timer
            timer.cancel()
            if self._is_over:
                return
            now_s = self._now()
            begun, dropped = schedule.take(now_s, len(free))
            self._drop(dropped, now_s)
            for due in begun:
                requests.start_soon(fill, due, free.pop())
            if schedule.next_s is not None:
                timer = loop.call_later(max(schedule.next_s - now_s, 0.0), turn)

        async def fill(due: Due, slot: int) -> None:
            await self._request(slot, due)
            free.append(slot)
            if schedule.waiting:
                turn()

        turn()
        await self._ended.wait()
        timer.cancel()
        self._drop(schedule.end(), self._now())

    def _drop(self, dropped: Sequence[Due], now_s: float) -> None:
        for due in dropped:
            self.recorder.dropped(due.intended_s, self._phase.load.batch_instances, now_s=now_s)

    async def _request(self, worker: int, due: Due | None = None) -> Answered | None:
        """Send one request and record it; return None where it ended the load."""
        batch = self._sender.take(worker, self._phase.load.batch_instances)
        started_s = self._now()
        # In a closed load a request is due when it starts, so it is never late.
        intended_s, had_slot = (due.intended_s, due.had_slot) if due is not None else (started_s, False)
        self.recorder.started(started_s)
        try:
            answered = await self._sender.send(batch, started_s=started_s, intended_s=intended_s, had_slot=had_slot)
        except BaseException as stop:
            self.end()
            now_s = self._now()
            self.recorder.ended(RecordedRequest(intended_s, started_s, now_s, is_unanswered=True, had_slot=had_slot))
            if not isinstance(stop, RunStopped):
                raise
            # In a field, as the task group would wrap it in a group of one.
            self.stopped_by = stop
            return None
        self.recorder.ended(answered.ended)
        if self._phase.rounds and not self._is_over:
            self._count_rounds(worker, answered.ended.ended_s)
        self._on_answered(answered)
        return answered

    async def _watch(self) -> None:
        """Record the loop's lag and the end of each second, and end the load after its time."""
        while True:
            due_s = self._now() + LOOK_S
            await asyncio.sleep(LOOK_S)
            now_s = self._now()
            self.recorder.lag(now_s - due_s)
            self.recorder.memory(self._rss_bytes())
            self.recorder.tick(now_s)
            if not self._is_over and self._has_had_its_time(now_s):
                self._end(now_s)

    def _has_had_its_time(self, now_s: float) -> bool:
        if self.recorder.warmup_s is None:
            return False
        most_s = self._phase.duration_s * (LONGEST if self._phase.rounds else 1)
        return now_s - self._began_s - self.recorder.warmup_s >= most_s

    def _count_rounds(self, worker: int, now_s: float) -> None:
        """Count a response, which may end the warm-up or the load."""
        self._answers[worker] += 1
        warmup_s, phase = self.recorder.warmup_s, self._phase
        if warmup_s is None:
            if all(self._answers) and now_s - self._began_s >= FILL_S:
                self.recorder.warm(now_s)
                self._answers, self._last_warm = [0] * phase.connections, worker
        elif (
            worker == self._last_warm
            and now_s - self._began_s - warmup_s >= phase.duration_s
            and min(self._answers) >= phase.rounds
        ):
            self._end(now_s)
