"""How much one request holds.

A pure controller: it is told of every request that ended, and bounds the bytes and the instances of those to come, so
that a request takes a few seconds at most. What is lost with a connection is then sent again in a few seconds, and the
last request of a run keeps nobody waiting. It has no clock and makes no batch.

It learns what a request costs for its bytes, for its instances and for itself: a slow link shows in the first, a server
that takes its time with each instance in the second, a distant one in the third. Requests of all sizes tell, by the
normalised least mean squares filter (Widrow and Hoff): each moves the three costs towards what would have explained it,
each cost by its part in that request. So what cannot be told apart yet is put down to what the request had most of.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from statistics import median, median_high
from typing import Literal

from bulkstow.policy.batching import BatchLimits

LONGEST_S = 3.0
"""What a request full of bytes, or full of instances, may take. Much less, and the way of the answer begins to count
(0.1 to 0.2 s to another continent, where TCP also needs some round trips to get up to speed); much more, and there is
less to see, and more to send again."""

STAGE_BYTES = 16 * 2**20
STAGE_INSTANCES = 200
"""Up to here requests grow wherever they end in LONGEST_S. 16 MiB take 1.3 s at 100 Mbit/s, and 5 ms on a fast link, of
which a request by itself costs its sender 0.45 ms; Orthanc takes 200 instances in about half a second."""

FIRST_BYTES = 4 * 2**20
FIRST_INSTANCES = 50
"""What a run begins with. The number of requests at once is found by counting requests: over 5 MB/s a connection, with
16 MiB in each, that took a minute (25 MB/s, 100 ms, 256 KiB windows); and where they are quick, 16 of them are enough
to have grown."""

MOST_BYTES = 64 * 2**20
MOST_INSTANCES = 1000
"""On a fast link 64 MiB take 20 ms, of which the request by itself is 2 %: still more would bring nothing. 1,000
instances of 16 kB are as many bytes as a request begins with."""

LEAST_BYTES = 256 * 2**10
"""3 s at 90 kB/s. A slice of a CT has twice that, and goes alone: a lower bound would change little."""

BRISK_S = 0.25
"""Beyond the stage a request grows only while it takes less, grown: longer ones gain nothing by being fewer, and so
long the last of a run may keep the others waiting."""

SLUGGISH_S = 0.5
"""A request that has grown beyond the stage and takes longer goes back there; twice as much as lets it grow, so that it
does not go to and fro."""

SAMPLES = 4
"""Requests between two decisions, and before the first: as many as are under way at once to begin with, so that one
round of a slow link is enough."""

REMEMBERED = 24
"""Requests that the costs have to explain. Some 20 are made already when a bound changes (the outbox's window for four
senders, and those under way), so that those of before and those of after are seen together."""

ROUNDS = 3
STEP = 0.25
"""How often what is remembered is gone through, and how far it moves the costs each time. In simulation, against a
server that takes 4 s for any request, one round ended at a third of the bytes that three came to."""

OUTLIER = 2.0
"""A request counts for no longer than so many times what was expected, unless most of the latest took longer: with
most, the server or the link has changed."""

PART_ALONE = 0.3
"""What is put down to a request by itself where nothing tells it apart: a twelfth of one of 4 MiB, most of a small one.
In simulation, against a server that takes 4 s for any request, a tenth ended at an eighth of the bytes where sizes were
mixed."""

FULL = 0.7
FULL_REQUESTS = 8
"""Requests that used so much of a bound before it is doubled: what was not used tells nothing of more. It is more than
half, so that those made before the last doubling do not count for the next."""

NOTABLE = 0.75
"""A bound is lowered only to less than this of what it was: the estimate's noise is about so large."""

Bound = int | Literal["auto"] | None
"""A number that stays, one to find, or none."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A request that ended, and how long it took."""

    size_bytes: int
    instances: int
    elapsed_s: float
    is_answered: bool = True
    """By a 2xx: what else may end a request tells nothing of its size."""
    is_plenty: bool = False
    """So much waits that half as many requests would keep all senders busy."""
    is_settled: bool = True
    """The number of requests at once is found."""


@dataclass(slots=True)
class _Cost:
    """Seconds that FIRST_BYTES take, FIRST_INSTANCES, and a request by itself."""

    bytes_s: float = 0.0
    instances_s: float = 0.0
    _alone: float = 0.0
    _recent: deque[Sample] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _is_known: bool = False

    @property
    def alone_s(self) -> float:
        """What a request costs by itself: no more than the shortest took."""
        return min(self._alone * PART_ALONE, *(sample.elapsed_s for sample in self._recent))

    def learn(self, latest: list[Sample]) -> None:
        """Take the samples that came since the last time."""
        self._recent.extend(latest)
        if not self._is_known:
            self._is_known = True
            middle_s = median_high(sample.elapsed_s for sample in latest)
            self._approach(next(sample for sample in latest if sample.elapsed_s == middle_s), middle_s, 1.0)
        surprises = [sample.elapsed_s / max(self._expected_s(sample), 1e-9) for sample in latest]
        believed = max(OUTLIER, median(surprises))
        for _ in range(ROUNDS):
            for sample in self._recent:
                self._approach(sample, believed * self._expected_s(sample), STEP)

    def _expected_s(self, sample: Sample) -> float:
        by_bytes, by_instances = sample.size_bytes / FIRST_BYTES, sample.instances / FIRST_INSTANCES
        return self.bytes_s * by_bytes + self.instances_s * by_instances + self._alone * PART_ALONE

    def _approach(self, sample: Sample, at_most_s: float, step: float) -> None:
        by_bytes, by_instances = sample.size_bytes / FIRST_BYTES, sample.instances / FIRST_INSTANCES
        surprise_s = min(sample.elapsed_s, at_most_s) - self._expected_s(sample)
        move = step * surprise_s / (by_bytes * by_bytes + by_instances * by_instances + PART_ALONE**2)
        self.bytes_s = max(0.0, self.bytes_s + move * by_bytes)
        self.instances_s = max(0.0, self.instances_s + move * by_instances)
        self._alone = max(0.0, self._alone + move * PART_ALONE)


