"""The request rate behind simulated limiters."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.policy.concurrency import Concurrency
from bulkstow.policy.request_rate import FIRST_PER_S, LEAST_PER_S, RELEASE_S, RequestRate

REJECTED_S = 0.005
"""The time in which a limiter responds."""


class Limiter(Protocol):
    """A limiter in front of a server."""

    def accepts(self, now_s: float, under_way: int) -> bool:
        """Return True if a request is accepted."""


class Leaky:
    """nginx's limit_req: a rate, evenly spaced, and a burst."""

    def __init__(self, rate_per_s: float, burst: int = 0) -> None:
        self._rate_per_s, self._burst = rate_per_s, burst
        self._excess, self._last_s = 0.0, -1000.0

    def accepts(self, now_s: float, under_way: int) -> bool:
        """Return True if a request is accepted."""
        elapsed_s = int((now_s - self._last_s) * 1000) / 1000
        excess = max(self._excess - self._rate_per_s * elapsed_s + 1, 0.0)
        if excess > self._burst:
            return False
        self._excess, self._last_s = excess, now_s
        return True


class Bucket:
    """A token bucket, as cloud gateways have it."""

    def __init__(self, rate_per_s: float, size: int) -> None:
        self._rate_per_s, self._size = rate_per_s, size
        self._tokens, self._last_s = float(size), 0.0

    def accepts(self, now_s: float, under_way: int) -> bool:
        """Return True if a request is accepted."""
        self._tokens = min(self._size, self._tokens + (now_s - self._last_s) * self._rate_per_s)
        self._last_s = now_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Window:
    """A number of requests in each second of the clock."""

    def __init__(self, per_s: int) -> None:
        self._per_s, self._second, self._count = per_s, -1, 0

    def accepts(self, now_s: float, under_way: int) -> bool:
        """Return True if a request is accepted."""
        if int(now_s) != self._second:
            self._second, self._count = int(now_s), 0
        self._count += 1
        return self._count <= self._per_s


class AtOnce:
    """A number of concurrent requests, at any rate."""

    def __init__(self, slots: int) -> None:
        self._slots = slots

    def accepts(self, now_s: float, under_way: int) -> bool:
        """Return True if a request is accepted."""
        return under_way < self._slots


@dataclass
class Course:
    """The result of the second half."""

    accepted_per_s: float
    rejected_share: float
    rejections: int
    """The result of the whole."""
    concurrency: int
    told_per_s: float | None


def simulate(limiter: Limiter, latency_s: float, *, duration_s: float = 200.0, seed: int = 1) -> Course:
    """Send as both controllers decide, with timers that are up to 1 ms late."""
    chance, rate, concurrency = random.Random(seed), RequestRate(), Concurrency()
    now_s, in_flight, under_way, number = 0.0, 0, 0, 0
    accepted, rejected, rejections = 0, 0, 0
    ends: list[tuple[float, int, float, bool, int]] = []
    while now_s < duration_s:
        while in_flight < concurrency.limit and rate.wait_s(now_s) <= 0:
            rate.take(now_s)
            in_flight += 1
            number += 1
            is_accepted = limiter.accepts(now_s + chance.uniform(0, 0.002), under_way)
            under_way += is_accepted
            service_s = latency_s * chance.uniform(0.8, 1.2) if is_accepted else REJECTED_S
            heapq.heappush(ends, (now_s + service_s, number, now_s, is_accepted, in_flight))
        paced_s = now_s + rate.wait_s(now_s) if in_flight < concurrency.limit else float("inf")
        if not ends or paced_s < ends[0][0]:
            now_s = paced_s + chance.uniform(0, 0.001)
            continue
        now_s, _, started_s, is_accepted, at_once = heapq.heappop(ends)
        is_wanted = in_flight >= concurrency.limit
        in_flight -= 1
        is_late = now_s > duration_s / 2
        if is_accepted:
            under_way -= 1
            accepted += is_late
            rate.accepted(now_s, at_once)
            concurrency.ended(started_s, now_s, 4_000_000, 8, at_once=at_once, is_wanted=is_wanted)
        else:
            rejections += 1
            rejected += is_late
            if concurrency.limit > concurrency.lowest and rate.is_of_concurrency(at_once):
                concurrency.ended(started_s, now_s, 4_000_000, 8, at_once=at_once, is_rejected=True)
            else:
                rate.rejected(started_s, now_s)
    share = rejected / max(accepted + rejected, 1)
    return Course(accepted / (duration_s / 2), share, rejections, concurrency.settled, rate.limit_per_s)


@pytest.mark.parametrize("latency_s", [0.02, 0.3])
@pytest.mark.parametrize(
    ("limiter", "per_s"),
    [
        (lambda: Leaky(2), 2),
        (lambda: Leaky(10), 10),
        (lambda: Leaky(10, burst=5), 10),
        (lambda: Bucket(10, 20), 10),
        (lambda: Window(10), 10),
    ],
    ids=["2 a second", "10 a second", "a burst of 5", "a bucket of 20", "a window of a second"],
)
def test_a_rate_is_found_and_kept(limiter: Callable[[], Limiter], per_s: float, latency_s: float) -> None:
    """At least 85 % of the accepted rate is used, at most 3 % is rejected, and the reported rate is right to 15 %."""
    course = simulate(limiter(), latency_s)
    assert course.accepted_per_s >= 0.85 * per_s
    assert course.rejected_share <= 0.03
    assert course.told_per_s == pytest.approx(per_s, rel=0.15)
    assert course.rejections <= 100


