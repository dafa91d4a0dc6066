"""The concurrency controller: how many requests at once.

It begins as TCP does, by slow start (RFC 5681): each request that ends allows one more, so that the number doubles in a
round, until a round brings hardly more goodput. The figures of the rounds say which number was enough; it holds that
one, and tries those next to it from time to time. If the server rejects requests because of load (429, 503) or does not
respond in time, it lowers the number at once.

The model is Netflix's concurrency-limits (AIMD on rejections, no growth while the limit is not used), with goodput
instead of latency, because latency says little if requests differ in size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum

LADDER = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""The numbers to choose from after the slow start. Each is a third to a half above the last, which below the knee is as
much more goodput."""

ROUND_S = 0.2
"""The shortest round of the slow start, and the shortest time in which the number doubles.
In 0.1 s the goodput of a sink on the same machine varied by a factor of three, in 0.2 s by 15 %."""

GROWN = 1.4
"""The gain in goodput for which the slow start continues: below the knee a round brings up to twice as much. With 1.25
(BBR's value) a sink on the same machine, whose goodput varies by chance, got 28 to 32 requests instead of 8."""

AMPLE = 1.1
"""The share of the best goodput for which the slow start chooses the number, by the fastest requests that it saw.
With 0.9 runs of 5 s took 1 % longer, and 14 % longer if the service times vary much (simulated)."""

DOUBTFUL = 0.8
"""The share of the goodput that a lower number must promise, by the slow start's figures, to be tried afterwards."""

EPOCH_REQUESTS_PER_CONNECTION = 3
EPOCH_REQUESTS = 24
EPOCH_S = 0.4
"""The length of a measurement after the slow start: requests end in bursts, and it has to cover several.
With 9 requests and 2 for each connection, 4 of 81 simulated servers ended with a wrong number, with these none."""

AS_GOOD = 0.95
"""The share of the best goodput at which a lower number is preferred: it leaves the server capacity for others.
Orthanc gains 25 % from 2 to 4, and nothing to 8."""

DRIFT = 0.7
"""The share of its former value below which goodput has changed so much that other numbers are tried at once."""

HOLD_S = 20.0
"""Time before other numbers are tried; each trial without a change doubles it, up to HOLD_MOST_S."""
HOLD_MOST_S = 300.0

BACK_OFF = 0.8
"""The share of the number at which a request was rejected that should be accepted.
It counts requests that have not reached the server yet: one of 14 was rejected by a server that took 10 (simulated)."""

INSTANCE_BYTES = 256 * 2**10
"""The size that each instance adds to its bytes in the measure of goodput: at Orthanc one costs as much as 0.3 to 1 MB.
In bytes alone, a stretch of small files would look like a slower server."""


class _Phase(Enum):
    SLOW_START = "slow start"
    HOLD = "hold"
    TRIAL = "trial"


@dataclass(slots=True)
class _Measurement:
    """The requests that have ended since a time."""

    limit: int
    """The limit at its begin."""
    to_skip: int = 0
    """Requests to leave out, because they started at another limit."""
    began_s: float | None = None
    requests: int = 0
    work: float = 0.0
    work_squared: float = 0.0
    requests_s: float = 0.0
    """Durations of the requests, added up."""
    wanted: int = 0

    @property
    def effective_requests(self) -> float:
        """The equivalent number of requests of equal size: one large request among many small ones counts little."""
        return self.work**2 / self.work_squared if self.work_squared else 0.0

    @property
    def is_used(self) -> bool:
        """True if more requests were wanted than allowed. If not, fewer would suffice, and more show nothing."""
        return self.wanted * 2 >= self.requests

    def add(self, work: float, duration_s: float, *, is_wanted: bool) -> None:
        """Count a request."""
        self.requests += 1
        self.work += work
        self.work_squared += work * work
        self.requests_s += duration_s
        self.wanted += is_wanted


