"""Requests that read from the server: within the limits of the run, and repeated if they fail.

A request waits for its turn, is made, and goes back to waiting if it has to be repeated: it holds no place meanwhile.
The limits, the circuit breaker and the backoff are those of an upload.
"""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import anyio
from anyio.abc import TaskGroup

from bulkstow.destination.search import Found
from bulkstow.events import Reporter
from bulkstow.model import NoResponse, Response
from bulkstow.pipeline.health_monitor import HealthMonitor, Probed
from bulkstow.pipeline.turns import Turns
from bulkstow.policy.controllers import EndedRequest, RequestLimits
from bulkstow.policy.gates import ConcurrencyGate, PaceGate
from bulkstow.policy.health import CircuitBreaker
from bulkstow.policy.pacing import Pacer
from bulkstow.policy.reading import Tries, after_failure, is_answer, signal_of
from bulkstow.policy.request_rate import ServerRateGate
from bulkstow.policy.retry import Backoff
from bulkstow.policy.work_items import HealthSignal

R = TypeVar("R")

_ANSWERED = Response(200, b"")
"""A placeholder for every parsed response, in the policy and the controllers."""


class Abandoned(Exception):
    """Nothing more is requested, because the run was drained or stopped."""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A request that failed, and every repetition of it."""

    reason: str


@dataclass(slots=True)
class RequestTally:
    """The figures of all requests."""

    requests: int = 0
    retries: int = 0
    received_bytes: int = 0
    waiting_s: float = 0.0
    """The time of all requests, added up."""
    busy_s: float = 0.0
    """The time in which at least one request was under way."""


class Requests(Turns):
    """Makes requests in the order of the calls of `make`.

    `attempts` bounds those of one request that end without an answer.
    """

    def __init__(
        self,
        *,
        limits: RequestLimits,
        breaker: CircuitBreaker,
        pacer: Pacer | None,
        backoff: Backoff,
        attempts: int,
        reporter: Reporter,
    ) -> None:
        self._limits = limits
        self._breaker = breaker
        self._backoff = backoff
        self._attempts = attempts
        self._reporter = reporter
        self._concurrency = ConcurrencyGate(limits.concurrency)
        self._open_to = (
            self._concurrency,
            breaker,
            *(() if pacer is None else (PaceGate(pacer),)),
            ServerRateGate(limits.request_rate, breaker),
        )
        super().__init__(self._open_to)
        self._monitor: HealthMonitor | None = None
        self._turn = anyio.Lock(fast_acquire=True)
        self._waiting = 0
        self._under_way_since_s = 0.0
        self.tally = RequestTally()

    def attend(self, destination: Probed, tasks: TaskGroup) -> None:
        """Attend to outages from now on, in tasks of a group."""
        self._monitor = HealthMonitor(
            breaker=self._breaker, destination=destination, scheduler=self, reporter=self._reporter, tasks=tasks
        )

    @property
    def is_over(self) -> bool:
        """True if nothing more is requested and no request is under way."""
        return self.is_abandoned and not self._concurrency.in_flight

    @property
    def in_flight(self) -> int:
        """Requests that are under way."""
        return self._concurrency.in_flight

    @property
    def limit(self) -> int:
        """Requests that may be under way."""
        return self._concurrency.limit

    async def make(
        self, attempt: Callable[[], Awaitable[Found[R] | Response | NoResponse]]
    ) -> R | Response | Unanswered:
        """Make a request until it is answered, and return its results.

        A Response has a status that no retry changes. Raises Abandoned if the run ends first, and the exceptions of
        `attempt`.
        """
        tries = Tries()
        while True:
            answer, is_outage = await self._make_once(attempt)
            if isinstance(answer, Found):
                return answer.results
            if isinstance(answer, Response) and is_answer(answer):
                return answer
            retry = after_failure(answer, tries, attempts=self._attempts, is_outage=is_outage)
            if isinstance(retry, str):
                return Unanswered(retry)
            tries = retry.tries
            self.tally.retries += 1
            delay_s = self._backoff.delay_s(
                retry.delay,
                failed_attempts=tries.failed + tries.excused,
                jitter=random.random(),
                at_least_s=retry.at_least_s,
            )
            await self.pause(delay_s)

    async def pause(self, duration_s: float) -> None:
        """Wait. Raises Abandoned if the run ends meanwhile."""
        with anyio.move_on_after(duration_s):
            await self.abandoned.wait()
            raise Abandoned

    async def _make_once(
        self, attempt: Callable[[], Awaitable[Found[R] | Response | NoResponse]]
    ) -> tuple[Found[R] | Response | NoResponse, bool]:
        """Return the answer, and whether an outage explains a failure."""
        item = object()
        await self._enter(item)
        started_s, at_once = anyio.current_time(), self.in_flight
        answer: Found[R] | Response | NoResponse | None = None
        signal, is_outage = HealthSignal.NONE, False
        try:
            with self.cancellable():
                answer = await attempt()
            if answer is None:
                raise Abandoned
            if isinstance(answer, Found):
                signal = HealthSignal.EASED
            else:
                signal, is_outage = signal_of(answer), self._breaker.excuses(item)
            self._learn(answer, started_s, at_once)
        finally:
            self._leave(item, signal, started_s)
        return answer, is_outage

    async def _enter(self, item: object) -> None:
        """Wait until all gates are open, and count the request as started."""
        self._waiting += 1
        try:
            async with self._turn:
                while not self.is_abandoned:
                    now_s = anyio.current_time()
                    wait_s = max(gate.wait_s(item, now_s) for gate in self._open_to)
                    if wait_s <= 0:
                        break
                    changed = self._changed
                    with anyio.move_on_after(None if wait_s == math.inf else wait_s):
                        await changed.wait()
                else:
                    raise Abandoned
                if not self.in_flight:
                    self._under_way_since_s = now_s
                for gate in self._open_to:
                    gate.started(item, now_s)
        finally:
            self._waiting -= 1

    def _leave(self, item: object, signal: HealthSignal, started_s: float) -> None:
        now_s = anyio.current_time()
        for gate in self._open_to:
            gate.ended(item, now_s, signal)
        self.tally.requests += 1
        self.tally.waiting_s += now_s - started_s
        if not self.in_flight:
            self.tally.busy_s += now_s - self._under_way_since_s
        self.wake()
        if self._monitor is not None:
            self._monitor.observe()

    def _learn(self, answer: Found[R] | Response | NoResponse, started_s: float, at_once: int) -> None:
        """Tell the controllers how a request ended."""
        size_bytes, instances = (answer.size_bytes, answer.instances) if isinstance(answer, Found) else (0, 0)
        self.tally.received_bytes += size_bytes
        self._limits.ended(
            EndedRequest(
                size_bytes=size_bytes,
                instances=instances,
                exchange=_ANSWERED if isinstance(answer, Found) else answer,
                started_s=started_s,
                ended_s=anyio.current_time(),
                at_once=at_once,
                is_wanted=self._waiting > 0,
                is_outage=self._breaker.is_open,
            )
        )
