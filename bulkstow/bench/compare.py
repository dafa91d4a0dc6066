"""What changed between two measurements, and whether it is more than the noise.

The statistic is Welch's interval for a difference of means, at 95 %: of twenty figures that did not change it calls one
changed. What it is fed decides what it may say:

- Where both have repeats (REPEATS_LEAST of them), a sample is a repeat: its goodput, its percentiles. That is the
  honest one, as it holds what differs from run to run: caches, placement, a neighbour on the machine.
- Where one has not, a sample is a block of consecutive seconds (the method of batch means: seconds depend on their
  neighbours, long blocks hardly do). That is noise within a run only, and so is what it calls a change. Of latencies
  it can judge the medians and p99s of seconds; a whole run's p99.9 is one figure, without a spread.

A figure without a verdict is shown all the same. Reads no file, and knows nothing of why something changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from statistics import fmean, variance

from bulkstow.bench.report.words import NONE, load_name
from bulkstow.bench.result import Percentiles, Point, Result, Second

REPEATS_LEAST = 3
"""With two the interval is 12.7 standard errors of one degree of freedom wide: it could tell hardly anything."""

BLOCKS = 10
"""Usual for batch means: fewer widen the interval (with 10 it is 2.1 to 2.3 standard errors), more make blocks so short
that they depend on each other."""

BLOCK_LEAST_S = 2
"""A block holds several requests then, and a run must have been measured for 20 s."""

RESOLUTION = 0.002
"""Both times are kept to three digits, 0.1 % each: a change below 0.2 % may be none, however steady the repeats are."""

_T_975 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""Student's t, 97.5 %, for 1 to 30 degrees of freedom; beyond, the last is taken, which is 4 % too wide at most."""


class Significance(StrEnum):
    """Whether a change is more than the noise."""

    CHANGED = "changed"
    NOISE = "within the noise"
    UNTOLD = "cannot be told"


@dataclass(frozen=True, slots=True)
class Change:
    """One figure, before and after."""

    figure: str
    before: float | None
    """None where it was not measured, or is a percentile of too few samples."""
    after: float | None
    verdict: Significance

    @property
    def share(self) -> float | None:
        """The change as a share of what was before; None where that was 0, or one of both is missing."""
        return (self.after - self.before) / self.before if self.before and self.after is not None else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two results side by side."""

    changes: tuple[Change, ...]
    """Of the best points."""
    loads: tuple[Change, ...]
    """Goodput, load by load, of two sweeps; instances a second."""
    basis: str
    """What the verdicts rest on, in words."""
    cautions: tuple[str, ...]
    """Why they may not be comparable at all."""


@dataclass(frozen=True, slots=True)
class _Figure:
    """Where a figure is found: as a whole, in the seconds, in a repeat; None where it is not there."""

    of_point: Callable[[Point], float | None]
    of_seconds: Callable[[Sequence[Second]], float | None] | None = None
    of_repeats: Callable[[Point], Sequence[float | None]] | None = None


def compare(before: Result, after: Result) -> Comparison:
    """Return what changed from one result to another."""
    a, b = before.best, after.best
    by_repeats = _have_repeats(a, b)
    changes = tuple(_change(name, figure, a, b, by_repeats=by_repeats) for name, figure in _FIGURES.items())
    then = {point.load: point for point in before.points}
    pairs = [(then[point.load], point) for point in after.points if point.load in then]
    goodput = _FIGURES["instances/s"]
    loads = tuple(
        _change(load_name(p.load), goodput, p, q, by_repeats=_have_repeats(p, q))
        for p, q in (pairs if len(pairs) > 1 else [])
    )
    return Comparison(changes, loads, _basis(a, b), tuple(_cautions(before, after)))


def differs(before: Sequence[float], after: Sequence[float]) -> bool:
    """Return whether the means of two samples, of two at least each, differ by more than their noise (Welch, 95 %)."""
    difference = abs(fmean(after) - fmean(before))
    if difference <= RESOLUTION * max(abs(fmean(before)), abs(fmean(after))):
        return False
    parts = [variance(sample) / len(sample) for sample in (before, after)]
    if not sum(parts):
        return True
    # Welch-Satterthwaite, rounded down to be on the safe side.
    weights = sum(part**2 / (len(sample) - 1) for part, sample in zip(parts, (before, after), strict=True))
    freedom = int(sum(parts) ** 2 / weights) if weights else len(_T_975)
    return difference > _T_975[min(max(freedom, 1), len(_T_975)) - 1] * math.sqrt(sum(parts))


def blocks(seconds: Sequence[Second]) -> list[Sequence[Second]]:
    """Return BLOCKS blocks of neighbours of equal length, nothing where there are too few seconds; the rest is left."""
    length = len(seconds) // BLOCKS
    if length < BLOCK_LEAST_S:
        return []
    return [seconds[n * length : (n + 1) * length] for n in range(BLOCKS)]


def _change(name: str, figure: _Figure, before: Point, after: Point, *, by_repeats: bool) -> Change:
    values = figure.of_point(before), figure.of_point(after)
    samples = [_samples(figure, point, by_repeats=by_repeats) for point in (before, after)]
    if None in values:
        verdict = Significance.UNTOLD
    elif all(len(sample) >= REPEATS_LEAST for sample in samples):
        verdict = Significance.CHANGED if differs(*samples) else Significance.NOISE
    else:
        verdict = Significance.UNTOLD
    return Change(name, *values, verdict)


def _samples(figure: _Figure, point: Point, *, by_repeats: bool) -> Sequence[float]:
    """Return a figure once for each repeat or block; nothing where one of them does not have it."""
    found: Sequence[float | None] = ()
    if by_repeats and figure.of_repeats is not None:
        found = figure.of_repeats(point)
    elif figure.of_seconds is not None:
        seconds = _measured(point.series)
        parts = [list(part) for _, part in groupby(seconds, key=lambda s: s.repeat)] if by_repeats else blocks(seconds)
        found = [figure.of_seconds(part) for part in parts]
    told = [value for value in found if value is not None]
    return told if len(told) == len(found) else ()


def _have_repeats(*points: Point) -> bool:
    return all(min(len(p.goodputs_per_s), len(p.repeat_latencies)) >= REPEATS_LEAST for p in points)


def _measured(series: Sequence[Second]) -> list[Second]:
    return [second for second in series if not second.is_warmup and not second.is_drain]


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


def _cautions(before: Result, after: Result) -> list[str]:
    compared = {
        "mode": (before.mode, after.mode),
        "workload": (before.workload, after.workload),
        "machine": (before.machine, after.machine),
        "load": (load_name(before.best.load), load_name(after.best.load)),
    }
    cautions = [f"another {name}: {a!r} then, {b!r} now" for name, (a, b) in compared.items() if a != b]
    for when, point in (("then", before.best), ("now", after.best)):
        cautions += [f"client-bound {when}: {reason}" for reason in point.client_bound]
        if not point.is_settled:
            cautions.append(f"goodput had not settled when the measurement began {when}")
    return cautions


def _block_share(count: Callable[[Second], int]) -> Callable[[Sequence[Second]], float]:
    def share(block: Sequence[Second]) -> float:
        counted = sum(count(second) for second in block)
        return counted / (counted + sum(second.instances for second in block)) if counted else 0.0

    return share


def _typical(time_s: Callable[[Second], float | None]) -> Callable[[Sequence[Second]], float | None]:
    """Return the mean of a block's seconds that have it; None where none does."""

    def mean_s(block: Sequence[Second]) -> float | None:
        times_s = [found for second in block if (found := time_s(second)) is not None]
        return fmean(times_s) if times_s else None

    return mean_s


