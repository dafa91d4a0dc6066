"""The tables of the report that belong to no plot: thresholds, times, points."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bulkstow.bench.report.words import NONE, duration, figure, rate, share, time_of
from bulkstow.bench.result import Judged, Percentiles, Point, Result
from bulkstow.pages.markup import Table


def thresholds(result: Result) -> Table:
    """Return each threshold with its figure and its verdict."""
    return Table(
        ("threshold", "found", "verdict"),
        tuple((judged.threshold, _found(judged), _verdict(judged)) for judged in result.thresholds),
    )


def _found(judged: Judged) -> str:
    """Return the figure in the unit of the limit."""
    if judged.found is None:
        return NONE
    if judged.threshold.rstrip().endswith("%"):
        return share(judged.found)
    return duration(judged.found) if re.search(r"\d\s*(us|µs|ms|s|m|h)\s*$", judged.threshold) else figure(judged.found)


def _verdict(judged: Judged) -> str:
    note = f": {judged.note}" if judged.note else ""
    return f"{'✓ holds' if judged.holds else '✗ missed'}{note}"


def times(point: Point) -> Table:
    """Return the distribution of each time of a request."""
    always = (
        ("latency", point.latency),
        ("service time", point.service_time),
        ("connect", point.connect),
        ("send", point.send),
        ("thinking", point.thinking),
    )
    where_measured = (
        ("searchable, after the answer", point.searchable or Percentiles()),
        ("failed requests", point.failed),
        ("latency in the warm-up", point.warmup_latency),
        ("late starts of this client", point.slip),
        ("late wake-ups of its event loop", point.loop_lag),
    )
    rows = (*always, *(row for row in where_measured if row[1].count))
    return Table(
        ("time", "count", "mean", "p50", "p90", "p99", "p99.9", "max"),
        tuple((name, f"{found.count:,}", *_distribution(found)) for name, found in rows),
    )


def _distribution(found: Percentiles) -> Iterator[str]:
    for time_s in (found.mean_s, found.p50_s, found.p90_s, found.p99_s, found.p99_9_s, found.max_s):
        yield time_of(found, time_s)


def points(result: Result) -> Table:
    """Return every load that was measured, in its order; a column that no load has is left out."""
    rows = [_point(point, result) for point in result.points]
    headings = [name for name in rows[0] if any(row[name] for row in rows)]
    return Table(tuple(headings), tuple(tuple(row[name] or NONE for name in headings) for row in rows))


def _point(point: Point, result: Result) -> dict[str, str]:
    load, latency = point.load, point.latency
    marks = ["★ knee"] if result.knee and load == result.knee.load else []
    return {
        "connections": "" if load.connections is None else f"{load.connections:,}",
        "instances/s due": "" if load.rate_per_s is None else rate(load.rate_per_s),
        "a request": f"{load.batch_instances:,}",
        "marks": ", ".join([*marks, "† client-bound"] if point.client_bound else marks) or NONE,
        "instances/s": figure(point.instances_per_s),
        "MB/s": figure(point.megabytes_per_s),
        "requests/s": figure(point.requests_per_s),
        **dict(zip(("p50", "p90", "p99", "p99.9", "max"), [*_distribution(latency)][1:], strict=True)),
        "service p99": time_of(point.service_time, point.service_time.p99_s),
        "errors": f"{sum(point.errors.values()):,}",
        "dropped": f"{point.dropped:,}",
        "spread": share(point.spread) if len(point.goodputs_per_s) > 1 else NONE,
        "measured": duration(point.elapsed_s),
    }
