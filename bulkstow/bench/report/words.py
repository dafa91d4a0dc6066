"""Numbers, times and loads as the report writes them: the digits that count, and a unit."""

from __future__ import annotations

from bulkstow.bench.result import Drift, Load, Percentiles
from bulkstow.quantities import show_duration, show_size

NONE = "—"
"""What stands where nothing was measured: a zero would be a claim."""


def figure(value: float) -> str:
    """Return a number with three digits that count: `0.00312`, `4.17`, `52.3`, `1,234`, from a million on `1.23M`."""
    if abs(value) >= 999_999.5:
        return short(value)
    if value == 0 or abs(value) >= 99.95:  # what `.3g` would round up to 100
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".") if abs(value) >= 1e-4 else f"{value:.3g}"  # `.3g` goes to 1e-05


def short(value: float) -> str:
    """Return a number for a tick or a cell: `0.5`, `800`, `1.2k`, `35M`."""
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= 0.9995 * factor:
            scaled = value / factor
            return (f"{scaled:.0f}" if abs(scaled) >= 99.5 else f"{scaled:.3g}") + unit
    return f"{value:.3g}"


def duration(elapsed_s: float) -> str:
    """Return a time with three digits that count: `85µs`, `12.3ms`, `4.2s`, `4m05s`."""
    if elapsed_s >= 0.9995:  # what `.3g` would round up to 1000ms
        return show_duration(max(elapsed_s, 1.0))
    if elapsed_s >= 0.9995e-3 or elapsed_s == 0:
        return f"{elapsed_s * 1e3:.3g}ms"
    return f"{elapsed_s * 1e6:.3g}µs"


def time_of(times: Percentiles, time_s: float | None) -> str:
    """Return one of the times of a distribution, if there is any, and enough of them for it."""
    return NONE if time_s is None or not times.count else duration(time_s)


def share(part: float) -> str:
    """Return a share in percent, two digits that count: `0.31%`, `14%`."""
    return f"{part * 100:.2g}%" if part < 0.995 else f"{part:.0%}"


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: `1 request`, `6,315 requests`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def rate(per_s: float) -> str:
    """Return a rate that somebody chose, as it was given."""
    return f"{per_s:,.10g}"


def load_words(load: Load) -> str:
    """Return a load in words: `8 connections, 16 instances a request`."""
    words = [f"{counted(load.batch_instances, 'instance')} a request"]
    if load.rate_per_s is not None:
        words.insert(0, f"{rate(load.rate_per_s)} instances/s due")
    if load.connections is not None:
        words.insert(0, counted(load.connections, "connection"))
    return ", ".join(words)


def load_name(load: Load) -> str:
    """Return a load where there is little room: `8 connections x 50`, `120 instances/s x 1`."""
    what = (
        counted(load.connections, "connection") if load.connections is not None else f"{load.rate_per_s:g} instances/s"
    )
    return f"{what} x {load.batch_instances}"


def drift_words(drift: Drift) -> str:
    """Return how a long load ended beside how it began."""
    words = [f"from the first {duration(drift.span_s)} to the last: goodput {drift.goodput_share:+.1%}"]
    percentiles = (("p99", drift.p99_s, drift.p99_s_end), ("p50", drift.p50_s, drift.p50_s_end))
    told = [f"{name} {duration(a)} to {duration(b)}" for name, a, b in percentiles if a is not None and b is not None]
    words += told[:1]  # the p99 where seconds have enough requests for one
    words.append(f"memory of this client {show_size(drift.rss_bytes)} to {show_size(drift.rss_bytes_end)}")
    return ", ".join(words)
