"""From the figures of each load to the result of a run: points, knee, drift, thresholds.

Merges the repeats of a load, and its visits up and down a sweep. Pure: measurements in, result out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from msgspec.structs import replace

from bulkstow.bench.knee import highest_rate, knee, upload_flags
from bulkstow.bench.recorder import Measured, merge
from bulkstow.bench.result import Ceiling, Drift, Load, Point, Result, Second, over_known
from bulkstow.bench.threshold import Threshold, judge, limit_of
from bulkstow.bench.validity import client_bound

P99_MOST_S = 2.0
"""Without a threshold: the operator of a modality still sees a transfer proceed."""

ERRORS_MOST = 0.001
"""Without a threshold: one in a thousand, which retries fix unnoticed."""


DRIFT_PARTS = 10
"""The first tenth of a soak is compared with the last: six minutes of an hour, longer than checkpoints are apart."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The description of a run, before anything is measured."""

    mode: str
    workload: str
    mean_bytes: float
    url: str
    run_id: str
    started: str
    version: str
    machine: str
    thresholds: tuple[Threshold, ...] = ()


def conclude(
    facts: Facts,
    visits: Sequence[tuple[Load, Measured]],
    ceilings: Mapping[Load, Ceiling],
    *,
    is_complete: bool = True,
) -> Result:
    """Return the result of the visits, of which there is one at least; not every load has a ceiling."""
    repeats: dict[Load, list[Measured]] = {}
    for load, measured in visits:
        repeats.setdefault(load, []).append(measured)
    points = [_point(load, measured, ceilings.get(load)) for load, measured in repeats.items()]
    is_sweep = facts.mode == "sweep"
    at_knee = knee(points) if is_sweep else None
    result = Result(
        mode=facts.mode,
        workload=facts.workload,
        url=facts.url,
        run_id=facts.run_id,
        started=facts.started,
        version=facts.version,
        machine=facts.machine,
        points=tuple(points),
        knee=at_knee,
        highest_rate_per_s=_highest_rate(facts, points) if is_sweep else None,
        suggested_flags=upload_flags(at_knee.load, facts.mean_bytes) if at_knee else (),
        drift=drift(points[0].series) if facts.mode == "soak" else None,
        is_complete=is_complete,
    )
    return replace(result, ceiling=ceilings.get(result.best.load), thresholds=judge(result, facts.thresholds))


def _point(load: Load, repeats: Sequence[Measured], ceiling: Ceiling | None) -> Point:
    point = merge(load, repeats)
    return replace(point, client_bound=client_bound(point, ceiling))


def _highest_rate(facts: Facts, points: Sequence[Point]) -> float | None:
    return highest_rate(
        points,
        p99_most_s=limit_of(facts.thresholds, "p99", P99_MOST_S),
        errors_most=limit_of(facts.thresholds, "errors", ERRORS_MOST),
    )


def drift(series: Sequence[Second]) -> Drift | None:
    """Return how the end of a load differs from its beginning; None below two seconds for each part."""
    measured = [second for second in series if second.is_under_load]
    if len(measured) < 2 * DRIFT_PARTS:
        return None
    length = len(measured) // DRIFT_PARTS
    begun, ended = measured[:length], measured[-length:]
    return Drift(
        span_s=float(length),
        instances_per_s=fmean(second.instances for second in begun),
        instances_per_s_end=fmean(second.instances for second in ended),
        p99_s=over_known(median, (second.p99_s for second in begun)),
        p99_s_end=over_known(median, (second.p99_s for second in ended)),
        rss_bytes=int(median(second.rss_bytes for second in begun)),
        rss_bytes_end=int(median(second.rss_bytes for second in ended)),
        p50_s=over_known(median, (second.p50_s for second in begun)),
        p50_s_end=over_known(median, (second.p50_s for second in ended)),
    )
