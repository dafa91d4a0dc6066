"""The progress of a measurement on standard error: a line that is drawn anew each second, or lines of a log.

Shares its terminal and its log with the display of an upload.
"""

from __future__ import annotations

import math
import sys

from bulkstow.bench.report.words import counted, duration, figure
from bulkstow.bench.result import Second
from bulkstow.progress.background import Stream
from bulkstow.progress.terminal import DisplayKind, Panel, TimedLines, screen

LOG_INTERVAL_S = 10
"""A line of a log every so many seconds: three for a measurement of half a minute."""


class Live:
    """Shows how a measurement goes, on the display that the user chose."""

    def __init__(self, kind: DisplayKind, stream: Stream | None = None) -> None:
        self._screen: Panel | TimedLines | None = screen(kind, stream or sys.stderr)
        self._stage = self._position = ""

    def stage(self, words: str, position: str = "") -> None:
        """Show what begins now, and its position in the run, such as `point 2 of 3`."""
        self._stage, self._position = words, position
        match self._screen:
            case Panel() as panel:
                panel.draw([headed(position, None, words)])
            case TimedLines() as lines:
                lines.say(headed(position, None, words))
            case None:
                pass

    def second(self, second: Second, left_s: float | None = None) -> None:
        """Show a second that is over, and the time that is left of the whole measurement."""
        match self._screen:
            case Panel() as panel:
                panel.draw([headed(self._position, left_s, in_words(second)), self._stage])
            case TimedLines() as lines if (int(second.at_s) + 1) % LOG_INTERVAL_S == 0:
                lines.say(headed(self._position, left_s, f"{self._stage}: {in_words(second)}"))
            case _:
                pass

    def say(self, words: str) -> None:
        """Show a line that stays."""
        if self._screen is not None:
            self._screen.say(words)

    def close(self) -> None:
        """Erase the line."""
        if isinstance(self._screen, Panel):
            self._screen.close()


def headed(position: str, left_s: float | None, words: str) -> str:
    """Return words after the position of the measurement: `point 13 of 24, about 3m40s left: …`."""
    left = "" if left_s is None else f"about {duration(math.ceil(left_s))} left"
    return ": ".join(filter(None, (", ".join(filter(None, (position, left))), words)))


def in_words(second: Second) -> str:
    """Return a second as a line: when it was, how much was stored, how long it took, errors and drops."""
    words = [
        f"{duration(second.at_s + 1)}{' (warm-up)' if second.is_warmup else ''}",
        f"{figure(second.instances)} instances/s",
        f"{figure(second.size_bytes / 1e6)} MB/s",
        f"{second.in_flight} in flight",
    ]
    told = [(name, time_s) for name, time_s in (("p50", second.p50_s), ("p99", second.p99_s)) if time_s is not None]
    if second.p99_s is None and second.max_s:
        told.append(("max", second.max_s))
    words += [f"{name} {duration(time_s)}" for name, time_s in told]
    if second.errors:
        words.append(counted(second.errors, "error"))
    if second.dropped:
        words.append(f"{second.dropped:,} dropped")
    return ", ".join(words)
