"""From requests that ended to the figures of a measurement.

The load counts from the end of the warm-up to its own end. Goodput is the instances acknowledged in that time;
latencies and errors are those of the requests that were due in it, however late they ended. So requests that a server
leaves unanswered at the end are included, and late acknowledgements raise no goodput.

Constant memory but for the series, some 200 bytes a second. Has no clock: events come in the order in which they
happen, with their time in seconds of one monotonic clock.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from msgspec import structs

from bulkstow.bench.histogram import Distribution
from bulkstow.bench.result import SAMPLES_LEAST, Load, Percentiles, Point, Second

SETTLE_S = 5
"""Goodput of so many seconds is compared with that of as many before; requests of 1 to 2 s end in bursts, which this
smooths."""

SETTLED_SHARE = 0.1
"""Goodput that changed by less than this has settled."""

WARMUP_MOST_S = 60.0
"""Then the measurement begins although goodput has not settled, and says so."""

DRAINED_SHARE = 0.95
"""A second of which less than this was under load counts as drain."""


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request that ended; times in seconds of the recorder's clock."""

    intended_s: float
    """When it was due; in a closed load, when it started."""
    started_s: float
    ended_s: float
    instances: int = 0
    """Acknowledged by name."""
    size_bytes: int = 0
    """Of those, framing not included."""
    errors: Mapping[str, int] = field(default_factory=dict)
    """The other instances, by HTTP status, lack of a response, or failure reason."""
    connected_s: float | None = None
    """When it had a connection, new or kept; None where it got none."""
    taken_s: float | None = None
    """When the server had taken the last byte; None where it had not."""
    is_unanswered: bool = False
    """It was sent, and no response came: its latency is a lower bound."""
    had_slot: bool = True
    """A slot was free when it was due: only this client can have delayed it."""


OnSecond = Callable[[Second, Sequence[float]], None]
"""Called with each second that is over, and its latencies."""


@dataclass(slots=True)
class Measured:
    """One run of one load, with whole distributions, to be merged with its repeats."""

    elapsed_s: float = 0.0
    warmup_s: float = 0.0
    is_settled: bool = True
    instances: int = 0
    size_bytes: int = 0
    requests: int = 0
    warmup_instances: int = 0
    drained_instances: int = 0
    dropped: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    latency: Distribution = field(default_factory=Distribution)
    service_time: Distribution = field(default_factory=Distribution)
    connect: Distribution = field(default_factory=Distribution)
    send: Distribution = field(default_factory=Distribution)
    thinking: Distribution = field(default_factory=Distribution)
    searchable: Distribution = field(default_factory=Distribution)
    failed: Distribution = field(default_factory=Distribution)
    slip: Distribution = field(default_factory=Distribution)
    loop_lag: Distribution = field(default_factory=Distribution)
    warmup_latency: Distribution = field(default_factory=Distribution)
    series: list[Second] = field(default_factory=list)


