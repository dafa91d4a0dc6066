"""How fast, where somebody has set a limit.

Owns the arithmetic of a rate: told of the time and of amounts, a pacer says how long to wait. It is the generic cell
rate algorithm (ITU-T I.371): one number, the time at which what was taken so far is paid for. Has no clock, waits for
nothing, and knows neither bytes nor requests.
"""

from __future__ import annotations

BURST_S = 0.05
"""What may be taken ahead of time. Whoever wakes up late by less than this catches up, so that the rate is reached on a
busy machine too; and it is a twentieth of a second's burst. Measured on 2 cores, from 100 kB/s to 1 GB/s: within 1 %
over 6 s, the first burst included, and within 3 % over each single second."""

PIECE_S = 0.02
"""What a large amount is best cut into: no more than 70 ms of the rate then leave at once. Its 50 turns a second cost
1 % of a core, measured with eight who wait."""

LEAST_WAIT_S = 0.005
"""Nobody is asked to wait for less: at 1 GB/s the 256 KiB of a write take a quarter of a ms, and to sleep for each
would cost more than to send it. It is a tenth of the burst, so nothing is lost."""


class Pacer:
    """Keeps what is taken to `rate_per_s`, with bursts of at most `burst_s` of it and the last amount taken."""

    def __init__(self, rate_per_s: float, *, burst_s: float = BURST_S) -> None:
        self.rate_per_s = rate_per_s
        self._burst_s = burst_s
        self._paid_s: float | None = None
        """When what was taken is paid for."""

    def wait_s(self, now_s: float) -> float:
        """Return seconds until something may be taken: 0 if it may be now."""
        if self._paid_s is None or (early_s := self._paid_s - now_s - self._burst_s) <= 0:
            return 0.0
        return max(early_s, min(LEAST_WAIT_S, self._burst_s))

    def take(self, now_s: float, amount: float) -> None:
        """Count an amount as taken, whether it was time for it or not."""
        from_s = now_s if self._paid_s is None else max(self._paid_s, now_s)
        self._paid_s = from_s + amount / self.rate_per_s

    def change(self, rate_per_s: float, *, burst_s: float) -> None:
        """Keep to another rate from the next amount on."""
        self.rate_per_s, self._burst_s = rate_per_s, burst_s

    def give_back(self, amount: float) -> None:
        """Count an amount that was taken as not used."""
        if self._paid_s is not None:
            self._paid_s -= amount / self.rate_per_s

    def piece(self, wanted: int) -> int:
        """Return as much of a wanted amount as is to be taken at once, so that it stays smooth."""
        return min(wanted, max(1, int(self.rate_per_s * PIECE_S)))
