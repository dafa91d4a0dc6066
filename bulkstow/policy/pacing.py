"""A rate limit, of bytes or of requests.

The generic cell rate algorithm (ITU-T I.371): its state is one number, the time at which the amounts taken so far are
paid for.
"""

from __future__ import annotations

BURST_S = 0.05
"""The time by which an amount may be taken early, so that a caller that wakes up late catches up. Measured on 2 cores,
from 100 kB/s to 1 GB/s: within 1 % of the rate over 6 s, and within 3 % over each second."""

PIECE_S = 0.02
"""The piece of a large amount to take at once: no more than 70 ms of the rate are then sent at once. Measured with
eight callers, these 50 pieces per second cost 1 % of a core."""

LEAST_WAIT_S = 0.005
"""The shortest wait: at 1 GB/s the 256 KiB of a write take 0.25 ms, and sleeping for each would cost more than sending
it. It is a tenth of the burst, so the rate is kept."""


class Pacer:
    """Limits the amounts taken to `rate_per_s`, with bursts of at most `burst_s` of it and the last amount taken."""

    def __init__(self, rate_per_s: float, *, burst_s: float = BURST_S) -> None:
        self.rate_per_s = rate_per_s
        self._burst_s = burst_s
        self._paid_s: float | None = None
        """When the amounts taken are paid for."""

    def wait_s(self, now_s: float) -> float:
        """Return seconds until an amount may be taken; 0 if it may be taken now."""
        if self._paid_s is None or (early_s := self._paid_s - now_s - self._burst_s) <= 0:
            return 0.0
        return max(early_s, min(LEAST_WAIT_S, self._burst_s))

    def take(self, now_s: float, amount: float) -> None:
        """Count an amount as taken, even if it is early."""
        from_s = now_s if self._paid_s is None else max(self._paid_s, now_s)
        self._paid_s = from_s + amount / self.rate_per_s

    def change(self, rate_per_s: float, *, burst_s: float) -> None:
        """Set another rate, from the next amount on."""
        self.rate_per_s, self._burst_s = rate_per_s, burst_s

    def give_back(self, amount: float) -> None:
        """Return an amount that was taken and not used."""
        if self._paid_s is not None:
            self._paid_s -= amount / self.rate_per_s

    def piece(self, wanted: int) -> int:
        """Return how much of a wanted amount to take at once, so that the rate is smooth."""
        return min(wanted, max(1, int(self.rate_per_s * PIECE_S)))
