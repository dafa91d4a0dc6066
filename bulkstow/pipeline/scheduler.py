"""What waits to be sent, and who may go next.

Between the assembler and the senders: fresh batches (a short window, so that several studies can be under way), and
errands that wait for their next try outside any slot. A free sender takes; when the window is full, or too much waits
for its retry, the assembler waits, and with it the whole pipeline up to the scan: that is the backpressure.

Decides by `policy` (lanes, breaker, budget, pacer); sends nothing itself. With a pacer, every errand is one request,
and who is too early waits here, not on a slot.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import count

import anyio

from bulkstow.model import Batch
from bulkstow.policy.bottleneck import Wait
from bulkstow.policy.concurrency import Concurrency
from bulkstow.policy.health import CircuitBreaker
from bulkstow.policy.pacing import Pacer
from bulkstow.policy.request_rate import RequestRate
from bulkstow.policy.retry import RetryBudget
from bulkstow.policy.study_limiter import StudyLimiter
from bulkstow.policy.work_items import Query, Store, WorkItem

WINDOW_PER_SENDER = 4
"""Fresh batches that wait for each request that may be under way. While the first request of a study is under way its
others have to wait: some batches of other studies must be in sight to keep the senders busy."""

WAITING_PER_SENDER = 16
"""Errands that wait for a retry, likewise, until nothing fresh is taken: what waits does not grow with the
archive."""


class Scheduler:
    """Hands errands to senders.

    All its methods belong to one event loop. Times are those of `anyio.current_time`.
    """

    def __init__(
        self,
        *,
        concurrency: Concurrency,
        study_limiter: StudyLimiter,
        breaker: CircuitBreaker,
        budget: RetryBudget,
        pacer: Pacer | None = None,
        request_rate: RequestRate | None = None,
        on_wait: Callable[[Wait, float], None] = lambda _wait, _duration_s: None,
    ) -> None:
        self._concurrency = concurrency
        self._study_limiter = study_limiter
        self._breaker = breaker
        self._budget = budget
        self._pacer = pacer
        self._request_rate = request_rate or RequestRate()
        self._on_wait = on_wait
        self._fresh: deque[WorkItem] = deque()
        self._due: deque[WorkItem] = deque()
        self._parked: list[tuple[float, int, WorkItem]] = []
        self._order = count()
        self._in_flight = 0
        self._ended = False
        self._changed = anyio.Event()
        self.is_abandoned = False
        self.abandoned = anyio.Event()

    async def offer(self, batch: Batch) -> None:
        """Hand over a fresh batch; wait while the window is full."""
        while not self.is_abandoned and self._is_full():
            await self._changed.wait()
        if not self.is_abandoned:
            self._fresh.append(Store(batch))
            self._notify()

    @property
    def is_wanting(self) -> bool:
        """Something waits that could be under way, if more were allowed at once."""
        if self._early_s(anyio.current_time()) > 0:
            return False
        return any(self._study_limiter.allow(item.batch) for waiting in (self._due, self._fresh) for item in waiting)

    @property
    def in_flight(self) -> int:
        """Errands that are under way."""
        return self._in_flight

    @property
    def is_plentiful(self) -> bool:
        """Half as many batches would still keep all senders busy: twice as many wait as may be under way."""
        return len(self._fresh) >= 2 * self._concurrency.limit

    @property
    def idle(self) -> int:
        """How many requests might begin for which nothing is there."""
        if self._ended:
            return 0
        return max(0, self._concurrency.limit - self._in_flight - len(self._fresh) - len(self._due))

    @property
    def at_once(self) -> int:
        """How many requests may be under way."""
        return self._concurrency.limit

    def is_ready(self, study_uid: str) -> bool:
        """Say whether a request with instances of this study might begin."""
        return self._study_limiter.allow_study(study_uid)

    @property
    def is_ending(self) -> bool:
        """Nothing fresh is left or will come."""
        return self._ended and not self._fresh

    @property
    def is_over(self) -> bool:
        """Nothing is left, under way, or to come."""
        return self._ended and not (self._fresh or self._due or self._parked or self._in_flight)

    def end(self) -> None:
        """Nothing fresh will come."""
        self._ended = True
        self._notify()

    def abandon(self) -> None:
        """Start nothing more: what waits is left for the next run."""
        self.is_abandoned = True
        self.abandoned.set()
        for waiting in (self._fresh, self._due, self._parked):
            waiting.clear()
        self.end()

    async def take(self) -> WorkItem | None:
        """Wait for an errand that may start now, and count it as under way; None when there will be no more."""
        while True:
            now_s = anyio.current_time()
            if (item := self._next(now_s)) is not None:
                self._start(item, now_s)
                return item
            if self.is_over:
                return None
            changed = self._changed
            wait = self._kind_of_wait(now_s)
            try:
                with anyio.move_on_after(self._wait_s(now_s)):
                    await changed.wait()
            finally:
                if wait is not None:
                    self._on_wait(wait, anyio.current_time() - now_s)

    def _kind_of_wait(self, now_s: float) -> Wait | None:
        """Say why a request that might begin does not; None where none might, or what is left waits for its time.

        Retries that the budget holds back wait for their time, too.
        """
        if self._in_flight >= self._concurrency.limit or not self._breaker.allow(now_s):
            return None
        if self._pacer is not None and self._pacer.wait_s(now_s) > 0:
            return Wait.PACE
        if self._request_rate.wait_s(now_s) > 0 and (self._fresh or self._due):
            return Wait.SERVER_RATE
        if self._fresh or self._due:
            is_study_busy = any(not self._study_limiter.allow(item.batch) for item in (*self._due, *self._fresh))
            return Wait.STUDY if is_study_busy else None
        return None if self._ended else Wait.NOTHING

    def done(self, item: WorkItem, again: Iterable[tuple[float, WorkItem]], *, answered: bool = True) -> None:
        """Take back an errand that ended, answered or not, and park what is left of it until the times given."""
        self._in_flight -= 1
        self._study_limiter.finish(item.batch, answered=answered)
        if not self.is_abandoned:
            for due_s, later in again:
                heapq.heappush(self._parked, (due_s, next(self._order), later))
        self._notify()

    def _is_full(self) -> bool:
        limit = self._concurrency.limit
        waiting = len(self._parked) + len(self._due)
        return len(self._fresh) >= limit * WINDOW_PER_SENDER or waiting >= limit * WAITING_PER_SENDER

    def _next(self, now_s: float) -> WorkItem | None:
        """Take out the next errand that may start: what was sent before comes first, as its study waits for it."""
        while self._parked and self._parked[0][0] <= now_s:
            self._due.append(heapq.heappop(self._parked)[2])
        if self._in_flight >= self._concurrency.limit or not self._breaker.allow(now_s) or self._early_s(now_s) > 0:
            return None
        if (found := self._first(now_s)) is None:
            return None
        waiting, place = found
        item = waiting[place]
        del waiting[place]
        is_paced = self._pacer is not None or self._request_rate.rate_per_s is not None
        if is_paced and isinstance(item, Query) and len(item.batch.instances) > 1:
            item, others = _one_question(item)
            waiting.insert(place, others)
        return item

    def _first(self, now_s: float) -> tuple[deque[WorkItem], int] | None:
        """Find the first errand that may start.

        In an outage it is the store with the fewest requests behind it: only stores tell whether stores succeed, and a
        batch on which the server chokes must not be the only one that is tried.
        """
        retries_allowed = self._budget.wait_s(now_s) <= 0
        allowed = (
            (waiting, place)
            for waiting in (self._due, self._fresh)
            for place, item in enumerate(waiting)
            if self._study_limiter.allow(item.batch) and (retries_allowed or not is_retry(item))
        )
        if self._breaker.is_open:
            return min(allowed, key=lambda at: _trial_order(at[0][at[1]]), default=None)
        return next(allowed, None)

    def _start(self, item: WorkItem, now_s: float) -> None:
        self._in_flight += 1
        self._study_limiter.start(item.batch)
        self._breaker.started(item)
        self._count_request(now_s)
        if is_retry(item):
            self._budget.retry()
        elif item.batch.requests == 0:
            self._budget.first_try()
        self._notify()

    def _wait_s(self, now_s: float) -> float | None:
        """Return how long nothing can change by itself; None if only an event can change it."""
        if self._in_flight >= self._concurrency.limit:
            return None
        if not self._breaker.allow(now_s):
            probe_s = self._breaker.wait_s(now_s)
            return probe_s if self._breaker.is_full and probe_s > 0 else None
        if (early_s := self._early_s(now_s)) > 0:
            return early_s
        waits_s = [self._parked[0][0] - now_s] if self._parked else []
        if any(is_retry(item) for item in self._due) and (budget_s := self._budget.wait_s(now_s)) > 0:
            waits_s.append(budget_s)
        return min(waits_s, default=None)

    def _early_s(self, now_s: float) -> float:
        """Return how long no request may begin, by the rates that the user and the server allow.

        During an outage the breaker's intervals take the place of the server's rate.
        """
        allowed_s = 0.0 if self._pacer is None else self._pacer.wait_s(now_s)
        return allowed_s if self._breaker.is_open else max(allowed_s, self._request_rate.wait_s(now_s))

    def _count_request(self, now_s: float) -> None:
        if not self._breaker.is_open:
            self._request_rate.take(now_s)
        if self._pacer is not None:
            self._pacer.take(now_s, 1)

    def look_again(self) -> None:
        """Let those who wait look again: the breaker has changed its state."""
        self._notify()

    async def rest(self, duration_s: float) -> None:
        """Wait so long, or until nothing is left to do, or the breaker has closed.

        The question that is asked after it counts as a request, and waits for its turn as one.
        """
        await self.outage_lasts(max(duration_s, self._early_s(anyio.current_time())))
        if self._breaker.is_open and not self.is_over:
            self._count_request(anyio.current_time())

    async def outage_lasts(self, duration_s: float) -> bool:
        """Wait so long; return False, at once, when the breaker closes or nothing is left to do."""
        with anyio.move_on_after(duration_s):
            while self._breaker.is_open and not self.is_over:
                await self._changed.wait()
        return self._breaker.is_open and not self.is_over

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


def _one_question(item: Query) -> tuple[Query, Query]:
    """Part the first instance from the others: asking for one is one request, for several it may be as many."""
    first, *others = item.batch.instances
    one, rest = (replace(item.batch, instances=tuple(instances)) for instances in ([first], others))
    return replace(item, batch=one), replace(item, batch=rest)


def _trial_order(item: WorkItem) -> tuple[bool, int]:
    return isinstance(item, Query), item.batch.requests


def is_retry(item: WorkItem) -> bool:
    """Say whether this repeats a request that failed; a batch taken apart to find a culprit does not."""
    return (
        isinstance(item, Store) and not item.is_piece and item.batch.failed_attempts + item.batch.ambiguous_failures > 0
    )
