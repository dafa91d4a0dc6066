"""How many requests a second, where the destination rejects more than that.

A pure controller: it takes how requests ended, with the time, and paces those to come. Without rejections there is no
limit. A rejection while others succeed sets one, below the observed rate of accepted requests; from there the rate
grows, quickly while it is not known what the destination accepts, slowly near the rate of the last rejection (additive
increase, multiplicative decrease, as in RFC 5681). Decides too whether a rejection speaks of the rate or of the number
of requests at once (`concurrency`). Has no clock and starts nothing.
"""

# ruff: noqa: ARG002 - a gate need not use everything that it is told

from __future__ import annotations

from collections import deque

from bulkstow.policy.bottleneck import Wait
from bulkstow.policy.gates import Gate
from bulkstow.policy.health import CircuitBreaker
from bulkstow.policy.pacing import Pacer
from bulkstow.policy.work_items import WorkItem

REMEMBERED = 256
"""Accepted requests that are remembered: two seconds of 128 a second."""

EARLY = 0.05
"""Of the interval between two requests: so much too early one may come. A limiter without burst (nginx) rejects it, but
a timer on a busy machine is late by a ms or two."""

LEAST_PER_S = 1 / 60
"""The lowest rate: no slower than the circuit breaker's attempts."""

FIRST_PER_S = 2.0
"""The rate after a rejection before anything was accepted; 200 a second are found in 6 s."""

WINDOW_S = 1.0
WINDOW_REQUESTS = 8
"""Over which accepted requests are counted: seconds, or as many requests where the rate is low."""

LEAST_WINDOW_S = 1.0
"""A run's first requests leave together: less than a second of them says nothing of a rate."""

DROPS_EVERY_S = 1.0
"""Between two drops: a limiter that counts by the second rejects until the second is over, at whatever rate."""

SEARCH, SEARCH_PER_S = 0.2, 1.0
"""Growth for each accepted request while no rate is known to be rejected: of the rate, and at most so much. From 2 to 5
a second it takes five requests, and then a second to find e times the rate: what overshoots is rejected."""

GROWTH = 0.002
"""Growth for each accepted request near the last rejected rate, of that rate: from 0.9 of it, one rejection in 50."""

APPROACH = 0.02
"""Of the way to the last rejected rate, likewise, where that is far."""

USED = 0.5
"""Of the rate: where less is observed, something else is the limit, and the rate does not grow."""

BELOW = 0.95
LEAST_DROP, MOST_DROP = 0.9, 0.5
"""After a rejection: so much of the observed rate, and of the rate until then at most and at least."""

BEYOND = 1.05
"""Where so much more than the last rejected rate is accepted, it is not known any longer what is rejected."""

RELEASE_S = 60.0
"""So long without a rejection while the rate does not grow, as something else is the limit, and it is given up."""

LEVELS = 50
"""Accepted requests whose number at once is compared with that of a rejected one."""

SETTLED_REQUESTS = 10
"""Accepted requests since the last drop, before a rejection may speak of the number at once."""


