"""Rates over the last seconds. Has no clock: the caller passes the time."""

from __future__ import annotations

from collections import deque

RATE_WINDOW_S = 10.0
"""The window of a rate: it smooths requests of a few seconds, and shows soon that a server slows down."""


class Pace:
    """The rate of a growing value over the last `window_s` seconds."""

    def __init__(self, window_s: float = RATE_WINDOW_S) -> None:
        self._window_s = window_s
        self._samples: deque[tuple[float, float]] = deque()

    def rate(self, now_s: float, value: float) -> float:
        """Take the current value and return its growth per second."""
        self._samples.append((now_s, value))
        while len(self._samples) > 2 and now_s - self._samples[0][0] > self._window_s:
            self._samples.popleft()
        then_s, before = self._samples[0]
        return (value - before) / (now_s - then_s) if now_s > then_s else 0.0
