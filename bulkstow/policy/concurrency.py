"""How many requests at once.

A pure controller: it is told of every request that ended, with the time, and says how many may be under way. It climbs
a ladder of numbers while goodput grows with them, takes the smallest that is as good as the best, holds it, and looks
above and below it now and then. A server that refuses for load (429, 503) or does not answer in time is given less at
once, and what it refused is not tried again for a while. It has no clock and starts nothing.

The model is the pacer's and concurrency-limits' (AIMD on rejections, no growth while the limit is not used), with
goodput in place of latency as what is climbed: latency by itself says little where requests are of many sizes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

LADDER = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Each rung is a third to a half above the last: below the knee that is as much more goodput, far above the noise."""

EPOCH_REQUESTS_PER_SENDER = 3
EPOCH_REQUESTS = 9
EPOCH_S = 0.4
"""How long a rung is measured: requests end in bursts of the limit, so several bursts, and not an instant."""

GAIN = 1.08
"""Less gain than this for a third more requests is past the knee: Orthanc gains 25 % from 2 to 4, and nothing to 8."""

AS_GOOD = 0.97
"""A lower rung with so much of the best is preferred: it leaves the server room for others."""

DRIFT = 0.7
"""Goodput that fell below this share of what it was: the server has changed, and the ladder is measured anew."""

HOLD_S = 30.0
"""Between two looks around; each that changes nothing doubles it, up to HOLD_MOST_S."""
HOLD_MOST_S = 300.0

FORBIDDEN_S = 120.0
"""For how long a rung that was refused is not tried again."""

INSTANCE_BYTES = 256 * 2**10
"""What an instance counts for beside its bytes: at Orthanc one costs as much as 0.3 to 1 MB, and a measure in bytes
alone would take a stretch of small files for a server that has slowed down."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A request that ended, at `now_s`."""

    now_s: float
    size_bytes: int
    instances: int
    is_rejected: bool = False
    """The server had too much: 429, 503, no answer in time."""
    is_wanted: bool = True
    """More was waiting to be sent than the limit allowed."""


class _Phase(Enum):
    CLIMB = "climb"
    DESCEND = "descend"
    HOLD = "hold"
    LOOK_UP = "look up"
    LOOK_DOWN = "look down"


@dataclass(slots=True)
class _Epoch:
    """One rung's measurement; the first requests to end were still sent at the last rung, and do not count."""

    to_skip: int
    began_s: float | None = None
    requests: int = 0
    work: float = 0.0
    work_squared: float = 0.0
    wanted: int = 0

    @property
    def effective_requests(self) -> float:
        """As how many requests of one size these count: one large among many small says little of the many."""
        return self.work**2 / self.work_squared if self.work_squared else 0.0


