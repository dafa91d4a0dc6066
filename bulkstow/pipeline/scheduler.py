"""The scheduler: a queue of work items between the assembler and the sending stage.

The sending stage takes an item when all gates are open. While the queue is full, the assembler waits, and with it the
whole pipeline up to the scan: this is the backpressure. `policy.work_queue` and the gates choose the next item.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import anyio

from bulkstow.events import Reporter, Waited
from bulkstow.model import Batch
from bulkstow.pipeline.turns import Turns
from bulkstow.policy.gates import ConcurrencyGate, Gate
from bulkstow.policy.work_items import HealthSignal, Store, WorkItem
from bulkstow.policy.work_queue import Hold, WorkQueue

WINDOW_PER_REQUEST = 4
"""Fresh batches in the queue for each possible request in flight. While the first request of a study is in flight, its
others have to wait, and batches of other studies keep the connections busy."""

WIDE_WINDOW_PER_REQUEST = 8
"""The same if none of them may start, as all belong to studies with enough requests in flight.
1 GB in studies of 25 batches took 7.3 s instead of 9.0 s at a server of 24 slots (simulated)."""

RETRIES_PER_REQUEST = 16
"""Retries in the queue for each possible request in flight, above which no fresh batch is accepted: the queue does not
grow with the archive."""


class Scheduler(Turns):
    """Hands work items to the sending stage."""

    def __init__(
        self,
        *,
        concurrency: ConcurrencyGate,
        gates: Sequence[Gate],
        reporter: Reporter,
        rank: Callable[[WorkItem], int] = lambda _item: 0,
    ) -> None:
        super().__init__((concurrency, *gates))
        self._concurrency = concurrency
        self._reporter = reporter
        self._queue = WorkQueue(self._gates, rank)

    async def offer(self, batch: Batch) -> None:
        """Add a fresh batch to the queue; wait while the window is full."""
        while not self.is_abandoned and self._is_full:
            await self._changed.wait()
        if not self.is_abandoned:
            self._queue.add(Store(batch))
            self.wake()

    async def take(self) -> WorkItem | None:
        """Wait for an item that may start, and count it as in flight; return None at the end."""
        while True:
            now_s = anyio.current_time()
            chosen = self._queue.take(now_s)
            if not isinstance(chosen, Hold):
                for gate in self._gates:
                    gate.started(chosen, now_s)
                self.wake()
                return chosen
            if self.is_over:
                return None
            changed = self._changed
            try:
                with anyio.move_on_after(None if chosen.wait_s == math.inf else chosen.wait_s):
                    await changed.wait()
            finally:
                if chosen.why is not None:
                    self._reporter.tell(Waited(chosen.why, anyio.current_time() - now_s))

    def done(self, item: WorkItem, result: HealthSignal, again: Iterable[tuple[float, WorkItem]] = ()) -> None:
        """Record the end of an item, and queue the items that follow from it until the times given."""
        now_s = anyio.current_time()
        for gate in self._gates:
            gate.ended(item, now_s, result)
        for due_s, later in again:
            if not self.is_abandoned:
                self._queue.schedule(later, due_s)
        self.wake()

    def end(self) -> None:
        """Record that no more fresh batches follow."""
        self._queue.end()
        self.wake()

    def abandon(self) -> None:
        """Start nothing more; items in flight may end."""
        self._queue.clear()
        super().abandon()

    @property
    def is_ending(self) -> bool:
        """True when no fresh batch is left or will come."""
        return self._queue.has_ended and not self._queue.fresh

    @property
    def is_over(self) -> bool:
        """True if no item is queued, in flight, or to follow."""
        return self._queue.has_ended and not self._queue and not self.in_flight

    @property
    def in_flight(self) -> int:
        """The number of items in flight."""
        return self._concurrency.in_flight

    @property
    def at_once(self) -> int:
        """The limit of items in flight."""
        return self._concurrency.limit

    @property
    def idle(self) -> int:
        """The number of further requests that could start, but for which no item is queued."""
        if self._queue.has_ended:
            return 0
        return max(0, self.at_once - self.in_flight - self._queue.fresh - self._queue.due)

    @property
    def is_plentiful(self) -> bool:
        """True if half as many batches would keep all connections busy: twice as many wait as may be in flight."""
        return self._queue.fresh >= 2 * self.at_once

    @property
    def is_wanting(self) -> bool:
        """True if some item waits only for the limit of requests at once."""
        return self._queue.is_wanting(anyio.current_time(), beside=self._concurrency)

    @property
    def _is_full(self) -> bool:
        queue, limit = self._queue, self.at_once
        if queue.fresh >= limit * WIDE_WINDOW_PER_REQUEST or queue.retries >= limit * RETRIES_PER_REQUEST:
            return True
        return queue.fresh >= limit * WINDOW_PER_REQUEST and self.is_wanting
