"""The summary of a measurement for a terminal: the figures as a table, and reasons to doubt them.

Uses the words and digits of the HTML report. Prints nothing itself.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from bulkstow.bench.report import tables
from bulkstow.bench.report.words import counted, drift_words, duration, figure, load_name, load_words, share
from bulkstow.bench.result import Point, Result


def closing(result: Result) -> str:
    """Return a result as lines for a person."""
    return "\n".join(_lines(result))


def _lines(result: Result) -> Iterator[str]:
    best = result.best
    if not result.is_complete:
        yield "INCOMPLETE: it was interrupted or stopped; this is what was measured until then"
    yield f"{result.mode} load on {result.url}, workload {result.workload}, run {result.run_id}"
    if len(result.points) > 1:
        yield from tables.points(result).only(NARROW).lines()
        yield ""
    yield f"{'at the knee' if result.knee else 'load':13}{load_words(best.load)}"
    yield f"{'goodput':13}{_goodput(best)}"
    yield from tables.times(best).lines()
    yield from _wrong(best)
    if best.warmup_s:
        kept = f"{counted(best.warmup_instances, 'instance')} in {duration(best.warmup_s)}"
        yield f"{'warm-up':13}{kept}, not counted" + ("" if best.is_settled else "; goodput HAD NOT SETTLED")
    if result.ceiling:
        ceiling = result.ceiling
        yield (
            f"{'this client':13}{figure(ceiling.instances_per_s)} instances/s, {figure(ceiling.megabytes_per_s)} MB/s "
            "against a sink"
        )
    if result.drift:
        yield f"{'drift':13}{drift_words(result.drift)}"
    yield from _bound(result)
    yield from _sweep(result)
    for judged in tables.thresholds(result).rows:
        yield f"{'threshold':13}{judged[0]}: {judged[1]}, {judged[2]}"


NARROW = ("connections", "a request", "instances/s", "MB/s", "p50", "p99", "errors", "spread", "marks")
"""Columns that fit into 90 characters; the report and the JSON have all."""


def _goodput(point: Point) -> str:
    words = (
        f"{figure(point.instances_per_s)} instances/s, {figure(point.megabytes_per_s)} MB/s, "
        f"{figure(point.requests_per_s)} requests/s, in {duration(point.elapsed_s)}"
    )
    repeats = point.goodputs_per_s
    if len(repeats) < 2:
        return words
    spread = f"{figure(min(repeats))} to {figure(max(repeats))}"
    return f"{words}; {len(repeats)} repeats: {spread} instances/s, a spread of {share(point.spread)}"


def _wrong(point: Point) -> Iterator[str]:
    for kind, count in sorted(point.errors.items(), key=lambda item: -item[1]):
        yield f"{'errors':13}{counted(count, 'instance')}: {kind}"
    if not point.errors:
        yield f"{'errors':13}none"
    if point.load.rate_per_s is not None:
        yield f"{'dropped':13}{counted(point.dropped, 'instance')}, {share(point.dropped_share)} of what was due"


def _bound(result: Result) -> Iterator[str]:
    best = result.best
    if best.client_bound:
        yield "CLIENT-BOUND: this says more of this client than of the server, which may be able to do more"
        yield from (f"  {reason}" for reason in best.client_bound)
    if others := [load_name(point.load) for point in result.points if point.client_bound and point is not best]:
        which = "client-bound as well" if best.client_bound else "client-bound, not the one above"
        yield f"{len(others)} of {counted(len(result.points), 'load')} {which}: {', '.join(others)}"


def _sweep(result: Result) -> Iterator[str]:
    if result.knee is None:
        return
    knee = result.knee
    yield (
        f"{'knee':13}{load_words(knee.load)}: {figure(knee.instances_per_s)} instances/s, "
        f"{share(knee.instances_per_s / knee.best_per_s)} of the best, {figure(knee.best_per_s)}"
    )
    if result.highest_rate_per_s is not None:
        yield f"{'highest rate':13}{figure(result.highest_rate_per_s)} instances/s with p99 and errors below the limits"
    if result.suggested_flags:
        words = ("bulkstow", "upload", "DIRECTORY", "--url", result.url, *result.suggested_flags)
        yield f"{'what fits':13}{shlex.join(words)}"