class Recorder:
    """Counts one run of one load that begins at `began_s`.

    `warmup_s` is how long the warm-up takes; None ends it when goodput has settled.
    """

    def __init__(self, began_s: float, *, warmup_s: float | None, on_second: OnSecond = lambda *_: None) -> None:
        self._began_s = began_s
        self._on_second = on_second
        self._warm_at_s = math.inf if warmup_s is None else began_s + warmup_s
        self._stopped_at_s = math.inf
        self._is_settled = True
        self._rss_bytes = 0
        self._measured = Measured()
        self._now = _Now()

    @property
    def is_warm(self) -> bool:
        """The warm-up is over, as of the last event."""
        return self._began_s + self._now.number >= self._warm_at_s

    @property
    def warmup_s(self) -> float | None:
        """How long the warm-up takes; None while that is not known."""
        return None if math.isinf(self._warm_at_s) else self._warm_at_s - self._began_s

    def started(self, at_s: float) -> None:
        """Record the start of a request."""
        self.tick(at_s)
        self._now.in_flight += 1

    def ended(self, request: RecordedRequest) -> None:
        """Record a request that ended."""
        self.tick(request.ended_s)
        now, measured = self._now, self._measured
        failed = sum(request.errors.values())
        now.in_flight -= 1
        now.requests += 1
        now.instances += request.instances
        now.size_bytes += request.size_bytes
        now.errors += failed
        if request.ended_s < self._warm_at_s:
            measured.warmup_instances += request.instances
        elif request.ended_s >= self._stopped_at_s:
            measured.drained_instances += request.instances
        else:
            measured.requests += 1
            measured.instances += request.instances
            measured.size_bytes += request.size_bytes
        if request.intended_s >= self._warm_at_s:
            measured.errors.update(request.errors)
        self._take_times(request)

    def dropped(self, intended_s: float, instances: int, *, now_s: float) -> None:
        """Record instances that were due at `intended_s` and are dropped now."""
        self.tick(now_s)
        self._now.dropped += instances
        if intended_s >= self._warm_at_s:
            self._measured.dropped += instances

    def searchable(self, elapsed_s: float) -> None:
        """Record the time from a response to the first query that found its instance."""
        if self.is_warm:
            self._measured.searchable.record(elapsed_s)

    def lag(self, elapsed_s: float) -> None:
        """Record by how much the event loop woke late."""
        if self.is_warm and math.isinf(self._stopped_at_s):
            self._measured.loop_lag.record(elapsed_s)

    def memory(self, rss_bytes: int) -> None:
        """Record this client's memory."""
        self._rss_bytes = rss_bytes

    def warm(self, at_s: float) -> None:
        """End the warm-up."""
        self.tick(at_s)
        self._warm_at_s = min(self._warm_at_s, at_s)

    def tick(self, now_s: float) -> None:
        """Close the seconds that are over; call this at least once a second."""
        while now_s >= self._began_s + self._now.number + 1:
            self._close_second()

    def stop(self, at_s: float) -> None:
        """End the load: requests in flight still count for latency and errors, not for goodput."""
        self.tick(at_s)
        self._stopped_at_s = at_s

    def finish(self, now_s: float) -> Measured:
        """Return the figures, when the last request has ended; `stop` comes before."""
        self.tick(now_s)
        if self._now.has_anything:
            self._close_second()
        return self.so_far(now_s)

    def so_far(self, now_s: float) -> Measured:
        """Return the figures so far; the distributions in them are live."""
        self.tick(now_s)
        ends_at_s = min(self._stopped_at_s, now_s)
        warm_at_s = min(self._warm_at_s, ends_at_s)
        return replace(
            self._measured,
            warmup_s=warm_at_s - self._began_s,
            elapsed_s=ends_at_s - warm_at_s,
            is_settled=self._is_settled and self._warm_at_s <= ends_at_s,
            errors=self._measured.errors.copy(),
            series=self._measured.series.copy(),
        )

    def _take_times(self, request: RecordedRequest) -> None:
        measured = self._measured
        latency_s = request.ended_s - request.intended_s
        is_warm = request.intended_s >= self._warm_at_s
        if not request.instances and not request.is_unanswered:
            if is_warm:
                measured.failed.record(latency_s)
            return
        self._now.latencies_s.append(latency_s)
        if not is_warm:
            measured.warmup_latency.record(latency_s)
            return
        measured.latency.record(latency_s)
        measured.service_time.record(request.ended_s - request.started_s)
        if request.had_slot:
            measured.slip.record(request.started_s - request.intended_s)
        sending_from_s = request.started_s if request.connected_s is None else request.connected_s
        if request.connected_s is not None:
            measured.connect.record(request.connected_s - request.started_s)
        if request.taken_s is not None:
            measured.send.record(request.taken_s - sending_from_s)
            measured.thinking.record(request.ended_s - request.taken_s)

    def _close_second(self) -> None:
        now = self._now
        latencies_s = sorted(now.latencies_s)
        at_s = float(now.number)
        second = Second(
            at_s=at_s,
            instances=now.instances,
            size_bytes=now.size_bytes,
            requests=now.requests,
            errors=now.errors,
            dropped=now.dropped,
            in_flight=now.in_flight,
            p50_s=_ranked(latencies_s, "p50_s", 0.5),
            p99_s=_ranked(latencies_s, "p99_s", 0.99),
            is_warmup=self._began_s + at_s < self._warm_at_s,
            is_drain=self._began_s + at_s + DRAINED_SHARE > self._stopped_at_s,
            rss_bytes=self._rss_bytes,
            max_s=max(latencies_s, default=0.0),
        )
        self._measured.series.append(second)
        self._now = _Now(now.number + 1, now.in_flight)
        if math.isinf(self._warm_at_s) and math.isinf(self._stopped_at_s):
            is_over = has_settled(self._measured.series)
            if is_over or now.number + 1 >= WARMUP_MOST_S:
                self._is_settled = is_over
                self._warm_at_s = self._began_s + now.number + 1
        self._on_second(second, latencies_s)


