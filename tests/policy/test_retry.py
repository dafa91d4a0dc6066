"""When to send again, and whether to send at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.policy.retry import Backoff, Breaker, Delay, RetryBudget


@pytest.mark.parametrize(
    ("delay", "faults", "jitter", "at_least_s", "expected_s"),
    [
        (Delay.NONE, 1, 0.5, None, 0.0),
        (Delay.NONE, 1, 0.5, 20.0, 20.0),
        (Delay.BACKOFF, 1, 0.0, None, 0.0),
        (Delay.BACKOFF, 1, 0.5, None, 0.5),
        (Delay.BACKOFF, 2, 0.5, None, 1.0),
        (Delay.BACKOFF, 3, 0.5, None, 2.0),
        (Delay.BACKOFF, 6, 0.5, None, 16.0),
        (Delay.BACKOFF, 7, 0.5, None, 30.0),
        (Delay.BACKOFF, 10_000, 0.5, None, 30.0),
        (Delay.BACKOFF, 0, 0.5, None, 0.5),
        (Delay.LONG, 1, 0.5, None, 5.0),
        (Delay.LONG, 2, 0.5, None, 10.0),
        (Delay.LONG, 4, 0.5, None, 30.0),
        (Delay.BACKOFF, 1, 0.0, 120.0, 120.0),
        (Delay.BACKOFF, 9, 0.5, 120.0, 120.5),
        (Delay.LONG, 9, 0.5, 0.0, 0.5),
    ],
    ids=[
        "none",
        "none, but the server named a time",
        "the least",
        "first fault",
        "second",
        "third",
        "below the cap",
        "at the cap",
        "no overflow",
        "an outage without a fault",
        "long",
        "long, second",
        "long, at the cap",
        "Retry-After, the least",
        "Retry-After, with jitter",
        "Retry-After: 0",
    ],
)
def test_delays(delay: Delay, faults: int, jitter: float, at_least_s: float | None, expected_s: float) -> None:
    """The bound doubles with each fault up to a minute; the jitter takes a share of it; Retry-After is obeyed."""
    assert Backoff().delay_s(delay, faults=faults, jitter=jitter, at_least_s=at_least_s) == expected_s


@given(
    delay=st.sampled_from(Delay),
    faults=st.integers(0, 10**6),
    jitter=st.floats(0, 1, exclude_max=True),
    at_least_s=st.none() | st.floats(0, 10**6),
    base_s=st.floats(0.001, 100),
    cap_s=st.floats(0.001, 1000),
)
def test_a_delay_is_bounded(
    delay: Delay, faults: int, jitter: float, at_least_s: float | None, base_s: float, cap_s: float
) -> None:
    """Never sooner than the server asked for, never later than that and the cap."""
    delay_s = Backoff(base_s=base_s, cap_s=cap_s).delay_s(delay, faults=faults, jitter=jitter, at_least_s=at_least_s)
    assert (at_least_s or 0.0) <= delay_s <= cap_s + (at_least_s or 0.0)


@given(faults=st.integers(1, 50), jitter=st.floats(0, 1, exclude_max=True))
def test_more_faults_never_wait_less(faults: int, jitter: float) -> None:
    """The bound grows with the faults, and a long delay is not the shorter one."""

    def wait_s(delay: Delay, faults: int) -> float:
        return Backoff().delay_s(delay, faults=faults, jitter=jitter)

    assert wait_s(Delay.BACKOFF, faults) <= wait_s(Delay.BACKOFF, faults + 1)
    assert wait_s(Delay.BACKOFF, faults) <= wait_s(Delay.LONG, faults)


def test_retries_are_a_share_of_first_tries() -> None:
    """However many fail, over a run there are no more retries than the share, what the start gave, and time's own."""
    budget = RetryBudget(share=0.2, minimum_per_s=0.01, most=5.0)
    retries = 0
    for number in range(1000):
        budget.first_try()
        while budget.wait_s(number * 0.1) <= 0:
            budget.retry()
            retries += 1
    assert 195 <= retries <= 1000 * 0.2 + 5 + 100 * 0.01


