"""What plots are drawn with: markup that escapes, scales from values to places, ticks, numbers as words.

Owns the rule that no text reaches the page unescaped: words pass `text`, attributes pass `tag`. Knows nothing of
measurements: that is `charts`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

from bulkstow.bench.report.words import duration
from bulkstow.printing import shown
from bulkstow.quantities import show_duration

CHARACTER_PX = 7.3
"""A character of 12 px text, to leave out labels that would touch: the mean of the labels of our sample reports in
Chromium with DejaVu Sans, a wide font, is 6.8 to 7.4 (in the widest label, `2h46m`, 8.4)."""
BOLD_PX = 8.3
"""The same in bold, 7.3 to 7.8 there; names of batch sizes have many digits, which are wide."""

LEFT_PX = 60.0
"""Room for the labels of a vertical axis: seven characters (`dropped`) of 12 px, and a gap."""

LOG_FROM_RATIO = 30.0
"""Between the largest and the smallest value: from here on the small ones lie on the floor of a linear plot of 170 px,
less than 6 px above it."""

_CLOCK_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)

Place = tuple[float, float]
Tick = tuple[float, str]


def text(words: str) -> str:
    """Return words as markup: special characters escaped, controls and lone surrogates shown as escapes."""
    return escape(shown(words))


def tag(name: str, *content: str, **attributes: str | float | None) -> str:
    """Return an element; content is markup, attributes are escaped, `class_` is class and `data_row` is data-row."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_attribute(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{written}>{''.join(content)}</{name}>"


