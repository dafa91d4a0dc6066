"""The schedule of an open load: when requests are due, whatever the server answers.

A request without a free slot waits; its latency counts from when it was due, and it is dropped and counted once it is
overdue by more than a limit. The schedule never slows: a server that stops for three seconds then has three seconds of
requests waiting. A closed load would send nothing in these seconds, and count one slow request.

Starts nothing and has no clock; randomness is passed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from random import Random

OVERDUE_MOST_S = 10.0
"""Longer waits only repeat that the rate is not sustained; a shorter limit would hide pauses of garbage collectors,
checkpoints and fail-overs, which take seconds."""


def constant(rate_per_s: float, batch_instances: int) -> Iterator[float]:
    """Yield the starts of requests of `batch_instances`, evenly at `rate_per_s` instances/s, without end, from 0 s."""
    _check(rate_per_s, batch_instances)
    return (number * batch_instances / rate_per_s for number in count())  # a sum of intervals would drift


def poisson(rate_per_s: float, batch_instances: int, chance: Random) -> Iterator[float]:
    """Yield the starts of requests that arrive independently of each other, without end: intervals are exponential."""
    _check(rate_per_s, batch_instances)
    return _poisson(rate_per_s / batch_instances, chance)


@dataclass(frozen=True, slots=True)
class Due:
    """A request to start now."""

    number: int
    """From 0, in the order of the schedule."""
    intended_s: float
    had_slot: bool
    """A slot was free at the first look after it was due."""


class OpenLoad:
    """Returns requests as they fall due, from `began_s` on.

    Call `take` when the next is due (`next_s`) and whenever a slot gets free.
    """

    def __init__(self, starts_s: Iterable[float], began_s: float, *, overdue_most_s: float = OVERDUE_MOST_S) -> None:
        self._starts_s = iter(starts_s)
        self._began_s = began_s
        self._overdue_most_s = overdue_most_s
        self._number = 0
        self._waiting: deque[Due] = deque()
        self.next_s: float | None = None
        """When the next request is due; None when there is none."""
        self._advance()

    @property
    def waiting(self) -> int:
        """The number of requests that are due and have no slot."""
        return len(self._waiting)

    def take(self, now_s: float, free_slots: int) -> tuple[list[Due], list[Due]]:
        """Return the requests to start now, the longest due first, and those that are dropped."""
        dropped: list[Due] = []
        while self._waiting and now_s - self._waiting[0].intended_s > self._overdue_most_s:
            dropped.append(self._waiting.popleft())
        begun: list[Due] = []
        while self._waiting and len(begun) < free_slots:
            begun.append(self._waiting.popleft())
        while self.next_s is not None and self.next_s <= now_s:
            has_slot = len(begun) < free_slots
            due = Due(self._number, self.next_s, has_slot)
            # With a free slot only this client can be late, which `slip` shows.
            if has_slot:
                begun.append(due)
            elif now_s - due.intended_s > self._overdue_most_s:
                dropped.append(due)
            else:
                self._waiting.append(due)
            self._number += 1
            self._advance()
        return begun, dropped

    def end(self) -> list[Due]:
        """End the load, and return the requests that were due and did not start."""
        self.next_s = None
        left = list(self._waiting)
        self._waiting.clear()
        return left

    def _advance(self) -> None:
        start_s = next(self._starts_s, None)
        self.next_s = None if start_s is None else self._began_s + start_s


def _poisson(requests_per_s: float, chance: Random) -> Iterator[float]:
    at_s = 0.0
    while True:
        at_s += chance.expovariate(requests_per_s)
        yield at_s


def _check(rate_per_s: float, batch_instances: int) -> None:
    if not rate_per_s > 0 or batch_instances < 1:
        raise ValueError(f"{rate_per_s} instances/s in batches of {batch_instances}: expected more than 0 of both")
