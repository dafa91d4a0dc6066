"""The delay before a retry: exponential backoff with full jitter. The jitter comes in as a number."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Delay(Enum):
    """How long a retry has to wait."""

    NONE = "none"
    BACKOFF = "backoff"
    LONG = "long"
    """The server is out of resources or busy with this study: that takes longer than seconds."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter: a random share of a bound that doubles with every failure.

    Full jitter spreads clients that failed together over the whole interval; with equal delays they would all retry at
    once (compared in AWS's architecture blog, 2015).
    """

    base_s: float = 1.0
    """A proxy restarts, and a database releases its lock, within a second or two."""
    cap_s: float = 60.0
    """A server that has recovered should not idle for longer than a minute."""
    long_factor: float = 10.0

    def delay_s(self, delay: Delay, *, failed_attempts: int, jitter: float, at_least_s: float | None = None) -> float:
        """Return seconds to wait after so many failed attempts (1 is the first), for a `jitter` in [0, 1).

        `at_least_s` is the server's Retry-After (RFC 9110 §10.2.3); the jitter is added to it, so that clients that
        were given the same second do not all retry in it.
        """
        if delay is Delay.NONE:
            return at_least_s or 0.0
        base_s = self.base_s * (self.long_factor if delay is Delay.LONG else 1.0)
        bound_s = min(self.cap_s, base_s * 2.0 ** min(max(failed_attempts - 1, 0), 30))
        if at_least_s is not None:
            return at_least_s + jitter * min(bound_s, self.base_s)
        return jitter * bound_s
