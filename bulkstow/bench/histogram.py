"""Times in constant memory: HdrHistogram, and its log.

The only module that knows the library. A `Distribution` keeps three digits of every time, its count, and the exact mean
and maximum; it never samples. Lines of the log are made here and written elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

from hdrh.histogram import HdrHistogram

from bulkstow.bench.result import Percentiles

LOWEST_NS = 1_000
"""A clock read and a hop through the event loop take some microseconds."""

HIGHEST_NS = 24 * 3_600 * 10**9
"""A day; longer counts as a day, in percentiles. From an hour to a day costs 5 of 29 buckets."""

DIGITS = 3
"""A resolution of 0.1 %, finer than a few repeats can show."""

COUNTER_BYTES = 4
"""Counts up to 4e9. With 8 a distribution would take 237 kB, and a sweep keeps some hundred."""

_PERCENTS = (50.0, 90.0, 99.0, 99.9)

_LOG_MAX_NS = 1e6
"""The log's column of maxima is in ms where values are in ns, as the Java tools have it."""


class Distribution:
    """Times in seconds; allocates nothing until the first is recorded."""

    def __init__(self) -> None:
        self._histogram: HdrHistogram | None = None
        self.count = 0
        self._sum_s = 0.0
        self._max_s = 0.0

    def record(self, elapsed_s: float) -> None:
        """Record a time; a negative one, from clocks read in another order, counts as zero."""
        if self._histogram is None:
            self._histogram = _empty()
        elapsed_s = max(elapsed_s, 0.0)
        self._histogram.record_value(min(int(elapsed_s * 1e9), HIGHEST_NS))
        self.count += 1
        self._sum_s += elapsed_s
        self._max_s = max(self._max_s, elapsed_s)

    def add(self, other: Distribution) -> None:
        """Add every time of another distribution."""
        if other._histogram is None:
            return
        if self._histogram is None:
            self._histogram = _empty()
        self._histogram.add(other._histogram)
        self.count += other.count
        self._sum_s += other._sum_s
        self._max_s = max(self._max_s, other._max_s)

    def percentiles(self) -> Percentiles:
        """Return count, mean, percentiles and maximum; a percentile is its bucket's upper end, at most the maximum."""
        if self._histogram is None:
            return Percentiles()
        found = self._histogram.get_percentile_to_value_dict(list(_PERCENTS))
        p50_s, p90_s, p99_s, p99_9_s = (min(found[percent] / 1e9, self._max_s) for percent in _PERCENTS)
        return Percentiles(self.count, self._sum_s / self.count, p50_s, p90_s, p99_s, p99_9_s, self._max_s)


def log_head(began_epoch_s: float, title: str) -> str:
    """Return the first lines of a histogram log; times in it count from `began_epoch_s`, seconds since 1970."""
    return (
        f"#[{title}]\n"
        "#[Histogram log format version 1.3]\n"
        f"#[StartTime: {began_epoch_s:.3f} (seconds since epoch)]\n"
        f"#[BaseTime: {began_epoch_s:.3f} (seconds since epoch)]\n"
        '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"\n'
    )


def log_line(tag: str, at_s: float, length_s: float, times_s: Sequence[float]) -> str:
    """Return the line of one interval: `times_s` in nanoseconds, compressed (V2), under a tag without comma or space.

    Costs about 0.3 ms: one a second is nothing.
    """
    histogram = _empty()
    for elapsed_s in times_s:
        histogram.record_value(min(int(max(elapsed_s, 0.0) * 1e9), HIGHEST_NS))
    largest = histogram.get_max_value() / _LOG_MAX_NS
    return f"Tag={tag},{at_s:.3f},{length_s:.3f},{largest:.3f},{histogram.encode().decode('ascii')}\n"


def _empty() -> HdrHistogram:
    return HdrHistogram(LOWEST_NS, HIGHEST_NS, DIGITS, word_size=COUNTER_BYTES)
