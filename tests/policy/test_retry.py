"""When to send again, and whether to send at all."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bulkstow.policy.retry import Backoff, Breaker, Delay


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


def opened(breaker: Breaker, *, at_s: float = 0.0) -> Breaker:
    """Open a breaker by as many signs as it takes."""
    while not breaker.is_open:
        breaker.gone(at_s)
    return breaker


def test_a_breaker_opens_after_signs_in_a_row() -> None:
    """Two signs are nothing, an answer between them starts the count anew, and the third opens it."""
    breaker = Breaker(trip_after=3)
    for _ in range(2):
        breaker.gone(0.0)
        breaker.gone(0.0)
        breaker.alive()
    for _ in range(2):
        breaker.gone(0.0)
        assert breaker.allow(0.0)
    breaker.gone(0.0)
    assert breaker.is_open
    assert not breaker.allow(0.0)


def test_what_says_nothing_is_no_sign_and_no_answer() -> None:
    """A request that we broke off ourselves neither counts nor resets the count."""
    breaker = Breaker(trip_after=2)
    breaker.gone(0.0)
    breaker.unclear()
    assert breaker.allow(0.0)
    breaker.gone(0.0)
    assert breaker.is_open


def test_one_probe_may_go_when_the_interval_is_over() -> None:
    """Until then nothing may; then one; and while that is under way nothing else, however long it takes."""
    breaker = opened(Breaker(first_probe_s=1.0))
    assert not breaker.allow(0.99)
    assert breaker.wait_s(0.25) == 0.75
    assert breaker.allow(1.0)
    assert breaker.wait_s(1.0) == 0.0
    breaker.started()
    assert not breaker.allow(1000.0)
    assert breaker.wait_s(1000.0) is None


def test_intervals_double_up_to_the_cap() -> None:
    """Each probe that fails doubles the wait for the next."""
    breaker = opened(Breaker(first_probe_s=1.0, cap_s=10.0))
    now_s, waits_s = 0.0, []
    for _ in range(6):
        wait_s = breaker.wait_s(now_s)
        assert wait_s is not None
        waits_s.append(wait_s)
        now_s += wait_s
        assert breaker.allow(now_s)
        breaker.started()
        breaker.gone(now_s)
    assert waits_s == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_late_signs_of_requests_sent_before_do_not_double_the_interval() -> None:
    """What fails beside the third sign was on its way already, and tells nothing new."""
    breaker = opened(Breaker(first_probe_s=1.0))
    breaker.gone(0.5)
    breaker.gone(0.5)
    assert breaker.wait_s(0.5) == 1.0


def test_any_answer_closes_it_and_the_next_outage_begins_anew() -> None:
    """After an answer everything may start, it takes as many signs again, and the first interval is the short one."""
    breaker = opened(Breaker(trip_after=3, first_probe_s=1.0))
    breaker.started()
    breaker.gone(5.0)
    breaker.alive()
    assert not breaker.is_open
    assert breaker.allow(5.0)
    assert breaker.wait_s(5.0) is None
    breaker.gone(6.0)
    breaker.gone(6.0)
    assert breaker.allow(6.0)
    breaker.gone(6.0)
    assert breaker.wait_s(6.0) == 1.0


def test_a_probe_that_says_nothing_is_given_back() -> None:
    """A probe that we broke off ourselves lets another go at once."""
    breaker = opened(Breaker(first_probe_s=1.0))
    breaker.started()
    breaker.unclear()
    assert breaker.is_open
    assert breaker.allow(1.0)


class BreakerMachine(RuleBasedStateMachine):
    """A sender at a time, against what the breaker promises."""

    CAP_S = 8.0

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(trip_after=3, first_probe_s=1.0, cap_s=self.CAP_S)
        self.now_s = 0.0
        self.signs = 0
        self.under_way = False
        self.failed_probe_s = 0.0

    @rule(passing_s=st.floats(0, 20))
    def time_passes(self, passing_s: float) -> None:
        """The clock goes on."""
        self.now_s += passing_s

    @precondition(lambda self: not self.under_way and self.breaker.allow(self.now_s))
    @rule()
    def request(self) -> None:
        """A request starts."""
        assert self.signs < 3 or self.now_s >= self.failed_probe_s + min(self.CAP_S, 2.0 ** (self.signs - 3))
        self.breaker.started()
        self.under_way = True

    @precondition(lambda self: self.under_way)
    @rule()
    def no_answer(self) -> None:
        """It ends without an answer."""
        self.breaker.gone(self.now_s)
        self.signs += 1
        self.failed_probe_s = self.now_s
        self.under_way = False

    @precondition(lambda self: self.under_way)
    @rule()
    def answered(self) -> None:
        """It is answered."""
        self.breaker.alive()
        self.signs = 0
        self.under_way = False

    @precondition(lambda self: self.under_way)
    @rule()
    def broken_off(self) -> None:
        """It is broken off by ourselves."""
        self.breaker.unclear()
        self.under_way = False

    @invariant()
    def open_after_three_signs(self) -> None:
        """It is open exactly after three signs in a row."""
        assert self.breaker.is_open == (self.signs >= 3)

    @invariant()
    def one_at_a_time_while_open(self) -> None:
        """While it is open, nothing may start beside a probe."""
        if self.breaker.is_open and self.under_way:
            assert not self.breaker.allow(self.now_s)
            assert self.breaker.wait_s(self.now_s) is None

    @invariant()
    def a_probe_is_always_to_come(self) -> None:
        """While it is open and nothing is under way, a probe may start after a wait within the bounds."""
        if self.breaker.is_open and not self.under_way:
            wait_s = self.breaker.wait_s(self.now_s)
            assert wait_s is not None
            assert 0 <= wait_s <= min(self.CAP_S, 2.0 ** (self.signs - 3))
            assert self.breaker.allow(self.now_s) == (wait_s == 0)
            assert self.breaker.allow(self.now_s + wait_s + 1e-6)

    @invariant()
    def closed_lets_everything_through(self) -> None:
        """While it is closed there is no limit."""
        if not self.breaker.is_open:
            assert self.breaker.allow(self.now_s)


TestBreaker = BreakerMachine.TestCase
TestBreaker.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
