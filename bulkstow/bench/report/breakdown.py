"""The plots of what requests took and why they failed: percentiles, stages, kinds of errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bulkstow.bench.report.drawing import (
    CHARACTER_PX,
    LEFT_PX,
    Drawn,
    Plot,
    Row,
    Scale,
    Table,
    Tick,
    area_key,
    label,
    line,
    line_key,
    scale_of,
    tag,
    time_ticks,
    x_axis,
    y_axis,
)
from bulkstow.bench.report.words import duration, load_words, short
from bulkstow.bench.result import Percentiles, Point

MOST_KINDS = 12
"""Kinds of errors drawn by themselves; the table has them all."""

STAGES = {
    "waiting": "waiting: due, and not yet started",
    "connect": "connect: opening connections",
    "send": "send: until the server took the last byte",
    "thinking": "thinking: from the last byte to the answer",
    "other": "other: in none of these",
}
"""The parts of a latency in their order."""


def percentiles(point: Point) -> Plot:
    """Return latency and service time by percentile, on HdrHistogram's axis: 1/(1-p), logarithmic."""
    curves = (("latency", "latency", point.latency), ("service", "service time", point.service_time))
    rows = [(class_, name, *found) for class_, name, times in curves for found in _ranks(times)]

    def draw(width_px: float) -> Drawn:
        right = max(100.0, *(float(times.count) for *_, times in curves))
        scale = Scale(2.0, right, LEFT_PX, width_px - 24, is_log=True)
        value_scale, ticks = scale_of([row[-1] for row in rows], 196, 26, may_be_log=True)
        title = "time, logarithmic" if value_scale.is_log else "time"
        parts = [y_axis(value_scale, time_ticks(ticks), LEFT_PX, scale.end_px), label(LEFT_PX, 14, title, "axis-title")]
        for class_, _, times in curves:
            # The maximum stands at the rank of the count: a percentile there would be drawn over it.
            drawn = [
                (number, (scale(rank), value_scale(time_s)))
                for number, (of, _, rank, percentile, time_s) in enumerate(rows)
                if of == class_ and (rank < times.count or percentile == "max")
            ]
            parts.append(tag("path", d=line([[place for _, place in drawn]]), class_=f"line {class_}"))
            parts += [_dot(*place, class_, number) for number, place in drawn]
        parts.append(x_axis(scale, _nines(right), 204, width_px))
        return Drawn(228, "".join(parts))

    return Plot(
        "percentiles",
        "Latency by percentile",
        f"Latency from the intended start: {_percentile_words(point.latency)}. "
        f"Service time from the actual start: {_percentile_words(point.service_time)}.",
        draw,
        Table(
            ("percentile", "time"),
            tuple(Row((f"{percentile}, {name}", duration(time_s))) for _, name, _, percentile, time_s in rows),
        ),
        (
            line_key("line latency", "latency, from the intended start (round marks)"),
            line_key("line service", "service time, from the actual start (square marks)"),
        ),
        "The marks are measured, the lines only join them; the last mark is the maximum.",
    )


def split(points: Sequence[Point]) -> Plot:
    """Return where the mean time of a request goes, a bar a point."""
    bars = [(point, stages(point)) for point in points]
    longest_s = max(sum(part.values()) for _, part in bars) or 1.0
    names = [name for name in STAGES if any(part[name] > 0 for _, part in bars)]

    def draw(width_px: float) -> Drawn:
        parts = []
        scale = Scale(0.0, longest_s, 1, width_px - 64)
        for row, (point, part) in enumerate(bars):
            top_px = row * 44.0
            parts.append(label(1, top_px + 13, load_words(point.load)))
            from_s = 0.0
            for name in names:
                x, end_px = scale(from_s), scale(from_s + part[name])
                from_s += part[name]
                if part[name] > 0:
                    parts.append(_segment(x, end_px - x, top_px + 18, name, row))
            parts.append(label(scale(from_s) + 6, top_px + 33, duration(from_s), "value"))
        return Drawn(len(bars) * 44.0, "".join(parts))

    rows = tuple(
        Row((load_words(point.load), *(duration(part[name]) for name in names), duration(sum(part.values()))))
        for point, part in bars
    )
    words = "; ".join(
        f"{row.cells[0]}: {', '.join(map(' '.join, zip(names, row.cells[1:], strict=False)))}" for row in rows
    )
    return Plot(
        "split",
        "Where the time goes",
        f"The mean time of a request from its intended start, by stage. {words}.",
        draw,
        Table(("load", *names, "together"), rows),
        tuple(area_key(f"stage {name}", STAGES[name]) for name in names),
        "Means, as only they add up; the percentiles of each stage are in the table of times.",
    )


