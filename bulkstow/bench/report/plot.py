"""A plot as a figure of Plotly: plain values, which the page's script draws.

Colours are names of the style sheets, written `var(--name)`; the script replaces them by the colours of the light or
dark scheme. Every text from outside passes `words`, as Plotly reads markup in its labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from bulkstow.bench.report.words import duration
from bulkstow.pages.markup import Table
from bulkstow.printing import shown

Json = dict[str, object]

LOG_FROM_RATIO = 30.0
"""Between the largest and the smallest value: on a linear axis of 170 px the smallest would be less than 6 px high."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure, and the same in words."""

    name: str
    """Its id in the page."""
    title: str
    description: str
    """For readers who cannot see the figure."""
    traces: Sequence[Json]
    layout: Json
    table: Table
    note: str = ""

    @property
    def figure(self) -> Json:
        """The argument of `Plotly.react`."""
        return {"data": self.traces, "layout": self.layout}


def words(outside: str, most: int) -> str:
    """Return text from outside as Plotly shows it literally, cut to so many characters."""
    cut = shown(outside if len(outside) <= most else f"{outside[: most - 1]}…")
    return escape(cut, quote=False)  # of the entities that `escape` writes Plotly does not read those of quotes


def colour(name: str) -> str:
    """Return a colour of the style sheets by its name."""
    return f"var(--{name})"


def durations(values: Sequence[float], title: str) -> Json:
    """Return an axis of seconds, logarithmic where the values need it."""
    positive = [value for value in values if value > 0]
    low, high = min(positive, default=1.0), max(positive, default=1.0)
    if high / low < LOG_FROM_RATIO:
        return {
            "type": "linear",
            "tickformat": "~s",
            "ticksuffix": "s",
            "rangemode": "tozero",
            "title": {"text": title},
        }
    # Plotly leaves the unit out of some labels of a logarithmic axis.
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks_s = [float(f"{factor}e{power}") for power in powers for factor in ((1, 2, 5) if len(powers) < 6 else (1,))]
    labels = [duration(tick_s) for tick_s in ticks_s]
    return {"type": "log", "tickvals": ticks_s, "ticktext": labels, "title": {"text": f"{title}, logarithmic"}}
