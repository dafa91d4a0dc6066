"""The plots over time: throughput with what went wrong beneath it, and latency.

Owns how seconds of a long run are put together. A plot is a function from a width to SVG, drawn twice, for a screen and
for a phone; its table has the same figures. Styles are classes of `page.css`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from statistics import median

from bulkstow.bench.report.drawing import (
    CHARACTER_PX,
    LEFT_PX,
    Drawn,
    Key,
    Place,
    Plot,
    Row,
    Scale,
    Table,
    apart,
    area,
    area_key,
    clock_ticks,
    label,
    line,
    line_key,
    scale_of,
    tag,
    time_ticks,
    x_axis,
    y_axis,
)
from bulkstow.bench.report.words import NONE, duration, figure, short
from bulkstow.bench.result import Second

MOST_SPANS = 900
"""Each second is drawn for a quarter of an hour, 1 px wide; of a longer run, seconds are put together."""

LANE_PX = 16.0


class Phase(Enum):
    """Which part of a repeat a second is of; only the load counts."""

    WARMUP = "warm-up"
    LOAD = "load"
    DRAIN = "drain"


SHADED = {
    Phase.WARMUP: Key(tag("rect", x=4, y=1, width=16, height=10, class_="warmup"), "warm-up, not counted"),
    Phase.DRAIN: Key(
        tag("rect", x=4, y=1, width=16, height=10, class_="drain"), "drain, not counted: the load has ended"
    ),
}


@dataclass(frozen=True, slots=True)
class Span:
    """Some seconds of the time series, put together: one of them, in all but the longest runs."""

    at_s: float
    span_s: float
    instances_per_s: float
    megabytes_per_s: float
    errors: int
    dropped: int
    in_flight: int
    """The highest."""
    p50_s: float | None
    """The median of those of the seconds that have one."""
    p99_s: float | None
    """The highest: what is slow in one second is not averaged away."""
    max_s: float | None
    """The longest latency; None where no request ended."""
    repeat: int
    phase: Phase

    @property
    def middle_s(self) -> float:
        """Where it is drawn."""
        return self.at_s + self.span_s / 2


def spans_of(series: Sequence[Second], most: int = MOST_SPANS) -> tuple[Span, ...]:
    """Return the series in about so many spans; none has seconds of two repeats or phases."""
    length = max(-(-len(series) // most), 1)
    alike = (list(run) for _, run in groupby(series, key=lambda second: (second.repeat, _phase(second))))
    return tuple(_span(run[start : start + length]) for run in alike for start in range(0, len(run), length))


def _phase(second: Second) -> Phase:
    if second.is_warmup:
        return Phase.WARMUP
    return Phase.DRAIN if second.is_drain else Phase.LOAD


def _span(seconds: Sequence[Second]) -> Span:
    return Span(
        at_s=seconds[0].at_s,
        span_s=float(len(seconds)),
        instances_per_s=sum(second.instances for second in seconds) / len(seconds),
        megabytes_per_s=sum(second.size_bytes for second in seconds) / 1e6 / len(seconds),
        errors=sum(second.errors for second in seconds),
        dropped=sum(second.dropped for second in seconds),
        in_flight=max(second.in_flight for second in seconds),
        p50_s=_of_told(median, [second.p50_s for second in seconds]),
        p99_s=_of_told(max, [second.p99_s for second in seconds]),
        max_s=max(second.max_s for second in seconds) or None,
        repeat=seconds[0].repeat,
        phase=_phase(seconds[0]),
    )


def _of_told(statistic: Callable[[Sequence[float]], float], times_s: Iterable[float | None]) -> float | None:
    told = [time_s for time_s in times_s if time_s is not None]
    return statistic(told) if told else None


LANES: Mapping[str, tuple[Callable[[Span], int], str]] = {
    "errors": (lambda span: span.errors, "with instances that were not stored"),
    "dropped": (lambda span: span.dropped, "with instances dropped: due, and could not be sent"),
}
"""Rows of marks below the throughput: what is counted, and what a mark means."""


def throughput(spans: Sequence[Span]) -> Plot:
    """Return instances/s and MB/s over time, with the warm-up shaded and lanes of errors and drops below."""
    lanes = [name for name, (count, _) in LANES.items() if any(map(count, spans))]

    def draw(width_px: float) -> Drawn:
        scale = _time_scale(spans, LEFT_PX, width_px - 14)
        parts = [
            _panel(spans, scale, 26, 176, "instances/s", lambda span: span.instances_per_s),
            _panel(spans, scale, 212, 322, "MB/s", lambda span: span.megabytes_per_s),
        ]
        base_px = 330.0
        for name in lanes:
            parts.append(_lane(spans, scale, base_px, name))
            base_px += LANE_PX
        parts.append(_clock(scale, base_px, width_px))
        return Drawn(base_px + 24, "".join(parts), (scale.start_px, scale.end_px))

    counted = [span.instances_per_s for span in spans if span.phase is Phase.LOAD] or [0.0]
    return Plot(
        "throughput",
        "Throughput over time",
        f"Acknowledged instances a second and megabytes a second over {duration(spans[-1].at_s + spans[-1].span_s)}. "
        f"Under load between {figure(min(counted))} and {figure(max(counted))} instances/s, median "
        f"{figure(median(counted))}; {sum(span.errors for span in spans):,} errors, "
        f"{sum(span.dropped for span in spans):,} dropped.",
        draw,
        _throughput_table(spans),
        (
            line_key("line goodput", "acknowledged"),
            *_shade_keys(spans),
            *(area_key(f"lane {name}", LANES[name][1]) for name in lanes),
        ),
        _put_together(spans),
    )


def _throughput_table(spans: Sequence[Span]) -> Table:
    scale = _time_scale(spans, 0, 1)
    rows = []
    for span in spans:
        rates = (figure(span.instances_per_s), figure(span.megabytes_per_s))
        counts = (f"{count:,}" for count in (span.errors, span.dropped, span.in_flight))
        rows.append(Row((_when(span), *rates, *counts), scale.share(span.middle_s)))
    return Table(("time", "instances/s", "MB/s", "errors", "dropped", "in flight"), tuple(rows))


LATENCIES: Mapping[str, Callable[[Span], float | None]] = {
    "p50": lambda span: span.p50_s,
    "p99": lambda span: span.p99_s,
    "max": lambda span: span.max_s,
}
"""The curves of the latency; None where too few requests ended."""


def latency(spans: Sequence[Span]) -> Plot:
    """Return p50, p99 and maximum over time; a second in which too few requests ended is a gap."""
    curves = {name: value for name, value in LATENCIES.items() if any(value(span) is not None for span in spans)}

    def draw(width_px: float) -> Drawn:
        scale = _time_scale(spans, LEFT_PX, width_px - 34)
        values = [found for span in spans for value in curves.values() if (found := value(span)) is not None]
        value_scale, ticks = scale_of(values, 196, 26, may_be_log=True)
        parts = [_shades(spans, scale, 26, 196), y_axis(value_scale, time_ticks(ticks), LEFT_PX, scale.end_px)]
        parts.append(label(LEFT_PX, 14, "latency, logarithmic" if value_scale.is_log else "latency", "axis-title"))
        for name, value in curves.items():
            parts.append(tag("path", d=line(_runs(spans, scale, value_scale, value)), class_=f"line {name}"))
        parts.append(_names(spans, curves, scale, value_scale))
        parts.append(_clock(scale, 204, width_px))
        return Drawn(228, "".join(parts), (scale.start_px, scale.end_px))

    under_load = [span for span in spans if span.phase is Phase.LOAD]
    highest = {name: _of_told(max, map(value, under_load)) for name, value in curves.items() if name != "p50"}
    words = [f" The highest {name} of a second under load is {duration(s)}." for name, s in highest.items() if s]
    return Plot(
        "latency",
        "Latency over time",
        "Latency of the requests that ended in each second: the median, the 99th percentile where they were a hundred, "
        "the longest." + "".join(words),
        draw,
        _latency_table(spans),
        (*(line_key(f"line {name}", name) for name in curves), *_shade_keys(spans)),
        _put_together(spans),
    )


def _latency_table(spans: Sequence[Span]) -> Table:
    scale = _time_scale(spans, 0, 1)
    rows = []
    for span in spans:
        times = (value(span) for value in LATENCIES.values())
        cells = (NONE if time_s is None else duration(time_s) for time_s in times)
        rows.append(Row((_when(span), *cells), scale.share(span.middle_s)))
    return Table(("time", *LATENCIES), tuple(rows))


def _names(
    spans: Sequence[Span], curves: Mapping[str, Callable[[Span], float | None]], scale: Scale, value_scale: Scale
) -> str:
    """Return the curves' names, each at its end."""
    ends: list[tuple[str, Place]] = []
    for name, value in curves.items():
        middle_s, time_s = [(span.middle_s, found) for span in spans if (found := value(span)) is not None][-1]
        ends.append((name, (scale(middle_s) + 5, value_scale(time_s))))
    heights_px = apart([y for _, (_, y) in ends], 13, 30, 192)
    return "".join(label(x, y + 4, name, f"end {name}") for (name, (x, _)), y in zip(ends, heights_px, strict=True))