def stages(point: Point) -> dict[str, float]:
    """Return the mean seconds that a request spends in each of `STAGES`.

    Not every request opens a connection: what the stages took in all is shared among all requests.
    """
    requests = max(point.latency.count, 1)
    service_s = point.service_time.mean_s
    measured = {
        name: times.mean_s * min(times.count / requests, 1.0)
        for name, times in (("connect", point.connect), ("send", point.send), ("thinking", point.thinking))
    }
    waiting_s = max(point.latency.mean_s - service_s, 0.0)
    other_s = max(service_s - sum(measured.values()), 0.0)
    total_s = waiting_s + other_s + sum(measured.values())
    negligible_s = total_s * 0.005  # less than a pixel or two: rounding and clocks, not a stage
    return {
        "waiting": waiting_s if waiting_s > negligible_s else 0.0,
        **measured,
        "other": other_s if other_s > negligible_s else 0.0,
    }


def errors(counts: Mapping[str, int]) -> Plot:
    """Return a bar for each kind of error, the most frequent first."""
    kinds = sorted(counts.items(), key=lambda kind: (-kind[1], kind[0]))
    drawn = kinds if len(kinds) <= MOST_KINDS else kinds[: MOST_KINDS - 1]
    if rest := kinds[len(drawn) :]:
        drawn = [*drawn, (f"{len(rest)} other kinds", sum(count for _, count in rest))]
    total = sum(counts.values())

    def draw(width_px: float) -> Drawn:
        scale = Scale(0, max(count for _, count in drawn) or 1, 1, width_px - 70)
        room = int(width_px / CHARACTER_PX)
        parts = []
        for row, (kind, count) in enumerate(drawn):
            top_px = row * 40.0
            parts.append(label(1, top_px + 13, kind if len(kind) <= room else f"{kind[: room - 1]}…"))
            bar_px = max(scale(count) - 1, 2)
            parts.append(tag("rect", x=1, y=top_px + 18, width=bar_px, height=14, class_="bar error"))
            parts.append(label(bar_px + 7, top_px + 30, short(count) if count >= 1e6 else f"{count:,}", "value"))
        return Drawn(len(drawn) * 40.0, "".join(parts))

    return Plot(
        "errors",
        "Errors by kind",
        f"{total:,} instances were not stored. Most frequent: {kinds[0][0]}, {kinds[0][1]:,}.",
        draw,
        Table(
            ("kind", "instances", "share"),
            tuple(Row((kind, f"{count:,}", f"{count / (total or 1):.1%}")) for kind, count in kinds),
        ),
    )


def _ranks(times: Percentiles) -> list[tuple[float, str, float]]:
    """Return 1/(1-p), name and time of each percentile that there are enough requests for, and of the maximum."""
    if not times.count:
        return []
    found = (
        (2.0, "p50", times.p50_s),
        (10.0, "p90", times.p90_s),
        (100.0, "p99", times.p99_s),
        (1000.0, "p99.9", times.p99_9_s),
        (float(times.count), "max", times.max_s),
    )
    return [(rank, name, time_s) for rank, name, time_s in found if time_s is not None]


def _nines(right: float) -> list[Tick]:
    """Return the ticks 50 %, 90 %, 99 %, … up to one in so many."""
    ticks = [(2.0, "50%")]
    nines = 1
    while 10**nines <= right:
        ticks.append((10.0**nines, f"{100 - 100 / 10**nines:.{max(nines - 2, 0)}f}%"))
        nines += 1
    return ticks


def _percentile_words(times: Percentiles) -> str:
    return ", ".join(f"{name} {duration(time_s)}" for _, name, time_s in _ranks(times)) or "nothing measured"


def _dot(x: float, y: float, class_: str, row: int) -> str:
    """Return a mark: square for service times, round for the others, so that colour is not all that tells them."""
    if class_ == "service":
        return tag("rect", x=x - 3.5, y=y - 3.5, width=7, height=7, class_=f"dot {class_}", data_row=row)
    return tag("circle", cx=x, cy=y, r=4.5, class_=f"dot {class_}", data_row=row)


def _segment(x: float, width_px: float, top_px: float, name: str, row: int) -> str:
    bar = tag("rect", x=x, y=top_px, width=max(width_px - 1, 1), height=20, class_=f"stage {name}", data_row=row)
    fits = len(name) * CHARACTER_PX + 8 < width_px
    return bar + (label(x + width_px / 2, top_px + 14, name, "on-mark", "middle") if fits else "")
