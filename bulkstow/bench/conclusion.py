"""From the figures of each load to the result of a run.

Owns what is merged (the repeats of a load, and its visits up and down a sweep), what a run says beside its points, and
which of them say more of the client. Pure: measurements in, result out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from bulkstow.bench.drift import drift
from bulkstow.bench.knee import highest_rate, knee, upload_flags
from bulkstow.bench.recorder import Measured, merge
from bulkstow.bench.result import Ceiling, Load, Point, Result
from bulkstow.bench.threshold import Threshold, judge, limit_of
from bulkstow.bench.validity import client_bound

P99_MOST_S = 2.0
"""Where no threshold says: a modality's operator sees a transfer go on, and who waits for a study hardly notices."""

ERRORS_MOST = 0.001
"""Where no threshold says: one in a thousand is what a retry mends without being noticed."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a run is, whatever it measures."""

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
    """Return what the visits, one at least, come to; `ceilings` has those of the loads that have one."""
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
