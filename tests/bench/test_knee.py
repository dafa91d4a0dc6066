"""The knee, the ladder, and what follows from them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkstow.bench.knee import LAST_RUNGS, highest_rate, knee, ladder, next_load, upload_flags
from bulkstow.bench.result import Load, Percentiles, Point
from bulkstow.config import UploadSettings
from bulkstow.quantities import parse_size_bytes, parse_span
from tests.bench.measurements import point, times

CT_BYTES = 525_544


def closed(connections: int, batch: int, per_s: float) -> Point:
    """Return a point of a closed load."""
    return point(per_s, load=Load(batch, connections=connections))


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([closed(1, 1, 50), closed(2, 1, 96), closed(4, 1, 100), closed(8, 1, 99)], Load(1, 2)),
        ([closed(1, 1, 50), closed(2, 1, 94), closed(4, 1, 100), closed(8, 1, 99)], Load(1, 4)),
        ([closed(4, 10, 100), closed(40, 1, 100)], Load(10, 4)),
        ([closed(8, 1, 100), closed(1, 50, 99)], Load(1, 8)),
        ([point(90, load=Load(1, rate_per_s=90)), point(91, load=Load(1, rate_per_s=200))], Load(1, rate_per_s=90)),
        ([closed(1, 1, 10)], Load(1, 1)),
    ],
    ids=["95 %", "short of 95 %", "fewer connections", "less under way", "open", "one"],
)
def test_the_knee_is_the_smallest_load_that_is_good(points: list[Point], expected: Load) -> None:
    """Of all with 95 % of the best goodput, the one with the fewest instances under way, then connections."""
    found = knee(points)
    assert found is not None
    assert found.load == expected
    assert found.best_per_s == max(p.instances_per_s for p in points)


def test_no_goodput_has_no_knee() -> None:
    """A server that stored nothing has none."""
    assert knee([]) is None
    assert knee([point(0)]) is None


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([point(100), point(200), point(300, latency=times(p99_s=3))], 200),
        ([point(100), point(200, errors={"503": 21})], 100),
        ([point(100), point(200, dropped=21)], 100),
        ([point(100, errors={"503": 1})], 100),
        ([point(100, latency=Percentiles())], None),
        ([point(100), point(200, latency=times(p99_s=0.1, count=99))], 100),
        ([], None),
    ],
    ids=["p99", "errors", "dropped", "errors within", "no latency", "no p99", "none"],
)
def test_the_highest_rate_keeps_the_limits(points: list[Point], expected: float | None) -> None:
    """p99 of 2 s and 1 % of errors, dropped ones included, are what a rate must keep to."""
    assert highest_rate(points, p99_most_s=2.0, errors_most=0.01) == expected


def swept(rows: tuple[tuple[Load, ...], ...], goodput: dict[Load, float]) -> list[Load]:
    """Return the loads that a sweep visits on a server with this goodput."""
    visited: list[tuple[Load, float]] = []
    while (load := next_load(rows, visited)) is not None:
        visited.append((load, goodput[load]))
        assert len(visited) < 1000
    return [load for load, _ in visited]


def test_a_sweep_goes_up_and_down_again() -> None:
    """Where goodput grows to the end every load is measured twice, the second time the other way round."""
    rows = ladder(CT_BYTES, (1, 2), (1, 10))
    goodput = {load: (load.connections or 0) * load.batch_instances * 1.0 for row in rows for load in row}
    up = [Load(1, 1), Load(1, 2), Load(10, 1), Load(10, 2)]
    assert swept(rows, goodput) == up + up[::-1]


def test_a_row_is_not_climbed_beyond_its_knee() -> None:
    """Two rungs without gain are enough; the next row is climbed all the same."""
    rows = ladder(CT_BYTES, (1, 2, 4, 8, 16, 32), (1, 10))
    goodput = {load: min(load.connections or 0, 2) * 100.0 for row in rows for load in row}
    up = [Load(batch, n) for batch in (1, 10) for n in (1, 2, 4, 8)]
    assert swept(rows, goodput) == up + up[::-1]


@given(st.lists(st.floats(0, 1000), min_size=18, max_size=18))
@settings(deadline=None)
def test_a_sweep_ends_and_visits_each_load_twice(figures: list[float]) -> None:
    """Whatever the goodput: every load that is tried is measured twice, at the same mean moment, none is skipped."""
    rows = ladder(CT_BYTES, (1, 2, 4, 8, 16, 32), (1, 10, 50))
    loads = [load for row in rows for load in row]
    visited = swept(rows, dict(zip(loads, figures, strict=True)))
    moments = {load: [n for n, other in enumerate(visited) if other == load] for load in visited}
    assert {sum(found) for found in moments.values()} == {len(visited) - 1}
    assert all(len(found) == 2 for found in moments.values())
    for row in rows:
        climbed = [load for load in row if load in moments]
        assert climbed == list(row[: len(climbed)])
        assert len(climbed) > LAST_RUNGS


@pytest.mark.parametrize(
    ("instance_bytes", "expected"),
    [(CT_BYTES, [1, 10, 50, 200]), (8e6, [1, 10]), (55e6, [1]), (1e9, [1]), (10_000, [1, 10, 50, 200])],
)
def test_batches_of_large_instances_stay_small(instance_bytes: float, expected: list[int]) -> None:
    """No request is larger than 256 MiB but for one instance that goes alone."""
    assert [row[0].batch_instances for row in ladder(instance_bytes)] == expected


@given(st.integers(1, 128), st.integers(1, 500), st.floats(1, 1e9))
@settings(deadline=None)
def test_upload_takes_the_flags(connections: int, batch: int, instance_bytes: float) -> None:
    """They are what `upload` parses, and its byte limit has room for the batch that was measured."""
    flags = upload_flags(Load(batch, connections=connections), instance_bytes)
    given_flags = dict(zip(flags[::2], flags[1::2], strict=True))
    settings = UploadSettings(
        concurrency=parse_span(given_flags.pop("--concurrency")),
        batch_instances=int(given_flags.pop("--batch-instances")),
        batch_bytes=parse_size_bytes(given_flags.pop("--batch-bytes")),
    )
    assert not given_flags
    assert (settings.concurrency.highest, settings.batch_instances) == (connections, batch)
    assert isinstance(settings.batch_bytes, int)
    assert settings.batch_bytes >= batch * instance_bytes


def test_an_open_load_has_no_flags() -> None:
    """`upload` has no rate to set."""
    assert upload_flags(Load(1, rate_per_s=10), 1000) == ()
