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
    """Stops sending while the destination is gone, and lets one probe through now and then.

    Opens after `trip_after` signs in a row that the destination is gone. While it is open one request is let through
    when the interval is over; the interval doubles with each probe that fails. Any answer closes it.
    """

    def __init__(self, *, trip_after: int = 3, first_probe_s: float = 1.0, cap_s: float = 60.0) -> None:
        self._trip_after = trip_after
        self._first_probe_s = first_probe_s
        self._cap_s = cap_s
        self._signs = 0
        self._interval_s = first_probe_s
        self._next_probe_s: float | None = None
        self._probing = False

    @property
    def is_open(self) -> bool:
        """True while the destination counts as gone."""
        return self._next_probe_s is not None

    def allow(self, now_s: float) -> bool:
        """Say whether a request may start now."""
        return self._next_probe_s is None or (not self._probing and now_s >= self._next_probe_s)

    def wait_s(self, now_s: float) -> float | None:
        """Return seconds until the next probe may start; None while closed, or while a probe is under way."""
        if self._next_probe_s is None or self._probing:
            return None
        return max(0.0, self._next_probe_s - now_s)

    def started(self) -> None:
        """Count a request as started: while the breaker is open it is the probe."""
        if self.is_open:
            self._probing = True

    def gone(self, now_s: float) -> None:
        """Take a sign that the destination is gone."""
        if self.is_open:
            if self._probing:
                self._interval_s = min(self._cap_s, self._interval_s * 2)
            self._probing = False
            self._next_probe_s = now_s + self._interval_s
            return
        self._signs += 1
        if self._signs >= self._trip_after:
            self._interval_s = self._first_probe_s
            self._next_probe_s = now_s + self._interval_s

    def alive(self) -> None:
        """Take a sign that the destination is there."""
        self._signs = 0
        self._next_probe_s = None
        self._probing = False

    def unclear(self) -> None:
        """Take back a request that says nothing of the destination: another may probe."""
        self._probing = False
