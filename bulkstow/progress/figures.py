"""The figures of a run as text: progress, speed, time left, failures, bottleneck."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator

from bulkstow.policy.bottleneck import Bottleneck, Usage, bottleneck
from bulkstow.policy.health import OutageCause
from bulkstow.progress.tally import Tally
from bulkstow.quantities import show_duration, show_size

RATE_WINDOW_S = 10.0
"""The window of a rate: it smooths requests of a few seconds, and shows soon that a server slows down."""

FORECAST_S = 60.0
"""The window of the rate from which the time left is estimated. One or two studies of large files change it little."""


class Pace:
    """The rate of a growing value over the last `window_s` seconds."""

    def __init__(self, window_s: float = RATE_WINDOW_S) -> None:
        self._window_s = window_s
        self._samples: deque[tuple[float, float]] = deque()

    def rate(self, now_s: float, value: float) -> float:
        """Take the current value and return its growth per second."""
        self._samples.append((now_s, value))
        while len(self._samples) > 2 and now_s - self._samples[0][0] > self._window_s:
            self._samples.popleft()
        then_s, before = self._samples[0]
        return (value - before) / (now_s - then_s) if now_s > then_s else 0.0


class Figures:
    """Figures with rates over the last seconds, the number of failures first."""

    def __init__(self) -> None:
        self._started_s = time.monotonic()
        self._sent = Pace()
        self._instances = Pace()
        self._settled_bytes = Pace(FORECAST_S)
        self._settled_files = Pace(FORECAST_S)
        for pace in (self._sent, self._instances, self._settled_bytes, self._settled_files):
            pace.rate(self._started_s, 0)
        self._usages: deque[Usage] = deque()

    def of(self, tally: Tally) -> list[str]:
        """Return the figures, the most important ones first."""
        return [f"{tally.failed:,} failed", *self._others(tally)]

    def line(self, tally: Tally) -> str:
        """Return all figures in one line."""
        return ", ".join(self.of(tally))

    def _others(self, tally: Tally) -> Iterator[str]:
        now_s = time.monotonic()
        yield from _outage(tally, now_s)
        if tally.connecting_to:
            yield f"connecting to {tally.connecting_to}"
        else:
            if tally.is_watching:
                yield "waiting for changes" + (f", {tally.pending:,} not quiet yet" if tally.pending else "")
            if not tally.has_begun:
                yield "scanning"
            yield files_done(tally)
            if tally.left_out:
                yield f"{tally.left_out.total():,} left out"
            yield _bytes(tally)
            yield from self._left(tally, now_s)
            yield f"{show_size(self._sent.rate(now_s, tally.sent_bytes))}/s"
            yield f"{self._instances.rate(now_s, tally.delivered):,.0f} instances/s"
            yield _in_flight(tally)
            yield f"{tally.retries:,} retried"
            if (limiting := self._bottleneck(tally)) is not Bottleneck.UNKNOWN:
                yield f"bottleneck: {limiting}{_rate(limiting, tally)}"
        yield show_duration(now_s - self._started_s)

    def _left(self, tally: Tally, now_s: float) -> Iterator[str]:
        """Yield the time left at the recent rate of bytes or of files, whichever is longer.

        It is a lower bound until the scan ends.
        """
        bytes_per_s = self._settled_bytes.rate(now_s, tally.settled_bytes - tally.settled_before_bytes)
        files_per_s = self._settled_files.rate(now_s, tally.settled_files - tally.settled_before)
        left_bytes = max(0, tally.found_bytes - tally.settled_bytes)
        left_files = max(0, tally.found_files - tally.settled_files)
        left_s = max(_duration_s(left_bytes, bytes_per_s), _duration_s(left_files, files_per_s))
        if 0 < left_s < math.inf and not tally.outage:
            yield f"{_bound(tally)}{show_duration(math.ceil(left_s))} left"

    def _bottleneck(self, tally: Tally) -> Bottleneck:
        """Return the bottleneck of the last seconds."""
        usage = tally.usage
        self._usages.append(usage)
        while len(self._usages) > 2 and usage.since(self._usages[0]).elapsed_s > RATE_WINDOW_S:
            self._usages.popleft()
        return bottleneck(usage.since(self._usages[0]))


def _outage(tally: Tally, now_s: float) -> Iterator[str]:
    match tally.outage:
        case None:
            return
        case OutageCause.NO_ANSWER:
            yield "THE SERVER DOES NOT ANSWER, checking at intervals"
        case OutageCause.NO_ROOM:
            yield "THE SERVER IS OUT OF SPACE, trying one request at a time"
    if tally.next_attempt_s is not None and now_s < tally.next_attempt_s < math.inf:
        yield f"next attempt in {show_duration(math.ceil(tally.next_attempt_s - now_s))}"


def files_done(tally: Tally) -> str:
    """Return the number of files done and the total, which is a lower bound until the scan ends."""
    return f"{tally.settled_files:,} of {_bound(tally)}{tally.found_files:,} files done"


def _bytes(tally: Tally) -> str:
    settled_bytes = min(tally.settled_bytes, tally.found_bytes)
    return f"{show_size(settled_bytes)} of {_bound(tally)}{show_size(tally.found_bytes)}"


def _in_flight(tally: Tally) -> str:
    """Return the number of requests in flight and their limit, or the number itself while the limit is exceeded.

    Requests that were started before a reduction of the limit may exceed it.
    """
    limit = max(tally.allowed_requests or tally.concurrency, tally.requests_in_flight)
    return f"{tally.requests_in_flight}{f' of {limit}' if limit else ''} in flight"


def _bound(tally: Tally) -> str:
    return "" if tally.scan_ended else "at least "


def _duration_s(amount: float, per_s: float) -> float:
    if not amount:
        return 0.0
    return amount / per_s if per_s > 0 else math.inf


def _rate(limiting: Bottleneck, tally: Tally) -> str:
    if limiting is not Bottleneck.SERVER_RATE or tally.server_requests_per_s is None:
        return ""
    return f" (about {tally.server_requests_per_s:.2g} requests/s)"
