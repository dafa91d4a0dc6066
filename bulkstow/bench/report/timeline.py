"""The plots over time: throughput with errors and drops, and latency.

Seconds of a long run are grouped into spans, so that its plot stays small.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from statistics import median

from bulkstow.bench.report.plot import Json, Plot, colour, durations
from bulkstow.bench.report.words import NONE, duration, figure
from bulkstow.bench.result import Second, over_known
from bulkstow.pages.markup import Table

MOST_SPANS = 900
"""Each second of a quarter of an hour is a mark, about 1 px wide; of a longer run seconds are grouped."""


class Phase(Enum):
    """Which part of a repeat a second belongs to; only the load counts."""

    WARMUP = "warm-up"
    LOAD = "load"
    DRAIN = "drain"


@dataclass(frozen=True, slots=True)
class PlotInterval:
    """Consecutive seconds of one repeat and phase; one second in all but the longest runs."""

    at_s: float
    span_s: float
    instances_per_s: float
    megabytes_per_s: float
    errors: int
    dropped: int
    in_flight: int
    """The highest."""
    p50_s: float | None
    """The median of the seconds' p50."""
    p99_s: float | None
    """The highest: a slow second is not averaged away."""
    max_s: float | None
    """The longest latency; None where no request ended."""
    repeat: int
    phase: Phase

    @property
    def middle_s(self) -> float:
        """Where its mark is drawn."""
        return self.at_s + self.span_s / 2

    @property
    def name(self) -> str:
        """When it was: `14s, repeat 2, warm-up`."""
        repeat = f", repeat {self.repeat + 1}" if self.repeat else ""
        return f"{self.at_s:,.0f}s{repeat}" + ("" if self.phase is Phase.LOAD else f", {self.phase.value}")


