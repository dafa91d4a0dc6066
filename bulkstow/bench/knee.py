"""Where a server's knee is, and how a sweep finds it.

Owns the ladder of loads, the order in which they are tried, and what follows from what was measured: the smallest load
that is as good as the best, the highest rate within limits, and the flags of `bulkstow upload`. Sends nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bulkstow.bench.result import Knee, Load, Point
from bulkstow.wire.multipart import PART_OVERHEAD_BYTES

AS_GOOD = 0.95
"""What is 5 % short of the best is hard to tell from it in a few repeats, and nobody would miss it; the next smaller
load is gentler on the server for all who share it."""

CONNECTIONS = (1, 2, 4, 8, 16, 32)
"""Doubling finds the knee to a factor of two in six steps; `upload` has 32 as its upper bound, too."""

BATCHES = (1, 10, 50, 200)
"""From one request an instance to `upload`'s default."""

REQUEST_MOST_BYTES = 256 * 2**20
"""At 1 Gbit/s such a request is under way for 2 s; of larger ones a measurement of some seconds would see a handful."""

GAIN = 1.05
"""A rung counts as better from here: below, it is as good as the one before (see AS_GOOD)."""

LAST_RUNGS = 2
"""So many rungs in a row without gain end a climb: one may be chance."""

HEADROOM = 1.25
"""Room in --batch-bytes over the mean instance, so that the count is what limits a request, as in the sweep."""


def ladder(
    instance_bytes: float, connections: Sequence[int] = CONNECTIONS, batches: Sequence[int] = BATCHES
) -> tuple[tuple[Load, ...], ...]:
    """Return the loads that a sweep climbs: a row of rising connections for each batch size.

    Batches that would be larger than REQUEST_MOST_BYTES are left out, but for the smallest.
    """
    sizes = sorted(set(batches))
    fitting = [size for size in sizes if size * instance_bytes <= REQUEST_MOST_BYTES] or sizes[:1]
    return tuple(tuple(Load(size, connections=number) for number in sorted(set(connections))) for size in fitting)


def next_load(rows: Sequence[Sequence[Load]], visited: Sequence[tuple[Load, float]]) -> Load | None:
    """Return the load to measure next, None at the end; `visited` has those measured so far, with their goodput.

    Up: each row is climbed until LAST_RUNGS bring no gain. Then down again, the same loads the other way round: every
    load is measured twice, and the mean moment of both is the same for all, so that a server that slows down as it
    fills favours none.
    """
    up = _way_up(rows, [goodput for _, goodput in visited])
    if len(up) > len(visited):
        return up[-1]
    down = len(visited) - len(up)
    return up[-1 - down] if down < len(up) else None


def round_trip(rows: Sequence[Sequence[Load]], visited: Sequence[tuple[Load, float]]) -> tuple[int, bool]:
    """Return how many loads `next_load` gives in all, at most, and whether it is exactly so many.

    While the way up goes on, each row may still end early.
    """
    up = _way_up(rows, [goodput for _, goodput in visited])
    if len(up) <= len(visited):
        return 2 * len(up), True
    row = next(number for number, row in enumerate(rows) if up[-1] in row)
    rest = len(rows[row]) - rows[row].index(up[-1]) + sum(map(len, rows[row + 1 :]))
    return 2 * (len(visited) + rest), False


def _way_up(rows: Sequence[Sequence[Load]], goodputs: Sequence[float]) -> list[Load]:
    """Return the loads of the way up that have a goodput, and behind them the next one, if it goes on."""
    loads: list[Load] = []
    for row in rows:
        climbed: list[float] = []
        for load in row:
            if _is_flat(climbed):
                break
            loads.append(load)
            if len(loads) > len(goodputs):
                return loads
            climbed.append(goodputs[len(loads) - 1])
    return loads


def _is_flat(goodputs: Sequence[float]) -> bool:
    """Return whether the last LAST_RUNGS brought no gain over the best before them."""
    before, last = goodputs[:-LAST_RUNGS], goodputs[-LAST_RUNGS:]
    return bool(before) and max(last) < GAIN * max(before)


def knee(points: Iterable[Point]) -> Knee | None:
    """Return the smallest load with AS_GOOD of the best goodput; None where nothing was stored.

    A closed load is as large as the instances that it has under way, then as its connections; an open one as its rate.
    """
    stored = [point for point in points if point.instances]
    if not stored:
        return None
    best = max(point.instances_per_s for point in stored)
    good = min((point for point in stored if point.instances_per_s >= AS_GOOD * best), key=lambda p: _size(p.load))
    return Knee(good.load, good.instances_per_s, best)


def _size(load: Load) -> tuple[float, int, int]:
    connections = load.connections or 0
    rate_or_window = load.rate_per_s if load.rate_per_s is not None else connections * load.batch_instances
    return rate_or_window, connections, load.batch_instances


def highest_rate(points: Iterable[Point], *, p99_most_s: float, errors_most: float) -> float | None:
    """Return the highest goodput, instances/s, of a point with p99 and errors (a share) within limits.

    What was dropped counts as an error here. None where no point is within the limits; one with too few requests for a
    p99 is not known to be.
    """
    rates = [
        point.instances_per_s
        for point in points
        if point.latency.p99_s is not None
        and point.latency.p99_s <= p99_most_s
        and point.error_share <= errors_most
        and point.dropped_share <= errors_most
    ]
    return max(rates, default=None)


def upload_flags(load: Load, instance_bytes: float) -> tuple[str, ...]:
    """Return the flags with which `bulkstow upload` puts this closed load on a server.

    `instance_bytes` is a mean. The byte limit is a whole number of MiB, with HEADROOM above the size of the batch.
    """
    if load.connections is None:
        return ()
    batch_bytes = load.batch_instances * (instance_bytes + PART_OVERHEAD_BYTES) * HEADROOM
    size_mib = max(1, -int(-batch_bytes // 2**20))
    batch = ("--batch-instances", str(load.batch_instances), "--batch-bytes", f"{size_mib}MiB")
    return ("--concurrency", str(load.connections), *batch)
