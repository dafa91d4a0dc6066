"""How much one request may hold: a controller of two bounds, on bytes and on instances.

A bound is doubled while requests that use it are quick, and halved when they take longer than LONGEST_S. After a lost
connection little is sent again, and the last request of a run does not keep the other connections waiting for long.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from bulkstow.policy.batching import BatchLimits

LONGEST_S = 3.0
"""The longest that a request should take; a bound is doubled while requests take less than half of it.
In shorter ones a round trip of 0.1 to 0.2 s to another continent counts; of longer ones more is sent again."""

FIRST_BYTES = 4 * 2**20
FIRST_INSTANCES = 50
"""The bounds at the start of a run.
1 GB at 24 slots took 5.8 s with 4 MiB and 7.1 s with 8 MiB if an instance takes 55 ms, as the number of requests is
found later; 3.7 s and 2.6 s if a request takes 0.4 s (simulated)."""

STAGE_BYTES = 16 * 2**20
STAGE_INSTANCES = 200
"""The bounds up to which requests grow that take longer than BRISK_S.
16 MiB take 1.3 s at 100 Mbit/s, and 5 ms on a fast link; Orthanc takes 200 instances in about half a second."""

MOST_BYTES = 64 * 2**20
MOST_INSTANCES = 1000
"""The largest bounds. On a fast link 64 MiB take 20 ms, of which 2 % are the request's own cost."""

LEAST_BYTES = 256 * 2**10
"""The smallest bound: 3 s at 90 kB/s. A CT slice has twice that size and is sent alone."""

BRISK_S = 0.25
"""The longest that a request larger than the stage may take.
Orthanc takes 16 MiB in 0.2 s: larger requests gain nothing there, and the last ones keep other connections waiting."""

SAMPLES = 4
"""Requests that one decision is based on, by their median: one round of the requests that a run starts with."""

FULL = 0.7
"""The share of a bound that a request has to use, with one more instance, to say something about it.
By itself it uses more than half, so that requests made before the bound was doubled do not count."""

PLENTY_REQUESTS = 8
"""Requests in a row after which a lasting queue is assumed."""

USELESS = 2 / 3
"""A halving that leaves more of the duration than this is useless: requests take long whatever they hold, and grow.
If requests vary by 15 %, the medians of two times four differ by a third in one of 1,000 cases."""

PAUSE = 16
"""Decisions before the next trial, after a useless halving or a doubling that made requests too long."""

Bound = int | Literal["auto"] | None
"""A number that stays, a number to find, or no bound."""


@dataclass(slots=True)
class _Limit:
    """One of the two bounds of a request."""

    first: int
    stage: int
    least: int
    most: int
    now: int = field(init=False)
    _recent_s: list[float] = field(init=False, default_factory=list)
    _before: tuple[int, float] = field(init=False, default=(0, math.inf))
    """The bound before the last decision halved it, and how long requests took then."""
    _is_trial: bool = field(init=False, default=False)
    """The last decision was to double the bound, though requests were not quick."""
    _paused: int = field(init=False, default=0)
    """Decisions until the next trial or halving."""

    def __post_init__(self) -> None:
        self.now = self.first

    def lower(self, most: int) -> None:
        """Set the largest value that is allowed."""
        self.most, self.least = min(self.most, most), min(self.least, most)
        self._set(self.now)

    def ended(self, used: int, instances: int, elapsed_s: float, *, is_plenty: bool) -> None:
        """Learn from a request that used so much of the bound."""
        is_slow = elapsed_s > LONGEST_S
        if used > self.now:  # it was made before the bound was halved, or is a single file
            counts = instances == 1 and (not is_slow or used <= self._before[0])
        else:
            one_more = used + used / instances  # a batch is closed by the instance that does not fit
            is_full = one_more >= FULL * self.now and 2 * used > self.now
            counts = is_full or (is_slow and self.now > self.first)  # too long even though it is small
        if counts:
            self._recent_s.append(elapsed_s)
        if len(self._recent_s) == SAMPLES:
            typical_s, self._recent_s = sorted(self._recent_s)[(SAMPLES - 1) // 2], []
            self._decide(typical_s, is_plenty=is_plenty)

    def _decide(self, typical_s: float, *, is_plenty: bool) -> None:
        (before, before_s), self._before = self._before, (0, math.inf)
        was_trial, self._is_trial = self._is_trial, False
        if typical_s > USELESS * before_s:
            self._paused = PAUSE
            self._set(min(2 * before, self.stage))
        elif typical_s > LONGEST_S and was_trial:
            self._paused = PAUSE
            self._set(max(self.least, self.now // 2))
        elif typical_s < LONGEST_S / 2:
            if is_plenty and typical_s < BRISK_S / 2:
                self._set(2 * self.now)
            elif self.now < self.stage:
                self._set(min(2 * self.now, self.stage))
        elif self._paused:
            self._paused -= 1
        elif typical_s > LONGEST_S:
            self._halve(typical_s)
        elif self.now < self.first:  # it was halved, maybe while the server was slow for a moment
            self._is_trial = True
            self._set(2 * self.now)

    def _halve(self, typical_s: float) -> None:
        """Halve the bound until a request should be short enough."""
        halvings = math.ceil(math.log2(typical_s / LONGEST_S))
        halved = max(self.least, self.now >> halvings)
        if halved < self.now:
            self._before = self.now, typical_s
        self._set(halved)

    def _set(self, now: int) -> None:
        bounded = min(now, self.most)
        if bounded != self.now:
            self.now, self._recent_s = bounded, []


class BatchSize:
    """Finds the bounds of a request. A number or `None` from the user is never changed.

    In any case a request holds no more than the destination is known to accept.
    """

    def __init__(self, size_bytes: Bound = "auto", instances: Bound = "auto") -> None:
        self._given_bytes, self._given_instances = size_bytes, instances
        self._bytes = _Limit(FIRST_BYTES, STAGE_BYTES, LEAST_BYTES, MOST_BYTES)
        self._instances = _Limit(FIRST_INSTANCES, STAGE_INSTANCES, 1, MOST_INSTANCES)
        self._ceiling_bytes = math.inf
        self._plenty = 0

    @property
    def limits(self) -> BatchLimits:
        """The present bounds."""
        size_bytes = self._bytes.now if self._given_bytes == "auto" else self._given_bytes
        if self._ceiling_bytes < (math.inf if size_bytes is None else size_bytes):
            size_bytes = int(self._ceiling_bytes)
        return BatchLimits(
            size_bytes, self._instances.now if self._given_instances == "auto" else self._given_instances
        )

    def learn_ceiling(self, ceiling_bytes: int) -> bool:
        """Learn the most bytes that the destination accepts; return whether a request might have held more."""
        most_bytes = self._bytes.most if self._given_bytes == "auto" else self.limits.size_bytes
        if most_bytes is not None and ceiling_bytes >= most_bytes:
            return False
        self._ceiling_bytes = ceiling_bytes
        self._bytes.lower(ceiling_bytes)
        return True

    def ended(self, size_bytes: int, instances: int, elapsed_s: float, *, is_plenty: bool = False) -> None:
        """Learn from a request that was answered by a 2xx.

        `is_plenty`: so many batches wait that half as many would keep all connections busy.
        """
        self._plenty = self._plenty + 1 if is_plenty else 0
        is_plenty = self._plenty >= PLENTY_REQUESTS
        self._bytes.ended(size_bytes, instances, elapsed_s, is_plenty=is_plenty)
        self._instances.ended(instances, instances, elapsed_s, is_plenty=is_plenty)
