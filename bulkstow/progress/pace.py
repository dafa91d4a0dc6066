"""How fast it goes now: rates over the last few seconds. Has no clock: the time comes in."""

from __future__ import annotations

from collections import deque

WINDOW_S = 10.0
"""Long enough to smooth requests of a few seconds, short enough to see a server slow down."""


class Pace:
    """The rate of a growing figure over the last `window_s` seconds."""

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self._window_s = window_s
        self._samples: deque[tuple[float, float]] = deque()

    def rate(self, now_s: float, value: float) -> float:
        """Take the figure as it is now and return its growth per second."""
        self._samples.append((now_s, value))
        while len(self._samples) > 2 and now_s - self._samples[0][0] > self._window_s:
            self._samples.popleft()
        then_s, before = self._samples[0]
        return (value - before) / (now_s - then_s) if now_s > then_s else 0.0
