"""Gates: each is one reason for requests to wait.

Before a work item starts, all gates have to be open for it; each gate is told of every request that started and ended.
A gate is arithmetic on what it was told: it has no clock and starts nothing. To add one, write a subclass of `Gate` in
its own module and add it to the list in `pipeline.run`.
"""

# ruff: noqa: ARG002 - a gate need not use everything that it is told

from __future__ import annotations

import math

from bulkstow.policy.bottleneck import Wait
from bulkstow.policy.concurrency import Concurrency
from bulkstow.policy.pacing import Pacer
from bulkstow.policy.work_items import HealthSignal, WorkItem

RISE_EVERY_S = 0.02
"""Time between two requests that raise the number under way.
A rejection comes within some ms in a local network, so that hardly more than one request is rejected at a time."""


class Gate:
    """One reason for requests to wait; by default none ever does.

    An item is None if the gate is the same for all of them, and for a probe, which is a request without an item.
    """

    why: Wait | None = None
    """What the run waits for while this gate is closed; None if that is no bottleneck."""
    is_by_item = True
    """False if the gate is open or closed for all items alike; it is then asked once for all."""

    @property
    def counts_requests(self) -> bool:
        """True if the gate limits requests per time, so that each request has to pass it by itself."""
        return False

    def wait_s(self, item: WorkItem | None, now_s: float) -> float:
        """Return seconds until the item may start: 0 if it may start now, inf if only an event can open the gate."""
        return 0.0

    def started(self, item: WorkItem | None, now_s: float) -> None:
        """Take note that a request has started."""

    def ended(self, item: WorkItem, now_s: float, result: HealthSignal) -> None:
        """Take note that an item has ended, and what its exchange says about the destination."""


class ConcurrencyGate(Gate):
    """Open while fewer requests are under way than the controller allows.

    If it allows more than before, they start one after the other, so that few are rejected if that is too many.
    """

    is_by_item = False

    def __init__(self, concurrency: Concurrency) -> None:
        self._concurrency = concurrency
        self.in_flight = 0
        """Items that are under way."""
        self._most = concurrency.limit
        """The most items that have been under way, within the limit."""
        self._rose_s = -math.inf

    @property
    def limit(self) -> int:
        """Items that may be under way."""
        return self._concurrency.limit

    def wait_s(self, item: object, now_s: float) -> float:
        """Return inf while the limit is reached, which only the end of a request changes; a new maximum is paced."""
        if self.in_flight >= self._concurrency.limit:
            return math.inf
        return max(0.0, self._rose_s + RISE_EVERY_S - now_s) if self.in_flight >= self._most else 0.0

    def started(self, item: object, now_s: float) -> None:
        """Count an item."""
        self.in_flight += 1
        if self.in_flight > self._most:
            self._rose_s = now_s
        self._most = max(self.in_flight, min(self._most, self._concurrency.limit))

    def ended(self, item: object, now_s: float, result: HealthSignal) -> None:
        """Count an item as ended."""
        self.in_flight -= 1


class PaceGate(Gate):
    """Keeps the user's limit of requests per second."""

    why = Wait.PACE
    is_by_item = False
    counts_requests = True

    def __init__(self, pacer: Pacer) -> None:
        self._pacer = pacer

    def wait_s(self, item: object, now_s: float) -> float:
        """Return seconds until the next request is due."""
        return self._pacer.wait_s(now_s)

    def started(self, item: object, now_s: float) -> None:
        """Count a request."""
        self._pacer.take(now_s, 1)
