"""The plots that compare points: a heat map of goodput, goodput and latency against load, the knee in each.

A sweep may vary connections, the rate, or both in turn: each has plots of its own.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bulkstow.bench.knee import AS_GOOD
from bulkstow.bench.report.drawing import (
    BOLD_PX,
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
from bulkstow.bench.report.words import figure, load_words, rate, share, short, time_of
from bulkstow.bench.result import Knee, Load, Point

HEAT_STEPS = 7
"""Colours of the heat map, `heat-0` to `heat-6`; their contrast with the figures in them is tested."""

PHONE_PX = 500.0
"""Below this width the shorter side of the heat map lies across."""

LOG_LOADS_FROM_RATIO = 8.0
"""Loads that were doubled three times or more are drawn at equal steps."""

CELL_PX = 36.0
BASE_PX = 252.0
"""Where the axis of loads is drawn."""

_STAR = "M0-8 2-2.7 7.6-2.5 3.2 1 4.7 6.5 0 3.4-4.7 6.5-3.2 1-7.6-2.5-2-2.7Z"


@dataclass(frozen=True, slots=True)
class Axis:
    """What a sweep varies beside the batch size."""

    name: str
    title: str
    value: Callable[[Load], float | None]


AXES = (
    Axis("connections", "connections", lambda load: load.connections),
    Axis("rate", "instances/s due", lambda load: load.rate_per_s),
)

_Cell = tuple[float, int]
"""A value of the axis, and a batch size."""


def plots(points: Sequence[Point], knee: Knee | None, batch_instances: int) -> Iterator[Plot]:
    """Give the plots of a sweep; the curve of `batch_instances` is the one in the foreground."""
    for axis in AXES:
        here = [point for point in points if axis.value(point.load) is not None]
        if here:
            yield _heat_map(axis, here, knee)
            yield _against_load(axis, here, knee, batch_instances, GOODPUT)
            yield _against_load(axis, here, knee, batch_instances, _latency(here))


def _cell(axis: Axis, load: Load) -> _Cell:
    return axis.value(load) or 0.0, load.batch_instances


def _heat_map(axis: Axis, points: Sequence[Point], knee: Knee | None) -> Plot:
    cells: dict[_Cell, list[int]] = {}
    for row, point in enumerate(points):
        cells.setdefault(_cell(axis, point.load), []).append(row)
    heat = _Heat(axis, points, cells, _cell(axis, knee.load) if knee else None)
    best = max(cells, key=heat.goodput_per_s)
    keys = [area_key("heat-0", "0"), area_key(f"heat-{HEAT_STEPS - 1}", f"{figure(heat.best_per_s)} instances/s")]
    keys += _knee_keys(knee)
    if any(map(_failed, points)):
        keys.append(Key(label(12, 11, "!", "value", "middle"), "with errors or drops"))
    if any(point.client_bound for point in points):
        keys.append(Key(label(12, 11, "†", "value", "middle"), "client-bound"))
    return Plot(
        f"map-{axis.name}",
        f"Goodput by {axis.name} and batch size",
        f"{len(cells)} loads. The best is {figure(heat.best_per_s)} instances/s, at {axis.title} "
        f"{rate(best[0])} with {best[1]:,} instances a request. {_knee_words(knee)}",
        heat.draw,
        _table(points),
        tuple(keys),
    )


@dataclass(frozen=True, slots=True)
class _Heat:
    axis: Axis
    points: Sequence[Point]
    rows_of: Mapping[_Cell, Sequence[int]]
    """The points of a cell, up the sweep and down again."""
    knee: _Cell | None

    @property
    def best_per_s(self) -> float:
        return max(map(self.goodput_per_s, self.rows_of))

    def goodput_per_s(self, cell: _Cell) -> float:
        return statistics.mean(self.points[row].instances_per_s for row in self.rows_of[cell])

    def draw(self, width_px: float) -> Drawn:
        across, down = sorted({cell[0] for cell in self.rows_of}), sorted({cell[1] for cell in self.rows_of})
        titles = (self.axis.title, "instances a request")
        is_turned = width_px < PHONE_PX and len(across) > len(down)
        columns, lines, (x_title, y_title) = (down, across, titles[::-1]) if is_turned else (across, down, titles)
        side_px = min((width_px - LEFT_PX - 2) / len(columns), 96.0)
        parts = [label(0, 14, f"{x_title} →", "axis-title"), label(0, 30, f"{y_title} ↓", "axis-title")]
        for index, x_value in enumerate(columns):
            parts.append(label(LEFT_PX + (index + 0.5) * side_px, 52, rate(x_value), anchor="middle"))
        for index, y_value in enumerate(lines):
            top_px = 60.0 + index * CELL_PX
            parts.append(label(LEFT_PX - 6, top_px + 22, rate(y_value), anchor="end"))
            for column, x_value in enumerate(columns):
                cell = (y_value, int(x_value)) if is_turned else (x_value, int(y_value))
                parts.append(self._cell(cell, (LEFT_PX + column * side_px, top_px), side_px))
        return Drawn(64 + len(lines) * CELL_PX, "".join(parts))

    def _cell(self, cell: _Cell, place: Place, side_px: float) -> str:
        rows = self.rows_of.get(cell)
        if rows is None:
            return _box(place, side_px, "cell-empty")
        goodput_per_s = self.goodput_per_s(cell)
        step = min(int(goodput_per_s / (self.best_per_s or 1.0) * HEAT_STEPS), HEAT_STEPS - 1)
        parts = [_box(place, side_px, f"heat-{step}", rows[0])]
        words = short(goodput_per_s) + _marks([self.points[row] for row in rows])
        if len(words) * CHARACTER_PX <= side_px - 2:
            parts.append(label(place[0] + side_px / 2, place[1] + 22, words, f"on-heat-{step}", "middle"))
        if cell == self.knee:
            parts.append(_box(place, side_px, "knee"))
            parts.append(_star((place[0] + side_px - 7, place[1] + 5)))
        return "".join(parts)


@dataclass(frozen=True, slots=True)
class Measure:
    """What is drawn against load."""

    name: str
    title: str
    axis_title: str
    value: Callable[[Point], float | None]
    """None where it was not measured: there is no mark."""
    is_time: bool


GOODPUT = Measure("goodput", "Goodput against load", "instances/s", lambda point: point.instances_per_s, is_time=False)
LATENCIES = tuple(
    Measure("latency", "Latency against load", name, value, is_time=True)
    for name, value in (
        ("p99", lambda point: point.latency.p99_s),
        ("p90", lambda point: point.latency.p90_s),
        ("p50", lambda point: point.latency.p50_s),
    )
)


def _latency(points: Sequence[Point]) -> Measure:
    """Return the highest percentile that all loads have: of another a curve would lack its slow end."""
    measured = [point for point in points if point.latency.count]
    whole = (measure for measure in LATENCIES if all(measure.value(point) is not None for point in measured))
    return next(whole, LATENCIES[-1])


def _against_load(
    axis: Axis, points: Sequence[Point], knee: Knee | None, batch_instances: int, measure: Measure
) -> Plot:
    curves = _Curves(axis, points, knee, batch_instances, measure)
    keys = [line_key("line front", f"{batch_instances:,} instances a request")]
    if len(curves.batches) > 1:
        keys.append(line_key("line back", "other batch sizes"))
    if knee and not measure.is_time:
        keys.append(line_key("line best", f"{share(AS_GOOD)} of the best goodput: what the knee reaches"))
    keys += _knee_keys(knee)
    if any(point.client_bound for point in points):
        keys.append(Key(tag("circle", cx=12, cy=6, r=4, class_="dot front hollow"), "client-bound"))
    return Plot(
        f"{measure.name}-{axis.name}",
        f"{measure.title} ({axis.name})",
        f"{measure.axis_title} by {axis.title}, a line for each batch size. {_knee_words(knee)}",
        curves.draw,
        _table(points),
        tuple(keys),
    )


@dataclass(frozen=True, slots=True)
class _Curves:
    axis: Axis
    points: Sequence[Point]
    knee: Knee | None
    front: int
    """The batch size whose curve is in the foreground."""
    measure: Measure

    @property
    def batches(self) -> list[int]:
        """The foreground is the last, drawn over the others."""
        return sorted({p.load.batch_instances for p in self.points}, key=lambda batch: (batch == self.front, batch))

    def draw(self, width_px: float) -> Drawn:
        loads = sorted({_cell(self.axis, point.load)[0] for point in self.points})
        room_px = max(map(len, map(_end, self.batches))) * BOLD_PX + 10
        right_px = width_px - (room_px if len(self.batches) > 1 else 20)
        is_log = loads[0] > 0 and loads[-1] / loads[0] >= LOG_LOADS_FROM_RATIO
        scale = Scale(loads[0], loads[-1], LEFT_PX + 14, right_px, is_log=is_log)
        is_time = self.measure.is_time
        value_scale, ticks = scale_of(self._values(), BASE_PX - 6, 40, may_be_log=is_time)
        title = f"{self.measure.axis_title}, logarithmic" if value_scale.is_log else self.measure.axis_title
        labels = time_ticks(ticks) if is_time else [(tick, short(tick)) for tick in ticks]
        parts = [y_axis(value_scale, labels, LEFT_PX, right_px), label(0, 14, title, "axis-title")]
        parts.append(self._knee_lines(scale, value_scale, width_px))
        curves = [self._curve(batch, scale, value_scale) for batch in self.batches]
        parts += [markup for markup, _ in curves]
        if len(curves) > 1:
            ends = [(batch, y) for batch, (_, y) in zip(self.batches, curves, strict=True) if y is not None]
            ends_px = apart([y for _, y in ends], 14, 44, BASE_PX - 6)
            for (batch, _), end_px in zip(ends, ends_px, strict=True):
                parts.append(label(right_px + 8, end_px + 4, _end(batch), f"end {self._class(batch)}"))
        parts.append(x_axis(scale, [(load, rate(load)) for load in loads], BASE_PX, width_px))
        parts.append(label((scale.start_px + right_px) / 2, BASE_PX + 36, self.axis.title, "axis-title", "middle"))
        return Drawn(BASE_PX + 42, "".join(parts))

    def _values(self) -> list[float]:
        return [value for value in map(self.measure.value, self.points) if value is not None]

    def _class(self, batch: int) -> str:
        return "front" if batch == self.front else "back"

    def _curve(self, batch: int, scale: Scale, value_scale: Scale) -> tuple[str, float | None]:
        """Return the curve of a batch size through the means of each load, a mark a point, and the height of its end,
        None where it has no point.

        A load that was measured up the sweep and down again has two marks.
        """
        marks, places_of = [], dict[float, list[float]]()
        for row, point in enumerate(self.points):
            value = self.measure.value(point)
            if point.load.batch_instances != batch or value is None:
                continue
            x, y = scale(_cell(self.axis, point.load)[0]), value_scale(value)
            places_of.setdefault(x, []).append(y)
            hollow = " hollow" if point.client_bound else ""
            marks.append(tag("circle", cx=x, cy=y, r=4, class_=f"dot {self._class(batch)}{hollow}", data_row=row))
            if self.knee and point.load == self.knee.load:
                marks.append(_star((x, y)))
        means = [(x, statistics.mean(places_of[x])) for x in sorted(places_of)]
        path = tag("path", d=line([means]), class_=f"line {self._class(batch)}")
        return path + "".join(marks), means[-1][1] if means else None

    def _knee_lines(self, scale: Scale, value_scale: Scale, width_px: float) -> str:
        """Return a line up from the knee's load, and one at what a load has to reach to be the knee."""
        if self.knee is None or (at := self.axis.value(self.knee.load)) is None:
            return ""
        x, middle = scale(at), min(max(scale(at), 20), width_px - 20)
        parts = [tag("line", x1=x, x2=x, y1=34, y2=BASE_PX, class_="knee-line")]
        parts.append(label(middle, 30, "knee", "value", "middle"))
        if not self.measure.is_time:
            y = value_scale(AS_GOOD * self.knee.best_per_s)
            parts.append(tag("line", x1=scale.start_px, x2=scale.end_px, y1=y, y2=y, class_="line best"))
        return "".join(parts)


