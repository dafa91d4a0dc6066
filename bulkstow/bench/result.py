"""The figures of a measurement: frozen values, and what follows from them. Their keys in JSON are given here, too.

Measures nothing and judges nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from statistics import median

from msgspec import Struct, field
from msgspec.structs import force_setattr

SAMPLES_LEAST = {"p50_s": 2, "p90_s": 10, "p99_s": 100, "p99_9_s": 1000}
"""Samples that a percentile needs: 1 / (1 - q), so that one sample at least lies above it. Of fewer samples the nearest
rank is the maximum, which has a name of its own."""

_POINT_KEYS = {
    name: f"{name}_s"
    for name in (
        *("latency", "service_time", "connect", "send", "thinking", "searchable", "failed", "slip"),
        *("loop_lag", "warmup_latency", "repeat_latencies"),
    )
} | {"client_bound": "client_bound_reasons"}
"""Keys that differ from the name of their field."""


class Percentiles(
    Struct,
    frozen=True,
    rename={"mean_s": "mean", "p50_s": "p50", "p90_s": "p90", "p99_s": "p99", "p99_9_s": "p99.9", "max_s": "max"},
):
    """A distribution of times, in seconds; mean and maximum are zero where nothing was counted.

    A percentile that needs more samples than were counted (SAMPLES_LEAST) is None, whatever it is given.
    """

    count: int = 0
    mean_s: float = 0.0
    p50_s: float | None = None
    p90_s: float | None = None
    p99_s: float | None = None
    p99_9_s: float | None = None
    max_s: float = 0.0

    def __post_init__(self) -> None:
        for name, least in SAMPLES_LEAST.items():
            if self.count < least:
                force_setattr(self, name, None)


def over_known(statistic: Callable[[list[float]], float], values: Iterable[float | None]) -> float | None:
    """Return a statistic of the values that are known; None where none is."""
    known = [value for value in values if value is not None]
    return statistic(known) if known else None


class Second(Struct, frozen=True):
    """One second of the time series.

    `at_s` counts from the start of the load, warm-up included; a repeat goes on where the one before it ended.
    """

    at_s: float
    instances: int
    """Acknowledged in this second."""
    size_bytes: int
    requests: int
    """That ended in this second."""
    errors: int
    dropped: int
    in_flight: int
    """At the end of this second."""
    p50_s: float | None
    p99_s: float | None
    """Latencies of the requests that ended in this second; None where they are fewer than SAMPLES_LEAST, whatever is
    given."""
    is_warmup: bool = False
    is_drain: bool = False
    """The load ended before this second did; requests in flight were still waited for."""
    repeat: int = 0
    """The repeat that it is of, from 0."""
    rss_bytes: int = 0
    """Resident memory of this client at its end; 0 where unknown."""
    max_s: float = 0.0
    """The longest of these latencies; 0 where there is none."""

    def __post_init__(self) -> None:
        for name in ("p50_s", "p99_s"):
            if self.requests < SAMPLES_LEAST[name]:
                force_setattr(self, name, None)

    @property
    def is_under_load(self) -> bool:
        """It belongs to neither the warm-up nor the drain."""
        return not (self.is_warmup or self.is_drain)


class Load(Struct, frozen=True):
    """A load on a server, closed or open."""

    batch_instances: int
    connections: int | None = None
    """Requests at once of a closed load."""
    rate_per_s: float | None = None
    """Instances a second of an open load."""


class Point(Struct, frozen=True, rename=_POINT_KEYS):
    """One load, measured; repeats are merged, and `goodputs_per_s` has each one's own."""

    load: Load
    elapsed_s: float
    """From the end of the warm-up to the end of the load; of repeats the sum."""
    warmup_s: float
    """Of repeats the longest."""
    instances: int
    """Acknowledged by name, in that time."""
    size_bytes: int
    """Of those: bytes of instances, framing not included."""
    requests: int
    latency: Percentiles
    """Time from a request's intended start to its response, of those due after the warm-up that stored something or got
    no response (a quick refusal would flatter: see `failed`)."""
    service_time: Percentiles
    """From its actual start."""
    connect: Percentiles
    send: Percentiles
    thinking: Percentiles
    """From the last byte that the server took to the response."""
    searchable: Percentiles | None = None
    """From the response to the first QIDO-RS query that finds the instance."""
    errors: Mapping[str, int] = field(default_factory=dict[str, int])
    """Instances that were not stored, by HTTP status, interruption or failure reason."""
    dropped: int = 0
    """Instances of an open load that were due and could not be sent."""
    client_bound: tuple[str, ...] = ()
    """Why the figures are limited by the client; empty where they are not."""
    goodputs_per_s: tuple[float, ...] = ()
    """Acknowledged instances a second, one figure a repeat."""
    series: tuple[Second, ...] = ()
    repeat_latencies: tuple[Percentiles, ...] = ()
    """`latency`, one distribution a repeat."""
    failed: Percentiles = Percentiles()
    """Times of requests that stored nothing and got a response, or no connection."""
    slip: Percentiles = Percentiles()
    """Of an open load: actual start less intended start, of requests that had a free slot when they were due."""
    loop_lag: Percentiles = Percentiles()
    """How late this client's event loop woke."""
    warmup_instances: int = 0
    """Acknowledged in the warm-up."""
    warmup_latency: Percentiles = Percentiles()
    drained_instances: int = 0
    """Acknowledged after the end of the load."""
    is_settled: bool = True
    """Goodput had settled, or the warm-up was given; False where it was cut short."""

    @property
    def instances_per_s(self) -> float:
        """Acknowledged instances a second."""
        return self.instances / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def megabytes_per_s(self) -> float:
        """Acknowledged megabytes (10^6 bytes) a second."""
        return self.size_bytes / 1e6 / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def requests_per_s(self) -> float:
        """Requests answered a second."""
        return self.requests / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def error_share(self) -> float:
        """Instances that failed, of all that were sent and answered for or given up."""
        failed = sum(self.errors.values())
        return failed / (failed + self.instances) if failed else 0.0

    @property
    def dropped_share(self) -> float:
        """Instances of an open load that could not be sent, of all that were due."""
        due = self.dropped + self.instances + sum(self.errors.values())
        return self.dropped / due if self.dropped else 0.0

    @property
    def spread(self) -> float:
        """How far the repeats' goodputs lie apart, as a share of their median; 0 for one repeat."""
        middle = median(self.goodputs_per_s) if self.goodputs_per_s else 0.0
        return (max(self.goodputs_per_s) - min(self.goodputs_per_s)) / middle if middle else 0.0


