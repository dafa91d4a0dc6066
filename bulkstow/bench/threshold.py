"""Limits that decide the exit status: `p99<2s`, `errors<0.1%`, `instances_per_s>100`.

Parses them and judges a point. A limit on a figure that was not measured does not hold: a server that answered nothing
has no p99 below 2 s, and with fifty responses there is no p99 at all.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from bulkstow.bench.result import SAMPLES_LEAST, Judged, Percentiles, Point, Result
from bulkstow.errors import ConfigurationError
from bulkstow.quantities import parse_duration_s

_FORM = re.compile(r"\s*([a-z_0-9.]+)\s*(<=|>=|<|>)\s*(\S(?:.*\S)?)\s*")

_OPERATORS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}

_FIELDS = {"mean": "mean_s", "p50": "p50_s", "p90": "p90_s", "p99": "p99_s", "p99.9": "p99_9_s", "max": "max_s"}
"""Fields of `Percentiles` by the figure's name."""

_TIMES: Mapping[str, Callable[[Point], Percentiles]] = {
    "": lambda point: point.latency,
    "service_": lambda point: point.service_time,
    "connect_": lambda point: point.connect,
    "send_": lambda point: point.send,
    "thinking_": lambda point: point.thinking,
    "searchable_": lambda point: point.searchable or Percentiles(),
}

_SHARES = {"errors": "error_share", "dropped": "dropped_share"}
"""Fields of `Point` by the figure's name."""

_RATES = ("instances_per_s", "megabytes_per_s", "requests_per_s")
"""Fields of `Point`."""

_NAMES = (*_FIELDS, "service_p99 (and so on)", *_SHARES, *_RATES)


@dataclass(frozen=True, slots=True)
class Threshold:
    """A limit on one figure."""

    text: str
    """As the user wrote it."""
    figure: str
    relation: str
    """One of < <= > >=."""
    limit: float
    """In seconds, a second, or as a share of 1."""


def parse(text: str) -> Threshold:
    """Return a limit: `p99<2s`, `service_p50<=300ms`, `errors<0.1%`, `megabytes_per_s>50`.

    Raises ConfigurationError for another form, a figure that does not exist, or a limit in another unit than its own.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise ConfigurationError(f"--threshold {text!r}: expected FIGURE<LIMIT or FIGURE>LIMIT, such as 'p99<2s'")
    figure, relation, limit = match.groups()
    try:
        return Threshold(text, figure, relation, _limit(figure, limit))
    except ValueError as error:
        raise ConfigurationError(f"--threshold {text!r}: {error}") from None


def judge(result: Result, thresholds: tuple[Threshold, ...]) -> tuple[Judged, ...]:
    """Return how each limit came out on the result's best point."""
    return tuple(_judged(result.best, threshold) for threshold in thresholds)


def limit_of(thresholds: Iterable[Threshold], figure: str, default: float) -> float:
    """Return the tightest upper limit on a figure, or the default where there is none."""
    return min((t.limit for t in thresholds if t.figure == figure and t.relation.startswith("<")), default=default)


def _judged(point: Point, threshold: Threshold) -> Judged:
    found, count = _found(point, threshold.figure)
    if not count:
        return Judged(threshold.text, found, holds=False, note="nothing was measured")
    if found is None:
        percentile = _split(threshold.figure)[1]
        least = SAMPLES_LEAST[_FIELDS[percentile]]
        note = f"not measurable: {percentile} needs {least:,} requests, found {count:,}; a longer --duration has more"
        return Judged(threshold.text, None, holds=False, note=note)
    return Judged(threshold.text, found, holds=_OPERATORS[threshold.relation](found, threshold.limit))


def _found(point: Point, figure: str) -> tuple[float | None, int]:
    """Return a figure, None for a percentile of too few samples, and of how much it is."""
    if figure in _RATES:
        return getattr(point, figure), point.requests + point.latency.count + point.failed.count
    if figure in _SHARES:
        return getattr(point, _SHARES[figure]), point.instances + sum(point.errors.values()) + point.dropped
    prefix, percentile = _split(figure)
    times = _TIMES[prefix](point)
    return getattr(times, _FIELDS[percentile]), times.count


def _split(figure: str) -> tuple[str, str]:
    """Return a time's kind and its percentile. Raises ValueError where there is no such time."""
    kind, underscore, percentile = figure.rpartition("_")
    if kind + underscore not in _TIMES or percentile not in _FIELDS:
        raise ValueError(f"no figure is called {figure!r}; there are {', '.join(_NAMES)}")
    return kind + underscore, percentile


def _limit(figure: str, text: str) -> float:
    if figure in _RATES:
        return _number(text, "a number a second such as 100")
    if figure in _SHARES:
        if not text.endswith("%"):
            raise ValueError(f"{text!r} is not a share such as 0.1%")
        return _number(text[:-1], "a share such as 0.1%") / 100
    _split(figure)
    if text[-1:].isdigit():
        raise ValueError(f"{text!r} has no unit: expected a time such as 2s or 500ms")
    return parse_duration_s(text)


def _number(text: str, expected: str) -> float:
    if re.fullmatch(r"\s*[0-9]{1,15}(\.[0-9]+)?\s*", text) is None:
        raise ValueError(f"{text.strip()!r} is not {expected}")
    return float(text)
