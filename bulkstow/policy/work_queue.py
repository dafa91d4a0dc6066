"""The queue of work items: which one starts next, or how long to wait and why.

Retries that are due come before fresh items, because their study waits for them. Has no clock and starts nothing.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Sequence
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
    """Fresh items, retries that are due, and retries that wait for their time.

    An item may start when all gates are open for it. Of those that may, the first one of the lowest rank is next; no
    rank is lower than 0.
    """

    def __init__(self, gates: Sequence[Gate], rank: Callable[[WorkItem], int]) -> None:
        self._gates_for_all = tuple(gate for gate in gates if not gate.is_by_item)
        self._gates_by_item = tuple(gate for gate in gates if gate.is_by_item)
        self._rank = rank
        self._fresh: deque[WorkItem] = deque()
        self._due: deque[WorkItem] = deque()
        self._scheduled: list[tuple[float, int, WorkItem]] = []
        self._order = count()
        self.has_ended = False
        """No more fresh items will come."""

    def __bool__(self) -> bool:
        return bool(self._fresh or self._due or self._scheduled)

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

    def end(self) -> None:
        """Take note that no more fresh items will come."""
        self.has_ended = True

    def clear(self) -> None:
        """Drop all items; none will come any more."""
        self._fresh.clear()
        self._due.clear()
        self._scheduled.clear()
        self.end()

    def take(self, now_s: float) -> WorkItem | Hold:
        """Take out the next item that may start; if there is none, return for how long to wait, and why."""
        while self._scheduled and self._scheduled[0][0] <= now_s:
            self._due.append(heapq.heappop(self._scheduled)[2])
        is_any_due = bool(self._due or self._fresh)
        why = None if self.has_ended or is_any_due else Wait.NOTHING
        for gate in self._gates_for_all:
            if (wait_s := gate.wait_s(None, now_s)) > 0:
                return Hold(wait_s, gate.why if is_any_due or gate.why is None else why)
        best: tuple[int, deque[WorkItem], int] | None = None
        wait_s = self._scheduled[0][0] - now_s if self._scheduled else math.inf
        for waiting in (self._due, self._fresh):
            for place, item in enumerate(waiting):
                if (closed := self._closed(item, now_s)) is not None:
                    wait_s, why = min(wait_s, closed[0]), why or closed[1]
                elif best is None or self._rank(item) < best[0]:
                    best = self._rank(item), waiting, place
                    if best[0] <= 0:
                        return self._take_out(waiting, place)
        return Hold(wait_s, why) if best is None else self._take_out(*best[1:])

    def is_wanting(self, now_s: float, beside: Gate) -> bool:
        """Return True if an item waits for one gate only, or for none."""
        if any(gate.wait_s(None, now_s) > 0 for gate in self._gates_for_all if gate is not beside):
            return False
        return any(self._closed(item, now_s) is None for waiting in (self._due, self._fresh) for item in waiting)

    def _closed(self, item: WorkItem, now_s: float) -> tuple[float, Wait | None] | None:
        """Return for how long the first closed gate keeps an item, and why; None if all are open."""
        for gate in self._gates_by_item:
            if (wait_s := gate.wait_s(item, now_s)) > 0:
                return wait_s, gate.why
        return None

    def _take_out(self, waiting: deque[WorkItem], place: int) -> WorkItem:
        item = waiting[place]
        part, rest = one_request(item)
        if rest is not None and any(gate.counts_requests for gate in (*self._gates_for_all, *self._gates_by_item)):
            waiting[place] = rest
            return part
        del waiting[place]
        return item
