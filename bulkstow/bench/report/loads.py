"""The plots that compare loads: a heat map of goodput, and goodput and latency against load."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from bulkstow.bench.knee import AS_GOOD
from bulkstow.bench.report.plot import Json, Plot, colour, durations
from bulkstow.bench.report.words import duration, figure, load_words, rate, share, short, time_of
from bulkstow.bench.result import Knee, Load, Point
from bulkstow.pages.markup import Table

LOG_LOADS_FROM_RATIO = 8.0
"""Loads that were doubled three times or more are drawn at equal steps."""


def plots(points: Sequence[Point], knee: Knee | None, batch_instances: int) -> Iterator[Plot]:
    """Yield the plots of a sweep, of connections and of rates; the curve of `batch_instances` is emphasized."""
    for name, title in (("connections", "connections"), ("rate", "instances/s due")):
        compared = [(x, point) for point in points if (x := _amount(name, point.load)) is not None]
        if compared:
            yield _heat_map(name, title, compared, knee)
            p99 = next(
                (n for n in ("p99", "p90") if all(_time(n, p) is not None for _, p in compared if p.latency.count)),
                "p50",
            )
            for measure in ("goodput", p99):
                yield _against_load(name, title, compared, knee, batch_instances, measure)


def _amount(axis: str, load: Load) -> float | None:
    return load.connections if axis == "connections" else load.rate_per_s


def _time(percentile: str, point: Point) -> float | None:
    times = {"p50": point.latency.p50_s, "p90": point.latency.p90_s, "p99": point.latency.p99_s}
    return times[percentile]


def _heat_map(axis: str, title: str, compared: Sequence[tuple[float, Point]], knee: Knee | None) -> Plot:
    cells: dict[tuple[float, int], list[Point]] = {}
    for x, point in compared:
        cells.setdefault((x, point.load.batch_instances), []).append(point)
    goodput = {cell: fmean(point.instances_per_s for point in visits) for cell, visits in cells.items()}
    best = max(goodput, key=lambda cell: goodput[cell])
    columns, rows = sorted({x for x, _ in cells}), sorted({batch for _, batch in cells})

    def label(cell: tuple[float, int]) -> str:
        visits = cells.get(cell, [])
        marks = ("!" if any(map(_failed, visits)) else "") + ("†" if any(p.client_bound for p in visits) else "")
        star = "★" if knee and any(point.load == knee.load for point in visits) else ""
        return f"{short(goodput[cell])}{marks}{star}" if visits else ""

    trace: Json = {
        "type": "heatmap",
        "x": [rate(x) for x in columns],
        "y": [rate(batch) for batch in rows],
        "z": [[goodput.get((x, batch)) for x in columns] for batch in rows],
        "text": [[label((x, batch)) for x in columns] for batch in rows],
        "texttemplate": "%{text}",
        "hovertemplate": title + ": %{x}<br>instances a request: %{y}<br>instances/s: %{z:.4~g}<extra></extra>",
        "hoverongaps": False,
        "xgap": 2,
        "ygap": 2,
        "zmin": 0,
        "colorscale": [[0, colour("heat-low")], [1, colour("heat-high")]],
        "colorbar": {"title": {"text": "instances/s"}, "thickness": 12},
    }
    return Plot(
        f"map-{axis}",
        f"Goodput by {axis} and batch size",
        f"{len(cells)} loads. The best is {figure(goodput[best])} instances/s, at {title} "
        f"{rate(best[0])} with {best[1]:,} instances a request. {_knee_words(knee)}",
        [trace],
        {
            "height": 150 + 40 * len(rows),
            "xaxis": {"type": "category", "title": {"text": title}, "showgrid": False},
            "yaxis": {"type": "category", "title": {"text": "instances a request"}, "showgrid": False},
            "hovermode": "closest",
        },
        _load_table([point for _, point in compared]),
        "★ knee, ! with errors or drops, † client-bound",
    )


def _against_load(
    axis: str, title: str, compared: Sequence[tuple[float, Point]], knee: Knee | None, front: int, measure: str
) -> Plot:
    """Plot a curve for each batch size."""
    is_time = measure != "goodput"
    marks = [(x, _time(measure, p) if is_time else p.instances_per_s, p) for x, p in compared]
    known = [(x, y, p) for x, y, p in marks if y is not None]
    batches = sorted({p.load.batch_instances for _, _, p in known}, key=lambda batch: (batch == front, batch))
    traces: list[Json] = []
    for batch in batches:
        found = [mark for mark in known if mark[2].load.batch_instances == batch]
        traces += _curve(f"{batch:,}/request", found, knee, is_front=batch == front, is_time=is_time)
    loads = sorted({x for x, _ in compared})
    is_log = loads[0] > 0 and loads[-1] / loads[0] >= LOG_LOADS_FROM_RATIO
    x_axis = {"title": {"text": title}, "tickvals": loads, "ticktext": [rate(x) for x in loads]}
    layout: Json = {"height": 360, "hovermode": "closest", "xaxis": x_axis | {"type": "log" if is_log else "linear"}}
    y_axis: Json = {"title": {"text": "instances/s"}, "rangemode": "tozero"}
    layout["yaxis"] = durations([y for _, y, _ in known], measure) if is_time else y_axis
    note = "Hollow marks are client-bound."
    if knee is not None:
        note = f"★ {_knee_words(knee)} {note}"
    if knee is not None and not is_time:
        at = AS_GOOD * knee.best_per_s
        line = {"color": colour("green"), "dash": "dash", "width": 1.5}
        layout["shapes"] = [{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": at, "y1": at, "line": line}]
        note += f" The dashed line is {share(AS_GOOD)} of the best goodput, which the knee reaches."
    return Plot(
        f"{'latency' if is_time else 'goodput'}-{axis}",
        f"{'Latency' if is_time else 'Goodput'} against load ({axis})",
        f"{measure if is_time else 'instances/s'} by {title}, a line for each batch size. {_knee_words(knee)}",
        traces,
        layout,
        _load_table([point for _, point in compared]),
        note,
    )


def _curve(
    name: str, found: Sequence[tuple[float, float, Point]], knee: Knee | None, *, is_front: bool, is_time: bool
) -> tuple[Json, Json]:
    """Return a line through the means of each load, and a mark for each point."""
    means = {x: fmean(y for other, y, _ in found if other == x) for x in sorted({x for x, _, _ in found})}
    style = {"color": colour("blue" if is_front else "muted"), "width": 2.5 if is_front else 1.25}
    group = {"type": "scatter", "name": name, "legendgroup": name, "line": style}
    notes = []
    for x, y, point in found:
        bound = ", client-bound" if point.client_bound else ""
        notes.append(f"{rate(x)}: {duration(y) if is_time else f'{figure(y)} instances/s'}{bound}")
    marker = {
        "color": style["color"],
        "symbol": [_symbol(point, knee) for _, _, point in found],
        "size": [14 if knee and point.load == knee.load else 8 for _, _, point in found],
    }
    marks: Json = {**group, "mode": "markers", "showlegend": False, "marker": marker, "customdata": notes}
    marks |= {"x": [x for x, _, _ in found], "y": [y for _, y, _ in found]}
    marks |= {"hovertemplate": "%{customdata}<extra>" + name + "</extra>"}
    return {**group, "mode": "lines", "x": [*means], "y": [*means.values()], "hoverinfo": "skip"}, marks


def _symbol(point: Point, knee: Knee | None) -> str:
    shape = "star" if knee and point.load == knee.load else "circle"
    return f"{shape}-open" if point.client_bound else shape


def _load_table(points: Sequence[Point]) -> Table:
    rows = (
        (
            load_words(point.load) + (", client-bound" if point.client_bound else ""),
            figure(point.instances_per_s),
            figure(point.megabytes_per_s),
            time_of(point.latency, point.latency.p99_s),
            f"{sum(point.errors.values()):,}",
        )
        for point in points
    )
    return Table(("load", "instances/s", "MB/s", "p99", "errors"), tuple(rows))


def _failed(point: Point) -> bool:
    return bool(sum(point.errors.values()) or point.dropped)


def _knee_words(knee: Knee | None) -> str:
    if knee is None:
        return "No knee was found."
    return f"The knee is {load_words(knee.load)}: {figure(knee.instances_per_s)} instances/s."