class RequestRate:
    """Finds and keeps the rate of requests that a destination accepts; None while it rejects none."""

    def __init__(self, *, first_per_s: float = FIRST_PER_S) -> None:
        self._first_per_s = first_per_s
        self._pacer: Pacer | None = None
        self._rejected_per_s: float | None = None
        """The rate at the last rejection, until it is accepted."""
        self._began_s: float | None = None
        self._changed_s = 0.0
        """When the rate was lowered last."""
        self._grown_s = 0.0
        self._accepted: deque[float] = deque(maxlen=REMEMBERED)
        """When they ended."""
        self._levels: deque[int] = deque(maxlen=LEVELS)
        self._accepted_since_drop = 0
        self._has_accepted = False
        self.limit_per_s: float | None = None
        """What the destination seems to accept, for people; None, too, while it has accepted nothing."""

    @property
    def rate_per_s(self) -> float | None:
        """The rate of requests to come; None without a limit."""
        return None if self._pacer is None else self._pacer.rate_per_s

    def wait_s(self, now_s: float) -> float:
        """Return seconds until a request may start."""
        return 0.0 if self._pacer is None else self._pacer.wait_s(now_s)

    def take(self, now_s: float) -> None:
        """Count a request as started."""
        self._began_s = now_s if self._began_s is None else self._began_s
        if self._pacer is not None:
            self._pacer.take(now_s, 1)

    def accepted(self, now_s: float, at_once: int) -> None:
        """Take a request that was not rejected; so many were under way when it started, itself included."""
        self._accepted.append(now_s)
        self._levels.append(at_once)
        self._accepted_since_drop += 1
        self._has_accepted = True
        if self._pacer is not None:
            self._grow(self._pacer, now_s)

    def _grow(self, pacer: Pacer, now_s: float) -> None:
        rate_per_s = pacer.rate_per_s
        if self._observed_per_s(now_s) < USED * rate_per_s:
            if now_s - max(self._grown_s, self._changed_s) >= RELEASE_S:
                self._pacer = self._rejected_per_s = self.limit_per_s = None
            return
        self._grown_s = now_s
        if self._rejected_per_s is None:
            rate_per_s += min(SEARCH * rate_per_s, SEARCH_PER_S)
        else:
            rate_per_s += max(GROWTH * self._rejected_per_s, APPROACH * (self._rejected_per_s - rate_per_s))
            if rate_per_s > BEYOND * self._rejected_per_s:
                self._rejected_per_s = None
        pacer.change(rate_per_s, burst_s=EARLY / rate_per_s)

    def is_of_concurrency(self, at_once: int) -> bool:
        """Say whether a rejection speaks of the number of requests at once.

        It does where no request was accepted lately with as many at once, and the rate has been accepted for a while.
        """
        return self._accepted_since_drop >= SETTLED_REQUESTS and at_once > max(self._levels, default=0)

    def rejected(self, started_s: float, now_s: float) -> None:
        """Take a request that was rejected for the rate.

        Several that started before the rate was last lowered, or soon after, say nothing new. Where nothing was
        accepted since then, the destination may be out of service. The circuit breaker finds that out; a rate that was
        lowered meanwhile would outlast the outage.
        """
        observed_per_s = self._observed_per_s(now_s)
        if self._pacer is None:
            rate_per_s = max(BELOW * observed_per_s, self._first_per_s)
            self._pacer = Pacer(rate_per_s, burst_s=EARLY / rate_per_s)
            self._pacer.take(now_s, 1)
        elif not self._accepted_since_drop or started_s < self._changed_s or now_s < self._changed_s + DROPS_EVERY_S:
            return
        else:
            before_per_s = self._pacer.rate_per_s
            rate_per_s = min(max(BELOW * observed_per_s, MOST_DROP * before_per_s), LEAST_DROP * before_per_s)
            rate_per_s = max(rate_per_s, LEAST_PER_S)
            is_alone = self._accepted_since_drop >= SETTLED_REQUESTS
            self._rejected_per_s = before_per_s if is_alone else rate_per_s / LEAST_DROP
            self._pacer.change(rate_per_s, burst_s=EARLY / rate_per_s)
        self._changed_s = now_s
        self._accepted_since_drop = 0
        if self._has_accepted:
            self.limit_per_s = max(rate_per_s, min(observed_per_s, self._rejected_per_s or observed_per_s))

    def _observed_per_s(self, now_s: float) -> float:
        """Return how many requests a second were accepted lately."""
        window_s = max(WINDOW_S, WINDOW_REQUESTS / self._pacer.rate_per_s if self._pacer is not None else 0.0)
        if self._began_s is not None:
            window_s = min(window_s, max(now_s - self._began_s, LEAST_WINDOW_S))
        if len(self._accepted) == REMEMBERED:
            window_s = min(window_s, max(now_s - self._accepted[0], LEAST_WINDOW_S / REMEMBERED))
        while self._accepted and self._accepted[0] < now_s - window_s:
            self._accepted.popleft()
        return len(self._accepted) / window_s


class ServerRateGate(Gate):
    """Keeps the rate of requests that the server accepts; during an outage the circuit breaker's intervals replace it.

    `RequestRate` finds the rate, `CircuitBreaker` knows of the outage.
    """

    why = Wait.SERVER_RATE
    is_by_item = False

    def __init__(self, request_rate: RequestRate, breaker: CircuitBreaker) -> None:
        self._request_rate = request_rate
        self._breaker = breaker

    @property
    def counts_requests(self) -> bool:
        """True while the server is known to limit the rate."""
        return self._request_rate.rate_per_s is not None

    def wait_s(self, item: WorkItem | None, now_s: float) -> float:
        """Return seconds until the server should accept another request."""
        return 0.0 if self._breaker.is_open else self._request_rate.wait_s(now_s)

    def started(self, item: WorkItem | None, now_s: float) -> None:
        """Count a request."""
        if not self._breaker.is_open:
            self._request_rate.take(now_s)
