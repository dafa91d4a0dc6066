"""Seconds put together, and curves that claim nothing where nothing was."""

from __future__ import annotations

import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from bulkstow.bench.report.timeline import LANES, Phase, latency, spans_of, throughput
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
    assert [key.words for key in plot.keys[:2]] == ["p50", "max"]
    assert {row.cells[2] for row in plot.table.rows} == {"—"}
    assert "p99" not in plot.draw(820).markup
    (second,) = results.series(1, 1, 0.1, warmup_s=0)
    assert latency(spans_of([second])).table.rows[0].cells[1:] == ("—", "—", "600ms")


def strokes(plot_markup: str, class_: str) -> int:
    """Return of how many strokes a curve is."""
    match = re.search(rf'<path d="([^"]*)" class="line {class_}"', plot_markup)
    assert match
    return match[1].count("M")


def test_a_frozen_server_leaves_a_gap_in_latency_and_a_zero_in_throughput() -> None:
    """Nothing ended, so there is no latency to draw; that nothing was stored is a figure."""
    spans = spans_of(results.series(60, 400, 0.012, frozen_s=range(30, 33)))
    assert strokes(latency(spans).draw(820).markup, "p99") == 2
    assert strokes(throughput(spans).draw(820).markup, "goodput") == 1
    cells = [row.cells[1:] for row in latency(spans).table.rows[30:33]]
    assert cells == [("—", "—", "—")] * 3


def test_repeats_are_not_joined() -> None:
    """Each repeat's curve is its own stroke."""
    (point,) = results.closed().points
    spans = spans_of(point.series)
    assert strokes(throughput(spans).draw(820).markup, "goodput") == 3
    assert strokes(latency(spans).draw(820).markup, "p50") == 3


def test_what_does_not_count_is_shaded_and_named() -> None:
    """Warm-up and drain of each repeat, in both panels; the legend has them where they are."""
    (point,) = results.closed().points
    plot = throughput(spans_of(point.series))
    markup = plot.draw(820).markup
    assert markup.count('class="warmup"') == markup.count('class="drain"') == 2 * 3
    assert [key.words for key in plot.keys if "not counted" in key.words] == [
        "warm-up, not counted",
        "drain, not counted: the load has ended",
    ]


def test_errors_and_drops_are_marked_where_they_were() -> None:
    """A lane for each, with a mark for each such second, and none where nothing went wrong."""
    spans = spans_of(results.series(60, 400, 0.012, frozen_s=range(30, 33)))
    markup = throughput(spans).draw(820).markup
    assert markup.count('class="lane errors"') == 3
    assert markup.count('class="lane dropped"') == 3
    quiet = throughput(spans_of(results.series(10, 400, 0.012)))
    assert not any(name in quiet.draw(820).markup for name in LANES)
