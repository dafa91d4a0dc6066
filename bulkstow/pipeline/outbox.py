"""What waits to be sent, and who may go next.

Between the assembler and the senders: fresh batches (a short window, so that several studies can be under way), and
errands that wait for their next try outside any slot. A free sender takes; when the window is full, or too much waits
for its retry, the assembler waits, and with it the whole pipeline up to the scan: that is the backpressure.

Decides by `policy` (lanes, breaker); sends nothing itself.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from itertools import count

import anyio

from bulkstow.model import Batch
from bulkstow.policy.concurrency import Concurrency
from bulkstow.policy.errands import Errand, Send
from bulkstow.policy.lanes import Lanes
from bulkstow.policy.retry import Breaker, RetryBudget

WINDOW_PER_SENDER = 4
"""Fresh batches that wait for each request that may be under way. While the first request of a study is under way its
others have to wait: some batches of other studies must be in sight to keep the senders busy."""

WAITING_PER_SENDER = 16
"""Errands that wait for a retry, likewise, until nothing fresh is taken: what waits does not grow with the
archive."""


class Outbox:
    """Hands errands to senders.

    All its methods belong to one event loop. Times are those of `anyio.current_time`.
    """

    def __init__(self, *, concurrency: Concurrency, lanes: Lanes, breaker: Breaker, budget: RetryBudget) -> None:
        self._concurrency = concurrency
        self._lanes = lanes
        self._breaker = breaker
        self._budget = budget
        self._fresh: deque[Errand] = deque()
        self._due: deque[Errand] = deque()
        self._parked: list[tuple[float, int, Errand]] = []
        self._order = count()
        self._in_flight = 0
        self._ended = False
        self._changed = anyio.Event()
        self.is_abandoned = False

    async def offer(self, batch: Batch) -> None:
        """Hand over a fresh batch; wait while the window is full."""
        while not self.is_abandoned and self._is_full():
            await self._changed.wait()
        if not self.is_abandoned:
            self._fresh.append(Send(batch))
            self._notify()

    @property
    def is_wanting(self) -> bool:
        """Something waits that could be under way, if more were allowed at once."""
        return any(self._lanes.allow(errand.batch) for waiting in (self._due, self._fresh) for errand in waiting)

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
        for waiting in (self._fresh, self._due, self._parked):
            waiting.clear()
        self.end()

    async def take(self) -> Errand | None:
        """Wait for an errand that may start now, and count it as under way; None when there will be no more."""
        while True:
            now_s = anyio.current_time()
            if (errand := self._next(now_s)) is not None:
                self._start(errand)
                return errand
            if self.is_over:
                return None
            changed = self._changed
            with anyio.move_on_after(self._wait_s(now_s)):
                await changed.wait()

    def done(self, errand: Errand, again: Iterable[tuple[float, Errand]], *, answered: bool = True) -> None:
        """Take back an errand that ended, answered or not, and park what is left of it until the times given."""
        self._in_flight -= 1
        self._lanes.finish(errand.batch, answered=answered)
        if not self.is_abandoned:
            for due_s, later in again:
                heapq.heappush(self._parked, (due_s, next(self._order), later))
        self._notify()

    def _is_full(self) -> bool:
        limit = self._concurrency.limit
        waiting = len(self._parked) + len(self._due)
        return len(self._fresh) >= limit * WINDOW_PER_SENDER or waiting >= limit * WAITING_PER_SENDER

    def _next(self, now_s: float) -> Errand | None:
        """Take out the next errand that may start: what was sent before comes first, as its study waits for it."""
        while self._parked and self._parked[0][0] <= now_s:
            self._due.append(heapq.heappop(self._parked)[2])
        if self._in_flight >= self._concurrency.limit or not self._breaker.allow(now_s):
            return None
        retries_allowed = self._budget.wait_s(now_s) <= 0
        for waiting in (self._due, self._fresh):
            for place, errand in enumerate(waiting):
                if self._lanes.allow(errand.batch) and (retries_allowed or not is_retry(errand)):
                    del waiting[place]
                    return errand
        return None

    def _start(self, errand: Errand) -> None:
        self._in_flight += 1
        self._lanes.start(errand.batch)
        self._breaker.started()
        if is_retry(errand):
            self._budget.retry()
        elif errand.batch.requests == 0:
            self._budget.first_try()
        self._notify()

    def _wait_s(self, now_s: float) -> float | None:
        """Return how long nothing can change by itself; None if only an event can change it."""
        if self._in_flight >= self._concurrency.limit:
            return None
        if not self._breaker.allow(now_s):
            probe_s = self._breaker.wait_s(now_s)
            return probe_s if self._breaker.is_full and probe_s > 0 else None
        waits_s = [self._parked[0][0] - now_s] if self._parked else []
        if any(is_retry(errand) for errand in self._due) and (budget_s := self._budget.wait_s(now_s)) > 0:
            waits_s.append(budget_s)
        return min(waits_s, default=None)

    def look_again(self) -> None:
        """Let those who wait look again: the breaker has closed."""
        self._notify()

    async def rest(self, duration_s: float) -> None:
        """Wait so long, or until nothing is left to do, or the breaker has closed."""
        until_s = anyio.current_time() + duration_s
        while self._breaker.is_open and not self.is_over and (left_s := until_s - anyio.current_time()) > 0:
            changed = self._changed
            with anyio.move_on_after(left_s):
                await changed.wait()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


def is_retry(errand: Errand) -> bool:
    """Say whether this repeats a request that failed; a batch taken apart to find a culprit does not."""
    return isinstance(errand, Send) and not errand.is_piece and errand.batch.faults + errand.batch.doubts > 0
