"""What a run shows on standard error while it goes on: bars on a terminal, lines elsewhere, or nothing.

Reads the tally every so often; the pipeline never waits for a screen. No patient's name or ID comes here, as none is in
the figures.
"""

from __future__ import annotations

import sys
from typing import Protocol

from bulkstow.progress.background import Stream
from bulkstow.progress.figures import Figures
from bulkstow.progress.tally import Tally
from bulkstow.progress.terminal import DisplayKind, Log, Panel, screen

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
        """Show the figures for the last time, if there are any."""


def display(kind: DisplayKind, stream: Stream | None = None) -> Display:
    """Return the display that the user chose."""
    match screen(kind, stream or sys.stderr):
        case None:
            return Nothing()
        case Log() as log:
            return Lines(log)
        case Panel() as panel:
            return Bar(panel)


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
    """Writes the figures as lines of a log."""

    interval_s = LINE_INTERVAL_S

    def __init__(self, log: Log) -> None:
        self._figures = Figures()
        self._log = log
        self.say = log.say

    def show(self, tally: Tally) -> None:
        """Write a line of figures."""
        self.say(self._figures.line(tally))

    def close(self, tally: Tally) -> None:
        """Write the last line, if anything was looked at."""
        if tally.has_begun:
            self.show(tally)


class Bar:
    """Draws a bar, and the figures below it."""

    interval_s = BAR_INTERVAL_S

    def __init__(self, panel: Panel) -> None:
        self._figures = Figures()
        self._panel = panel
        self.say = panel.say

    def show(self, tally: Tally) -> None:
        """Draw everything anew."""
        failed, *others = self._figures.of(tally)
        self._panel.draw(others, bar=(failed, *_progress(tally)))

    def close(self, tally: Tally) -> None:
        """Draw everything for the last time and leave it there; if nothing was looked at, take it away."""
        if not tally.has_begun:
            self._panel.close()
            return
        failed, *others = self._figures.of(tally)
        self._panel.close(others, bar=(failed, *_progress(tally)))


def _progress(tally: Tally) -> tuple[int, int]:
    """Return the total and what is done of it, in bytes; in files where there are no bytes."""
    if tally.found_bytes > 0:
        return tally.found_bytes, min(tally.settled_bytes, tally.found_bytes)
    total = max(tally.found_files, 1)
    return total, min(tally.settled_files, total)
