"""The concurrency controller: how many requests at once.

It climbs a ladder of numbers while goodput grows, settles on the smallest that is as good as the best, holds it, and
tries the next ones above and below from time to time. If the server rejects requests because of load (429, 503) or does
not respond in time, it lowers the number, and does not return to the rejected one for a while.

The model is Netflix's concurrency-limits (AIMD on rejections, no growth while the limit is not used), with goodput
instead of latency, because latency says little if requests differ in size.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

LADDER = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""The numbers to choose from. Each is a third to a half above the last, which below the knee is as much more
goodput."""

EPOCH_REQUESTS_PER_SENDER = 3
EPOCH_REQUESTS = 9
EPOCH_S = 0.4
"""The length of a measurement: requests end in bursts of the limit, so it has to cover several bursts."""

GAIN = 1.08
"""The gain in goodput below which a number is past the knee: Orthanc gains 25 % from 2 to 4, and nothing to 8."""

AS_GOOD = 0.97
"""The share of the best goodput at which a lower number is preferred: it leaves the server capacity for others."""

DRIFT = 0.7
"""The share of its former value below which goodput has changed so much that the ladder is measured again."""

HOLD_S = 30.0
"""Time before another number is tried; each trial without a change doubles it, up to HOLD_MOST_S."""
HOLD_MOST_S = 300.0

FORBIDDEN_S = 120.0
"""Time for which a rejected number is not tried again."""

INSTANCE_BYTES = 256 * 2**10
"""The size that each instance adds to its bytes in the measure of goodput: at Orthanc one costs as much as 0.3 to 1 MB.
In bytes alone, a stretch of small files would look like a slower server."""


class _Phase(Enum):
    CLIMB = "climb"
    DESCEND = "descend"
    HOLD = "hold"
    TRY_HIGHER = "try higher"
    TRY_LOWER = "try lower"


@dataclass(slots=True)
class _Epoch:
    """The measurement of one number; requests that started at the last one are skipped."""

    to_skip: int
    began_s: float | None = None
    requests: int = 0
    work: float = 0.0
    work_squared: float = 0.0
    wanted: int = 0

    @property
    def effective_requests(self) -> float:
        """The equivalent number of requests of equal size: one large request among many small ones counts little."""
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
    _settled_at: int = field(init=False)
    _tried_higher: bool = field(init=False, default=False)
    _ceiling: int | None = field(init=False, default=None)
    _ceiling_until_s: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        inner = [rung for rung in LADDER if self.lowest < rung < self.highest]
        self._rungs = tuple(dict.fromkeys([self.lowest, *inner, self.highest]))
        self._at = max(n for n, rung in enumerate(self._rungs) if rung <= max(self.start, self.lowest))
        self._settled_at = self._at
        self._epoch = _Epoch(to_skip=0)

    @property
    def limit(self) -> int:
        """Requests that may be under way now."""
        return self._rungs[self._at]

    @property
    def settled(self) -> int:
        """The number that it has settled on; trying another one does not change it."""
        return self._rungs[self._settled_at]

    def ended(
        self, now_s: float, size_bytes: int, instances: int, *, is_rejected: bool = False, is_wanted: bool = True
    ) -> None:
        """Take note of a request that ended at `now_s`.

        `is_rejected`: the server was overloaded (429, 503, or no response in time). `is_wanted`: more waited to be sent
        than the limit allowed.
        """
        if is_rejected:
            self._lower(now_s)
            return
        epoch = self._epoch
        if epoch.to_skip > 0:
            epoch.to_skip -= 1
            return
        if epoch.began_s is None:
            epoch.began_s = now_s
            return
        epoch.requests += 1
        epoch.wanted += is_wanted
        work = size_bytes + INSTANCE_BYTES * instances
        epoch.work += work
        epoch.work_squared += work * work
        elapsed_s = now_s - epoch.began_s
        enough = max(EPOCH_REQUESTS, EPOCH_REQUESTS_PER_SENDER * self.limit)
        if epoch.effective_requests >= enough and elapsed_s >= EPOCH_S:
            self._judge(now_s, epoch.work / elapsed_s, is_used=epoch.wanted * 2 >= epoch.requests)

    def _judge(self, now_s: float, goodput: float, *, is_used: bool) -> None:
        """Decide what follows from a measurement."""
        if not is_used:
            self._begin(self._at)  # the limit was not used: fewer would suffice, and more show nothing
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
            case _Phase.TRY_HIGHER:
                better = goodput >= GAIN * self._goodput[self._settled_at]
                self._settle(now_s, self._at if better else self._settled_at, climb=better)
            case _Phase.TRY_LOWER:
                as_good = goodput >= AS_GOOD * self._goodput[self._settled_at]
                self._settle(now_s, self._at if as_good else self._settled_at)

    def _climb(self, now_s: float) -> None:
        below = [self._goodput[n] for n in range(self._at) if n in self._goodput]
        gained = not below or self._goodput[self._at] >= GAIN * max(below)
        if gained and (above := self._above(now_s)) is not None:
            self._begin(above)
            return
        self._phase = _Phase.DESCEND
        self._descend(now_s)

    def _descend(self, now_s: float) -> None:
        """Lower the number while goodput stays; then settle on the last one that was as good as the best."""
        best = max(self._goodput.values())
        good = min(n for n, goodput in self._goodput.items() if goodput >= AS_GOOD * best)
        if good > 0 and good - 1 not in self._goodput:
            self._begin(good - 1)
        else:
            self._settle(now_s, good)

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
        self._tried_higher = not self._tried_higher
        if self._tried_higher and above is not None:
            self._phase = _Phase.TRY_HIGHER
            self._begin(above)
        elif self._at > 0:
            self._phase = _Phase.TRY_LOWER
            self._begin(self._at - 1)
        else:
            self._settle(now_s, self._at)

    def _settle(self, now_s: float, rung: int, *, climb: bool = False) -> None:
        """Settle on a number; if the trial of another one has changed nothing, the next trial comes later."""
        self._hold_s = HOLD_S if rung != self._settled_at else min(HOLD_MOST_S, self._hold_s * 2)
        self._settled_at = rung
        self._held_since_s = now_s
        self._phase = _Phase.CLIMB if climb else _Phase.HOLD
        self._begin(rung)

    def _lower(self, now_s: float) -> None:
        """Lower the number for an overloaded server; later rejections of requests under way say nothing new."""
        if self._epoch.to_skip > 0:
            self._epoch.to_skip -= 1
            return
        self._ceiling = self._at
        self._ceiling_until_s = now_s + FORBIDDEN_S
        lower = max(0, self._at - 1)
        self._goodput = {n: goodput for n, goodput in self._goodput.items() if n < self._at}
        self._settle(now_s, lower)

    def _above(self, now_s: float) -> int | None:
        """Return the next number, if there is one and it was not rejected recently."""
        above = self._at + 1
        forbidden = self._ceiling is not None and above >= self._ceiling and now_s < self._ceiling_until_s
        return None if forbidden or above >= len(self._rungs) else above

    def _begin(self, rung: int) -> None:
        self._epoch = _Epoch(to_skip=0 if rung == self._at else self._rungs[max(self._at, rung)])
        self._at = rung