class Knee(Struct, frozen=True):
    """The smallest load with 95 % of the best goodput."""

    load: Load
    instances_per_s: float
    best_per_s: float


class Ceiling(Struct, frozen=True):
    """This client's goodput against a sink that only acknowledges."""

    instances_per_s: float
    megabytes_per_s: float


class Judged(Struct, frozen=True):
    """A threshold and its result."""

    threshold: str
    found: float | None
    """In seconds, a second, or as a share of 1; None for a percentile of too few samples."""
    holds: bool
    note: str = ""
    """Why it does not hold, where the figure does not show it."""


class Drift(Struct, frozen=True):
    """The end of a long load compared with its beginning."""

    span_s: float
    """Of the beginning and of the end that are compared."""
    instances_per_s: float
    """In the beginning, after the warm-up."""
    instances_per_s_end: float
    p99_s: float | None
    """The median of the seconds' p99; None where no second has one."""
    p99_s_end: float | None
    rss_bytes: int
    """Memory of this client: the median of the seconds'."""
    rss_bytes_end: int
    p50_s: float | None = None
    """The median of the seconds' p50; None where no second has one."""
    p50_s_end: float | None = None

    @property
    def goodput_share(self) -> float:
        """The change of goodput as a share of its beginning."""
        return (self.instances_per_s_end - self.instances_per_s) / self.instances_per_s if self.instances_per_s else 0.0


class Result(Struct, frozen=True):
    """A whole measurement: one point, or those of a sweep."""

    mode: str
    workload: str
    url: str
    run_id: str
    started: str
    """ISO 8601, with its zone."""
    version: str
    machine: str
    points: tuple[Point, ...]
    ceiling: Ceiling | None = None
    knee: Knee | None = None
    highest_rate_per_s: float | None = None
    """The highest instances/s whose p99 and errors were below the limits."""
    suggested_flags: tuple[str, ...] = ()
    """For `bulkstow upload`."""
    thresholds: tuple[Judged, ...] = ()
    drift: Drift | None = None
    """Of a soak."""
    is_complete: bool = True
    """False where it was interrupted or stopped, or is still running."""

    @property
    def best(self) -> Point:
        """The point of the headline: the knee's, or the last."""
        for point in self.points:
            if self.knee is not None and point.load == self.knee.load:
                return point
        return self.points[-1]