@dataclass(slots=True)
class Concurrency:
    """Finds and keeps the number of requests at once, between `lowest` and `highest`."""

    lowest: int = 1
    highest: int = 32
    start: int = 4
    limit: int = field(init=False)
    """Requests that may be under way now."""
    _rungs: tuple[int, ...] = field(init=False)
    _phase: _Phase = field(init=False, default=_Phase.SLOW_START)
    _measurement: _Measurement = field(init=False)
    _most_goodput: float = field(init=False, default=0.0)
    _most_per_request: float = field(init=False, default=0.0)
    """The goodput of one request, in the round of the slow start in which it was the highest."""
    _goodput: dict[int, float] = field(init=False, default_factory=dict)
    """By rung, since the last trial began; 0 for rungs that were rejected."""
    _chosen: int = field(init=False)
    _hold_s: float = field(init=False, default=HOLD_S)
    _held_since_s: float = field(init=False, default=0.0)
    _lowered_s: float = field(init=False, default=-math.inf)

    def __post_init__(self) -> None:
        inner = [rung for rung in LADDER if self.lowest < rung < self.highest]
        self._rungs = tuple(dict.fromkeys([self.lowest, *inner, self.highest]))
        self.limit = self._chosen = min(max(self.start, self.lowest), self.highest)
        self._measurement = _Measurement(self.limit)
        if self.lowest == self.highest:
            self._phase = _Phase.HOLD

    @property
    def settled(self) -> int:
        """The number that it has settled on; trying another one does not change it."""
        return self.limit if self._phase is _Phase.SLOW_START else self._chosen

    def ended(
        self,
        started_s: float,
        now_s: float,
        size_bytes: int,
        instances: int,
        *,
        at_once: int,
        is_rejected: bool = False,
        is_wanted: bool = True,
    ) -> None:
        """Take note of a request that ended at `now_s`.

        `at_once`: requests that were under way when it started, itself included. `is_rejected`: the server was
        overloaded (429, 503, or no response in time). `is_wanted`: more waited to be sent than the limit allowed.
        """
        measurement, work = self._measurement, size_bytes + INSTANCE_BYTES * instances
        if is_rejected:
            if started_s >= self._lowered_s:  # the others started before the number was lowered, and say nothing new
                self._lower(now_s, min(at_once, self.limit))
        elif self._phase is _Phase.SLOW_START:
            measurement.began_s = started_s if measurement.began_s is None else measurement.began_s
            measurement.add(work, now_s - started_s, is_wanted=is_wanted)
            self._grow(now_s - measurement.began_s, now_s, is_wanted=is_wanted)
        elif measurement.to_skip > 0:
            measurement.to_skip -= 1
        elif measurement.began_s is None:
            measurement.began_s = now_s
        else:
            measurement.add(work, now_s - started_s, is_wanted=is_wanted)
            elapsed_s = now_s - measurement.began_s
            if elapsed_s >= EPOCH_S and self._is_enough(measurement.effective_requests, measurement.work / elapsed_s):
                self._judge(now_s, measurement.work / elapsed_s)

    def _is_enough(self, requests: float, goodput: float) -> bool:
        """Return True if so many requests are a measurement; a third is enough for a number that is clearly worse."""
        enough = max(EPOCH_REQUESTS, EPOCH_REQUESTS_PER_CONNECTION * self.limit)
        is_worse = self._phase is _Phase.TRIAL and goodput < DOUBTFUL * max(self._goodput.values())
        return requests >= (enough / 3 if is_worse else enough)

    def _grow(self, elapsed_s: float, now_s: float, *, is_wanted: bool) -> None:
        """Allow one more request, up to twice the number of this round; end the round once so many have ended."""
        round_ = self._measurement
        allowed = min(self.highest, round_.limit * (1 + min(1.0, elapsed_s / ROUND_S)))
        if is_wanted and self.limit < allowed:
            self.limit += 1
        if round_.requests < round_.limit or elapsed_s < ROUND_S:
            return
        if round_.is_used:
            goodput = round_.work / elapsed_s
            has_grown = goodput >= GROWN * self._most_goodput
            self._most_goodput = max(self._most_goodput, goodput)
            self._most_per_request = max(self._most_per_request, round_.work / (round_.requests_s or elapsed_s))
            if not has_grown or round_.limit == self.highest:
                enough = AMPLE * self._most_goodput / self._most_per_request
                self._hold(now_s, next((rung for rung in self._rungs if rung >= enough), self.highest))
                return
        else:
            self.limit = round_.limit
        self._measurement = _Measurement(self.limit, began_s=now_s)

    def _judge(self, now_s: float, goodput: float) -> None:
        """Decide what follows from a measurement."""
        if not self._measurement.is_used:
            self._begin(self.limit)
            return
        before = self._goodput.get(self.limit)
        if self._phase is _Phase.TRIAL or before is None:
            self._goodput[self.limit] = goodput
        else:
            self._goodput[self.limit] = (before + goodput) / 2
        if self._phase is _Phase.TRIAL:
            self._try(now_s)
        elif before is not None and goodput < DRIFT * before:
            self._most_goodput = self._most_per_request = math.inf
            self._try_others(now_s, goodput)
        elif now_s - self._held_since_s >= self._hold_s:
            self._try_others(now_s, self._goodput[self.limit])
        else:
            self._begin(self.limit)

    def _try_others(self, now_s: float, goodput: float) -> None:
        """Begin a trial. The first one leaves out numbers of which the slow start has shown that they are no better."""
        self._phase = _Phase.TRIAL
        self._goodput = {self.limit: goodput}
        self._try(now_s)
        self._most_goodput = self._most_per_request = math.inf

    def _try(self, now_s: float) -> None:
        """Measure the numbers next to the lowest that is as good as the best; hold it once they are known."""
        best = max(self._goodput.values())
        good = min(rung for rung, goodput in self._goodput.items() if goodput >= AS_GOOD * best)
        place = self._rungs.index(good)
        for rung, share in ((place - 1, DOUBTFUL), (place + 1, 1 / AS_GOOD)):
            if 0 <= rung < len(self._rungs) and (other := self._rungs[rung]) not in self._goodput:
                promised = min(other * self._most_per_request, self._most_goodput)
                if promised >= share * self._goodput[good]:
                    self._begin(other)
                    return
        self._hold(now_s, good)

    def _hold(self, now_s: float, rung: int) -> None:
        """Hold a number; if a trial has changed nothing, the next one comes later."""
        is_new = rung != self._chosen or self._phase is _Phase.SLOW_START
        self._hold_s = HOLD_S if is_new else min(HOLD_MOST_S, 2 * self._hold_s)
        self._chosen = rung
        self._held_since_s = now_s
        self._phase = _Phase.HOLD
        self._begin(rung)

    def _lower(self, now_s: float, at_once: int) -> None:
        """Lower the number for a server that rejects a request of so many."""
        self._lowered_s = now_s
        accepted = {rung for rung, goodput in self._goodput.items() if goodput}
        lower = [rung for rung in self._rungs if rung <= BACK_OFF * at_once or (rung < at_once and rung in accepted)]
        self._goodput = {rung: goodput for rung, goodput in self._goodput.items() if rung < at_once}
        self._goodput |= {rung: 0.0 for rung in self._rungs if rung >= at_once}
        self._most_goodput, self._most_per_request = math.inf, self._most_per_request or math.inf
        self._hold(now_s, max(lower, default=self.lowest))

    def _begin(self, rung: int) -> None:
        self._measurement = _Measurement(rung, to_skip=0 if rung == self.limit else max(self.limit, rung))
        self.limit = rung