@pytest.mark.parametrize("latency_s", [1.0, 2.0])
def test_a_rate_does_not_keep_concurrency_down(latency_s: float) -> None:
    """If requests take long, the concurrency reaches what the rate needs, although rejections came first."""
    course = simulate(Leaky(10, burst=5), latency_s, duration_s=600.0)
    assert course.accepted_per_s >= 0.7 * 10
    assert course.concurrency >= 0.7 * 10 * latency_s


@pytest.mark.parametrize(("slots", "latency_s"), [(2, 0.02), (2, 0.3), (8, 0.3), (24, 0.3)])
def test_a_limit_of_requests_at_once_is_no_rate(slots: int, latency_s: float) -> None:
    """A server that rejects above a number of concurrent requests is used fully, and hardly any request is rejected."""
    course = simulate(AtOnce(slots), latency_s, duration_s=400.0)
    assert course.accepted_per_s >= 0.9 * slots / latency_s
    assert course.rejected_share <= 0.02


def test_when_a_rejection_is_about_the_number_at_once() -> None:
    """It is if more were under way than any accepted request saw; under a limited rate only once that was kept."""
    rate = RequestRate()
    assert [rate.is_of_concurrency(at_once) for at_once in (1, 2, 3)] == [False, False, True]
    rate.accepted(1.0, 4)
    assert [rate.is_of_concurrency(at_once) for at_once in (3, 4, 5)] == [False, False, True]
    rate.rejected(1.1, 1.2)
    for number in range(10):
        assert not rate.is_of_concurrency(5)
        rate.accepted(2.0 + number, 4)
    assert [rate.is_of_concurrency(at_once) for at_once in (4, 5)] == [False, True]


def test_without_rejections_there_is_no_limit() -> None:
    """Without rejections no request waits, at any rate."""
    rate = RequestRate()
    for number in range(1000):
        rate.take(number * 1e-4)
        rate.accepted(number * 1e-4, 4)
        assert rate.wait_s(number * 1e-4) == 0.0
    assert (rate.rate_per_s, rate.limit_per_s) == (None, None)


def test_a_limit_that_is_not_met_any_more_is_given_up() -> None:
    """One rejection among requests that are slow for another reason limits them for a minute only."""
    rate = RequestRate()
    rate.rejected(0.0, 0.0)
    assert rate.wait_s(0.0) > 0
    for second in range(1, 10 + int(RELEASE_S)):
        rate.take(float(second))
        rate.accepted(float(second), 1)
    assert rate.rate_per_s is None
    assert rate.limit_per_s is None


def test_a_server_that_accepts_nothing_has_no_rate() -> None:
    """While every request is rejected no rate is reported; once one is accepted, the next rejection reports it."""
    rate = RequestRate()
    for second in range(0, 60, 3):
        rate.take(float(second))
        rate.rejected(float(second), second + 0.01)
    assert rate.limit_per_s is None
    rate.accepted(60.0, 1)
    rate.rejected(62.0, 62.0)
    assert rate.limit_per_s == rate.rate_per_s


def test_one_round_of_rejections_lowers_the_rate_once() -> None:
    """A request that started before the rate was lowered, or ends within a second after it, says nothing new."""
    rate = RequestRate()
    for _ in range(30):
        rate.rejected(0.0, 0.01)
    assert rate.rate_per_s == FIRST_PER_S
    rate.rejected(0.5, 0.9)
    assert rate.rate_per_s == FIRST_PER_S
    rate.accepted(1.9, 1)
    rate.rejected(0.5, 2.0)
    assert rate.rate_per_s == FIRST_PER_S / 2


def test_an_outage_does_not_lower_the_rate() -> None:
    """Rejections in a row, with nothing accepted between them, lower the rate once."""
    rate = RequestRate()
    for second in range(20):
        rate.take(float(second))
        rate.rejected(float(second), second + 0.01)
    assert rate.rate_per_s == FIRST_PER_S


@given(
    st.lists(st.tuples(st.booleans(), st.floats(0, 30), st.floats(0, 10), st.integers(1, 32)), max_size=200),
)
def test_the_rate_is_bounded_and_requests_go_on(events: list[tuple[bool, float, float, int]]) -> None:
    """After any events the next request may start within a minute."""
    rate, now_s = RequestRate(), 0.0
    for is_accepted, later_s, took_s, at_once in events:
        now_s += later_s
        rate.take(now_s)
        if is_accepted:
            rate.accepted(now_s, at_once)
        else:
            rate.rejected(now_s - took_s, now_s)
        assert rate.rate_per_s is None or rate.rate_per_s >= LEAST_PER_S
        assert rate.rate_per_s is not None or rate.limit_per_s is None
