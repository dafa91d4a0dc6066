"""The plots of one load: percentiles, the stages of a request, kinds of errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bulkstow.bench.report.plot import Json, Plot, colour, durations, words
from bulkstow.bench.report.words import duration, load_words
from bulkstow.bench.result import Percentiles, Point
from bulkstow.pages.markup import Table

MOST_KINDS = 12
"""Kinds of errors with a bar of their own; the table lists all."""

STAGES = {
    "waiting": ("violet", "waiting: due, and not yet started"),
    "connect": ("teal", "connect: opening connections"),
    "send": ("blue", "send: until the server took the last byte"),
    "thinking": ("orange", "thinking: from the last byte to the response"),
    "other": ("muted", "other: in none of these"),
}
"""The parts of a latency in their order: colour and legend."""


def percentiles(point: Point) -> Plot:
    """Plot latency and service time by percentile, on HdrHistogram's axis: 1/(1-p), logarithmic."""
    found = {"latency": _ranks(point.latency), "service time": _ranks(point.service_time)}
    listed = "; ".join(
        f"{name}: {', '.join(f'{percentile} {duration(time_s)}' for _, percentile, time_s in marks) or 'not measured'}"
        for name, marks in found.items()
    )
    nines = range(1, len(str(max(point.latency.count, 100))))
    axis = {
        "type": "log",
        "tickvals": [2, *(10**power for power in nines)],
        "ticktext": ["50%", *(f"{1 - 0.1**power:.{max(power - 2, 0)}%}" for power in nines)],
    }
    rows = ((f"{mark[1]}, {name}", duration(mark[2])) for name, marks in found.items() for mark in marks)
    values = [mark[2] for marks in found.values() for mark in marks]
    thick: Json = {"color": colour("blue"), "width": 4}
    dashed: Json = {"color": colour("orange"), "dash": "dash"}
    return Plot(
        "percentiles",
        "Latency by percentile",
        f"{listed}. Latency counts from the intended start, service time from the actual one.",
        [
            _by_rank("latency, from the intended start", found["latency"], thick, "circle"),
            _by_rank("service time, from the actual start", found["service time"], dashed, "square"),
        ],
        {"height": 340, "xaxis": axis, "yaxis": durations(values, "time"), "hovermode": "closest"},
        Table(("percentile", "time"), tuple(rows)),
        "The marks are measured, the lines only join them; the last mark is the maximum.",
    )


def _by_rank(legend: str, ranks: Sequence[tuple[float, str, float]], line: Json, symbol: str) -> Json:
    """Return a curve; the maximum is at the rank of the count, beyond which there is no percentile."""
    last = ranks[-1][0] if ranks else 0
    marks = [mark for mark in ranks if mark[0] < last or mark[1] == "max"]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": legend,
        "x": [max(rank, 2.0) for rank, _, _ in marks],
        "y": [time_s for _, _, time_s in marks],
        "customdata": [f"{percentile}: {duration(time_s)}" for _, percentile, time_s in marks],
        "hovertemplate": "%{customdata}<extra>" + legend.partition(",")[0] + "</extra>",
        "line": line,
        "marker": {"size": 10 if symbol == "circle" else 7, "symbol": symbol},
    }


