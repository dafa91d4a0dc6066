"""Rates over the last seconds."""

from __future__ import annotations

import pytest

from bulkstow.progress.figures import RATE_WINDOW_S, Pace


def test_the_first_figure_has_no_rate() -> None:
    """The first value has no rate."""
    assert Pace().rate(100.0, 5000.0) == 0.0


@pytest.mark.parametrize("per_s", [0.0, 1.0, 2.5e9])
@pytest.mark.parametrize("interval_s", [0.2, 1.0, 30.0], ids=["bars", "seconds", "lines"])
def test_a_steady_figure(per_s: float, interval_s: float) -> None:
    """The rate of steady growth is the growth per second, also if it is read less often than the window."""
    pace = Pace()
    rates = [pace.rate(1000 + n * interval_s, n * interval_s * per_s) for n in range(100)]
    assert rates[1:] == pytest.approx([per_s] * 99)


def test_what_is_long_ago_does_not_count() -> None:
    """The rate is 0 one window after the growth has stopped."""
    pace = Pace()
    for second in range(101):
        pace.rate(second, second * 50)
    assert 0 < pace.rate(100 + RATE_WINDOW_S / 2, 5000) < 50
    for second in range(101, 101 + int(RATE_WINDOW_S) + 1):
        rate = pace.rate(second, 5000)
    assert rate == 0.0


def test_a_change_of_rate_shows_within_the_window() -> None:
    """After a change, the rate approaches the new one gradually."""
    pace = Pace()
    for second in range(21):
        pace.rate(second, second * 10)
    rates = [pace.rate(20 + second, 200 + second * 100) for second in range(1, 13)]
    assert rates == sorted(rates)
    assert rates[0] > 10
    assert rates[-1] == pytest.approx(100)


def test_the_same_moment_twice_is_no_division_by_zero() -> None:
    """Two values at the same time have no rate."""
    pace = Pace()
    assert [pace.rate(1.0, 10), pace.rate(1.0, 20)] == [0.0, 0.0]


def test_memory_is_bounded() -> None:
    """Only the samples of one window are kept."""
    pace = Pace()
    for tick in range(10_000):
        pace.rate(tick / 5, tick)
    assert len(pace._samples) <= RATE_WINDOW_S * 5 + 2
