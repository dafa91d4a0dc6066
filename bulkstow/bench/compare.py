"""What changed between two measurements, and whether the change is significant.

The statistic is Welch's interval for a difference of means, at 95 %: one of twenty unchanged figures is reported as
changed. Its samples decide what it can tell:

- Where both measurements have REPEATS_LEAST repeats, a sample is a repeat. That includes whatever differs from run to
  run: caches, placement, other work on the machine.
- Otherwise a sample is a block of consecutive seconds (batch means: seconds depend on their neighbours, long blocks
  hardly do). That is noise within a run only. Of latencies it judges the medians and p99s of seconds; the p99.9 of a
  whole run is one figure, without a spread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from statistics import NormalDist, fmean, variance

from bulkstow.bench.report.words import NONE, load_name
from bulkstow.bench.result import Percentiles, Point, Result, Second, over_known
from bulkstow.pages.markup import Table

REPEATS_LEAST = 3
"""With two the interval is 12.7 standard errors of one degree of freedom wide: it could tell hardly anything."""

BLOCKS = 10
"""Usual for batch means: fewer widen the interval, more make blocks so short that they depend on each other."""

BLOCK_LEAST_S = 2
"""A block then holds several requests, and a run has 20 s at least."""

RESOLUTION = 0.002
"""Both times are kept to three digits, 0.1 % each: a change below 0.2 % may be none, however steady the repeats are."""


class Significance(StrEnum):
    """Whether a change is more than the noise."""

    CHANGED = "changed"
    NOISE = "within the noise"
    UNTOLD = "cannot be told"


@dataclass(frozen=True, slots=True)
class Change:
    """One figure, before and after; None where it was not measured, or is a percentile of too few samples."""

    figure: str
    before: float | None
    after: float | None
    verdict: Significance

    @property
    def share(self) -> float | None:
        """The change as a share of the figure before; None where that is 0, or one of both is missing."""
        return (self.after - self.before) / self.before if self.before and self.after is not None else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two results side by side."""

    changes: tuple[Change, ...]
    """Of the best points."""
    loads: tuple[Change, ...]
    """Goodput in instances/s, load by load, of two sweeps."""
    basis: str
    """The samples that decide the significance, in words."""
    cautions: tuple[str, ...]
    """Reasons why the two may not be comparable."""


@dataclass(frozen=True, slots=True)
class _Figure:
    """Where a figure is found: in a point, in some of its seconds, in each of its repeats."""

    of_point: Callable[[Point], float | None]
    of_seconds: Callable[[Sequence[Second]], float | None] | None = None
    of_repeats: Callable[[Point], Sequence[float | None]] | None = None


def compare(before: Result, after: Result) -> Comparison:
    """Return what changed from one result to another."""
    a, b = before.best, after.best
    changes = tuple(_change(name, figure, a, b) for name, figure in _FIGURES.items())
    earlier = {point.load: point for point in before.points}
    pairs = [(earlier[point.load], point) for point in after.points if point.load in earlier]
    loads = tuple(_change(load_name(p.load), _FIGURES["instances/s"], p, q) for p, q in pairs) if len(pairs) > 1 else ()
    return Comparison(changes, loads, _basis(a, b), tuple(_cautions(before, after)))


def differs(before: Sequence[float], after: Sequence[float]) -> bool:
    """Return whether the means of two samples, of two at least each, differ by more than their noise (Welch, 95 %)."""
    difference = abs(fmean(after) - fmean(before))
    if difference <= RESOLUTION * max(abs(fmean(before)), abs(fmean(after))):
        return False
    parts = [variance(sample) / len(sample) for sample in (before, after)]
    if not sum(parts):
        return True
    # Welch-Satterthwaite.
    weights = sum(part**2 / (len(sample) - 1) for part, sample in zip(parts, (before, after), strict=True))
    freedom = sum(parts) ** 2 / weights if weights else math.inf
    return difference > _student_t(freedom) * math.sqrt(sum(parts))


def _student_t(freedom: float) -> float:
    """Return Student's t, 97.5 %, by the normal quantile's expansion (Abramowitz and Stegun 26.7.5).

    Exact to three digits from 4 degrees of freedom on, 0.7 % too small at 2, which is the least with REPEATS_LEAST.
    """
    z = NormalDist().inv_cdf(0.975)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))


def blocks(seconds: Sequence[Second]) -> list[Sequence[Second]]:
    """Return BLOCKS blocks of neighbours of equal length, or none where there are too few seconds."""
    length = len(seconds) // BLOCKS
    return [seconds[n * length : (n + 1) * length] for n in range(BLOCKS)] if length >= BLOCK_LEAST_S else []


def _change(name: str, figure: _Figure, before: Point, after: Point) -> Change:
    values = figure.of_point(before), figure.of_point(after)
    by_repeats = _have_repeats(before, after)
    samples = [_samples(figure, point, by_repeats=by_repeats) for point in (before, after)]
    if None in values or min(map(len, samples)) < REPEATS_LEAST:
        return Change(name, *values, Significance.UNTOLD)
    return Change(name, *values, Significance.CHANGED if differs(*samples) else Significance.NOISE)


