"""What a measurement shows on standard error while it goes on: a line that changes on a terminal, lines elsewhere.

Hears of each second when it is over; asks nothing and keeps nothing but the second before.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Literal, Protocol, TextIO

from tqdm import tqdm

from bulkstow.bench.report.words import counted, duration, figure
from bulkstow.bench.result import Second
from bulkstow.printing import shown

LINE_S = 10
"""A line every so many seconds: three a measurement of half a minute."""


class Live(Protocol):
    """Shows what goes on."""

    def stage(self, words: str, place: str = "") -> None:
        """Show what begins now, and the how-manieth of how many it is."""

    def second(self, second: Second, left_s: float | None = None) -> None:
        """Show a second that is over, and what is left of the whole measurement."""

    def say(self, words: str) -> None:
        """Show a line that stays."""

    def close(self) -> None:
        """Show nothing more."""


def live(kind: Literal["auto", "bar", "log", "none"], stream: TextIO | None = None) -> Live:
    """Return the display that the user chose; `auto` looks whether there is a terminal."""
    stream = stream or sys.stderr
    match kind:
        case "auto":
            return Bar(stream) if stream.isatty() else Lines(stream)
        case "bar":
            return Bar(stream)
        case "log":
            return Lines(stream)
        case "none":
            return Nothing()


class Nothing:
    """Shows nothing."""

    def stage(self, words: str, place: str = "") -> None:
        """Show nothing."""

    def second(self, second: Second, left_s: float | None = None) -> None:
        """Show nothing."""

    def say(self, words: str) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Show nothing."""


class Lines:
    """Writes lines with the time, for logs."""

    def __init__(self, stream: TextIO, now: Callable[[], datetime] = lambda: datetime.now().astimezone()) -> None:
        self._stream = stream
        self._now = now
        self._stage = self._place = ""

    def stage(self, words: str, place: str = "") -> None:
        """Write what begins."""
        self._stage, self._place = words, place
        self.say(headed(place, None, words))

    def second(self, second: Second, left_s: float | None = None) -> None:
        """Write every LINE_S seconds how it goes."""
        if (int(second.at_s) + 1) % LINE_S == 0:
            self.say(headed(self._place, left_s, f"{self._stage}: {in_words(second)}"))

    def say(self, words: str) -> None:
        """Write a line."""
        self._stream.write(f"{self._now().isoformat(timespec='seconds')} {shown(words)}\n")
        self._stream.flush()

    def close(self) -> None:
        """Write nothing more."""


class Bar:
    """Draws one line, anew every second."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._stage = self._place = ""
        tqdm.monitor_interval = 0  # it is drawn when a second is over: no thread of its own
        self._line = tqdm(bar_format="{desc}", file=stream, dynamic_ncols=True, leave=False)

    def stage(self, words: str, place: str = "") -> None:
        """Draw what begins."""
        self._stage, self._place = words, place
        self._line.set_description_str(shown(headed(place, None, words)), refresh=True)

    def second(self, second: Second, left_s: float | None = None) -> None:
        """Draw how it goes; a narrow terminal cuts off the end, which is the load, drawn when it began."""
        words = headed(self._place, left_s, f"{in_words(second)}; {self._stage}")
        self._line.set_description_str(shown(words), refresh=True)

    def say(self, words: str) -> None:
        """Write a line above."""
        tqdm.write(shown(words), file=self._stream)

    def close(self) -> None:
        """Take the line away."""
        self._line.close()


def headed(place: str, left_s: float | None, words: str) -> str:
    """Return words behind where the measurement is: `point 13 of 24, about 3m40s left: …`."""
    left = "" if left_s is None else f"about {duration(math.ceil(left_s))} left"
    return ": ".join(filter(None, (", ".join(filter(None, (place, left))), words)))


def in_words(second: Second) -> str:
    """Return a second as a line: when it was, how much was stored, how long it took, what went wrong."""
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
