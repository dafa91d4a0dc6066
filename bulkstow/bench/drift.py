"""Whether a long load ends as it began: goodput, latency, and the memory of this client.

Compares the first tenth of the measured seconds with the last, so that what is slow shows and what is noise does not.
Pure arithmetic on a series.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean, median

from bulkstow.bench.result import Drift, Second

PARTS = 10
"""A tenth of an hour is six minutes: longer than checkpoints and collections of a server are apart, as a rule."""

SECONDS_LEAST = 2 * PARTS
"""Two seconds a part; of less nothing can be said."""


def drift(series: Sequence[Second]) -> Drift | None:
    """Return how the end of a load differs from its beginning; None where it was too short."""
    measured = [second for second in series if not second.is_warmup and not second.is_drain]
    if len(measured) < SECONDS_LEAST:
        return None
    length = len(measured) // PARTS
    begun, ended = measured[:length], measured[-length:]
    return Drift(
        span_s=float(length),
        instances_per_s=_goodput_per_s(begun),
        instances_per_s_end=_goodput_per_s(ended),
        p99_s=_middle_s(second.p99_s for second in begun),
        p99_s_end=_middle_s(second.p99_s for second in ended),
        rss_bytes=int(median(second.rss_bytes for second in begun)),
        rss_bytes_end=int(median(second.rss_bytes for second in ended)),
        p50_s=_middle_s(second.p50_s for second in begun),
        p50_s_end=_middle_s(second.p50_s for second in ended),
    )


def _goodput_per_s(seconds: Sequence[Second]) -> float:
    return fmean(second.instances for second in seconds)


def _middle_s(times_s: Iterable[float | None]) -> float | None:
    told = [time_s for time_s in times_s if time_s is not None]
    return median(told) if told else None