def _time_scale(spans: Sequence[Span], start_px: float, end_px: float) -> Scale:
    low_s = min(span.at_s for span in spans)
    return Scale(low_s, max(span.at_s + span.span_s for span in spans), start_px, end_px)


def _clock(scale: Scale, base_px: float, width_px: float) -> str:
    return x_axis(scale, clock_ticks(scale.low, scale.high, max(int(width_px / 70), 2)), base_px, width_px)


def _runs(
    spans: Sequence[Span], scale: Scale, value_scale: Scale, value: Callable[[Span], float | None]
) -> list[list[Place]]:
    """Return the places of a curve: no line through what has no value, nor from one repeat to the next."""
    runs: list[list[Place]] = [[]]
    repeat = 0
    for span in spans:
        found = value(span)
        if found is None or span.repeat != repeat:
            runs.append([])
        if found is not None:
            runs[-1].append((scale(span.middle_s), value_scale(found)))
        repeat = span.repeat
    return runs


def _panel(
    spans: Sequence[Span], scale: Scale, top_px: float, base_px: float, title: str, value: Callable[[Span], float]
) -> str:
    value_scale, ticks = scale_of([value(span) for span in spans], base_px, top_px)
    runs = _runs(spans, scale, value_scale, value)
    return "".join(
        (
            _shades(spans, scale, top_px, base_px),
            y_axis(value_scale, [(tick, short(tick)) for tick in ticks], LEFT_PX, scale.end_px),
            label(LEFT_PX, top_px - 12, title, "axis-title"),
            tag("path", d=area(runs, base_px), class_="area goodput"),
            tag("path", d=line(runs), class_="line goodput"),
        )
    )


