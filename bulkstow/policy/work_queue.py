"""The queue of work items: which one starts next, or how long to wait and why.

Retries that are due come before fresh items, because their study waits for them. Has no clock and starts nothing.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from bulkstow.policy.bottleneck import Wait
from bulkstow.policy.gates import Gate
from bulkstow.policy.work_items import WorkItem, one_request


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing may start now."""

    wait_s: float
    """Until something may start without any event; inf if only an event changes that."""
    why: Wait | None = None
    """What the run waits for; None if that is no bottleneck."""


class WorkQueue:
    """Fresh items, retries that are due, and retries that wait for their time."""

    def __init__(self) -> None:
        self._fresh: deque[WorkItem] = deque()
        self._due: deque[WorkItem] = deque()
        self._scheduled: list[tuple[float, int, WorkItem]] = []
        self._order = count()
        self.has_ended = False
        """No more fresh items will come."""

    def __bool__(self) -> bool:
        return bool(self._fresh or self._due or self._scheduled)

    def __iter__(self) -> Iterator[WorkItem]:
        """Yield the items that need not wait for their time."""
        yield from self._due
        yield from self._fresh

    @property
    def fresh(self) -> int:
        """The number of fresh items."""
        return len(self._fresh)

    @property
    def due(self) -> int:
        """The number of retries that are due."""
        return len(self._due)

    @property
    def retries(self) -> int:
        """The number of retries, due or not."""
        return len(self._due) + len(self._scheduled)

    def add(self, item: WorkItem) -> None:
        """Add a fresh item."""
        self._fresh.append(item)

    def schedule(self, item: WorkItem, due_s: float) -> None:
        """Add a retry that waits for its time."""
        heapq.heappush(self._scheduled, (due_s, next(self._order), item))

    def clear(self) -> None:
        """Drop all items; none will come any more."""
        self._fresh.clear()
        self._due.clear()
        self._scheduled.clear()
        self.has_ended = True

    def take(self, gates: Sequence[Gate], now_s: float, rank: Callable[[WorkItem], int]) -> WorkItem | Hold:
        """Take out the next item that may start; if there is none, return for how long to wait, and why.

        It is the first one of the lowest rank; no rank is lower than 0.
        """
        while self._scheduled and self._scheduled[0][0] <= now_s:
            self._due.append(heapq.heappop(self._scheduled)[2])
        if (closed := _closed(gates, None, now_s)) is not None:
            return closed
        holds: list[Hold] = []
        best: tuple[int, deque[WorkItem], int] | None = None
        for waiting in (self._due, self._fresh):
            for place, item in enumerate(waiting):
                if (closed := _closed(gates, item, now_s)) is not None:
                    holds.append(closed)
                elif best is None or rank(item) < best[0]:
                    best = rank(item), waiting, place
                    if best[0] <= 0:
                        return self._take_out(waiting, place, gates)
        return self._hold(holds, now_s) if best is None else self._take_out(*best[1:], gates)

    def _take_out(self, waiting: deque[WorkItem], place: int, gates: Sequence[Gate]) -> WorkItem:
        item, rest = waiting[place], None
        if any(gate.counts_requests for gate in gates):
            item, rest = one_request(item)
        if rest is None:
            del waiting[place]
        else:
            waiting[place] = rest
        return item

    def _hold(self, holds: list[Hold], now_s: float) -> Hold:
        scheduled_s = self._scheduled[0][0] - now_s if self._scheduled else math.inf
        wait_s = min([scheduled_s, *(hold.wait_s for hold in holds)])
        if holds:
            return Hold(wait_s, next((hold.why for hold in holds if hold.why is not None), None))
        return Hold(wait_s, None if self.has_ended else Wait.NOTHING)


def _closed(gates: Sequence[Gate], item: WorkItem | None, now_s: float) -> Hold | None:
    """Return what the first closed gate says; None if all are open."""
    for gate in gates:
        if (wait_s := gate.wait_s(item, now_s)) > 0:
            return Hold(wait_s, gate.why)
    return None
