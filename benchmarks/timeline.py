"""What a server has taken, over time: it is asked for its counts again and again while a peer runs.

Owns what "once settled" means: from half of the time between the first byte that arrived and the last instance that was
taken, until the last request began. Whoever has to find something out has done so by then, or the run was too short to
say; and after that connections fall idle one by one, however many there are.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.processes import PeerFailed, Server

INTERVAL_S = 0.25
"""Between two questions: half a minute of a run is known to a hundredth, and the sink answers in a millisecond."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What the sink had taken at one time."""

    at_s: float
    instances: int
    body_bytes: int
    requests: int
    rejected: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """What was taken between two moments."""

    duration_s: float
    instances: int
    body_bytes: int
    requests: int
    rejected: int

    @property
    def instances_per_s(self) -> float:
        """Goodput: what was rejected, and sent in vain, counts for nothing."""
        return self.instances / self.duration_s

    @property
    def bytes_per_s(self) -> float:
        """What came over the wire, whatever became of it."""
        return self.body_bytes / self.duration_s

    @property
    def rejected_share(self) -> float:
        """Of the requests that began in this stretch."""
        return self.rejected / self.requests if self.requests else 0.0


def whole(moments: Sequence[Moment]) -> Stretch:
    """Return the stretch from the first byte to the last instance."""
    busy = _busy(moments)
    return _between(busy[0], busy[-1])


def settled(moments: Sequence[Moment]) -> Stretch:
    """Return the stretch from half of that time until the last request began."""
    busy = _busy(moments)
    middle_s = (busy[0].at_s + busy[-1].at_s) / 2
    begin = min(range(len(busy) - 1), key=lambda n: abs(busy[n].at_s - middle_s))
    last_began = next(n for n, moment in enumerate(busy) if moment.requests == busy[-1].requests)
    return _between(busy[begin], busy[max(last_began, begin + 1)])


def first_byte_s(moments: Sequence[Moment]) -> float:
    """Return when the first byte had arrived; PeerFailed where none did."""
    for moment in moments:
        if moment.body_bytes > moments[0].body_bytes:
            return moment.at_s
    raise PeerFailed("nothing arrived at the sink")


def _busy(moments: Sequence[Moment]) -> Sequence[Moment]:
    """Leave out what came before the first byte and after the last instance; PeerFailed where nothing is left."""
    first = max((n for n, moment in enumerate(moments) if moment.body_bytes == moments[0].body_bytes), default=0)
    last = next((n for n, moment in enumerate(moments) if moment.instances == moments[-1].instances), 0)
    if last <= first:
        raise PeerFailed("the run was over before it could be looked at: give a larger --scale")
    return moments[first : last + 1]


def _between(begin: Moment, end: Moment) -> Stretch:
    return Stretch(
        end.at_s - begin.at_s,
        end.instances - begin.instances,
        end.body_bytes - begin.body_bytes,
        end.requests - begin.requests,
        end.rejected - begin.rejected,
    )


@contextmanager
def observed(server: Server) -> Iterator[list[Moment]]:
    """Give a list that fills with moments until the context ends; the last is taken then."""
    moments: list[Moment] = []
    is_over = threading.Event()
    started_s = time.monotonic()

    def look() -> None:
        counts = server.counts()
        taken = (int(counts[name]) for name in ("instances", "body_bytes", "requests", "rejected"))
        moments.append(Moment(time.monotonic() - started_s, *taken))

    def look_on() -> None:
        while not is_over.wait(INTERVAL_S):
            look()

    look()
    watcher = threading.Thread(target=look_on)
    watcher.start()
    try:
        yield moments
    finally:
        is_over.set()
        watcher.join()
        look()
