"""Seconds put together, and curves that claim nothing where nothing was."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bulkstow.bench.report.plot import Plot
from bulkstow.bench.report.timeline import Phase, latency, spans_of, throughput
from bulkstow.bench.result import Second
from tests.bench.report import results

phases = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 60), st.integers(0, 5)), min_size=1, max_size=4)


def a_series(repeats: list[tuple[int, int, int]]) -> tuple[Second, ...]:
    """Return a series of repeats, each with so many seconds of warm-up, load and drain."""
    second = results.series(1, 10, 0.1)[0]
    told = [
        (number, phase)
        for number, lengths in enumerate(repeats)
        for phase, length in zip(("warmup", "load", "drain"), lengths, strict=True)
        for _ in range(length)
    ]
    return tuple(
        replace(
            second,
            at_s=float(at_s),
            instances=at_s,
            errors=at_s % 3,
            repeat=number,
            is_warmup=phase == "warmup",
            is_drain=phase == "drain",
        )
        for at_s, (number, phase) in enumerate(told)
    )


@given(phases, st.integers(1, 50))
def test_putting_seconds_together_loses_none(repeats: list[tuple[int, int, int]], most: int) -> None:
    """Time, instances and errors add up to the same, in about as many spans as asked, none across a border."""
    series = a_series(repeats)
    spans = spans_of(series, most)
    assert sum(span.span_s for span in spans) == len(series)
    assert round(sum(span.instances_per_s * span.span_s for span in spans)) == sum(s.instances for s in series)
    assert sum(span.errors for span in spans) == sum(s.errors for s in series)
    assert len(spans) <= most + 3 * len(repeats)
    for span in spans:
        inside = [s for s in series if span.at_s <= s.at_s < span.at_s + span.span_s]
        assert {(s.repeat, s.is_warmup, s.is_drain) for s in inside} == {
            (span.repeat, span.phase is Phase.WARMUP, span.phase is Phase.DRAIN)
        }


def test_the_slowest_second_of_a_span_is_kept() -> None:
    """A p99 of 3 s among a hundred of 10 ms is what their span shows; an empty second does not lower the p50."""
    quick = replace(results.series(1, 400, 0.1, warmup_s=0)[0], p50_s=0.005, p99_s=0.01, max_s=0.02)
    empty, slow = replace(quick, requests=0, max_s=0.0), replace(quick, p50_s=0.005, p99_s=3.0, max_s=4.0)
    (span,) = spans_of([quick] * 98 + [empty, slow], most=1)
    assert (span.p50_s, span.p99_s, span.max_s) == (0.005, 3.0, 4.0)


def test_seconds_of_few_requests_have_no_p99_curve() -> None:
    """With thirty requests a second there is a median and a longest one; with one request only the longest."""
    thirty = [replace(second, requests=30) for second in results.series(5, 400, 0.1)]
    plot = latency(spans_of(thirty))
    assert [trace["name"] for trace in plot.traces] == ["p50", "max"]
    assert {row[2] for row in plot.table.rows} == {"—"}
    (second,) = results.series(1, 1, 0.1, warmup_s=0)
    assert latency(spans_of([second])).table.rows[0][1:] == ("—", "—", "600ms")


def strokes(plot: Plot, name: str) -> int:
    """Return of how many strokes a curve is."""
    values: Any = next(trace["y"] for trace in plot.traces if trace["name"] == name)
    return sum(value is not None and (not at or values[at - 1] is None) for at, value in enumerate(values))


def test_a_frozen_server_leaves_a_gap_in_latency_and_a_zero_in_throughput() -> None:
    """Nothing ended, so there is no latency to draw; that nothing was stored is a figure."""
    spans = spans_of(results.series(60, 400, 0.012, frozen_s=range(30, 33)))
    assert strokes(latency(spans), "p99") == 2
    assert strokes(throughput(spans), "instances/s") == 1
    cells = [row[1:] for row in latency(spans).table.rows[30:33]]
    assert cells == [("—", "—", "—")] * 3


def test_repeats_are_not_joined() -> None:
    """Each repeat's curve is its own stroke."""
    (point,) = results.closed().points
    spans = spans_of(point.series)
    assert strokes(throughput(spans), "instances/s") == 3
    assert strokes(latency(spans), "p50") == 3


def test_what_does_not_count_is_shaded() -> None:
    """Warm-up and drain of each repeat, over both rates."""
    (point,) = results.closed().points
    shapes: Any = throughput(spans_of(point.series)).layout["shapes"]
    assert [(shape["name"], shape["x0"], shape["x1"]) for shape in shapes[:2]] == [("warm-up", 0, 5), ("drain", 25, 27)]
    assert len(shapes) == 2 * 3


def test_errors_and_drops_are_marked_where_they_were() -> None:
    """A row for each, with a mark for each such second, and none where nothing went wrong."""
    plot = throughput(spans_of(results.series(60, 400, 0.012, frozen_s=range(30, 33))))
    marks: dict[object, Any] = {str(trace["name"]).partition(":")[0]: trace["x"] for trace in plot.traces[2:]}
    assert marks == {"errors": [16.5, 33.5, 50.5], "dropped": [30.5, 31.5, 32.5]}
    assert len(throughput(spans_of(results.series(10, 400, 0.012))).traces) == 2


def test_a_long_run_has_an_axis_of_minutes_or_hours() -> None:
    """Of ten hours nobody reads seconds."""
    for elapsed_s, unit, end in ((60, "s", 59.5), (3_600, "min", 59.97), (36_000, "h", 9.994)):
        plot = throughput(spans_of(results.series(elapsed_s, 10, 0.1)))
        axis: Any = plot.layout["xaxis"]
        x: Any = plot.traces[0]["x"]
        assert axis["title"]["text"].startswith(f"time, {unit} ")
        assert abs(x[-1] - end) < 0.05