def split(points: Sequence[Point]) -> Plot:
    """Plot where the mean time of a request goes, a bar for each point."""
    parts = [stages(point) for point in points]
    names = [name for name in STAGES if any(part[name] > 0 for part in parts)]
    loads = [load_words(point.load) for point in points]
    # Two points of the same load have bars of their own.
    bars = [f"{load}{' ' * number}" for number, load in enumerate(loads)]
    traces: list[Json] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": STAGES[name][1],
            "y": bars,
            "x": [part[name] for part in parts],
            "customdata": [duration(part[name]) for part in parts],
            "hovertemplate": "%{customdata}<extra>" + name + "</extra>",
            "marker": {"color": colour(STAGES[name][0])},
        }
        for name in names
    ]
    rows = tuple(
        (load, *(duration(part[name]) for name in names), duration(sum(part.values())))
        for load, part in zip(loads, parts, strict=True)
    )
    listed = "; ".join(f"{row[0]}: {', '.join(map(' '.join, zip(names, row[1:], strict=False)))}" for row in rows)
    return Plot(
        "split",
        "Where the time goes",
        f"The mean time of a request from its intended start, by stage. {listed}.",
        traces,
        {
            "height": 180 + 34 * len(points),
            "barmode": "stack",
            "xaxis": durations([], "mean time"),
            "yaxis": {"autorange": "reversed", "automargin": True},
            "legend": {"traceorder": "normal"},
            "hovermode": "closest",
        },
        Table(("load", *names, "together"), rows),
        "Means, as only they add up; the percentiles of each stage are in the table of times.",
    )


def stages(point: Point) -> dict[str, float]:
    """Return the mean seconds that a request spends in each of `STAGES`.

    Not every request opens a connection: the sum of each stage is shared among all requests.
    """
    requests = max(point.latency.count, 1)
    service_s = point.service_time.mean_s
    measured = {
        name: times.mean_s * min(times.count / requests, 1.0)
        for name, times in (("connect", point.connect), ("send", point.send), ("thinking", point.thinking))
    }
    waiting_s = max(point.latency.mean_s - service_s, 0.0)
    other_s = max(service_s - sum(measured.values()), 0.0)
    negligible_s = (waiting_s + other_s + sum(measured.values())) * 0.005  # rounding and clocks, not a stage
    return {
        "waiting": waiting_s if waiting_s > negligible_s else 0.0,
        **measured,
        "other": other_s if other_s > negligible_s else 0.0,
    }


def errors(counts: Mapping[str, int]) -> Plot:
    """Plot a bar for each kind of error, the most frequent first."""
    kinds = sorted(counts.items(), key=lambda kind: (-kind[1], kind[0]))
    drawn = kinds if len(kinds) <= MOST_KINDS else kinds[: MOST_KINDS - 1]
    if rest := kinds[len(drawn) :]:
        drawn = [*drawn, (f"{len(rest)} other kinds", sum(count for _, count in rest))]
    total = sum(counts.values())
    trace: Json = {
        "type": "bar",
        "orientation": "h",
        "y": list(range(len(drawn))),
        "x": [count for _, count in drawn],
        "text": [f"{count:,}" for _, count in drawn],
        "customdata": [words(kind, 80) for kind, _ in drawn],
        "hovertemplate": "%{customdata}: %{text}<extra></extra>",
        "marker": {"color": colour("red")},
        "textposition": "outside",
        "cliponaxis": False,
    }
    labels = [words(kind, 32) for kind, _ in drawn]
    axis = {"autorange": "reversed", "automargin": True, "tickvals": trace["y"], "ticktext": labels}
    return Plot(
        "errors",
        "Errors by kind",
        f"{total:,} instances were not stored. Most frequent: {kinds[0][0]}, {kinds[0][1]:,}.",
        [trace],
        {"height": 90 + 30 * len(drawn), "showlegend": False, "yaxis": axis, "hovermode": "closest"},
        Table(
            ("kind", "instances", "share"),
            tuple((kind, f"{count:,}", f"{count / (total or 1):.1%}") for kind, count in kinds),
        ),
    )


def _ranks(times: Percentiles) -> list[tuple[float, str, float]]:
    """Return 1/(1-p), name and time of each percentile that there are enough requests for, and of the maximum."""
    found = (
        (2.0, "p50", times.p50_s),
        (10.0, "p90", times.p90_s),
        (100.0, "p99", times.p99_s),
        (1000.0, "p99.9", times.p99_9_s),
        (float(times.count), "max", times.max_s),
    )
    return [(rank, name, time_s) for rank, name, time_s in found if time_s is not None and times.count]