@dataclass(slots=True)
class Concurrency:
    """Finds and keeps the number of requests at once, between `lowest` and `highest`."""

    lowest: int = 1
    highest: int = 32
    start: int = 4
    _rungs: tuple[int, ...] = field(init=False)
    _at: int = field(init=False)
    _phase: _Phase = field(init=False, default=_Phase.CLIMB)
    _epoch: _Epoch = field(init=False)
    _goodput: dict[int, float] = field(init=False, default_factory=dict)
    _hold_s: float = field(init=False, default=HOLD_S)
    _held_since_s: float = field(init=False, default=0.0)
    _home: int = field(init=False)
    _looked_up: bool = field(init=False, default=False)
    _ceiling: int | None = field(init=False, default=None)
    _ceiling_until_s: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        inner = [rung for rung in LADDER if self.lowest < rung < self.highest]
        self._rungs = tuple(dict.fromkeys([self.lowest, *inner, self.highest]))
        self._at = max(n for n, rung in enumerate(self._rungs) if rung <= max(self.start, self.lowest))
        self._home = self._at
        self._epoch = _Epoch(to_skip=0)

    @property
    def limit(self) -> int:
        """Requests that may be under way now."""
        return self._rungs[self._at]

    @property
    def settled(self) -> int:
        """The number it has come to; a look above or below does not change it."""
        return self._rungs[self._home]

    def ended(self, sample: Sample) -> None:
        """Take a request that ended."""
        if sample.is_rejected:
            self._retreat(sample.now_s)
            return
        epoch = self._epoch
        if epoch.to_skip > 0:
            epoch.to_skip -= 1
            return
        if epoch.began_s is None:
            epoch.began_s = sample.now_s
            return
        epoch.requests += 1
        epoch.wanted += sample.is_wanted
        work = sample.size_bytes + INSTANCE_BYTES * sample.instances
        epoch.work += work
        epoch.work_squared += work * work
        elapsed_s = sample.now_s - epoch.began_s
        enough = max(EPOCH_REQUESTS, EPOCH_REQUESTS_PER_SENDER * self.limit)
        if epoch.effective_requests >= enough and elapsed_s >= EPOCH_S:
            self._judge(sample.now_s, epoch.work / elapsed_s, is_used=epoch.wanted * 2 >= epoch.requests)

    def _judge(self, now_s: float, goodput: float, *, is_used: bool) -> None:
        """Decide what a rung's measurement means."""
        if not is_used:
            self._begin(self._at)  # fewer would have done as well, and more would tell nothing
            return
        before = self._goodput.get(self._at)
        self._goodput[self._at] = goodput if before is None or self._phase is _Phase.CLIMB else (before + goodput) / 2
        match self._phase:
            case _Phase.CLIMB:
                self._climb(now_s)
            case _Phase.DESCEND:
                self._descend(now_s)
            case _Phase.HOLD:
                self._hold(now_s, goodput)
            case _Phase.LOOK_UP:
                better = goodput >= GAIN * self._goodput[self._home]
                self._come_home(now_s, self._at if better else self._home, climb=better)
            case _Phase.LOOK_DOWN:
                as_good = goodput >= AS_GOOD * self._goodput[self._home]
                self._come_home(now_s, self._at if as_good else self._home)

    def _climb(self, now_s: float) -> None:
        below = [self._goodput[n] for n in range(self._at) if n in self._goodput]
        gained = not below or self._goodput[self._at] >= GAIN * max(below)
        if gained and (above := self._above(now_s)) is not None:
            self._begin(above)
            return
        self._phase = _Phase.DESCEND
        self._descend(now_s)

    def _descend(self, now_s: float) -> None:
        """Go down for as long as it costs nothing; then stay at the last rung that was as good as the best."""
        best = max(self._goodput.values())
        good = min(n for n, goodput in self._goodput.items() if goodput >= AS_GOOD * best)
        if good > 0 and good - 1 not in self._goodput:
            self._begin(good - 1)
        else:
            self._come_home(now_s, good)

    def _hold(self, now_s: float, goodput: float) -> None:
        if goodput < DRIFT * max(self._goodput.values()):
            self._goodput = {}
            self._phase = _Phase.CLIMB
            self._begin(max(0, self._at - 1))
            return
        if now_s - self._held_since_s < self._hold_s:
            self._begin(self._at)
            return
        above = self._above(now_s)
        self._looked_up = not self._looked_up
        if self._looked_up and above is not None:
            self._phase = _Phase.LOOK_UP
            self._begin(above)
        elif self._at > 0:
            self._phase = _Phase.LOOK_DOWN
            self._begin(self._at - 1)
        else:
            self._come_home(now_s, self._at)

    def _come_home(self, now_s: float, rung: int, *, climb: bool = False) -> None:
        """Settle on a rung; what was looked at and is no better makes the next look later."""
        self._hold_s = HOLD_S if rung != self._home else min(HOLD_MOST_S, self._hold_s * 2)
        self._home = rung
        self._held_since_s = now_s
        self._phase = _Phase.CLIMB if climb else _Phase.HOLD
        self._begin(rung)

    def _retreat(self, now_s: float) -> None:
        """Give an overloaded server less; refusals of what was under way by then say nothing new."""
        if self._epoch.to_skip > 0:
            self._epoch.to_skip -= 1
            return
        self._ceiling = self._at
        self._ceiling_until_s = now_s + FORBIDDEN_S
        lower = max(0, self._at - 1)
        self._goodput = {n: goodput for n, goodput in self._goodput.items() if n < self._at}
        self._come_home(now_s, lower)

    def _above(self, now_s: float) -> int | None:
        """Return the next rung, if there is one and it is not forbidden."""
        above = self._at + 1
        forbidden = self._ceiling is not None and above >= self._ceiling and now_s < self._ceiling_until_s
        return None if forbidden or above >= len(self._rungs) else above

    def _begin(self, rung: int) -> None:
        self._epoch = _Epoch(to_skip=0 if rung == self._at else self._rungs[max(self._at, rung)])
        self._at = rung