@dataclass(slots=True)
class _Limit:
    """One of the two bounds of a request; beyond `stage` it grows only where requests are quick."""

    first: int
    stage: int
    least: int
    most: int
    now: int = field(init=False)
    full: int = field(init=False, default=0)
    """Requests that used it since it was set, and might have been larger."""

    def __post_init__(self) -> None:
        self.now = self.first

    def lower(self, most: int) -> None:
        self.most, self.least = min(self.most, most), min(self.least, most)
        self._set(min(self.now, most))

    def see(self, used: float) -> None:
        self.full += used >= FULL * self.now

    def decide(self, first_s: float, alone_s: float, *, is_plenty: bool, is_settled: bool) -> None:
        """Lower it, double it, or leave it, where its first value takes so long and a request by itself so long."""
        # Where a request takes long by itself, less in it makes more of them and none much shorter.
        allowed_s = max(LONGEST_S - alone_s, min(2 * alone_s, 2 * LONGEST_S))
        fitting = self.first * allowed_s / first_s if first_s else math.inf
        if self.now > self.stage and alone_s + first_s * self.now / self.first > SLUGGISH_S:
            fitting = min(fitting, self.stage)
        doubled = min(2 * self.now, self.stage if self.now < self.stage else self.most, self.most)
        if fitting < NOTABLE * self.now:
            self._set(max(self.least, int(fitting)))
        elif doubled > fitting:
            self.full = 0
        elif self.full >= FULL_REQUESTS:
            is_brisk = alone_s + first_s * doubled / self.first <= BRISK_S
            if (is_plenty and is_brisk) or (is_settled and doubled <= self.stage):
                self._set(doubled)

    def _set(self, now: int) -> None:
        if now != self.now:
            self.now, self.full = now, 0


class BatchSize:
    """Finds and keeps the bounds of a request; one that is given as a number, or as none, stays as it is.

    Whatever is given or found, a request holds no more than the destination is known to take.
    """

    def __init__(self, size_bytes: Bound = "auto", instances: Bound = "auto") -> None:
        self._given_bytes, self._given_instances = size_bytes, instances
        self._bytes = _Limit(FIRST_BYTES, STAGE_BYTES, LEAST_BYTES, MOST_BYTES)
        self._instances = _Limit(FIRST_INSTANCES, STAGE_INSTANCES, 1, MOST_INSTANCES)
        self._ceiling_bytes = math.inf
        self._cost = _Cost()
        self._latest: list[Sample] = []
        self._plenty = 0

    @property
    def limits(self) -> BatchLimits:
        """What a request may hold now."""
        size_bytes = self._bytes.now if self._given_bytes == "auto" else self._given_bytes
        if self._ceiling_bytes < (math.inf if size_bytes is None else size_bytes):
            size_bytes = int(self._ceiling_bytes)
        return BatchLimits(
            size_bytes, self._instances.now if self._given_instances == "auto" else self._given_instances
        )

    def learn_ceiling(self, ceiling_bytes: int) -> bool:
        """Take that the destination takes no more bytes in a request; return whether any might have held more."""
        most_bytes = self._bytes.most if self._given_bytes == "auto" else self.limits.size_bytes
        if most_bytes is not None and ceiling_bytes >= most_bytes:
            return False
        self._ceiling_bytes = ceiling_bytes
        self._bytes.lower(ceiling_bytes)
        return True

    def ended(self, sample: Sample) -> None:
        """Take a request that ended."""
        if not sample.is_answered:
            return
        one_more = sample.instances + 1  # a batch is closed by the instance that does not fit
        self._bytes.see(sample.size_bytes * one_more / sample.instances)
        self._instances.see(one_more)
        self._plenty = self._plenty + 1 if sample.is_plenty else 0
        self._latest.append(sample)
        if len(self._latest) < SAMPLES:
            return
        self._cost.learn(self._latest)
        self._latest = []
        is_plenty = self._plenty >= FULL_REQUESTS
        is_settled = sample.is_settled
        self._bytes.decide(self._cost.bytes_s, self._cost.alone_s, is_plenty=is_plenty, is_settled=is_settled)
        self._instances.decide(self._cost.instances_s, self._cost.alone_s, is_plenty=is_plenty, is_settled=is_settled)