def _attribute(value: str | float) -> str:
    return text(value) if isinstance(value, str) else f"{round(value, 1):.10g}"


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to places, in pixels; values out of range are drawn at its ends."""

    low: float
    high: float
    start_px: float
    end_px: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        """Return the place of a value, in pixels."""
        return self.start_px + self.share(value) * (self.end_px - self.start_px)

    def share(self, value: float) -> float:
        """Return how far between the ends a value is, 0 to 1; a scale of one value has it in the middle."""
        if self.high <= self.low:
            return 0.5
        value = min(max(value, self.low), self.high)
        if self.is_log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def scale_of(
    values: Iterable[float], start_px: float, end_px: float, *, may_be_log: bool = False
) -> tuple[Scale, tuple[float, ...]]:
    """Return a scale that holds the values from 0 on, and its ticks; logarithmic where it may be and they need it.

    Zeros say nothing of the order: on a logarithmic scale they are drawn at its low end.
    """
    positive = [value for value in values if value > 0]
    high = max(positive, default=1.0)
    low = min(positive, default=high)
    if may_be_log and high / low >= LOG_FROM_RATIO:
        ticks = log_ticks(low, high)
        return Scale(ticks[0], ticks[-1], start_px, end_px, is_log=True), _fewer(ticks)
    ticks = linear_ticks(high)
    return Scale(0.0, ticks[-1], start_px, end_px), ticks


def linear_ticks(high: float, steps: int = 4) -> tuple[float, ...]:
    """Return round values from 0 to the first that is not below `high`, about so many steps."""
    raw = high / steps
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * unit for factor in (1, 2, 5, 10) if raw <= factor * unit * (1 + 1e-9))
    return tuple(step * number for number in range(math.ceil(high / step - 1e-9) + 1))


def log_ticks(low: float, high: float) -> tuple[float, ...]:
    """Return 1, 2 and 5 times the powers of ten, from the last not above `low` to the first not below `high`."""
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    all_ticks = [float(f"{factor}e{power}") for power in powers for factor in (1, 2, 5)]
    first = max(tick for tick in all_ticks if tick <= low)
    last = min(tick for tick in all_ticks if tick >= high)
    return tuple(tick for tick in all_ticks if first <= tick <= last)


def _fewer(ticks: Sequence[float], most: int = 7) -> tuple[float, ...]:
    """Return the ticks; where there are more than 150 px have room for, powers of ten, or every second or third."""
    if len(ticks) <= most:
        return tuple(ticks)
    powers = tuple(tick for tick in ticks if f"{tick:e}".startswith("1.0"))
    return powers[:: -(-len(powers) // most)]


def clock_ticks(low_s: float, high_s: float, most: int) -> tuple[Tick, ...]:
    """Return times to label, in seconds from the start, at most so many and on a round step."""
    span_s = max(high_s - low_s, 1.0)
    days = math.ceil(span_s / most / 86400)
    step_s = next((step for step in _CLOCK_STEPS_S if span_s / step <= most), days * 86400)
    first, last = math.ceil(low_s / step_s), math.floor(high_s / step_s)
    return tuple((n * step_s, show_duration(n * step_s) if n else "0s") for n in range(first, last + 1))


def line(runs: Iterable[Sequence[Place]]) -> str:
    """Return the `d` of a path through each run of places; a place alone is a dash, as a point would not be seen."""
    seen = ([(run[0][0] - 3, run[0][1]), (run[0][0] + 3, run[0][1])] if len(run) == 1 else run for run in runs if run)
    return "".join("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in run) for run in seen)


def area(runs: Iterable[Sequence[Place]], base_px: float) -> str:
    """Return the `d` of what is between each run and a base line."""
    return "".join(f"{line([[(run[0][0], base_px), *run, (run[-1][0], base_px)]])}Z" for run in runs if run)


def label(x: float, y: float, words: str, class_: str = "tick", anchor: str | None = None) -> str:
    """Return a line of text at a place."""
    return tag("text", text(words), x=x, y=y, class_=class_, text_anchor=anchor)


def time_ticks(ticks_s: Iterable[float]) -> list[Tick]:
    """Return times with their labels."""
    return [(tick_s, duration(tick_s) if tick_s else "0") for tick_s in ticks_s]


def y_axis(scale: Scale, ticks: Sequence[Tick], left_px: float, right_px: float) -> str:
    """Return horizontal grid lines, and their labels at the left."""
    return "".join(
        tag("line", x1=left_px, x2=right_px, y1=scale(value), y2=scale(value), class_="grid")
        + label(left_px - 6, scale(value) + 4, words, anchor="end")
        for value, words in ticks
    )


def x_axis(scale: Scale, ticks: Iterable[Tick], base_px: float, width_px: float) -> str:
    """Return tick marks below a base line with labels that do not touch; those at the edges are moved inwards."""
    parts = [tag("line", x1=scale.start_px, x2=scale.end_px, y1=base_px, y2=base_px, class_="axis")]
    taken_to = -math.inf
    for value, words in ticks:
        half = len(words) * CHARACTER_PX / 2
        middle = min(max(scale(value), half), width_px - half)
        if middle - half < taken_to:
            continue
        taken_to = middle + half + CHARACTER_PX
        parts.append(tag("line", x1=scale(value), x2=scale(value), y1=base_px, y2=base_px + 4, class_="axis"))
        parts.append(label(middle, base_px + 17, words, anchor="middle"))
    return "".join(parts)


def apart(places_px: Sequence[float], gap_px: float, low_px: float, high_px: float) -> list[float]:
    """Return the places moved as little as needed to be `gap_px` apart, in their order, between low and high.

    Where there is no room for all of them they stand closer.
    """
    if not places_px:
        return []
    gap_px = min(gap_px, (high_px - low_px) / len(places_px))
    order = sorted(range(len(places_px)), key=lambda index: places_px[index])
    moved = list(places_px)
    floor = low_px
    for index in order:
        moved[index] = floor = max(moved[index], floor)
        floor += gap_px
    ceiling = high_px
    for index in reversed(order):
        moved[index] = ceiling = min(moved[index], ceiling)
        ceiling -= gap_px
    return moved


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table; the first cell names it."""

    cells: tuple[str, ...]
    at_share: float | None = None
    """Where along its plot it lies, 0 left to 1 right: the pointer finds it there."""


@dataclass(frozen=True, slots=True)
class Table:
    """What a plot shows, in words."""

    headings: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Drawn:
    """A plot at one width."""

    height_px: float
    markup: str
    span_px: tuple[float, float] | None = None
    """Left and right end of what `Row.at_share` counts along."""


@dataclass(frozen=True, slots=True)
class Key:
    """An entry of a legend: a mark of 24 by 12 px as markup, and what it stands for."""

    mark: str
    words: str


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot before it is given a width."""

    name: str
    """Its id in the page."""
    title: str
    description: str
    """What one would say of it to somebody who cannot see it."""
    draw: Callable[[float], Drawn]
    """From a width in pixels."""
    table: Table
    keys: tuple[Key, ...] = ()
    note: str = ""


def line_key(class_: str, words: str) -> Key:
    """Return the entry of a line."""
    return Key(tag("path", d="M1 6H23", class_=class_), words)


def area_key(class_: str, words: str) -> Key:
    """Return the entry of an area."""
    return Key(tag("rect", x=4, y=1, width=16, height=10, class_=class_), words)
