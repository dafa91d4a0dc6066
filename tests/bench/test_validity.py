"""Whether a measurement is the client's own."""

from __future__ import annotations

import pytest

from bulkstow.bench.result import Ceiling, Point
from bulkstow.bench.validity import client_bound
from tests.bench.measurements import point, times

CEILING = Ceiling(instances_per_s=1000, megabytes_per_s=1000)


@pytest.mark.parametrize(
    ("measured", "ceiling", "says"),
    [
        (point(800), CEILING, []),
        (point(810), CEILING, ["810 instances/s are 81% of the 1000 instances/s that this client reaches"]),
        (point(810), None, []),
        (point(500), Ceiling(10_000, 600), ["500 MB/s are 83% of the 600 MB/s"]),
        (point(0), Ceiling(0, 0), []),
        (point(10, loop_lag=times(p99_s=0.009)), CEILING, []),
        (point(10, loop_lag=times(p99_s=0.011)), CEILING, ["the event loop woke more than 11 ms late in 1 % "]),
        (point(10, latency=times(p50_s=10), loop_lag=times(p99_s=0.5)), CEILING, []),
        (point(10, latency=times(p50_s=0.001), slip=times(p99_s=0.004)), CEILING, []),
        (point(10, latency=times(p50_s=0.001), slip=times(p99_s=0.006)), CEILING, ["requests started more than 6 ms"]),
        (
            point(10, slip=times(p99_s=0.2, count=30)),
            CEILING,
            ["requests started 200 ms late in one of 30 of those with a free slot (limit 10 ms)"],
        ),
        (point(10, latency=times(p50_s=0.001, count=1), slip=times(p99_s=0.004, count=1)), CEILING, []),
        (
            point(900, slip=times(p99_s=1), loop_lag=times(p99_s=1)),
            CEILING,
            ["900 instances/s", "the event loop", "requests started more than 1e+03 ms late in 1 % of those with"],
        ),
    ],
    ids=[
        "at the limit",
        "near the ceiling",
        "no ceiling",
        "near it in bytes",
        "nothing works",
        "lag within",
        "lag",
        "slow server, some lag",
        "quick server, some slip",
        "slip",
        "slip of too few for a p99",
        "one request",
        "everything",
    ],
)
def test_each_reason_is_told_with_its_figures(measured: Point, ceiling: Ceiling | None, says: list[str]) -> None:
    """Above 80 % of the ceiling, or late by a tenth of the median latency (5 ms at least), it is the client's."""
    reasons = client_bound(measured, ceiling)
    assert len(reasons) == len(says)
    assert all(reason.startswith(words) for reason, words in zip(reasons, says, strict=True))
