"""From measurements to a result."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from bulkstow.bench.conclusion import Facts, conclude, drift
from bulkstow.bench.recorder import Measured, RecordedRequest, Recorder
from bulkstow.bench.result import Ceiling, Load
from bulkstow.bench.threshold import parse
from tests.bench.measurements import second

ONE, TWO, FOUR = (Load(10, connections=connections) for connections in (1, 2, 4))


def facts(mode: str = "sweep", *thresholds: str) -> Facts:
    """Return a run's facts, an instance being 1 MB."""
    limits = tuple(map(parse, thresholds))
    return Facts(mode, "ct", 1e6, "http://pacs.example/rs", "run", "2026-01-01T00:00:00+01:00", "1", "2 cores", limits)


def measured(instances_per_s: int, latency_s: float = 0.1, **changes: Any) -> Measured:
    """Return ten seconds of requests that took all the same time."""
    recorder = Recorder(0.0, warmup_s=0.0)
    for number in range(instances_per_s):
        at_s = number * 10 / instances_per_s
        recorder.started(at_s)
        recorder.ended(RecordedRequest(at_s - latency_s, at_s - latency_s, at_s, instances=10, size_bytes=10**7))
    recorder.stop(10.0)
    found = recorder.finish(10.0)
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def test_visits_of_a_load_are_one_point() -> None:
    """Up the sweep and down again: one point with two goodputs, in the order of the first visits."""
    result = conclude(
        facts(), [(ONE, measured(50)), (TWO, measured(90)), (TWO, measured(110)), (ONE, measured(52))], {}
    )
    assert [point.load for point in result.points] == [ONE, TWO]
    assert list(result.points[0].goodputs_per_s) == [50, 52]
    assert result.points[1].instances_per_s == 100


def test_a_sweep_has_knee_and_flags() -> None:
    """The flags are those of the knee; the highest rate keeps to the thresholds, or to the limits of its own."""
    visits = [(ONE, measured(50)), (TWO, measured(110)), (FOUR, measured(113, latency_s=0.5))]
    result = conclude(facts(), visits, {})
    assert result.knee is not None
    assert result.knee.load == TWO
    assert result.suggested_flags[:4] == ("--concurrency", "2", "--batch-instances", "10")
    assert result.highest_rate_per_s == 113
    assert conclude(facts("sweep", "p99<400ms"), visits, {}).highest_rate_per_s == 110


@pytest.mark.parametrize("mode", ["closed", "open", "soak"])
def test_other_modes_have_none(mode: str) -> None:
    """A single load has no knee, and says nothing of what would fit."""
    result = conclude(facts(mode), [(TWO, measured(100))], {})
    assert (result.knee, result.suggested_flags, result.highest_rate_per_s) == (None, (), None)


def test_each_point_is_held_against_its_own_ceiling() -> None:
    """The result has the ceiling of its best point; a load without one is not judged by it."""
    visits = [(ONE, measured(95)), (TWO, measured(100)), (FOUR, measured(100))]
    result = conclude(facts(), visits, {ONE: Ceiling(1000, 1000), TWO: Ceiling(110, 110)})
    assert [bool(point.client_bound) for point in result.points] == [False, True, False]
    assert result.ceiling == Ceiling(1000, 1000)


def test_thresholds_are_judged_on_the_best_point() -> None:
    """They come out as they were written."""
    result = conclude(
        facts("closed", "p99<200ms", "errors<0.1%"), [(ONE, measured(200, errors=Counter({"HTTP 503": 5})))], {}
    )
    assert [(judged.threshold, judged.holds) for judged in result.thresholds] == [
        ("p99<200ms", True),
        ("errors<0.1%", False),
    ]


def test_a_soak_says_how_it_drifted() -> None:
    """Of other loads nobody asks that."""
    series = [second(at) for at in range(30)]
    assert conclude(facts("soak"), [(ONE, measured(10, series=series))], {}).drift is not None
    assert conclude(facts("closed"), [(ONE, measured(10, series=series))], {}).drift is None


def test_what_was_cut_short_says_so() -> None:
    """An interrupted run is no complete one."""
    assert not conclude(facts(), [(ONE, measured(10))], {}, is_complete=False).is_complete


def test_the_ends_are_compared() -> None:
    """The first tenth with the last; what lies between does not matter."""
    begun = [second(at, 100, p99_s=0.2, rss_bytes=80) for at in range(3)]
    between = [second(at, 7, p99_s=9.0, rss_bytes=999) for at in range(3, 27)]
    ended = [second(at, 90, p99_s=0.3, rss_bytes=81) for at in range(27, 30)]
    found = drift([*begun, *between, *ended])
    assert found is not None
    assert (found.span_s, found.instances_per_s, found.instances_per_s_end) == (3, 100, 90)
    assert round(found.goodput_share, 6) == -0.1
    assert (found.p99_s, found.p99_s_end) == (0.2, 0.3)
    assert (found.p50_s, found.p50_s_end) == (0.1, 0.1)
    assert (found.rss_bytes, found.rss_bytes_end) == (80, 81)


def test_only_the_load_counts() -> None:
    """Warm-up and drain are no part of it."""
    warmup = [second(at, 1, is_warmup=True) for at in range(10)]
    load = [second(at, 100) for at in range(10, 30)]
    found = drift([*warmup, *load, second(30, 1, is_drain=True)])
    assert found is not None
    assert found.goodput_share == 0


def test_a_short_load_has_none() -> None:
    """Below two seconds a part, what changes from second to second would pass for drift."""
    assert drift([second(at) for at in range(19)]) is None


def test_nothing_stored_is_no_drift() -> None:
    """A server that took nothing lost nothing; a second without an answer has no p99."""
    found = drift([second(at, 0, requests=0) for at in range(20)])
    assert found is not None
    assert (found.goodput_share, found.p99_s, found.p50_s) == (0, None, None)


def test_seconds_of_few_requests_have_a_median() -> None:
    """Of ten requests a second there is no p99, nor a drift of it."""
    found = drift([second(at, requests=10) for at in range(20)])
    assert found is not None
    assert (found.p99_s, found.p99_s_end, found.p50_s, found.p50_s_end) == (None, None, 0.1, 0.1)
