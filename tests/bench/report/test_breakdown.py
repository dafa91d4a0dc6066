"""Percentiles, stages, kinds of errors."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bulkstow.bench.report.breakdown import MOST_KINDS, errors, percentiles, split, stages
from bulkstow.bench.report.plot import durations
from bulkstow.bench.result import Load, Percentiles, Point
from tests.bench.report import results

times = st.builds(Percentiles, count=st.integers(1, 1000), mean_s=st.floats(0, 100))


def of_mean(mean_s: float, count: int = 100) -> Percentiles:
    """Return a distribution of which only the mean matters."""
    return Percentiles(count, mean_s)


def a_point(**changed: Percentiles) -> Point:
    """Return a point of 100 requests, each 1 s: 0.2 s of sending, 0.7 s of thinking."""
    base = results.point(Load(1, connections=4), elapsed_s=1)
    known = {
        "latency": of_mean(1.0),
        "service_time": of_mean(1.0),
        "connect": of_mean(2.5, count=4),
        "send": of_mean(0.2),
        "thinking": of_mean(0.7),
    }
    return replace(base, **(known | changed))


def test_a_connection_that_few_requests_opened_is_shared_by_all() -> None:
    """Four of a hundred requests waited 2.5 s for a connection: 0.1 s of the mean request."""
    assert stages(a_point()) == pytest.approx({"waiting": 0, "connect": 0.1, "send": 0.2, "thinking": 0.7, "other": 0})


def test_what_passed_before_the_start_is_waiting() -> None:
    """The difference of latency and service time; what no stage explains is named, too."""
    found = stages(a_point(latency=of_mean(3.0), thinking=of_mean(0.3)))
    assert found == pytest.approx({"waiting": 2.0, "connect": 0.1, "send": 0.2, "thinking": 0.3, "other": 0.4})


@given(times, times, times, times, times)
def test_no_stage_is_negative(
    latency: Percentiles, service_time: Percentiles, connect: Percentiles, send: Percentiles, thinking: Percentiles
) -> None:
    """Whatever the clocks said: a bar has a length or is not there."""
    point = a_point(latency=latency, service_time=service_time, connect=connect, send=send, thinking=thinking)
    assert all(time_s >= 0 for time_s in stages(point).values())
    values: Any = [trace["x"] for trace in split([point]).traces]
    assert all(time_s >= 0 for (time_s,) in values)


@pytest.mark.parametrize(("count", "marks"), [(1, 1), (2, 1), (50, 3), (500, 4), (20_000, 5)])
def test_percentiles_that_cannot_be_told_from_the_maximum_are_not_drawn(count: int, marks: int) -> None:
    """Of fifty requests there is a p50 and a p90, and then the slowest; the p99 would be the slowest again."""
    point = a_point(latency=results.percentiles(0.1, count), service_time=Percentiles())
    x: Any = percentiles(point).traces[0]["x"]
    assert len(x) == marks


def test_the_axis_of_percentiles_is_one_over_one_minus_p() -> None:
    """90 %, 99 % and 99.9 % stand at equal distances, as in HdrHistogram's plots."""
    plot = percentiles(a_point(latency=results.percentiles(0.1, 10_000)))
    axis: Any = plot.layout["xaxis"]
    assert plot.traces[0]["x"] == [2, 10, 100, 1000, 10_000]
    assert axis["type"] == "log"
    assert dict(zip(axis["tickvals"], axis["ticktext"], strict=True)) == {
        2: "50%",
        10: "90%",
        100: "99%",
        1000: "99.9%",
        10_000: "99.99%",
    }


def test_kinds_of_errors_come_by_frequency() -> None:
    """The most frequent first, in plot and table."""
    plot = errors({"rare": 1, "frequent": 30, "usual": 8})
    assert [row[:2] for row in plot.table.rows] == [("frequent", "30"), ("usual", "8"), ("rare", "1")]
    assert "39 instances were not stored. Most frequent: frequent, 30." in plot.description


def test_many_kinds_are_put_together() -> None:
    """The plot has a dozen bars, the last for all the rest; the table has every kind."""
    plot = errors({f"kind {number}": 100 - number for number in range(40)})
    labels: Any = plot.traces[0]["customdata"]
    assert len(labels) == MOST_KINDS
    assert labels[-1] == "29 other kinds"
    assert len(plot.table.rows) == 40


def test_a_long_kind_is_cut_in_the_plot_and_whole_in_the_table() -> None:
    """Its label would leave the plot."""
    plot = errors({"x" * 500: 1})
    assert "x" * 100 not in str(plot.figure)
    assert "…" in str(plot.figure)
    assert plot.table.rows[0][0] == "x" * 500


def test_a_logarithmic_axis_of_times_has_a_unit_at_every_label() -> None:
    """1, 2 and 5 times the powers of ten; of a wide range the powers alone."""
    assert durations([0.1, 1.0], "time")["type"] == "linear"
    assert durations([0.05, 3.0], "time")["ticktext"] == [
        *("10ms", "20ms", "50ms", "100ms", "200ms", "500ms", "1s", "2s", "5s", "10s", "20s", "50s")
    ]
    assert durations([3e-7, 86_000.0], "time")["ticktext"][:3] == ["0.1µs", "1µs", "10µs"]  # type: ignore[index]
