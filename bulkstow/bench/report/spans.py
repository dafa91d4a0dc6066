"""Seconds of a time series, grouped so that a long run stays a small plot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from statistics import median

from bulkstow.bench.result import Second

MOST_SPANS = 900
"""Each second of a quarter of an hour is a mark, about 1 px wide; of a longer run seconds are grouped."""


class Phase(Enum):
    """Which part of a repeat a second belongs to; only the load counts."""

    WARMUP = "warm-up"
    LOAD = "load"
    DRAIN = "drain"


@dataclass(frozen=True, slots=True)
class Span:
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
        p50_s=_of_known(median, (second.p50_s for second in seconds)),
        p99_s=_of_known(max, (second.p99_s for second in seconds)),
        max_s=max(second.max_s for second in seconds) or None,
        repeat=seconds[0].repeat,
        phase=_phase(seconds[0]),
    )


def _of_known(statistic: Callable[[Sequence[float]], float], times_s: Iterable[float | None]) -> float | None:
    known = [time_s for time_s in times_s if time_s is not None]
    return statistic(known) if known else None
