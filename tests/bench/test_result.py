"""What follows from figures."""

from __future__ import annotations

from typing import Any

import pytest

from bulkstow.bench.result import Knee, Load
from tests.bench.measurements import point, result


@pytest.mark.parametrize(
    ("fields", "error_share", "dropped_share"),
    [
        ({}, 0, 0),
        ({"errors": {"503": 500, "0xC000": 500}}, 0.5, 0),
        ({"dropped": 1000}, 0, 0.5),
        ({"errors": {"503": 1000}, "dropped": 2000}, 0.5, 0.5),
        ({"instances": 0, "errors": {"503": 10}}, 1, 0),
        ({"instances": 0}, 0, 0),
    ],
)
def test_shares_are_of_all_that_was_due(fields: dict[str, Any], error_share: float, dropped_share: float) -> None:
    """Errors are a share of what was sent, drops a share of that and themselves; nothing of nothing is none."""
    one = point(100, **fields)
    assert (one.error_share, one.dropped_share) == (error_share, dropped_share)


@pytest.mark.parametrize(
    ("goodputs_per_s", "spread"), [((), 0), ((100,), 0), ((100, 110, 90), 0.2), ((0, 0), 0), ((100, 100), 0)]
)
def test_the_spread_is_of_the_median(goodputs_per_s: tuple[float, ...], spread: float) -> None:
    """From the least to the most goodput of the repeats."""
    assert point(goodputs_per_s=goodputs_per_s).spread == pytest.approx(spread)


def test_rates_are_of_the_time_measured() -> None:
    """Instances, megabytes and requests are a second's; of no time there is none."""
    one = point(100, elapsed_s=4)
    assert (one.instances_per_s, one.megabytes_per_s, one.requests_per_s) == (100, 100, 10)
    nothing = point(elapsed_s=0)
    assert (nothing.instances_per_s, nothing.megabytes_per_s, nothing.requests_per_s) == (0, 0, 0)


def test_the_best_point_is_the_knees_or_the_last() -> None:
    """A sweep is summed up by its knee."""
    first, last = point(1, load=Load(1, 1)), point(2, load=Load(1, 2))
    assert result(first, last).best is last
    assert result(first, last, knee=Knee(Load(1, 1), 1, 2)).best is first
