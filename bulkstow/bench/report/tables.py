"""The tables of the report that belong to no plot: thresholds, times, points."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bulkstow.bench.report.markup import Table
from bulkstow.bench.report.words import NONE, duration, figure, rate, share, time_of
from bulkstow.bench.result import Judged, Percentiles, Point, Result


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
    """Return every load that was measured, in its order."""
    loads = [point.load for point in result.points]
    headings = ["connections"] if any(load.connections is not None for load in loads) else []
    headings += ["instances/s due"] if any(load.rate_per_s is not None for load in loads) else []
    headings += [
        "a request",
        "marks",
        "instances/s",
        "MB/s",
        "requests/s",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max",
        "service p99",
    ]
    headings += ["errors", "dropped", "spread", "measured"]
    rows = [dict(_point(point, result)) for point in result.points]
    return Table(tuple(headings), tuple(tuple(row[heading] for heading in headings) for row in rows))


def _point(point: Point, result: Result) -> Iterator[tuple[str, str]]:
    load, latency = point.load, point.latency
    yield "connections", NONE if load.connections is None else f"{load.connections:,}"
    yield "instances/s due", NONE if load.rate_per_s is None else rate(load.rate_per_s)
    yield "a request", f"{load.batch_instances:,}"
    yield "instances/s", figure(point.instances_per_s)
    yield "MB/s", figure(point.megabytes_per_s)
    yield "requests/s", figure(point.requests_per_s)
    yield "p50", time_of(latency, latency.p50_s)
    yield "p90", time_of(latency, latency.p90_s)
    yield "p99", time_of(latency, latency.p99_s)
    yield "p99.9", time_of(latency, latency.p99_9_s)
    yield "max", time_of(latency, latency.max_s)
    yield "service p99", time_of(point.service_time, point.service_time.p99_s)
    yield "errors", f"{sum(point.errors.values()):,}"
    yield "dropped", f"{point.dropped:,}"
    yield "spread", share(point.spread) if len(point.goodputs_per_s) > 1 else NONE
    yield "measured", duration(point.elapsed_s)
    marks = ["★ knee"] if result.knee and load == result.knee.load else []
    yield "marks", ", ".join([*marks, "† client-bound"] if point.client_bound else marks) or NONE
