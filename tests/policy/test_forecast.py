"""The time of an upload: by bytes or by instances, at a given or a measured rate."""

from __future__ import annotations

import pytest

from bulkstow.policy.forecast import Rate, measured_rate


@pytest.mark.parametrize(
    ("rate", "size_bytes", "instances", "expected_s"),
    [
        (Rate(100.0), 1000, 5, 10.0),
        (Rate(100.0, 10.0), 1000, 5, 10.0),
        (Rate(100.0, 10.0), 1000, 500, 50.0),
        (Rate(100.0, 10.0), 0, 0, 0.0),
    ],
    ids=["bytes only", "large files", "small files", "nothing"],
)
def test_the_longer_time_counts(rate: Rate, size_bytes: int, instances: int, expected_s: float) -> None:
    """An upload takes as long as its bytes or its instances, whichever is longer."""
    assert rate.duration_s(size_bytes, instances) == expected_s


FIGURES: dict[str, object] = {"bytes_sent": 5000, "delivered": 50, "elapsed_s": 15.0, "outage_s": 5.0}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, Rate(500.0, 5.0, "then", 10.0, 50)),
        ({"outage_s": 0}, Rate(5000 / 15, 50 / 15, "then", 15.0, 50)),
        ({"delivered": 0}, None),
        ({"bytes_sent": 0}, None),
        ({"outage_s": 15.0}, None),
        ({"elapsed_s": None}, None),
        ({"bytes_sent": "many"}, None),
    ],
    ids=["with an outage", "without", "no instance", "no byte", "only an outage", "no time", "no number"],
)
def test_a_summary_has_a_rate_if_something_was_sent(changed: dict[str, object], expected: Rate | None) -> None:
    """The time of outages does not count; a summary without figures of a transfer has no rate."""
    assert measured_rate(FIGURES | changed, "then") == expected