def _samples(figure: _Figure, point: Point, *, by_repeats: bool) -> Sequence[float]:
    """Return a figure once for each repeat or block; nothing where one of them does not have it."""
    found: Sequence[float | None] = ()
    if by_repeats and figure.of_repeats is not None:
        found = figure.of_repeats(point)
    elif figure.of_seconds is not None:
        seconds = _measured(point.series)
        parts = [list(part) for _, part in groupby(seconds, key=lambda s: s.repeat)] if by_repeats else blocks(seconds)
        found = [figure.of_seconds(part) for part in parts]
    known = [value for value in found if value is not None]
    return known if len(known) == len(found) else ()


def _have_repeats(*points: Point) -> bool:
    return all(min(len(p.goodputs_per_s), len(p.repeat_latencies)) >= REPEATS_LEAST for p in points)


def _measured(series: Sequence[Second]) -> list[Second]:
    return [second for second in series if second.is_under_load]


def _basis(before: Point, after: Point) -> str:
    counts = f"{len(before.goodputs_per_s)} and {len(after.goodputs_per_s)}"
    if _have_repeats(before, after):
        return f"by Welch's interval (95 %) over {counts} repeats"
    seconds = [len(_measured(point.series)) for point in (before, after)]
    if min(seconds) < BLOCKS * BLOCK_LEAST_S:
        return (
            f"nothing to judge by: {counts} repeats of {seconds[0]} and {seconds[1]} s in all; "
            f"measure with --repeats {REPEATS_LEAST} or more, or for {BLOCKS * BLOCK_LEAST_S} s"
        )
    return (
        f"by Welch's interval (95 %) over {BLOCKS} blocks of seconds of each run: noise within a run, "
        f"not from run to run; --repeats {REPEATS_LEAST} or more would have that"
    )


def _cautions(before: Result, after: Result) -> Iterator[str]:
    compared = {
        "mode": (before.mode, after.mode),
        "workload": (before.workload, after.workload),
        "machine": (before.machine, after.machine),
        "load": (load_name(before.best.load), load_name(after.best.load)),
    }
    yield from (f"another {name}: {a!r} then, {b!r} now" for name, (a, b) in compared.items() if a != b)
    for when, point in (("then", before.best), ("now", after.best)):
        yield from (f"client-bound {when}: {reason}" for reason in point.client_bound)
        if not point.is_settled:
            yield f"goodput had not settled when the measurement began {when}"


def _share_of(count: Callable[[Second], int]) -> Callable[[Sequence[Second]], float]:
    def share(block: Sequence[Second]) -> float:
        counted = sum(map(count, block))
        return counted / (counted + sum(second.instances for second in block)) if counted else 0.0

    return share


def _mean_of(value: Callable[[Second], float | None]) -> Callable[[Sequence[Second]], float | None]:
    """Return the mean of a block's seconds that have the value; None where none does."""
    return lambda block: over_known(fmean, map(value, block))


def _latency(
    of: Callable[[Percentiles], float | None], of_second: Callable[[Second], float | None] | None = None
) -> _Figure:
    of_seconds = _mean_of(of_second) if of_second else None
    return _Figure(lambda p: of(p.latency), of_seconds, lambda p: [of(times) for times in p.repeat_latencies])


_FIGURES: Mapping[str, _Figure] = {
    "instances/s": _Figure(lambda p: p.instances_per_s, _mean_of(lambda s: s.instances), lambda p: p.goodputs_per_s),
    "MB/s": _Figure(lambda p: p.megabytes_per_s, _mean_of(lambda s: s.size_bytes / 1e6)),
    "requests/s": _Figure(lambda p: p.requests_per_s, _mean_of(lambda s: s.requests)),
    "latency mean, s": _latency(lambda times: times.mean_s),
    "latency p50, s": _latency(lambda times: times.p50_s, lambda s: s.p50_s),
    "latency p90, s": _latency(lambda times: times.p90_s),
    "latency p99, s": _latency(lambda times: times.p99_s, lambda s: s.p99_s),
    "latency p99.9, s": _latency(lambda times: times.p99_9_s),
    "latency max, s": _latency(lambda times: times.max_s),
    "service time p50, s": _Figure(lambda p: p.service_time.p50_s),
    "service time p99, s": _Figure(lambda p: p.service_time.p99_s),
    "errors, share": _Figure(lambda p: p.error_share, _share_of(lambda s: s.errors)),
    "dropped, share": _Figure(lambda p: p.dropped_share, _share_of(lambda s: s.dropped)),
}


def shown(comparison: Comparison) -> str:
    """Return a comparison as a table for a person, with its basis and its cautions."""
    rows = tuple(
        (
            change.figure,
            *(f"{NONE if value is None else f'{value:.4g}':>10}" for value in (change.before, change.after)),
            "" if change.share is None else f"{change.share:+.1%}",
            change.verdict,
        )
        for change in (*comparison.changes, *comparison.loads)
    )
    lines = Table(("", "before", "after", "change", ""), rows).lines()
    cautions = (f"Beware: {caution}" for caution in comparison.cautions)
    return "\n".join([*map(str.rstrip, lines), f"Judged: {comparison.basis}", *cautions])