def has_settled(series: Sequence[Second]) -> bool:
    """Return whether the last SETTLE_S seconds stored about as much as the SETTLE_S before them.

    The tolerance is SETTLED_SHARE or, where few requests end, two standard deviations of a difference of counts.
    """
    if len(series) < 2 * SETTLE_S:
        return False
    before, after = series[-2 * SETTLE_S : -SETTLE_S], series[-SETTLE_S:]
    stored_before, stored_after = (sum(second.instances for second in part) for part in (before, after))
    if not stored_before or not stored_after:
        return False
    requests = sum(second.requests for second in (*before, *after))
    by_chance = 2 * math.sqrt(requests) * (stored_before + stored_after) / requests
    return abs(stored_after - stored_before) <= max(SETTLED_SHARE * stored_before, by_chance)


_TIMES = tuple(each.name for each in fields(Measured) if each.type == "Distribution")
"""The distributions of a load, which a point has under the same names."""

_SUMS = ("elapsed_s", "instances", "size_bytes", "requests", "dropped", "warmup_instances", "drained_instances")
"""The figures of a load that add up over its repeats."""


def merge(load: Load, repeats: Sequence[Measured]) -> Point:
    """Return the point of a load's repeats, of which there is one at least."""
    series: list[Second] = []
    for number, one in enumerate(repeats):
        after_s = series[-1].at_s + 1 if series else 0.0
        series += [structs.replace(second, at_s=second.at_s + after_s, repeat=number) for second in one.series]

    times: dict[str, Any] = {name: _merged(getattr(one, name) for one in repeats) for name in _TIMES}
    searchable = times.pop("searchable")
    return Point(
        **times,
        **{name: sum(getattr(one, name) for one in repeats) for name in _SUMS},
        load=load,
        warmup_s=max(one.warmup_s for one in repeats),
        searchable=searchable if searchable.count else None,
        errors=dict(sum((one.errors for one in repeats), Counter[str]())),
        goodputs_per_s=tuple(one.instances / one.elapsed_s if one.elapsed_s else 0.0 for one in repeats),
        series=tuple(series),
        repeat_latencies=tuple(one.latency.percentiles() for one in repeats),
        is_settled=all(one.is_settled for one in repeats),
    )


def _merged(distributions: Iterable[Distribution]) -> Percentiles:
    whole = Distribution()
    for one in distributions:
        whole.add(one)
    return whole.percentiles()


@dataclass(slots=True)
class _Now:
    """The current second."""

    number: int = 0
    in_flight: int = 0
    requests: int = 0
    instances: int = 0
    size_bytes: int = 0
    errors: int = 0
    dropped: int = 0
    latencies_s: array[float] = field(default_factory=lambda: array("d"))

    @property
    def has_anything(self) -> bool:
        return bool(self.requests or self.dropped)


def _ranked(ordered: Sequence[float], name: str, share: float) -> float | None:
    """Return the value of the nearest rank, None where there are too few."""
    return ordered[math.ceil(share * len(ordered)) - 1] if len(ordered) >= SAMPLES_LEAST[name] else None
