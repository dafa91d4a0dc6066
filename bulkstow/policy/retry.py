"""When to send again.

Computes waits: exponential backoff with full jitter, and a budget that bounds the share of retries. Has no clock and no
randomness: the time and the jitter come in as numbers.
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

    def delay_s(self, delay: Delay, *, failed_attempts: int, jitter: float, at_least_s: float | None = None) -> float:
        """Return seconds to wait after the `faults`-th fault (1 is the first), `jitter` being in [0, 1).

        `at_least_s` is the server's own word (Retry-After, RFC 9110 §10.2.3); the jitter comes on top of it, so that
        clients told the same second do not all come in it.
        """
        if delay is Delay.NONE:
            return at_least_s or 0.0
        base_s = self.base_s * (self.long_factor if delay is Delay.LONG else 1.0)
        bound_s = min(self.cap_s, base_s * 2.0 ** min(max(failed_attempts - 1, 0), 30))
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
        return 0.0 if self._left >= 1.0 - 1e-6 else (1.0 - self._left) / self._minimum_per_s

    def retry(self) -> None:
        """Count a retry."""
        self._left -= 1.0
