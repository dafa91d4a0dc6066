"""The delay before a retry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.policy.retry import Backoff, Delay


@pytest.mark.parametrize(
    ("delay", "failed_attempts", "jitter", "at_least_s", "expected_s"),
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
def test_delays(delay: Delay, failed_attempts: int, jitter: float, at_least_s: float | None, expected_s: float) -> None:
    """The bound doubles with each failed attempt up to a minute; the jitter is a share of it; Retry-After is obeyed."""
    assert Backoff().delay_s(delay, failed_attempts=failed_attempts, jitter=jitter, at_least_s=at_least_s) == expected_s


@given(
    delay=st.sampled_from(Delay),
    failed_attempts=st.integers(0, 10**6),
    jitter=st.floats(0, 1, exclude_max=True),
    at_least_s=st.none() | st.floats(0, 10**6),
    base_s=st.floats(0.001, 100),
    cap_s=st.floats(0.001, 1000),
)
def test_a_delay_is_bounded(
    delay: Delay, failed_attempts: int, jitter: float, at_least_s: float | None, base_s: float, cap_s: float
) -> None:
    """It is never shorter than the server asked for, never longer than that and the cap."""
    delay_s = Backoff(base_s=base_s, cap_s=cap_s).delay_s(
        delay, failed_attempts=failed_attempts, jitter=jitter, at_least_s=at_least_s
    )
    assert (at_least_s or 0.0) <= delay_s <= cap_s + (at_least_s or 0.0)


@given(failed_attempts=st.integers(1, 50), jitter=st.floats(0, 1, exclude_max=True))
def test_more_faults_never_wait_less(failed_attempts: int, jitter: float) -> None:
    """The bound grows with the failed attempts, and a long delay is not shorter than a normal one."""

    def wait_s(delay: Delay, failed_attempts: int) -> float:
        return Backoff().delay_s(delay, failed_attempts=failed_attempts, jitter=jitter)

    assert wait_s(Delay.BACKOFF, failed_attempts) <= wait_s(Delay.BACKOFF, failed_attempts + 1)
    assert wait_s(Delay.BACKOFF, failed_attempts) <= wait_s(Delay.LONG, failed_attempts)
