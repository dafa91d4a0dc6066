"""The rate of requests, if the destination rejects more than that: a controller and its gate.

Without rejections there is no limit. A rejection while other requests succeed sets one, below the observed rate of
accepted requests. From there the rate grows: quickly while the accepted rate is unknown, slowly near the rate of the
last rejection (additive increase, multiplicative decrease, as in RFC 5681). The controller also decides whether a
rejection is about the rate or about the number of requests at once (`concurrency`).
"""

# ruff: noqa: ARG002 - a gate need not use everything that it is told

from __future__ import annotations

from collections import deque

from bulkstow.policy.bottleneck import Wait
from bulkstow.policy.gates import Gate
from bulkstow.policy.health import CircuitBreaker
from bulkstow.policy.pacing import Pacer

REMEMBERED = 256
"""Accepted requests that are remembered: two seconds at 128 per second."""

EARLY = 0.05
"""The share of the interval between two requests by which one may be early. A limiter without burst (nginx) rejects
such a request, but a timer on a busy machine is late by a ms or two."""

LEAST_PER_S = 1 / 60
"""The lowest rate: that of the circuit breaker's attempts."""

FIRST_PER_S = 2.0
"""The rate after a rejection before anything was accepted; 200 per second are found in 6 s."""

WINDOW_S = 1.0
WINDOW_REQUESTS = 8
"""The window in which accepted requests are counted: seconds, or so many requests if the rate is low."""

LEAST_WINDOW_S = 1.0
"""A run's first requests start together: less than a second of them says nothing about a rate."""

DROPS_EVERY_S = 1.0
"""Time between two drops: a limiter that counts per second rejects until the second is over, at any rate."""

SEARCH, SEARCH_PER_S = 0.2, 1.0
"""Growth for each accepted request while no rejected rate is known: a share of the rate, and its maximum. From 2 to 5
per second it takes five requests, from there a second for e times the rate."""

GROWTH = 0.002
"""Growth for each accepted request near the last rejected rate, as a share of it: one request in 50 is rejected."""

APPROACH = 0.02
"""Growth for each accepted request far from the last rejected rate, as a share of the distance."""

USED = 0.5
"""The observed share of the rate below which the rate does not grow, because something else is the limit."""

BELOW = 0.95
LEAST_DROP, MOST_DROP = 0.9, 0.5
"""The rate after a rejection: a share of the observed rate, and the highest and lowest share of the rate before."""

BEYOND = 1.05
"""The multiple of the last rejected rate at which that is forgotten, because more is accepted."""

RELEASE_S = 60.0
"""Time without a rejection after which a rate that does not grow, because something else is the limit, is dropped."""

LEVELS = 50
"""Accepted requests whose concurrency is compared with that of a rejected one."""

LEAST_LEVEL = 2
"""Requests at once that a server is assumed to take before it has accepted any.
A limiter without burst (nginx) rejects the second of two that start together, whatever it serves at once."""

SETTLED_REQUESTS = 10
"""Accepted requests since the last drop, after which a rejection shows the rate that is too high, or may be about the
concurrency."""


class RequestRate:
    """Finds and keeps the rate of requests that a destination accepts; there is none while it rejects none."""

    def __init__(self, *, first_per_s: float = FIRST_PER_S) -> None:
        self._first_per_s = first_per_s
        self._pacer: Pacer | None = None
        self._rejected_per_s: float | None = None
        """The rate at the last rejection, until it is accepted."""
        self._began_s: float | None = None
        self._changed_s = 0.0
        """When the rate was last lowered."""
        self._grown_s = 0.0
        self._accepted: deque[float] = deque(maxlen=REMEMBERED)
        """When accepted requests ended."""
        self._levels: deque[int] = deque(maxlen=LEVELS)
        self._accepted_since_drop = 0
        self._has_accepted = False
        self.limit_per_s: float | None = None
        """The rate that the destination seems to accept, for reports; None also while it has accepted nothing."""

    @property
    def rate_per_s(self) -> float | None:
        """The present rate; None without a limit."""
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
        """Take note of a request that was not rejected; `at_once` were under way when it started, itself included."""
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
        """Return True if a rejection is about the number of requests at once.

        It is if no recent request was accepted with as many at once, unless the rate is limited and was lowered just
        before. If that is wrong, rejections follow at fewer at once, of which some were accepted.
        """
        is_rate_kept = self._pacer is None or self._accepted_since_drop >= SETTLED_REQUESTS
        return is_rate_kept and at_once > max(self._levels, default=LEAST_LEVEL)

    def rejected(self, started_s: float, now_s: float) -> None:
        """Take note of a request that was rejected because of the rate.

        Requests that started before the rate was last lowered, or soon after, say nothing new. If nothing was accepted
        since then, the destination may be out of service: the circuit breaker finds that out, and a rate that was
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
        """Return the rate of recently accepted requests."""
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

    def wait_s(self, item: object, now_s: float) -> float:
        """Return seconds until the server should accept another request."""
        return 0.0 if self._breaker.is_open else self._request_rate.wait_s(now_s)

    def started(self, item: object, now_s: float) -> None:
        """Count a request."""
        if not self._breaker.is_open:
            self._request_rate.take(now_s)