def spans_of(series: Sequence[Second], most: int = MOST_SPANS) -> tuple[PlotInterval, ...]:
    """Return the series in about so many spans; none has seconds of two repeats or phases."""
    length = max(-(-len(series) // most), 1)
    alike = (list(run) for _, run in groupby(series, key=lambda second: (second.repeat, _phase(second))))
    return tuple(_span(run[start : start + length]) for run in alike for start in range(0, len(run), length))


def _phase(second: Second) -> Phase:
    if second.is_warmup:
        return Phase.WARMUP
    return Phase.DRAIN if second.is_drain else Phase.LOAD


def _span(seconds: Sequence[Second]) -> PlotInterval:
    return PlotInterval(
        at_s=seconds[0].at_s,
        span_s=float(len(seconds)),
        instances_per_s=sum(second.instances for second in seconds) / len(seconds),
        megabytes_per_s=sum(second.size_bytes for second in seconds) / 1e6 / len(seconds),
        errors=sum(second.errors for second in seconds),
        dropped=sum(second.dropped for second in seconds),
        in_flight=max(second.in_flight for second in seconds),
        p50_s=over_known(median, (second.p50_s for second in seconds)),
        p99_s=over_known(max, (second.p99_s for second in seconds)),
        max_s=max(second.max_s for second in seconds) or None,
        repeat=seconds[0].repeat,
        phase=_phase(seconds[0]),
    )


def throughput(spans: Sequence[PlotInterval]) -> Plot:
    """Plot instances/s and MB/s over time, with errors and drops where there are any."""
    marks = _count_marks(spans)
    loaded = [span.instances_per_s for span in spans if span.phase is Phase.LOAD] or [0.0]
    return Plot(
        "throughput",
        "Throughput over time",
        f"Acknowledged instances and megabytes per second over {duration(spans[-1].at_s + spans[-1].span_s)}. "
        f"Under load between {figure(min(loaded))} and {figure(max(loaded))} instances/s, median "
        f"{figure(median(loaded))}; {sum(span.errors for span in spans):,} errors, "
        f"{sum(span.dropped for span in spans):,} dropped.",
        [
            _over_time(spans, "instances/s", [span.instances_per_s for span in spans], "blue", figure, fill="tozeroy"),
            _over_time(spans, "MB/s", [span.megabytes_per_s for span in spans], "teal", figure, "y2", fill="tozeroy"),
            *marks,
        ],
        {
            "height": 460 if marks else 420,
            **_time_axis(spans, anchor="y3" if marks else "y2"),
            "yaxis": {"title": {"text": "instances/s"}, "rangemode": "tozero", "domain": [0.56, 1]},
            "yaxis2": {"title": {"text": "MB/s"}, "rangemode": "tozero", "domain": [0.16 if marks else 0, 0.48]},
            **({"yaxis3": {"type": "category", "domain": [0, 0.1], "showgrid": False}} if marks else {}),
        },
        _throughput_table(spans),
        _span_note(spans),
    )


def _count_marks(spans: Sequence[PlotInterval]) -> list[Json]:
    """Return a row of marks for errors and one for drops, each with the spans in which there are any."""
    unit_s, _ = _unit(spans)
    traces: list[Json] = []
    for name, shade, legend, counts in (
        ("errors", "red", "instances not stored", [span.errors for span in spans]),
        ("dropped", "violet", "instances due that could not be sent", [span.dropped for span in spans]),
    ):
        marked = [(span, count) for span, count in zip(spans, counts, strict=True) if count]
        trace: Json = {"type": "scatter", "mode": "markers", "name": f"{name}: {legend}", "yaxis": "y3"}
        trace |= {"x": [span.middle_s / unit_s for span, _ in marked], "y": [name] * len(marked)}
        trace |= {"customdata": [f"{count:,}" for _, count in marked]}
        trace |= {"hovertemplate": "%{customdata}<extra>" + name + "</extra>"}
        trace |= {"marker": {"color": colour(shade), "symbol": "square", "size": 7}}
        traces += [trace] if marked else []
    return traces


def _throughput_table(spans: Sequence[PlotInterval]) -> Table:
    rows = []
    for span in spans:
        counts = (f"{count:,}" for count in (span.errors, span.dropped, span.in_flight))
        rows.append((span.name, figure(span.instances_per_s), figure(span.megabytes_per_s), *counts))
    return Table(("time", "instances/s", "MB/s", "errors", "dropped", "in flight"), tuple(rows))


def latency(spans: Sequence[PlotInterval]) -> Plot:
    """Plot p50, p99 and maximum over time; a second in which too few requests ended is a gap."""
    curves = {
        "p50": ("blue", [span.p50_s for span in spans]),
        "p99": ("orange", [span.p99_s for span in spans]),
        "max": ("violet", [span.max_s for span in spans]),
    }
    drawn = {name: curve for name, curve in curves.items() if any(time_s is not None for time_s in curve[1])}
    traces = [_over_time(spans, name, times_s, shade, duration) for name, (shade, times_s) in drawn.items()]
    words = "Latency of the requests that ended in each second: the median, the 99th percentile of at least a hundred, "
    words += "the maximum."
    for name, (_, times_s) in drawn.items():
        under_load = [t for t, span in zip(times_s, spans, strict=True) if t is not None and span.phase is Phase.LOAD]
        if name != "p50" and under_load:
            words += f" The highest {name} of a second under load is {duration(max(under_load))}."
    rows = tuple(
        (span.name, *(NONE if time_s is None else duration(time_s) for time_s in (span.p50_s, span.p99_s, span.max_s)))
        for span in spans
    )
    values = [time_s for _, times_s in drawn.values() for time_s in times_s if time_s is not None]
    return Plot(
        "latency",
        "Latency over time",
        words,
        traces,
        {"height": 340, **_time_axis(spans), "yaxis": durations(values, "latency")},
        Table(("time", *curves), rows),
        _span_note(spans),
    )


def _unit(spans: Sequence[PlotInterval]) -> tuple[float, str]:
    length_s = spans[-1].at_s + spans[-1].span_s
    if length_s < 600:
        return 1.0, "s"
    return (60.0, "min") if length_s < 36_000 else (3600.0, "h")


def _time_axis(spans: Sequence[PlotInterval], anchor: str = "y") -> Json:
    """Return the axis of time, and shades of the seconds that are not counted."""
    unit_s, unit = _unit(spans)
    shapes: list[Json] = []
    for span in spans:
        if span.phase is Phase.LOAD:
            continue
        end = (span.at_s + span.span_s) / unit_s
        if shapes and shapes[-1]["x1"] == span.at_s / unit_s and shapes[-1]["name"] == span.phase.value:
            shapes[-1]["x1"] = end
            continue
        shape: Json = {"type": "rect", "name": span.phase.value, "x0": span.at_s / unit_s, "x1": end, "layer": "below"}
        shape |= {"yref": "paper", "y0": 0, "y1": 1, "line": {"width": 0}, "fillcolor": colour("shade")}
        shapes.append(shape)
    return {"xaxis": {"title": {"text": f"time, {unit} (shaded: not counted)"}, "anchor": anchor}, "shapes": shapes}


def _over_time(
    spans: Sequence[PlotInterval],
    name: str,
    values: Sequence[float | None],
    shade: str,
    show: Callable[[float], str],
    yaxis: str = "y",
    **more: object,
) -> Json:
    """Return a curve over time, with gaps where there is no value, and between repeats."""
    unit_s, _ = _unit(spans)
    x: list[float] = []
    y: list[float | None] = []
    notes: list[str] = []
    for before, span, value in zip((spans[0], *spans), spans, values, strict=False):
        if span.repeat != before.repeat:
            x, y, notes = [*x, span.at_s / unit_s], [*y, None], [*notes, ""]
        x.append(span.middle_s / unit_s)
        y.append(value)
        notes.append("" if value is None else f"{show(value)} ({span.name})")
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": x,
        "y": y,
        "yaxis": yaxis,
        "customdata": notes,
        "hovertemplate": "%{customdata}",
        "line": {"color": colour(shade), "width": 1.5},
        "marker": {"size": 3},
        "connectgaps": False,
        **more,
    }


def _span_note(spans: Sequence[PlotInterval]) -> str:
    span_s = max(span.span_s for span in spans)
    if span_s == 1:
        return ""
    return f"Each mark is {duration(span_s)}: mean throughput, the median of the seconds' p50, the highest p99."