def _latency(
    of: Callable[[Percentiles], float | None], of_seconds: Callable[[Sequence[Second]], float | None] | None = None
) -> _Figure:
    return _Figure(
        lambda point: of(point.latency), of_seconds, lambda point: [of(times) for times in point.repeat_latencies]
    )


_FIGURES: Mapping[str, _Figure] = {
    "instances/s": _Figure(
        lambda point: point.instances_per_s,
        lambda block: fmean(second.instances for second in block),
        lambda point: point.goodputs_per_s,
    ),
    "MB/s": _Figure(
        lambda point: point.megabytes_per_s, lambda block: fmean(second.size_bytes / 1e6 for second in block)
    ),
    "requests/s": _Figure(lambda point: point.requests_per_s, lambda block: fmean(second.requests for second in block)),
    "latency mean, s": _latency(lambda times: times.mean_s),
    "latency p50, s": _latency(lambda times: times.p50_s, _typical(lambda second: second.p50_s)),
    "latency p90, s": _latency(lambda times: times.p90_s),
    "latency p99, s": _latency(lambda times: times.p99_s, _typical(lambda second: second.p99_s)),
    "latency p99.9, s": _latency(lambda times: times.p99_9_s),
    "latency max, s": _latency(lambda times: times.max_s),
    "service time p50, s": _Figure(lambda point: point.service_time.p50_s),
    "service time p99, s": _Figure(lambda point: point.service_time.p99_s),
    "errors, share": _Figure(lambda point: point.error_share, _block_share(lambda second: second.errors)),
    "dropped, share": _Figure(lambda point: point.dropped_share, _block_share(lambda second: second.dropped)),
}


def shown(comparison: Comparison) -> str:
    """Return a comparison as a table for a person, with what it rests on and what to beware of."""
    rows = [*comparison.changes, *comparison.loads]
    width = max(len(change.figure) for change in rows)
    lines = [f"{'':{width}}  {'before':>10}  {'after':>10}  {'change':>8}"]
    for change in rows:
        share = "" if change.share is None else f"{change.share:+.1%}"
        before, after = (NONE if value is None else f"{value:.4g}" for value in (change.before, change.after))
        lines.append(f"{change.figure:{width}}  {before:>10}  {after:>10}  {share:>8}  {change.verdict}")
    lines.append(f"Judged: {comparison.basis}")
    return "\n".join(lines + [f"Beware: {caution}" for caution in comparison.cautions])
