"""The knee of a server, and how a sweep finds it.

Decides the loads of a sweep and their order, and derives the smallest load that is as good as the best, the highest
rate within limits, and flags for `bulkstow upload`. Sends nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bulkstow.bench.result import Knee, Load, Point
from bulkstow.wire.multipart import PART_OVERHEAD_BYTES

AS_GOOD = 0.95
"""A few repeats hardly show a difference of 5 %, and a smaller load leaves room for other users of the server."""

CONNECTIONS = (1, 2, 4, 8, 16, 32)
"""Doubling finds the knee to a factor of two in six steps; 32 is the upper bound of `upload`, too."""

BATCHES = (1, 10, 50, 200)
"""From one instance a request to the default of `upload`."""

REQUEST_MOST_BYTES = 256 * 2**20
"""Such a request takes 2 s at 1 Gbit/s; of larger ones ten seconds would see a handful."""

GAIN = 1.05
"""A load counts as better from here: below, it is as good as the one before (see AS_GOOD)."""

LAST_RUNGS = 2
"""So many loads in a row without gain end a row: one may be chance."""

HEADROOM = 1.25
"""Of --batch-bytes over the mean size, so that the count limits a request, as in the sweep."""


def ladder(
    instance_bytes: float, connections: Sequence[int] = CONNECTIONS, batches: Sequence[int] = BATCHES
) -> tuple[tuple[Load, ...], ...]:
    """Return the loads of a sweep: a row of rising connections for each batch size.

    Batches larger than REQUEST_MOST_BYTES are left out, except the smallest.
    """
    sizes = sorted(set(batches))
    fitting = [size for size in sizes if size * instance_bytes <= REQUEST_MOST_BYTES] or sizes[:1]
    return tuple(tuple(Load(size, connections=number) for number in sorted(set(connections))) for size in fitting)


def next_load(rows: Sequence[Sequence[Load]], visited: Sequence[tuple[Load, float]]) -> Load | None:
    """Return the load to measure next, None at the end; `visited` has those measured so far, with their goodput.

    On the way up each row ends when LAST_RUNGS bring no gain. The way down is the same loads in reverse: each is
    measured twice, at the same mean moment, so that a server that slows down as it fills favours none.
    """
    up = _way_up(rows, [goodput for _, goodput in visited])
    if len(up) > len(visited):
        return up[-1]
    down = len(visited) - len(up)
    return up[-1 - down] if down < len(up) else None


def round_trip(rows: Sequence[Sequence[Load]], visited: Sequence[tuple[Load, float]]) -> tuple[int, bool]:
    """Return the most loads that `next_load` can give in all, and whether that number is exact.

    On the way up each row may still end early.
    """
    up = _way_up(rows, [goodput for _, goodput in visited])
    if len(up) <= len(visited):
        return 2 * len(up), True
    row = next(number for number, row in enumerate(rows) if up[-1] in row)
    rest = len(rows[row]) - rows[row].index(up[-1]) + sum(map(len, rows[row + 1 :]))
    return 2 * (len(visited) + rest), False


def _way_up(rows: Sequence[Sequence[Load]], goodputs: Sequence[float]) -> list[Load]:
    """Return the loads of the way up that have a goodput, followed by the next one, if there is one."""
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
    """Return whether the last LAST_RUNGS loads brought no gain over the best before them."""
    before, last = goodputs[:-LAST_RUNGS], goodputs[-LAST_RUNGS:]
    return bool(before) and max(last) < GAIN * max(before)


def knee(points: Iterable[Point]) -> Knee | None:
    """Return the smallest load with AS_GOOD of the best goodput; None where nothing was stored.

    The size of a closed load is its instances in flight, then its connections; that of an open one its rate.
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

    Dropped instances count as errors. None where no point is known to be within the limits: it needs a p99.
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
