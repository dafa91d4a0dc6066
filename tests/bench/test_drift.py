"""Whether a long load ends as it began."""

from __future__ import annotations

from bulkstow.bench.drift import drift
from tests.bench.measurements import second


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
