"""Distributions and their log."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkstow.bench.histogram import HIGHEST_NS, Distribution, log_head, log_line
from bulkstow.bench.result import SAMPLES_LEAST, Percentiles

some_times_s = st.lists(st.floats(0, 1e5), min_size=1, max_size=300)


def filled(times_s: list[float]) -> Distribution:
    """Return a distribution of these times."""
    distribution = Distribution()
    for time_s in times_s:
        distribution.record(time_s)
    return distribution


def exact(times_s: list[float], percent: float) -> float:
    """Return the time of the rank that HdrHistogram takes."""
    return sorted(times_s)[max(int(percent * len(times_s) / 100 + 0.5), 1) - 1]


@given(some_times_s)
@settings(deadline=None)
def test_percentiles_keep_three_digits(times_s: list[float]) -> None:
    """Within 0.1 % and a microsecond of the exact ones, for what is no longer than a day; the maximum is exact."""
    found = filled(times_s).percentiles()
    for percent, value_s in ((50, found.p50_s), (90, found.p90_s), (99, found.p99_s), (99.9, found.p99_9_s)):
        if value_s is None:
            continue
        expected_s = min(exact(times_s, percent), HIGHEST_NS / 1e9)
        assert math.isclose(value_s, expected_s, rel_tol=0.001, abs_tol=1e-6)
    assert found.max_s == max(times_s)
    assert found.count == len(times_s)
    assert found.mean_s == pytest.approx(sum(times_s) / len(times_s))


@given(some_times_s)
@settings(deadline=None)
def test_percentiles_rise(times_s: list[float]) -> None:
    """No percentile is above a higher one, and none above the maximum."""
    found = filled(times_s).percentiles()
    told = [time_s for time_s in (found.p50_s, found.p90_s, found.p99_s, found.p99_9_s) if time_s is not None]
    assert [*told, found.max_s] == sorted([*told, found.max_s])


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (1, []),
        (2, ["p50_s"]),
        (9, ["p50_s"]),
        (10, ["p50_s", "p90_s"]),
        (99, ["p50_s", "p90_s"]),
        (100, ["p50_s", "p90_s", "p99_s"]),
        (999, ["p50_s", "p90_s", "p99_s"]),
        (1000, ["p50_s", "p90_s", "p99_s", "p99_9_s"]),
    ],
)
def test_a_percentile_needs_samples(count: int, told: list[str]) -> None:
    """1 / (1 - q) of them: a p99.9 of fewer than a thousand would be the longest time under another name."""
    found = filled([0.001 * n for n in range(count)]).percentiles()
    assert [name for name in SAMPLES_LEAST if getattr(found, name) is not None] == told
    assert (found.count, found.max_s) == (count, 0.001 * (count - 1))


@given(st.lists(st.lists(st.floats(0, 100), max_size=30), max_size=5))
@settings(deadline=None)
def test_what_is_added_is_as_if_recorded(parts: list[list[float]]) -> None:
    """Merged repeats are the distribution of all their times."""
    merged = Distribution()
    for part in parts:
        merged.add(filled(part))
    together = filled([time_s for part in parts for time_s in part]).percentiles()
    found = merged.percentiles()
    assert found.mean_s == pytest.approx(together.mean_s)
    assert (found.count, found.p50_s, found.p99_s) == (together.count, together.p50_s, together.p99_s)
    assert (found.p90_s, found.p99_9_s, found.max_s) == (together.p90_s, together.p99_9_s, together.max_s)


def test_nothing_is_all_zeros() -> None:
    """A distribution of nothing has no figure above zero."""
    assert Distribution().percentiles() == Percentiles()


def test_a_time_below_zero_counts_as_zero() -> None:
    """Two clocks that are read in another order do not spoil a distribution."""
    assert filled([-1e-9]).percentiles() == Percentiles(count=1)


def test_the_log_is_what_the_tools_read(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The library's own reader finds every interval, its tag, its time and its counts, in nanoseconds."""
    log = tmp_path_factory.mktemp("log") / "bench.hlog"
    intervals = [[0.1, 0.2, 0.3], [], [1.5]]
    lines = [log_line("latency", at_s, 1.0, times_s) for at_s, times_s in enumerate(intervals)]
    log.write_text(log_head(1_700_000_000.0, "bulkstow bench") + "".join(lines))
    reader = HistogramLogReader(str(log), HdrHistogram(1, 2, 3))
    try:
        found = []
        while (histogram := reader.get_next_interval_histogram()) is not None:
            found.append(histogram)
    finally:
        reader.close()
    assert [histogram.get_total_count() for histogram in found] == [3, 0, 1]
    assert [histogram.get_tag() for histogram in found] == ["latency"] * 3
    assert found[0].get_value_at_percentile(50) == pytest.approx(0.2e9, rel=0.001)
    assert found[2].get_start_time_stamp() == pytest.approx(1_700_000_002_000)
    assert float(lines[2].split(",")[3]) == pytest.approx(1500, rel=0.001)


def test_upload_does_without_it() -> None:
    """Who only uploads need not have the library, nor wait for it or for any part of the bench to load."""
    look = (
        "import sys, bulkstow.cli.upload; print([m for m in sys.modules if m.startswith(('hdrh', 'bulkstow.bench'))])"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
