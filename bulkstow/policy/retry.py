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


class RetryBudget:
    """Keeps retries below a share of first tries, whoever of many senders makes them.

    Each first try earns `share` of a retry, up to `most`; time earns `minimum_per_s` beside it, so that what is left at
    the end of a run, when there are no first tries any more, is tried all the same. When half of the requests fail,
    retries without a budget double the load on a server that has too much already (Google's SRE book, chapter 21,
    uses a tenth per client; Finagle's default is a fifth).
    """

    def __init__(self, *, share: float = 0.2, minimum_per_s: float = 1.0, most: float = 20.0) -> None:
        self._share = share
        self._minimum_per_s = minimum_per_s
        self._most = most
        self._left = most
        self._seen_s: float | None = None

    def first_try(self) -> None:
        """Count a first try."""
        self._left = min(self._most, self._left + self._share)

    def wait_s(self, now_s: float) -> float:
        """Return seconds until a retry may start: 0 if one may start now."""
        if self._seen_s is not None:
            self._left = min(self._most, self._left + self._minimum_per_s * (now_s - self._seen_s))
        self._seen_s = now_s
        # A hair less than one counts as one: fractions of seconds do not add up exactly.
        return max(0.0, (1.0 - 1e-6 - self._left) / self._minimum_per_s)

    def retry(self) -> None:
        """Count a retry."""
        self._left -= 1.0


class Breaker:
    """Stops sending while the destination is gone, or has no room.

    Opens after `trip_after` signs of that in a row. While the destination is *gone* nothing is sent; a question (never
    an instance, which may itself be what the destination chokes on) finds out now and then whether it is back. While
    it is *full* a question would be answered, so one errand at a time is let through. Either is due at intervals that
    double up to `cap_s`. Any sign of life closes the breaker.
    """

    def __init__(self, *, trip_after: int = 3, first_probe_s: float = 1.0, cap_s: float = 60.0) -> None:
        self._trip_after = trip_after
        self._first_probe_s = first_probe_s
        self._cap_s = cap_s
        self._signs = 0
        self._interval_s = first_probe_s
        self._opened_s: float | None = None
        self._probe_s = 0.0
        self._trying = False
        self.is_full = False
        """What it is open for: no room, rather than nobody there."""

    @property
    def is_open(self) -> bool:
        """True while the destination counts as gone or full."""
        return self._opened_s is not None

    def gone(self, now_s: float, *, full: bool = False) -> None:
        """Take a sign that the destination is gone, or full.

        While the breaker is open, one more tells nothing new, unless it is what the one errand let through came to.
        """
        self._signs += 1
        if self._opened_s is None and self._signs < self._trip_after:
            return
        self.is_full = full
        if self._opened_s is None:
            self._opened_s = now_s
            self._interval_s = self._first_probe_s
            self._probe_s = now_s + self._interval_s
        elif self._trying:
            self.probed_in_vain(now_s)

    def alive(self) -> None:
        """Take a sign that the destination is there."""
        self._signs = 0
        self._opened_s = None
        self._trying = False

    def unclear(self) -> None:
        """Take that an errand told nothing: another may be let through."""
        self._trying = False

    def allow(self, now_s: float) -> bool:
        """Say whether an errand may start now."""
        return self._opened_s is None or (self.is_full and not self._trying and now_s >= self._probe_s)

    def started(self) -> None:
        """Count an errand as started: while the breaker is open it is the one that was let through."""
        self._trying = self.is_open

    def probed_in_vain(self, now_s: float) -> None:
        """Take that nobody is back yet."""
        self._trying = False
        self._interval_s = min(self._cap_s, self._interval_s * 2)
        self._probe_s = now_s + self._interval_s

    def wait_s(self, now_s: float) -> float:
        """Return seconds until the next probe is due."""
        return max(0.0, self._probe_s - now_s)

    def open_for_s(self, now_s: float) -> float:
        """Return for how many seconds the destination has been gone or full."""
        return 0.0 if self._opened_s is None else now_s - self._opened_s