def test_what_is_left_at_the_end_is_tried_all_the_same() -> None:
    """Without first tries a retry is allowed after the time that it says, and not before."""
    budget = RetryBudget(minimum_per_s=0.5, most=1.0)
    assert budget.wait_s(0.0) == 0.0
    budget.retry()
    assert budget.wait_s(0.0) == pytest.approx(2.0, abs=1e-3)
    assert budget.wait_s(1.0) == pytest.approx(1.0, abs=1e-3)
    assert budget.wait_s(2.0) == 0.0


def test_a_quiet_hour_does_not_save_up_a_storm() -> None:
    """What can be saved up is bounded."""
    budget = RetryBudget(minimum_per_s=10.0, most=3.0)
    budget.wait_s(0.0)
    allowed = 0
    while budget.wait_s(3600.0) <= 0:
        budget.retry()
        allowed += 1
    assert allowed == 3


def opened(breaker: Breaker, *, at_s: float = 0.0) -> Breaker:
    """Open a breaker by as many signs as it takes."""
    while not breaker.is_open:
        breaker.gone(at_s)
    return breaker


def test_a_breaker_opens_after_signs_in_a_row() -> None:
    """Signs that something else comes between do not add up; so many in a row open it."""
    breaker = Breaker(trip_after=3)
    for _ in range(5):
        breaker.gone(0.0)
        breaker.gone(0.0)
        assert not breaker.is_open
        breaker.alive()
    for _ in range(3):
        assert not breaker.is_open
        breaker.gone(0.0)
    assert breaker.is_open


def test_probes_come_at_intervals_that_double_up_to_the_cap() -> None:
    """The first probe is due after its interval, each one in vain doubles it, and none is further off than the cap."""
    breaker = opened(Breaker(first_probe_s=1.0, cap_s=10.0))
    now_s, waits_s = 0.0, []
    for _ in range(6):
        waits_s.append(breaker.wait_s(now_s))
        now_s += waits_s[-1]
        assert breaker.wait_s(now_s) == 0.0
        breaker.probed_in_vain(now_s)
    assert waits_s == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert breaker.open_for_s(now_s) == sum(waits_s)


def test_late_signs_of_requests_sent_before_change_nothing() -> None:
    """While it is open, what fails of the requests that were under way neither shortens nor lengthens the wait."""
    breaker = opened(Breaker(first_probe_s=1.0))
    breaker.gone(0.5)
    assert breaker.wait_s(0.5) == 0.5
    assert breaker.open_for_s(0.5) == 0.5


def test_any_answer_closes_it_and_the_next_outage_begins_anew() -> None:
    """After an answer the count and the intervals start from the beginning."""
    breaker = opened(Breaker(trip_after=3, first_probe_s=1.0))
    breaker.probed_in_vain(1.0)
    breaker.probed_in_vain(3.0)
    breaker.alive()
    assert not breaker.is_open
    assert breaker.open_for_s(5.0) == 0.0
    states = []
    for _ in range(3):
        breaker.gone(6.0)
        states.append(breaker.is_open)
    assert states == [False, False, True]
    assert breaker.wait_s(6.0) == 1.0


def test_nobody_is_let_through_to_who_is_gone() -> None:
    """While the destination is gone no errand starts, however long it takes."""
    breaker = opened(Breaker())
    assert not breaker.allow(0.0)
    assert not breaker.allow(1e6)


def test_one_at_a_time_is_let_through_to_who_is_full() -> None:
    """While there is no room one errand starts when the interval is over, the next when it has failed and waited."""
    breaker = Breaker(trip_after=1, first_probe_s=1.0)
    breaker.gone(0.0, full=True)
    assert not breaker.allow(0.9)
    assert breaker.allow(1.0)
    breaker.started()
    assert not breaker.allow(100.0)
    breaker.gone(1.5, full=True)
    assert breaker.wait_s(1.5) == 2.0
    assert not breaker.allow(3.4)
    assert breaker.allow(3.5)
    breaker.started()
    breaker.unclear()
    assert breaker.allow(3.5)
    breaker.alive()
    assert not breaker.is_open
    assert breaker.allow(3.5)


def test_who_was_full_may_be_gone_later() -> None:
    """A sign of absence while there is no room means: ask, and let nobody through."""
    breaker = Breaker(trip_after=1, first_probe_s=1.0)
    breaker.gone(0.0, full=True)
    breaker.gone(0.5)
    assert not breaker.is_full
    assert not breaker.allow(100.0)
