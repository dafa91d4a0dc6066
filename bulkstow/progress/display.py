"""What a run shows on standard error while it goes on: bars on a terminal, lines elsewhere, or nothing.

Reads the tally every so often; the pipeline never waits for a screen. No patient's name or ID comes here, as none is in
the figures.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from datetime import datetime
from typing import Literal, Protocol, TextIO

from tqdm import tqdm

from bulkstow.policy.bottleneck import Bottleneck, Usage, bottleneck
from bulkstow.policy.health import OutageCause
from bulkstow.progress.pace import WINDOW_S, Pace
from bulkstow.progress.tally import Tally
from bulkstow.quantities import show_duration, show_size

BAR_INTERVAL_S = 0.2
LINE_INTERVAL_S = 30.0
"""A night's run makes a thousand lines."""


class Display(Protocol):
    """Shows a tally every `interval_s` seconds."""

    interval_s: float

    def show(self, tally: Tally) -> None:
        """Show the figures as they are."""

    def say(self, text: str) -> None:
        """Show a line that has nothing to do with figures."""

    def close(self, tally: Tally) -> None:
        """Show them for the last time."""


def display(kind: Literal["auto", "bar", "log", "none"], stream: TextIO | None = None) -> Display:
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

    interval_s = LINE_INTERVAL_S

    def show(self, tally: Tally) -> None:
        """Show nothing."""

    def say(self, text: str) -> None:
        """Show nothing."""

    def close(self, tally: Tally) -> None:
        """Show nothing."""


class Lines:
    """Writes a line with the time, for logs."""

    interval_s = LINE_INTERVAL_S

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._figures = Figures()

    def show(self, tally: Tally) -> None:
        """Write a line of figures."""
        self.say(self._figures.line(tally))

    def say(self, text: str) -> None:
        """Write a line."""
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        self._stream.write(f"{now} {text}\n")
        self._stream.flush()

    def close(self, tally: Tally) -> None:
        """Write the last line, if anything was looked at."""
        if tally.found_files or tally.scan_ended:
            self.show(tally)


class Bar:
    """Draws two lines: how far, and how fast."""

    interval_s = BAR_INTERVAL_S

    def __init__(self, stream: TextIO) -> None:
        self._figures = Figures()
        self._stream = stream
        tqdm.monitor_interval = 0  # we refresh by ourselves: no thread of its own
        far_format = "{desc} |{bar}| {percentage:3.0f}%"
        self._far = tqdm(total=1, bar_format=far_format, position=0, file=stream, dynamic_ncols=True)
        self._fast = tqdm(total=1, bar_format="{desc}", position=1, file=stream, dynamic_ncols=True)

    def show(self, tally: Tally) -> None:
        """Draw both lines anew."""
        self._far.total = max(tally.found_files, 1)
        self._far.n = min(tally.settled_files, self._far.total)
        self._far.set_description_str(far(tally), refresh=True)
        self._fast.set_description_str(self._figures.fast(tally), refresh=True)

    def say(self, text: str) -> None:
        """Write a line above them."""
        tqdm.write(text, file=self._stream)

    def close(self, tally: Tally) -> None:
        """Draw them for the last time and leave them there."""
        self.show(tally)
        self._far.close()  # tqdm leaves a closed bar on the upper line, and moves the other one up
        self._fast.close()


class Figures:
    """The figures in words, with rates over the last seconds."""

    def __init__(self) -> None:
        self._bytes = Pace()
        self._instances = Pace()
        self._usages: deque[Usage] = deque()
        self._started_s = time.monotonic()
        self._bytes.rate(self._started_s, 0)
        self._instances.rate(self._started_s, 0)

    def line(self, tally: Tally) -> str:
        """Return everything in one line."""
        return f"{far(tally)}; {self.fast(tally)}"

    def fast(self, tally: Tally) -> str:
        """Return what is sent, how fast, and what goes wrong."""
        now_s = time.monotonic()
        words = [
            f"{show_size(tally.sent_bytes)} sent",
            f"{show_size(self._bytes.rate(now_s, tally.sent_bytes))}/s",
            f"{self._instances.rate(now_s, tally.delivered):,.0f} instances/s",
            f"{tally.requests_in_flight}{f' of {tally.concurrency}' if tally.concurrency else ''} in flight",
            f"{tally.retries:,} retried",
            f"{tally.failed:,} failed",
            show_duration(now_s - self._started_s),
        ]
        waits_for = self._bottleneck(tally)
        if waits_for is not Bottleneck.UNKNOWN:
            words.insert(3, f"waits for {waits_for}")
        if tally.outage:
            # First, as a narrow terminal cuts the line at its end.
            words.insert(0, _OUTAGES[tally.outage])
        return ", ".join(words)

    def _bottleneck(self, tally: Tally) -> Bottleneck:
        """Return what the last seconds waited for."""
        usage = tally.usage
        self._usages.append(usage)
        while len(self._usages) > 2 and usage.since(self._usages[0]).elapsed_s > WINDOW_S:
            self._usages.popleft()
        return bottleneck(usage.since(self._usages[0]))


_OUTAGES = {
    OutageCause.NO_ANSWER: "THE SERVER DOES NOT ANSWER, asking whether it is back",
    OutageCause.NO_ROOM: "THE SERVER HAS NO ROOM, trying one request at a time",
}


def far(tally: Tally) -> str:
    """Return how many files are done; until the scan ends the total is only a lower bound, and says so."""
    bound = "" if tally.scan_ended else "at least "
    return f"{tally.settled_files:,} of {bound}{tally.found_files:,} files done"
