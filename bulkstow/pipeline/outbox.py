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
from bulkstow.policy.lanes import Lanes
from bulkstow.policy.retry import Breaker
from bulkstow.policy.settlement import Errand, Send

WINDOW_PER_SENDER = 4
"""Fresh batches that wait for each sender. While the first request of a study is under way its others have to wait:
some batches of other studies must be in sight to keep the senders busy."""

PARKED_PER_SENDER = 16
"""Errands that wait for a retry for each sender, until nothing fresh is taken: what waits does not grow with the
archive."""


class Outbox:
    """Hands errands to senders.

    All its methods belong to one event loop. Times are those of `anyio.current_time`.
    """

    def __init__(self, *, senders: int, lanes: Lanes, breaker: Breaker) -> None:
        self._window = senders * WINDOW_PER_SENDER
        self._parked_limit = senders * PARKED_PER_SENDER
        self._lanes = lanes
        self._breaker = breaker
        self._fresh: deque[Batch] = deque()
        self._parked: list[tuple[float, int, Errand]] = []
        self._order = count()
        self._in_flight = 0
        self._ended = False
        self._changed = anyio.Event()
        self.is_abandoned = False

    async def offer(self, batch: Batch) -> None:
        """Hand over a fresh batch; wait while the window is full."""
        while not self.is_abandoned and (len(self._fresh) >= self._window or len(self._parked) >= self._parked_limit):
            await self._changed.wait()
        if not self.is_abandoned:
            self._fresh.append(batch)
            self._notify()

    def end(self) -> None:
        """Nothing fresh will come."""
        self._ended = True
        self._notify()

    def abandon(self) -> None:
        """Start nothing more: what waits is left for the next run."""
        self.is_abandoned = True
        self._fresh.clear()
        self._parked.clear()
        self.end()

    async def take(self) -> Errand | None:
        """Wait for an errand that may start now, and count it as under way; None when there will be no more."""
        while True:
            now_s = anyio.current_time()
            if (errand := self._next(now_s)) is not None:
                self._in_flight += 1
                self._lanes.start(errand.batch)
                self._notify()
                return errand
            if self._ended and not (self._fresh or self._parked or self._in_flight):
                return None
            changed = self._changed
            with anyio.move_on_after(self._wait_s(now_s)):
                await changed.wait()

    def done(self, errand: Errand, again: Iterable[tuple[float, Errand]]) -> None:
        """Take back an errand that ended, and park what is left of it until the times given."""
        self._in_flight -= 1
        self._lanes.finish(errand.batch)
        if not self.is_abandoned:
            for due_s, later in again:
                heapq.heappush(self._parked, (due_s, next(self._order), later))
        self._notify()

    def _next(self, now_s: float) -> Errand | None:
        """Take out the next errand that may start: what was parked first, as its study is waiting for it."""
        if self._breaker.is_open:
            return None
        due = [entry for entry in self._parked if entry[0] <= now_s]
        for entry in sorted(due):
            if self._lanes.allow(entry[2].batch):
                self._parked.remove(entry)
                heapq.heapify(self._parked)
                return entry[2]
        for batch in self._fresh:
            if self._lanes.allow(batch):
                self._fresh.remove(batch)
                return Send(batch)
        return None

    def _wait_s(self, now_s: float) -> float | None:
        """Return how long nothing can change by itself; None if only an event can change it."""
        if self._breaker.is_open:
            return None
        waiting = [due_s - now_s for due_s, _, _ in self._parked if due_s > now_s]
        return min(waiting, default=None)

    def look_again(self) -> None:
        """Let those who wait look again: the breaker has closed."""
        self._notify()

    async def rest(self, duration_s: float) -> None:
        """Wait so long, or until the outbox is abandoned."""
        until_s = anyio.current_time() + duration_s
        while not self.is_abandoned and (left_s := until_s - anyio.current_time()) > 0:
            changed = self._changed
            with anyio.move_on_after(left_s):
                await changed.wait()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
