"""A rate limit is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.policy.pacing import BURST_S, LEAST_WAIT_S, PIECE_S, Pacer

RATES_PER_S = st.floats(0.1, 1e10)


def taken(pacer: Pacer, amounts: list[float], lateness_s: list[float], from_s: float = 1000.0) -> list[float]:
    """Take amounts as soon as allowed, or later by a delay; return the times."""
    now_s, times_s = from_s, []
    for amount, late_s in zip(amounts, lateness_s, strict=True):
        now_s += late_s
        while (wait_s := pacer.wait_s(now_s)) > 0:
            now_s += wait_s + late_s
        pacer.take(now_s, amount)
        times_s.append(now_s)
    return times_s


@pytest.mark.parametrize("rate_per_s", [0.5, 1.0, 10.0, 100.0])
def test_single_requests_come_evenly(rate_per_s: float) -> None:
    """After the burst amounts are taken at equal intervals; the burst is one amount, or 50 ms of the rate."""
    times_s = taken(Pacer(rate_per_s), [1] * 50, [0.0] * 50)
    burst = 1 + int(BURST_S * rate_per_s + 1e-6)
    assert times_s[:burst] == [1000.0] * burst
    gaps_s = [later - earlier for earlier, later in zip(times_s[burst:], times_s[burst + 1 :], strict=False)]
    assert gaps_s == pytest.approx([1 / rate_per_s] * len(gaps_s), abs=LEAST_WAIT_S)


@given(RATES_PER_S, st.lists(st.tuples(st.floats(0, 0.3), st.floats(0, 0.02)), min_size=2, max_size=60))
def test_no_stretch_of_time_has_more_than_the_rate(rate_per_s: float, takings: list[tuple[float, float]]) -> None:
    """Between any two times no more is taken than the rate allows, the burst, and the last amount."""
    amounts = [duration_s * rate_per_s for duration_s, _ in takings]
    times_s = taken(Pacer(rate_per_s), amounts, [late_s for _, late_s in takings])
    for first in range(len(times_s)):
        for last in range(first, len(times_s)):
            allowed = rate_per_s * (times_s[last] - times_s[first] + BURST_S) + amounts[last]
            assert sum(amounts[first : last + 1]) <= allowed * (1 + 1e-6) + 1e-6 * rate_per_s


@given(RATES_PER_S, st.lists(st.floats(0, 0.04), min_size=200, max_size=200))
def test_a_late_caller_catches_up(rate_per_s: float, lateness_s: list[float]) -> None:
    """A caller that wakes up late by up to 40 ms each time still reaches the rate."""
    pacer, now_s, amount = Pacer(rate_per_s), 0.0, 0.02 * rate_per_s
    for late_s in lateness_s:
        if (wait_s := pacer.wait_s(now_s)) > 0:
            now_s += wait_s + late_s
        pacer.take(now_s, amount)
    assert now_s <= 0.02 * len(lateness_s) + 0.01


def test_nothing_is_saved_up() -> None:
    """A pause of an hour earns no more than the burst."""
    pacer = Pacer(10.0)
    taken(pacer, [1] * 3, [0.0] * 3)
    times_s = taken(pacer, [1] * 20, [0.0] * 20, from_s=4600.0)
    assert times_s[-1] - times_s[0] >= 19 / 10 - BURST_S - 1e-6


def test_a_returned_amount_may_be_taken_again() -> None:
    """An amount that was returned delays nobody."""
    pacer = Pacer(10.0)
    pacer.take(0.0, 100)
    assert pacer.wait_s(0.0) == pytest.approx(10 - BURST_S)
    pacer.give_back(90)
    assert pacer.wait_s(0.0) == pytest.approx(1 - BURST_S)


def test_giving_back_late_saves_nothing_up() -> None:
    """An amount that is returned after its time is lost."""
    pacer = Pacer(10.0)
    pacer.take(0.0, 10)
    pacer.give_back(10)
    times_s = taken(pacer, [10, 10], [0.0, 0.0], from_s=100.0)
    assert times_s[1] - times_s[0] == pytest.approx(1 - BURST_S)


@given(RATES_PER_S, st.integers(1, 2**40))
def test_a_piece_is_a_fiftieth_of_a_second(rate_per_s: float, wanted: int) -> None:
    """It is never more than wanted, never zero, and at most 20 ms of the rate if that is one or more."""
    piece = Pacer(rate_per_s).piece(wanted)
    assert 1 <= piece <= wanted
    assert piece <= max(1, rate_per_s * PIECE_S)