def _end(batch: int) -> str:
    return f"{batch:,}/request"


def _table(points: Sequence[Point]) -> Table:
    return Table(
        ("load", "instances/s", "MB/s", "p99", "errors"),
        tuple(
            Row(
                (
                    load_words(point.load) + (", client-bound" if point.client_bound else ""),
                    figure(point.instances_per_s),
                    figure(point.megabytes_per_s),
                    time_of(point.latency, point.latency.p99_s),
                    f"{sum(point.errors.values()):,}",
                )
            )
            for point in points
        ),
    )


def _failed(point: Point) -> bool:
    return bool(sum(point.errors.values()) or point.dropped)


def _marks(points: Sequence[Point]) -> str:
    return ("!" if any(map(_failed, points)) else "") + ("†" if any(point.client_bound for point in points) else "")


def _box(place: Place, side_px: float, class_: str, row: int | None = None) -> str:
    x, y = place
    return tag("rect", x=x + 1, y=y + 1, width=side_px - 2, height=CELL_PX - 2, class_=class_, data_row=row)


def _star(place: Place) -> str:
    return tag("path", d=_STAR, transform=f"translate({place[0]:.1f} {place[1]:.1f})", class_="star")


def _knee_words(knee: Knee | None) -> str:
    if knee is None:
        return "No knee was found."
    return f"The knee is {load_words(knee.load)}: {figure(knee.instances_per_s)} instances/s."


def _knee_keys(knee: Knee | None) -> list[Key]:
    star = tag("path", d=_STAR, transform="translate(12 6) scale(0.75)", class_="star")
    return [Key(star, f"the knee: {load_words(knee.load)}")] if knee else []
