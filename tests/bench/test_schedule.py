"""Open loads: when requests are due, and what becomes of those without a slot."""

from __future__ import annotations

from itertools import islice, takewhile
from random import Random
from statistics import fmean, stdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkstow.bench.schedule import OVERDUE_MOST_S, Due, OpenLoad, constant, poisson


@pytest.mark.parametrize(
    ("rate_per_s", "batch_instances", "expected_s"),
    [(1, 1, [0, 1, 2, 3]), (10, 1, [0, 0.1, 0.2, 0.3]), (10, 5, [0, 0.5, 1, 1.5]), (0.5, 1, [0, 2, 4, 6])],
)
def test_a_constant_load_is_even(rate_per_s: float, batch_instances: int, expected_s: list[float]) -> None:
    """A request is due as often as its instances at the rate demand."""
    assert list(islice(constant(rate_per_s, batch_instances), 4)) == pytest.approx(expected_s)


def test_a_constant_load_does_not_drift() -> None:
    """The millionth request is due when it should be, to the microsecond."""
    assert next(islice(constant(300, 1), 10**6, None)) == pytest.approx(10**6 / 300, abs=1e-6)


@given(st.floats(0.1, 1e5), st.integers(1, 200), st.integers(0, 2**32))
@settings(deadline=None)
def test_random_starts_have_the_rate_and_the_spread_of_poisson(rate: float, batch: int, seed: int) -> None:
    """Intervals have the mean of the rate, and, being exponential, a deviation as large; the seed decides them."""
    starts_s = list(islice(poisson(rate, batch, Random(seed)), 3000))
    gaps_s = [b - a for a, b in zip([0.0, *starts_s], starts_s, strict=False)]
    assert fmean(gaps_s) == pytest.approx(batch / rate, rel=0.15)  # eight standard errors
    assert stdev(gaps_s) == pytest.approx(batch / rate, rel=0.25)
    assert starts_s == list(islice(poisson(rate, batch, Random(seed)), 3000))


@pytest.mark.parametrize(("rate", "batch"), [(0.0, 1), (-1.0, 1), (float("nan"), 1), (1.0, 0)])
def test_no_rate_is_no_load(rate: float, batch: int) -> None:
    """A rate or batch of nothing is refused at once, not when the first is due."""
    with pytest.raises(ValueError, match="expected more than 0"):
        constant(rate, batch)
    with pytest.raises(ValueError, match="expected more than 0"):
        poisson(rate, batch, Random(1))


def intended(dues: list[Due]) -> list[float]:
    """Return when they were due."""
    return [due.intended_s for due in dues]


def test_what_is_due_starts_and_what_is_not_does_not() -> None:
    """With slots free each starts when it is due; the load ends with its duration."""
    load = OpenLoad(islice(constant(1, 1), 3), 100.0)
    starts_s = [load.next_s]
    assert intended(load.take(100.0, 9)[0]) == [100]
    assert load.take(100.9, 9) == ([], [])
    assert [*starts_s, load.next_s] == [100, 101]
    begun, dropped = load.take(102.5, 9)
    assert intended(begun) == [101, 102]
    assert not dropped
    assert (load.next_s, load.waiting) == (None, 0)


def test_what_finds_no_slot_waits_and_keeps_its_time() -> None:
    """The longest due goes first when a slot gets free, and says that it had to wait."""
    load = OpenLoad(islice(constant(1, 1), 4), 0.0)
    assert intended(load.take(2.0, 1)[0]) == [0]
    assert load.waiting == 2
    begun, _ = load.take(3.0, 2)
    assert begun == [Due(1, 1.0, had_slot=False), Due(2, 2.0, had_slot=False)]
    assert load.take(3.5, 1)[0] == [Due(3, 3.0, had_slot=False)]
    assert (load.next_s, load.waiting) == (None, 0)


def test_what_is_overdue_too_long_is_dropped() -> None:
    """Beyond the bound a request is given up; one that is due exactly so long is not."""
    load = OpenLoad(islice(constant(1, 1), 20), 0.0)
    load.take(0.0, 1)
    for now_s in range(1, 11):
        load.take(float(now_s), 0)
    begun, dropped = load.take(1.0 + OVERDUE_MOST_S, 1)
    assert (intended(begun), intended(dropped)) == ([1.0], [])
    begun, dropped = load.take(4.5 + OVERDUE_MOST_S, 1)
    assert (intended(begun), intended(dropped)) == ([5.0], [2.0, 3.0, 4.0])


def test_a_client_that_comes_late_does_not_call_it_dropped() -> None:
    """With slots free all the time what is late starts late: that is the client's doing, and shows as such."""
    load = OpenLoad(islice(constant(1, 1), 3), 0.0)
    begun, dropped = load.take(60.0, 9)
    assert begun == [Due(0, 0.0, had_slot=True), Due(1, 1.0, had_slot=True), Due(2, 2.0, had_slot=True)]
    assert not dropped


def test_the_end_returns_what_never_started() -> None:
    """What still waits when the load ends was due and could not be sent."""
    load = OpenLoad(islice(constant(1, 1), 3), 0.0)
    load.take(2.0, 1)
    assert intended(load.end()) == [1.0, 2.0]
    assert (load.next_s, load.waiting) == (None, 0)


@given(
    looks=st.lists(st.tuples(st.floats(0, 2), st.integers(0, 3)), max_size=60),
    rate=st.floats(0.5, 20),
    bound_s=st.floats(0.1, 5),
    duration_s=st.floats(0.1, 30),
)
@settings(deadline=None)
def test_every_request_has_one_fate(
    looks: list[tuple[float, int]], rate: float, bound_s: float, duration_s: float
) -> None:
    """Whatever the server does, each request that was due started, was dropped or waits: once, and in its order."""
    load = OpenLoad(takewhile(lambda at_s: at_s < duration_s, constant(rate, 1)), 0.0, overdue_most_s=bound_s)
    started: list[Due] = []
    dropped: list[Due] = []
    now_s = 0.0
    for gap_s, free_slots in looks:
        now_s += gap_s
        begun, given_up = load.take(now_s, free_slots)
        assert len(begun) <= free_slots
        assert all(now_s - due.intended_s > bound_s for due in given_up)
        assert all(due.had_slot or now_s - due.intended_s <= bound_s for due in begun)
        started += begun
        dropped += given_up
    waiting = load.end()
    due_by_now = sum(1 for n in range(1000) if n / rate < duration_s and n / rate <= now_s) if looks else 0
    numbers = sorted(due.number for due in (*started, *dropped, *waiting))
    assert numbers == list(range(due_by_now))
    assert [due.number for due in started] == sorted(due.number for due in started)
