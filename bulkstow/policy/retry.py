"""When to send again, and whether to send at all.

Owns the arithmetic of waiting: exponential backoff with full jitter, and the circuit breaker that stops sending while
the destination is gone. Has no clock and no randomness: the time and the jitter come in as numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Delay(Enum):
    """How long what is sent again has to wait."""

    NONE = "none"
    BACKOFF = "backoff"
    LONG = "long"
    """The server is out of resources or busy with just this study: seconds would not mend it."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter: a random share of a bound that doubles with every fault.

    Full jitter spreads clients that failed together over the whole interval, where equal delays would bring them back
    together (the comparison of jitters in AWS's architecture blog, 2015, is the usual evidence).
    """

    base_s: float = 1.0
    """A restarting proxy or a database's lock is over within a second or two."""
    cap_s: float = 60.0
    """A server that is back should not wait for us longer than a minute."""
    long_factor: float = 10.0

    def delay_s(self, delay: Delay, *, faults: int, jitter: float, at_least_s: float | None = None) -> float:
        """Return seconds to wait after the `faults`-th fault (1 is the first), `jitter` being in [0, 1).

        `at_least_s` is the server's own word (Retry-After, RFC 9110 §10.2.3); the jitter comes on top of it, so that
        clients told the same second do not all come in it.
        """
        if delay is Delay.NONE:
            return at_least_s or 0.0
        base_s = self.base_s * (self.long_factor if delay is Delay.LONG else 1.0)
        bound_s = min(self.cap_s, base_s * 2.0 ** min(max(faults - 1, 0), 30))
        if at_least_s is not None:
            return at_least_s + jitter * min(bound_s, self.base_s)
        return jitter * bound_s


class Breaker:
    """Stops sending while the destination is gone.

    Opens after `trip_after` signs of that in a row. While it is open nothing is sent; a question (never an instance,
    which may itself be what the destination chokes on) finds out now and then whether it is back, at intervals that
    double up to `cap_s`. Any other answer than that it is out of service closes the breaker.
    """

    def __init__(self, *, trip_after: int = 3, first_probe_s: float = 1.0, cap_s: float = 60.0) -> None:
        self._trip_after = trip_after
        self._first_probe_s = first_probe_s
        self._cap_s = cap_s
        self._signs = 0
        self._interval_s = first_probe_s
        self._opened_s: float | None = None
        self._probe_s = 0.0

    @property
    def is_open(self) -> bool:
        """True while the destination counts as gone."""
        return self._opened_s is not None

    def gone(self, now_s: float) -> None:
        """Take a sign that the destination is gone; while the breaker is open one more tells nothing new."""
        self._signs += 1
        if self._opened_s is None and self._signs >= self._trip_after:
            self._opened_s = now_s
            self._interval_s = self._first_probe_s
            self._probe_s = now_s + self._interval_s

    def alive(self) -> None:
        """Take a sign that the destination is there."""
        self._signs = 0
        self._opened_s = None

    def probed_in_vain(self, now_s: float) -> None:
        """Take that a probe found nobody."""
        self._interval_s = min(self._cap_s, self._interval_s * 2)
        self._probe_s = now_s + self._interval_s

    def wait_s(self, now_s: float) -> float:
        """Return seconds until the next probe is due."""
        return max(0.0, self._probe_s - now_s)

    def open_for_s(self, now_s: float) -> float:
        """Return for how many seconds the destination has been gone."""
        return 0.0 if self._opened_s is None else now_s - self._opened_s