def _shades(spans: Sequence[Span], scale: Scale, top_px: float, base_px: float) -> str:
    """Return the ground of what does not count, with its name where there is room for it."""
    parts = []
    for (_, phase), run in groupby(spans, key=lambda span: (span.repeat, span.phase)):
        if phase not in SHADED:
            continue
        together = list(run)
        x, end_px = scale(together[0].at_s), scale(together[-1].at_s + together[-1].span_s)
        class_ = phase.name.lower()
        parts.append(tag("rect", x=x, y=top_px, width=end_px - x, height=base_px - top_px, class_=class_))
        if end_px - x > len(phase.value) * CHARACTER_PX + 8:
            parts.append(label(x + 4, top_px + 13, phase.value))
    return "".join(parts)


def _shade_keys(spans: Sequence[Span]) -> Iterator[Key]:
    return (key for phase, key in SHADED.items() if any(span.phase is phase for span in spans))


def _lane(spans: Sequence[Span], scale: Scale, top_px: float, name: str) -> str:
    """Return a row of marks, one for each span in which something of a kind happened."""
    count, _ = LANES[name]
    marks = [label(LEFT_PX - 6, top_px + 11, name, anchor="end")]
    for span in filter(count, spans):
        x = scale(span.at_s)
        width_px = max(scale(span.at_s + span.span_s) - x, 2.0)
        marks.append(tag("rect", x=x, y=top_px + 2, width=width_px, height=LANE_PX - 5, class_=f"lane {name}"))
    return "".join(marks)


def _when(span: Span) -> str:
    repeat = f", repeat {span.repeat + 1}" if span.repeat else ""
    return f"{span.at_s:,.0f}s{repeat}" + (f", {span.phase.value}" if span.phase in SHADED else "")


def _put_together(spans: Sequence[Span]) -> str:
    span_s = max(span.span_s for span in spans)
    if span_s == 1:
        return ""
    return f"Each mark is {duration(span_s)}: mean throughput, the median of the seconds' p50, the highest p99."
