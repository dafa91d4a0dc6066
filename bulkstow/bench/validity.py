"""Whether a measurement is limited by the server or by this client.

Three signs show a client at its limit: goodput near its ceiling against a sink, an event loop that wakes late, and
requests that start late although a slot was free. Each is reported as a sentence with its figures.
"""

from __future__ import annotations

from bulkstow.bench.result import Ceiling, Percentiles, Point

CEILING_SHARE = 0.8
"""Above this share of the ceiling a faster server would hardly show: at 80 % utilisation four requests are with the
client on average (M/M/1), so that most of a latency is the client's."""

LATE_LEAST_S = 0.005
"""Lateness below this is no sign: on a busy machine of 2 cores an idle asyncio loop woke 0.5 ms late at p99, one of
uvloop 3 ms."""

LATE_SHARE = 0.1
"""Lateness counts from this share of the median latency."""


def client_bound(point: Point, ceiling: Ceiling | None = None) -> tuple[str, ...]:
    """Return why a point is limited by the client; nothing where it is not."""
    reasons = [_near_ceiling(point, ceiling)] if ceiling is not None else []
    reasons.append(_late(point.loop_lag, point, "the event loop woke", "its wake-ups"))
    reasons.append(_late(point.slip, point, "requests started", "those with a free slot"))
    return tuple(reason for reason in reasons if reason)


def _near_ceiling(point: Point, ceiling: Ceiling) -> str:
    figures = (
        (point.instances_per_s, ceiling.instances_per_s, "instances/s"),
        (point.megabytes_per_s, ceiling.megabytes_per_s, "MB/s"),
    )
    shares = [(found / most, found, most, unit) for found, most, unit in figures if most > 0]
    share, found, most, unit = max(shares, default=(0.0, 0.0, 0.0, ""))
    if share <= CEILING_SHARE:
        return ""
    return (
        f"{found:.4g} {unit} are {share:.0%} of the {most:.4g} {unit} that this client reaches against a sink"
        f" (limit {CEILING_SHARE:.0%})"
    )


def _late(times: Percentiles, point: Point, what: str, of_what: str) -> str:
    latency = point.latency
    limit_s = max(LATE_LEAST_S, LATE_SHARE * (latency.mean_s if latency.p50_s is None else latency.p50_s))
    if times.p99_s is None:
        late_s, how = times.max_s, f"{times.max_s * 1e3:.3g} ms late in one of {times.count:,} of {of_what}"
    else:
        late_s, how = times.p99_s, f"more than {times.p99_s * 1e3:.3g} ms late in 1 % of {of_what}"
    return f"{what} {how} (limit {limit_s * 1e3:.3g} ms)" if late_s > limit_s else ""
